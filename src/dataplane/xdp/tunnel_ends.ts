// The ends of our tunnels in the kernel: what `tunnel_ends` should hold, so that an ICMP error about a tunnel is
// known for one, the steps there, its bytes, and what such errors left there. Pure; knows no map.

import { addressFromBytes, type Address } from "../../model/address.ts";
import { outerProtocols } from "../../model/tunnel_error.ts";
import { ServiceKey, TunnelEnd } from "./abi.gen.ts";
import type { DestinationImage, Image } from "./image.ts";
import type { Planner } from "./planner.ts";

/** Keys that one destination may have. */
const KEYS_MAX = 2;
/** Elements per destination: old and new ones stand side by side during a change. */
export const TUNNEL_ENDS_PER_DESTINATION = KEYS_MAX * 2;

export interface TunnelEndImage {
  readonly address: Address;
  /** Number of the protocol that an outer header names. */
  readonly protocol: number;
  /** Of GUE; 0 else. */
  readonly port: number;
  /** Id. */
  readonly destination: number;
}

/** What errors said; times are CLOCK_MONOTONIC, 0: never. */
export interface TunnelReport {
  readonly address: Address;
  readonly mtu: number;
  readonly mtuNs: bigint;
  readonly unreachableNs: bigint;
  readonly type: number;
  readonly code: number;
}

export function tunnelEndText({ address, protocol, port }: Omit<TunnelEndImage, "destination">): string {
  return `${address.text} protocol ${protocol}${port === 0 ? "" : ` port ${port}`}`;
}

/** By tunnelEndText(); of several destinations with the same tunnel, the first has it. */
export function tunnelEndsOf(destinations: Iterable<DestinationImage>): Map<string, TunnelEndImage> {
  const ends = new Map<string, TunnelEndImage>();
  for (const destination of destinations) {
    for (const protocol of outerProtocols(destination)) {
      const { address, gue, id } = destination;
      const end = { address, protocol, port: gue?.port ?? 0, destination: id };
      const text = tunnelEndText(end);
      if (!ends.has(text)) ends.set(text, end);
    }
  }
  return ends;
}

/** At any moment: whoever is found by an end is asked whether it is his. */
export function writeTunnelEnds({ state, take }: Pick<Planner, "state" | "take">, want: Image): void {
  for (const [text, end] of want.tunnelEnds) {
    if (state.tunnelEnds.get(text)?.destination !== end.destination) take({ kind: "write-tunnel-end", end });
  }
}

export function removeTunnelEnds({ state, take }: Pick<Planner, "state" | "take">, want: Image): void {
  for (const [text, end] of [...state.tunnelEnds]) {
    if (!want.tunnelEnds.has(text)) take({ kind: "remove-tunnel-end", end });
  }
}

export function encodeTunnelEndKey({ address, protocol, port }: TunnelEndImage): Uint8Array {
  return ServiceKey.encode({ address: address.bytes, protocol, port });
}

/** `held`: what is there already. What errors said stays: it is about the way and not about an id. */
export function encodeTunnelEnd({ destination }: TunnelEndImage, held: Uint8Array | null): Uint8Array {
  const none = { mtuNs: 0n, unreachableNs: 0n, mtu: 0, unreachable: 0 };
  return TunnelEnd.encode({ ...(held === null ? none : TunnelEnd.decode(held)), destination });
}

export function decodeTunnelEnd(key: Uint8Array, value: Uint8Array): TunnelEndImage {
  const { address, protocol, port } = ServiceKey.decode(key);
  return { address: addressFromBytes(address), protocol, port, destination: TunnelEnd.decode(value).destination };
}

export function decodeTunnelReport(key: Uint8Array, value: Uint8Array): TunnelReport {
  const { mtu, mtuNs, unreachableNs, unreachable } = TunnelEnd.decode(value);
  const address = addressFromBytes(ServiceKey.decode(key).address);
  return { address, mtu, mtuNs, unreachableNs, type: unreachable >> 8, code: unreachable & 0xff };
}
