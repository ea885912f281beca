// The Linux capabilities that this program and its tests ask about, by their bits in
// /proc/PID/status (capabilities(7)). Works on text and numbers; must never read a file itself.

/** Bits of CapEff. */
const BITS = { CAP_NET_ADMIN: 12n, CAP_NET_RAW: 13n, CAP_SYS_ADMIN: 21n, CAP_PERFMON: 38n, CAP_BPF: 39n } as const;

export type Capability = keyof typeof BITS;

/** Without one of these, there is no XDP plane or no lab. */
const NEEDED: readonly Capability[] = ["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_PERFMON", "CAP_BPF"];

/** The mask in the text of a /proc/PID/status; none where it does not say. */
export function effectiveCapabilities(status: string): bigint {
  return BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
}

export function missingCapabilities(
  effective: bigint, wanted: readonly Capability[] = NEEDED,
): Capability[] {
  return wanted.filter((name) => ((effective >> BITS[name]) & 1n) === 0n);
}
