// The packet path as a pure function: what becomes of one packet, given the table and what the
// look-ups returned. The proxy runs it for real connections, explain shows it, and the XDP program
// is tested against it packet by packet: verdict, backend and effects. bpf/decide.h is its twin, in the
// same order: for this host or not, fragment, error about a tunnel, answer to a translated flow, service,
// policy, orphan, connection ID, flow and ring (flow_decide.ts), next hop, time to live, room. The client's region,
// after the orphan policy, is the proxy's alone: servable() keeps services with regions from the program.

import { beginAffinity, renewAffinity } from "./affinity.ts";
import { leavingPorts, withPorts } from "./fragment.ts";
import type { FragmentEntry } from "./fragment.ts";
import type { ClientWay, NatFlow } from "./nat.ts";
import { byFlowOrRing, chooseAnew, followCid, heldAffinity, leave } from "./flow_decide.ts";
import type { TrackingOutcome } from "./flow_decide.ts";
import { claimNat, decideReply, followNat, isNatService, natHolder, noteReset, TOUCH_INTERVAL_NS } from "./nat_decide.ts";
import type { NatState } from "./nat_decide.ts";
import { orphanVerdict } from "./orphan.ts";
import type { FlowTuple } from "./packet.ts";
import type { PickState } from "./pick.ts";
import { isDenied } from "./policy.ts";
import { namedByCid } from "./quic_named.ts";
import type { QuicOutcome } from "./quic_route.ts";
import type { RememberKind } from "./remember_pace.ts";
import { isVirtualAddress, serviceFor, serviceOf } from "./service_lookup.ts";
import type { Destination, ForwardingTable, Service } from "./table.ts";
import { tunnelEndOf, tunnelErrorEffects } from "./tunnel_error.ts";
import type { IcmpError, TunnelSource } from "./tunnel_error.ts";

export type PacketKind =
  | "flow"
  | "echo-request"
  | "icmp"
  | "icmp-error"
  | "first-fragment"
  | "later-fragment"
  | "other-protocol"
  | "truncated";

/**
 * What parsing found. Addresses have 16 bytes; ports and flags are 0 or false where they mean
 * nothing. An ICMP error that quotes a packet from its own destination has the addresses, the ports
 * and the protocol of the quoted flow, the way its client sends it.
 */
export interface Packet {
  readonly kind: PacketKind;
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
  /**
   * Whether its sender may be told, by ICMP, that it does not fit: it goes from one host to one
   * host, is no later fragment and no error itself (RFC 1122, 3.2.2; RFC 4443, 2.4), and is long
   * enough to be quoted. Whether it forbids fragmentation does not matter: nobody fragments here.
   */
  readonly tellable: boolean;
  /** Time to live, or hop limit, as received. */
  readonly ttl: number;
  /** What UDP carries, DATAGRAM_BYTES_SEEN of it at least; absent: nothing to look at. */
  readonly datagram?: Uint8Array;
  /** What an ICMP error says; absent in everything else. */
  readonly error?: IcmpError;
}

export interface FlowEntry {
  readonly destination: number;
  readonly generation: number;
  readonly lastSeenNs: bigint;
  /** Who may have it instead: the slot's owner when the flow was taken over. Absent, or 0: nobody. */
  readonly other?: number;
  /** Whether its client has sent a FIN or RST since it opened. Absent: no. */
  readonly closes?: boolean;
}

/** What the look-ups returned, and the time. */
export interface State {
  /** Whether the frame is for this host, by isForThisHost(). Absent: it is (the proxy). */
  readonly isForThisHost?: boolean;
  /**
   * What is known of the datagram of a later fragment. Absent: fragments are not met (the proxy).
   */
  readonly fragment?: FragmentEntry | null;
  /** The entry of this packet's flow, or null. A later fragment's is that of withPorts(). */
  readonly flow: FlowEntry | null;
  readonly nowNs: bigint;
  /** The supervisor's last heartbeat; null: taken as fresh. */
  readonly heartbeatNs: bigint | null;
  /** Whether a destination's next hop is resolved (the proxy: always). */
  readonly neighbour: (destination: number) => boolean;
  /** Whether a destination is this host itself. Absent: none is (the proxy connects as to any). */
  readonly local?: (destination: number) => boolean;
  /**
   * Why a packet for this destination cannot go there, or null. Absent: it can (the proxy).
   */
  readonly obstacle?: (destination: number, service: Service) => "DROP_TTL_EXPIRED" | "DROP_TOO_BIG" | "DROP_NO_ROOM" | null;
  /** Whether one more ICMP error may go out now. Absent: yes. */
  readonly inPace?: boolean;
  /** Outer sources of a destination's tunnel; null: not known. Absent: there are no tunnels (the proxy). */
  readonly tunnelSource?: (destination: number) => TunnelSource | null;
  /** The MTU in force on the way to a destination; 0: not known. Absent: 0. */
  readonly mtu?: (destination: number) => number;
  /** Translated flows. Absent: none are met (the proxy, which connects by itself). */
  readonly nat?: NatState;
  /** Whether one more flow of this kind may be remembered with `minimal`. Absent: yes. */
  readonly mayRemember?: (service: Service, kind: RememberKind) => boolean;
  /** Where the client of a packet for a service with affinities has been. Absent: nobody knows of any. */
  readonly affinity?: (service: Service) => FlowEntry | null;
  /** Chance, turns and loads. Absent: new flows are placed by the ring, whatever the service's algorithm. */
  readonly pick?: (service: Service) => PickState;
}

/** A write that the decision asks for. */
export type Effect =
  | {
    readonly kind: "remember"; readonly destination: number; readonly generation: number; readonly other?: number;
    readonly closes?: boolean;
  }
  /** `closes`: what becomes of that; absent: it stays as it is. */
  | { readonly kind: "touch"; readonly closes?: boolean }
  | { readonly kind: "forget" }
  /** Of a service that picks in turn: whose is next, whatever became of the packet. */
  | { readonly kind: "take-turn"; readonly next: number }
  /** Where its client has been last, now. */
  | { readonly kind: "keep-affinity"; readonly destination: number; readonly generation: number }
  /** The ports of this first fragment, for the later ones. */
  | { readonly kind: "remember-fragment" }
  /** What an ICMP error told of a tunnel. */
  | { readonly kind: "note-mtu"; readonly mtu: number }
  | { readonly kind: "note-unreachable"; readonly type: number; readonly code: number }
  /** What stands under a key of translated flows from now on; null: nothing. */
  | { readonly kind: "nat-write"; readonly key: FlowTuple; readonly entry: NatFlow | null };

/** Generated verdict names are the currency; this is their type. */
export type VerdictName =
  | "PASS_NOT_IP"
  | "PASS_MALFORMED"
  | "PASS_OTHER_HOST"
  | "PASS_NOT_OURS"
  | "PASS_TRUNCATED"
  | "PASS_FRAGMENT"
  | "PASS_ICMP"
  | "PASS_PROTOCOL"
  | "PASS_ORPHANED"
  | "PASS_LOCAL"
  | "TX_FORWARDED"
  | "TX_REPLY"
  | "TX_ECHO_REPLY"
  | "TX_ICMP_ERROR"
  | "TX_TOO_BIG"
  | "TX_RESET"
  | "DROP_DENIED"
  | "DROP_ORPHANED"
  | "DROP_TTL_EXPIRED"
  | "DROP_NO_BACKEND"
  | "DROP_NO_NEIGHBOUR"
  | "DROP_NO_PORT"
  | "DROP_NAT_FULL"
  | "DROP_NO_ROOM"
  | "DROP_TOO_BIG"
  | "DROP_TUNNEL_ERROR";

/**
 * A packet that does not reach a backend leaves no effect, except that a flow with nobody to go to
 * is forgotten, and a turn is taken: else all that follow would be sent the same way. What is passed
 * because its backend is this host has reached it.
 */
export interface Decision {
  readonly verdict: VerdictName;
  readonly service: Service | null;
  readonly destination: Destination | null;
  readonly effects: readonly Effect[];
  /** How the backend was found; null when the packet never got so far. */
  readonly how: {
    readonly by: "connection-id" | "flow" | "affinity" | "predecessor" | "ring" | "pick";
    readonly hash: number | null;
    readonly slot: number | null;
  } | null;
  /** What the connection ID said; absent where nobody looked. */
  readonly quic?: QuicOutcome;
  /** What `minimal` made of a packet that met a slot with exceptions; absent: it met none. */
  readonly tracking?: TrackingOutcome;
  /** What the outer headers name, with `secondChance`: ids in the order in which they are asked. Absent: nobody. */
  readonly alternates?: readonly number[];
  /**
   * Of a translated packet: how the other direction's packets arrive. This one goes on from where
   * they go, to where they come from.
   */
  readonly to?: FlowTuple;
  /** Of a reply: by which way. */
  readonly back?: ClientWay;
  /** Of a reply that is the first answer to what began its flow. */
  readonly answer?: Answer;
}

/** What is counted of a backend's first answer to a client. */
export interface Answer {
  /** Id. */
  readonly destination: number;
  readonly waitedNs: bigint;
}

export type Decide = (table: ForwardingTable, state: State, packet: Packet) => Decision;

const NO_EFFECTS: readonly Effect[] = [];

type How = NonNullable<Decision["how"]>;

/** What becomes of the packet. */
export function decide(table: ForwardingTable, state: State, packet: Packet): Decision {
  const decision = decideSilently(table, state, packet);
  const tells = table.icmpErrorsPerSecond > 0 && packet.tellable && state.inPace !== false;
  return decision.verdict === "DROP_TOO_BIG" && tells
    ? { ...decision, verdict: "TX_TOO_BIG" }
    : decision;
}

/** The same, if nobody were told that a packet is too big. */
function decideSilently(table: ForwardingTable, known: State, received: Packet): Decision {
  // No hop is left to take: what is for this host needs none (RFC 1122, 3.2.1.7).
  const state = received.ttl > 1 ? known : { ...known, obstacle: () => "DROP_TTL_EXPIRED" as const };
  if (state.isForThisHost === false) return end("PASS_OTHER_HOST", null);
  const packet = withPorts(received, state);
  const noted = packet.kind === "icmp-error" ? noteTunnelError(table, state, packet) : null;
  if (noted !== null) return noted;
  const answer = asAnswer(table, state, packet);
  if (answer !== null) return answer;
  const asked = hasPorts(packet.kind)
    ? serviceOf(table, packet.destination, packet.destinationPort, packet.protocol)
    : null;
  if (asked === null) return end(verdictWithoutService(table, packet), null);
  if (isDenied(asked.config, packet.source)) return end("DROP_DENIED", asked);
  const orphaned = orphanVerdict(table, state);
  if (orphaned !== null) return end(orphaned, asked);
  const service = serviceFor(table, asked, packet.source);
  if (isNatService(service) && state.nat !== undefined)
    return translated(table, state, packet, service, state.nat);
  if (packet.kind === "icmp-error") return asError(byFlowOrRing(table, state, packet, service));
  // By no connection ID: the later fragments have none (and QUIC is never cut: RFC 9000, 14).
  if (packet.kind === "first-fragment")
    return leavingPorts(byFlowOrRing(table, state, packet, service));
  const named =
    packet.datagram === undefined ? null : namedByCid(table, service, packet.datagram);
  if (named === null) return byFlowOrRing(table, state, packet, service);
  const quic = named.outcome;
  return named.destination === null
    ? { ...byFlowOrRing(table, state, packet, service), quic }
    : { ...followCid(table, state, packet, service, named.destination), quic };
}

/** One about a tunnel of ours has arrived: nobody else has a use for it. */
function noteTunnelError(table: ForwardingTable, state: State, packet: Packet): Decision | null {
  const { tunnelSource, mtu = () => 0 } = state;
  if (tunnelSource === undefined || table.pathMtuAgeMs === 0 || packet.error?.sound !== true) return null;
  const destination = tunnelEndOf(table, tunnelSource, packet);
  if (destination === null) return null;
  const effects = tunnelErrorEffects(packet.family, packet.error, mtu(destination.id));
  return { verdict: "DROP_TUNNEL_ERROR", service: null, destination, effects, how: null };
}

/** An error about a flow goes where the flow goes; it is no packet of it and leaves no trace. */
function asError(decision: Decision): Decision {
  const verdict = decision.verdict === "TX_FORWARDED" ? "TX_ICMP_ERROR" : decision.verdict;
  return { ...decision, verdict, effects: NO_EFFECTS };
}

/**
 * What a backend answers to a translated flow, or null. Before any service: a source of flows may be
 * an address of one, and its ports too.
 */
function asAnswer(table: ForwardingTable, state: State, packet: Packet): Decision | null {
  const reply = state.nat !== undefined && hasPorts(packet.kind)
    ? decideReply(table, state.nat, packet, state.nowNs) : null;
  return reply !== null && packet.kind === "first-fragment" ? leavingPorts(reply) : reply;
}

/**
 * A flow that is translated stays where it is, whatever its connection ID says: answers know one
 * way back. An error about a flow that nobody knows has nobody to be translated for.
 */
function translated(
  table: ForwardingTable, state: State, packet: Packet, service: Service, nat: NatState,
): Decision {
  const holder = natHolder(table, nat, packet, service);
  const isError = packet.kind === "icmp-error";
  const named = packet.datagram === undefined || isError || packet.kind === "first-fragment"
    ? null : namedByCid(table, service, packet.datagram);
  const quic = named === null ? {} : { quic: named.outcome };
  if (holder !== null) {
    const how: How = { by: "flow", hash: null, slot: null };
    if (holder.isReset)
      return { verdict: "TX_RESET", service, destination: holder.destination, effects: noteReset(packet, holder.held, state.nowNs), how };
    const left = leave(state, service, holder.destination, NO_EFFECTS, how);
    const isDue = holder.held.lastSeenNs + TOUCH_INTERVAL_NS < state.nowNs;
    const translatedOn = followNat(left, nat, packet, holder.held, state.nowNs);
    const followed = { ...(isDue ? renewAffinity(translatedOn, heldAffinity(state, service)) : translatedOn), ...quic };
    if (isError) return asError(followed);
    return packet.kind === "first-fragment" ? leavingPorts(followed) : followed;
  }
  if (isError) return end("PASS_ICMP", service);
  const destination = named?.destination ?? null;
  const chosen = destination === null ? chooseAnew(table, state, packet, service)
    : leave(state, service, destination, NO_EFFECTS, { by: "connection-id", hash: null, slot: null });
  const claimed = { ...beginAffinity(claimNat(table, nat, packet, chosen, state.nowNs)), ...quic };
  return packet.kind === "first-fragment" ? leavingPorts(claimed) : claimed;
}

function end(verdict: VerdictName, service: Service | null): Decision {
  return { verdict, service, destination: null, effects: NO_EFFECTS, how: null };
}

/** Whether such a packet can be for a service. */
export function hasPorts(kind: PacketKind): boolean {
  return kind === "flow" || kind === "icmp-error" || kind === "first-fragment";
}

function verdictWithoutService(table: ForwardingTable, packet: Packet): VerdictName {
  if (!isVirtualAddress(table, packet.destination)) return "PASS_NOT_OURS";
  switch (packet.kind) {
    case "flow":
    case "first-fragment":
      return "PASS_NOT_OURS";
    case "echo-request":
      return "TX_ECHO_REPLY";
    case "icmp":
    case "icmp-error":
      return "PASS_ICMP";
    case "later-fragment":
      return "PASS_FRAGMENT";
    case "other-protocol":
      return "PASS_PROTOCOL";
    case "truncated":
      return "PASS_TRUNCATED";
  }
}

/** A TCP SYN that is no answer to one. */
export function opensConnection(packet: Packet): boolean {
  return packet.syn && !packet.ack;
}
