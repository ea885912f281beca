// The part of decide() that is about translated flows: what a client's packet becomes, what a
// backend's does, and what has to be written for either. Pure. Knows no byte of a frame;
// decide_nat(), decide_reply(), claim_nat() and their kin in bpf/ are its twins.

import { isSameAddress } from "./address.ts";
import type { Answer, Decision, Effect, Packet } from "./decide.ts";
import { opensConnection } from "./decide.ts";
import { mayKeep } from "./flow_decide.ts";
import { flowHash } from "./flow_hash.ts";
import { isNatOver, NAT_PROBES, natSource, translates } from "./nat.ts";
import type { ClientWay, NatFlow, SourceWanted } from "./nat.ts";
import type { FlowTuple } from "./packet.ts";
import { PROTOCOL_NUMBERS } from "./service_address.ts";
import type { Destination, ForwardingTable, Service } from "./table.ts";

/** What is known of translated flows; a State without it meets none. */
export interface NatState {
  /** The entry under this key, of either direction. */
  readonly find: (key: FlowTuple) => NatFlow | null;
  /** How this packet came. */
  readonly way: ClientWay;
  /** This host's own address towards a destination, or null. */
  readonly ownAddress: (destination: number) => Uint8Array | null;
  /** Why an answer cannot go back by this way, or null. */
  readonly obstacle: (way: ClientWay) => "DROP_NO_NEIGHBOUR" | "DROP_TOO_BIG" | null;
  /** Whether the table has room for one more entry. */
  readonly hasRoom: boolean;
}

type NatWrite = Extract<Effect, { readonly kind: "nat-write" }>;

/** A flow, translated or tracked, is touched at most this often. */
export const TOUCH_INTERVAL_NS = 1_000_000_000n;
/** Who answers later has let its client wait for so long at least, and one such answer does not outweigh thousands. */
const ANSWER_WAIT_MAX_NS = 3_000_000_000n;
const NO_EFFECTS: readonly Effect[] = [];

export function isNatService({ config }: Service): boolean {
  return translates(config.forwarding);
}

export function keyOfPacket(packet: Packet): FlowTuple {
  const { source, sourcePort, destination, destinationPort, protocol } = packet;
  return { source, sourcePort, destination, destinationPort, protocol };
}

/** What a packet of a translated flow may count on where it may not keep its backend. */
type Fate = "kept" | "reset" | "lost";

/**
 * A segment of a connection whose backend was taken out is answered with a reset, whichever side sent it; a reset
 * itself is not (RFC 9293, 3.5.2), and goes on, so that the other side hears it.
 */
function fateOf({ alive, resets }: Destination, packet: Packet): Fate {
  if (alive || !resets || packet.kind !== "flow" || packet.protocol !== PROTOCOL_NUMBERS.tcp) return "lost";
  if (packet.rst) return "kept";
  return packet.ack ? "reset" : "lost";
}

/** The destination that a translated flow has, if it may keep it or is to hear that it may not, and its entry. */
export function natHolder(
  table: ForwardingTable, nat: NatState, packet: Packet, service: Service,
): { readonly held: NatFlow; readonly destination: Destination; readonly isReset: boolean } | null {
  const held = nat.find(keyOfPacket(packet));
  if (held === null || held.reply) return null;
  const destination = table.destinations.get(held.destination);
  if (destination?.generation !== held.generation) return null;
  const fate = mayKeep(service, destination, packet) ? "kept" : fateOf(destination, packet);
  return fate === "lost" ? null : { held, destination, isReset: fate === "reset" };
}

/** From the first reset on, a flow ends like any other that was reset: who speaks until then is told too. */
export function noteReset(packet: Packet, held: NatFlow, nowNs: bigint): readonly Effect[] {
  return held.rst ? NO_EFFECTS : [write(keyOfPacket(packet), { ...held, rst: true, lastSeenNs: nowNs })];
}

/** What a packet of a flow that is translated already leaves behind, and what it is made of. */
export function followNat(
  decision: Decision, nat: NatState, packet: Packet, held: NatFlow, nowNs: bigint,
): Decision {
  if (decision.verdict !== "TX_FORWARDED") return decision;
  const translated = { ...decision, to: held.other };
  if (packet.kind === "icmp-error") return translated;
  const service = decision.service?.index ?? held.service;
  const isDue = held.lastSeenNs + TOUCH_INTERVAL_NS < nowNs;
  const opens = opensConnection(packet);
  const touched: NatFlow = {
    ...held,
    fin: !opens && (held.fin || packet.fin), rst: !opens && (held.rst || packet.rst), answered: !opens,
    lastSeenNs: isDue ? nowNs : held.lastSeenNs,
  };
  const writes: NatWrite[] = [];
  if (isDue || touched.fin !== held.fin || touched.rst !== held.rst || touched.answered !== held.answered)
    writes.push(write(keyOfPacket(packet), touched));
  if (isDue) writes.push(write(held.other, refreshed(nat, packet, { ...held, service }, nowNs)));
  return { ...translated, effects: [...decision.effects, ...writes] };
}

/** The client's packets may come by another way now; a broken-off sweep may have taken the entry. */
function refreshed(nat: NatState, packet: Packet, held: NatFlow, nowNs: bigint): NatFlow {
  const reply = nat.find(held.other);
  return reply === null
    ? {
        ...held, lastSeenNs: nowNs, other: keyOfPacket(packet), way: nat.way,
        fin: false, rst: false, answered: false, reply: true,
      }
    : { ...reply, way: nat.way };
}

/** Begins a translated flow to where the packet would go, if there is a source for it. */
export function claimNat(
  table: ForwardingTable, nat: NatState, packet: Packet, decision: Decision, nowNs: bigint,
): Decision {
  const { destination, service } = decision;
  if (decision.verdict !== "TX_FORWARDED" || destination === null || service === null)
    return { ...decision, effects: decision.effects.filter(({ kind }) => kind === "take-turn") };
  const own = keyOfPacket(packet);
  const stale = nat.find(own);
  const writes: NatWrite[] = stale === null ? [] : [write(stale.other, null), write(own, null)];
  const entries = { ...nat, find: (key: FlowTuple) => afterWrites(nat, writes, key) };
  const found = findSource(table, entries, packet, { destination, service, nowNs });
  const turns = decision.effects;
  if (found === null) return { ...decision, verdict: "DROP_NO_PORT", effects: [...turns, ...writes] };
  const { reply, taken } = found;
  const entry = {
    lastSeenNs: nowNs, destination: destination.id, generation: destination.generation,
    service: service.index, way: nat.way, answered: false,
  };
  const claims = [
    ...writes, ...taken,
    write(reply, { ...entry, other: own, fin: false, rst: false, reply: true }),
  ];
  if (!nat.hasRoom)
    return { ...decision, verdict: "DROP_NAT_FULL", effects: [...turns, ...writes, ...taken] };
  const answered = !opensConnection(packet);
  const forward = write(own, { ...entry, other: reply, fin: packet.fin, rst: packet.rst, answered, reply: false });
  return { ...decision, to: reply, effects: [...turns, ...claims, forward] };
}

interface Claimed {
  readonly reply: FlowTuple;
  /** What was in the way, and is over. */
  readonly taken: readonly NatWrite[];
}

function findSource(
  table: ForwardingTable, nat: NatState, packet: Packet,
  { destination, service, nowNs }: {
    readonly destination: Destination; readonly service: Service; readonly nowNs: bigint;
  },
): Claimed | null {
  const own = keyOfPacket(packet);
  const { source, sourcePort, destination: virtual, destinationPort, protocol } = own;
  // A backend takes nothing from its own address, and would answer itself.
  const keepsSource = destination.forwarding === "nat"
    && !isSameAddress(source, destination.address.bytes);
  const wanted: SourceWanted = {
    hash: flowHash(service.hashSeed, source, sourcePort, virtual, destinationPort, protocol),
    client: keepsSource ? { address: source, port: sourcePort } : null,
    family: destination.address.family,
    ownAddress: nat.ownAddress(destination.id),
  };
  for (let probe = 0; probe < NAT_PROBES; probe += 1) {
    const candidate = natSource(table.nat, wanted, probe);
    if (candidate === null) return null;
    const reply: FlowTuple = {
      source: destination.address.bytes, sourcePort: destination.port ?? destinationPort,
      destination: candidate.address, destinationPort: candidate.port, protocol,
    };
    const held = nat.find(reply);
    if (held === null || isSameFlow(held.other, own)) return { reply, taken: [] };
    if (isNatOver(held, nat.find(held.other), protocol, table.nat.timeouts, nowNs))
      return { reply, taken: [write(reply, null), write(held.other, null)] };
  }
  return null;
}

/** A packet that may be an answer to a translated flow, whosever address it goes to; null: it is none. */
export function decideReply(
  table: ForwardingTable, nat: NatState, packet: Packet, nowNs: bigint,
): Decision | null {
  const key = keyOfPacket(packet);
  const held = nat.find(key);
  if (held?.reply !== true) return null;
  const service = table.services.find(({ index }) => index === held.service) ?? null;
  const destination = table.destinations.get(held.destination) ?? null;
  const base = { service, destination, effects: NO_EFFECTS, how: null, back: held.way };
  if (destination?.generation === held.generation && fateOf(destination, packet) === "reset")
    return { ...base, verdict: "TX_RESET", effects: noteReset(packet, held, nowNs) };
  if (packet.ttl <= 1) return { ...base, verdict: "DROP_TTL_EXPIRED" };
  const obstacle = nat.obstacle(held.way);
  if (obstacle !== null) return { ...base, verdict: obstacle };
  const translated = { ...base, to: held.other };
  if (packet.kind === "icmp-error") return { ...translated, verdict: "TX_ICMP_ERROR" };
  const isAnew = packet.syn && packet.ack;
  const isDue = held.lastSeenNs + TOUCH_INTERVAL_NS < nowNs;
  const touched: NatFlow = {
    ...held, answered: true,
    fin: !isAnew && (held.fin || packet.fin), rst: !isAnew && (held.rst || packet.rst),
    lastSeenNs: isDue ? nowNs : held.lastSeenNs,
  };
  const answer = answerOf(packet, held, destination, nowNs);
  return { ...translated, ...answer === null ? {} : { answer }, verdict: "TX_REPLY", effects: [write(key, touched)] };
}

/**
 * The first answer to what began a flow, and how long that took; null: this is none. Nothing touches the entry of the
 * answers before. A connection is answered by a SYN-ACK: a reset, or what one that was there before goes on with, says
 * nothing of how long it takes. Nor is there anything to say of whoever has the id now, if it is not the flow's.
 */
function answerOf(packet: Packet, held: NatFlow, destination: Destination | null, nowNs: bigint): Answer | null {
  if (held.answered || held.fin || held.rst || destination?.generation !== held.generation) return null;
  if (packet.protocol === PROTOCOL_NUMBERS.tcp && !(packet.syn && packet.ack)) return null;
  const tookNs = nowNs - held.lastSeenNs;
  const waitedNs = tookNs < 0n ? 0n : tookNs < ANSWER_WAIT_MAX_NS ? tookNs : ANSWER_WAIT_MAX_NS;
  return { destination: destination.id, waitedNs };
}

function write(key: FlowTuple, entry: NatFlow | null): NatWrite {
  return { kind: "nat-write", key, entry };
}

function afterWrites(nat: NatState, writes: readonly NatWrite[], key: FlowTuple): NatFlow | null {
  const found = writes.findLast((one) => isSameFlow(one.key, key));
  return found === undefined ? nat.find(key) : found.entry;
}

export function isSameFlow(a: FlowTuple, b: FlowTuple): boolean {
  return a.sourcePort === b.sourcePort && a.destinationPort === b.destinationPort
    && a.protocol === b.protocol && isSameAddress(a.source, b.source)
    && isSameAddress(a.destination, b.destination);
}
