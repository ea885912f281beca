// The later fragments of a datagram: they have no ports, and follow the first one, which had them.
// Knows what is remembered of a datagram and for how long; knows no table and no wire format.

import type { Decision, Packet } from "./decide.ts";

/** What the first fragment of a datagram had, and the later ones lack. */
export interface FragmentEntry {
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Of the transport header; a later fragment of IPv6 does not tell. */
  readonly protocol: number;
  readonly rememberedNs: bigint;
}

/**
 * How long a datagram's ports are remembered: by then Linux has given up reassembling it
 * (ip-sysctl, ipfrag_time), and its identification may be another one's.
 */
const FRAGMENT_LIFE_NS = 30_000_000_000n;

/**
 * A later fragment as a packet of the flow that its datagram's first one was of, if that is known;
 * any other packet as it is.
 */
export function withPorts<P extends Packet>(
  packet: P,
  { fragment, nowNs }: { readonly fragment?: FragmentEntry | null; readonly nowNs: bigint },
): P {
  if (packet.kind !== "later-fragment") return packet;
  if (fragment === undefined || fragment === null) return packet;
  if (fragment.rememberedNs + FRAGMENT_LIFE_NS < nowNs) return packet;
  const { sourcePort, destinationPort, protocol } = fragment;
  return { ...packet, kind: "flow", sourcePort, destinationPort, protocol };
}

/** A first fragment that reaches a backend leaves its ports to the later ones. */
export function leavingPorts(decision: Decision): Decision {
  const { verdict } = decision;
  if (verdict !== "TX_FORWARDED" && verdict !== "TX_REPLY" && verdict !== "PASS_LOCAL") return decision;
  return { ...decision, effects: [...decision.effects, { kind: "remember-fragment" }] };
}
