// The packet path as a pure function: what becomes of one packet, given the table and what the look-ups
// returned. The proxy runs it for real connections, explain shows it, and the XDP program is tested
// against it packet by packet: verdict, backend and effects. bpf/decide.h is its twin.

import type { Destination, ForwardingTable, Service } from "./table.ts";

/** What parsing found. Addresses have 16 bytes; ports and flags are 0 or false where they mean nothing. */
export interface Packet {
  readonly kind: "flow" | "echo-request" | "icmp" | "first-fragment" | "later-fragment" | "other-protocol" | "truncated";
  readonly family: 4 | 6;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** IPPROTO_TCP 6, IPPROTO_UDP 17, … */
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly syn: boolean;
  readonly ack: boolean;
  readonly fin: boolean;
  readonly rst: boolean;
  /** Time to live, or hop limit, as received. */
  readonly ttl: number;
}

export interface FlowEntry {
  readonly destination: number;
  readonly generation: number;
  readonly lastSeenNs: bigint;
}

/** What the look-ups returned, and the time. */
export interface State {
  /** The entry of this packet's flow, or null. */
  readonly flow: FlowEntry | null;
  readonly nowNs: bigint;
  /** The supervisor's last heartbeat; null: taken as fresh. */
  readonly heartbeatNs: bigint | null;
  /** Whether a destination's next hop is resolved (the proxy: always). */
  readonly neighbour: (destination: number) => boolean;
}

/** A write that the decision asks for. */
export type Effect =
  | { readonly kind: "remember"; readonly destination: number; readonly generation: number }
  | { readonly kind: "touch" }
  | { readonly kind: "forget" };

/** Generated verdict names are the currency; this is their type. */
export type VerdictName =
  | "PASS_NOT_IP" | "PASS_MALFORMED" | "PASS_NOT_OURS" | "PASS_TRUNCATED" | "PASS_FRAGMENT" | "PASS_ICMP"
  | "PASS_PROTOCOL" | "PASS_ORPHANED" | "TX_FORWARDED" | "TX_ECHO_REPLY" | "DROP_DENIED" | "DROP_FRAGMENT"
  | "DROP_ORPHANED" | "DROP_TTL_EXPIRED" | "DROP_NO_BACKEND" | "DROP_NO_NEIGHBOUR" | "DROP_NO_ROOM";

export interface Decision {
  readonly verdict: VerdictName;
  readonly service: Service | null;
  readonly destination: Destination | null;
  readonly effects: readonly Effect[];
  /** How the backend was found; null when the packet never got so far. */
  readonly how: { readonly by: "flow" | "ring"; readonly hash: number | null; readonly slot: number | null } | null;
}

export type Decide = (table: ForwardingTable, state: State, packet: Packet) => Decision;
