// The part of decide() that finds the backend of a packet of a service: by its connection ID, by the
// flow table, by the ring, and while slots are changing by whose they were. Pure. bpf/choice.h is its
// twin.

import { affineDestination, beginAffinity, renewAffinity } from "./affinity.ts";
import { nameable } from "./alternates.ts";
import { isIdle } from "./flow_exception.ts";
import { pick } from "./pick.ts";
import type { Decision, Effect, FlowEntry, Packet, State } from "./decide.ts";
import { opensConnection } from "./decide.ts";
import { translates } from "./nat.ts";
import { TOUCH_INTERVAL_NS } from "./nat_decide.ts";
import type { ServiceConfig, Tracking } from "./config.ts";
import type { RememberKind } from "./remember_pace.ts";
import { PROTOCOL_NUMBERS } from "./service_address.ts";
import { serviceBefore } from "./service_lookup.ts";
import { schemeOf, slotBy, slotFor } from "./slot.ts";
import type { SlotInput } from "./slot.ts";
import { isChanging, isRehashed } from "./slot_states.ts";
import { isAllFailedOpen } from "./split.ts";
import type { Destination, ForwardingTable, Service } from "./table.ts";

/**
 * What became of a packet of a service with `minimal` that met a slot with exceptions: its flow was
 * remembered; it began one; its flow is older than the window and kept its backend, or has lost it; it
 * should have been remembered, but too many were; or it is no exception.
 */
export type TrackingOutcome = "followed" | "began" | "kept" | "lost" | "unremembered" | "settled";

/** The outcomes in the order of the enum. */
export const TRACKING_OUTCOMES: readonly TrackingOutcome[] =
  ["followed", "began", "kept", "lost", "unremembered", "settled"];

/**
 * What befalls the entries of the flow table, in the order of the enum: one that was not there is written, one is
 * forgotten, one cannot be written.
 */
export const FLOW_EVENTS = ["written", "forgotten", "refused"] as const;
export type FlowEvent = (typeof FLOW_EVENTS)[number];

/** What a packet that got away does to the table of which `flow` is its entry. */
export function flowEventOf(effects: readonly Effect[], flow: State["flow"]): FlowEvent | null {
  if (effects.some(({ kind }) => kind === "forget")) return "forgotten";
  return flow === null && effects.some(({ kind }) => kind === "remember") ? "written" : null;
}

const NO_EFFECTS: readonly Effect[] = [];

type How = NonNullable<Decision["how"]>;

/** How flows of a service are remembered in the flow table: translated ones have a table of their own. */
export function trackingOf({ config }: { readonly config: Pick<ServiceConfig, "forwarding" | "tracking"> }): Tracking {
  return translates(config.forwarding) ? "none" : config.tracking;
}

export function byFlowOrRing(
  table: ForwardingTable, state: State, packet: Packet, service: Service,
): Decision {
  const holder = trackingOf(service) === "full" ? flowHolder(table, state, packet, service) : null;
  const decision = holder === null ? chooseAnew(table, state, packet, service)
    : followFlow(state, packet, service, holder);
  const kept = withAffinity(state, service, decision);
  return service.config.secondChance ? withAlternates(table, state, packet, service, kept) : kept;
}

export function heldAffinity(state: State, service: Service): FlowEntry | null {
  return service.affinity === null ? null : state.affinity?.(service) ?? null;
}

function withAffinity(state: State, service: Service, decision: Decision): Decision {
  if (service.affinity === null || state.affinity === undefined) return decision;
  if (decision.effects.some(({ kind }) => kind === "remember")) return beginAffinity(decision);
  const isTouched = decision.effects.some(({ kind }) => kind === "touch");
  return isTouched ? renewAffinity(decision, heldAffinity(state, service)) : decision;
}

/**
 * Wherever a packet goes: its flow may be with the owner of its slot, and with the untracked owner. One that is taken
 * for the untracked owner's may be another balancer's, and the owner's in truth: nobody here will ever know, so both
 * are remembered.
 */
function withAlternates(
  table: ForwardingTable, state: State, packet: Packet, service: Service, decision: Decision,
): Decision {
  const { verdict, destination, tracking } = decision;
  const mayDiffer = trackingOf(service) === "full" || tracking !== undefined;
  if (!mayDiffer || verdict !== "TX_FORWARDED" || destination === null) return decision;
  const { slot } = slotFor(service, packet);
  const remembers = decision.effects.some(({ kind }) => kind === "remember");
  const owners = [
    remembers ? 0 : state.flow?.other ?? 0,
    service.ring.slots[slot] ?? 0, untrackedOwner(table, service, packet, slot, state.nowNs) ?? 0,
  ];
  const alternates = nameable(table, state, destination, owners);
  const [other] = alternates;
  if (other === undefined) return decision;
  const isTakenOver = decision.how?.by === "predecessor" && !opensConnection(packet);
  const effects = isTakenOver
    ? decision.effects.map((effect) => (effect.kind === "remember" ? { ...effect, other } : effect)) : decision.effects;
  return { ...decision, effects, alternates };
}

/**
 * Where the connection ID says. A flow that goes nowhere yet is remembered with it, for what will
 * come without such an ID; one that goes elsewhere stays there, so that nobody who forges addresses
 * can turn it.
 */
export function followCid(
  table: ForwardingTable, state: State, packet: Packet, service: Service, named: Destination,
): Decision {
  const tracked = trackingOf(service) === "full";
  const holder = tracked ? flowHolder(table, state, packet, service) : null;
  let effects = holder === named ? touchEffects(state, packet) : NO_EFFECTS;
  if (holder === null && tracked) effects = [remembering(named, packet)];
  return withAffinity(state, service, leave(state, service, named, effects, { by: "connection-id", hash: null, slot: null }));
}

/** The destination that the flow has, if it is still the one it was and may keep it; else null. */
function flowHolder(
  table: ForwardingTable, state: State, packet: Packet, service: Service,
): Destination | null {
  const entry = state.flow;
  if (entry === null) return null;
  if (isIdle(service, entry, state.nowNs)) return null;
  const destination = table.destinations.get(entry.destination);
  if (destination?.generation !== entry.generation) return null;
  return mayKeep(service, destination, packet) ? destination : null;
}

/**
 * Whether a flow that has this destination may keep it. A new connection that reuses the addresses and ports of an old
 * one counts as new.
 */
export function mayKeep(service: Service, destination: Destination, packet: Packet): boolean {
  return mayHave(service, destination, opensConnection(packet));
}

/**
 * Whether a flow that was with this destination, or whose client was, may be there; one that `begins` has to be admitted.
 * Where all backends get flows because too few are up, those that are not alive keep what they get; whoever was taken
 * out does not.
 */
export function mayHave(service: Service, { alive, admission, resets }: Destination, begins: boolean): boolean {
  return alive ? !begins || admission > 0 : isAllFailedOpen(service) && !resets;
}

function followFlow(state: State, packet: Packet, service: Service, holder: Destination): Decision {
  const how: How = { by: "flow", hash: null, slot: null };
  return leave(state, service, holder, touchEffects(state, packet), how);
}

/** Whether the flow's client has closed it, or broken it off, after this packet: one that begins anew has not. */
function closesAfter(packet: Packet, before: boolean): boolean {
  return !opensConnection(packet) && (before || packet.fin || packet.rst);
}

/** Of a packet that goes where its flow does. */
function touchEffects({ flow, nowNs }: State, packet: Packet): readonly Effect[] {
  if (flow === null) return NO_EFFECTS;
  const before = flow.closes ?? false;
  const closes = closesAfter(packet, before);
  if (closes !== before) return [{ kind: "touch", closes }];
  return flow.lastSeenNs + TOUCH_INTERVAL_NS >= nowNs ? NO_EFFECTS : [{ kind: "touch" }];
}

function remembering({ id, generation }: Destination, packet: Packet): Effect {
  return { kind: "remember", destination: id, generation, ...(closesAfter(packet, false) ? { closes: true } : {}) };
}

/** For a flow that nobody knows: where its client has been, picked where the service picks and the flow is new, else by the ring. */
export function chooseAnew(table: ForwardingTable, state: State, packet: Packet, service: Service): Decision {
  const affine = affineDestination(table, service, packet, heldAffinity(state, service), state.nowNs);
  if (affine !== null) {
    const effects = trackingOf(service) === "full" ? [remembering(affine, packet)] : NO_EFFECTS;
    return leave(state, service, affine, effects, { by: "affinity", ...slotFor(service, packet) });
  }
  const { picking } = service;
  if (picking === null || state.pick === undefined || packet.kind === "icmp-error") return chooseByRing(table, state, packet, service);
  const at = slotFor(service, packet);
  if (!isNew(table, packet, service, at.slot, state.nowNs)) return chooseByRing(table, state, packet, service);
  const { destination, slot, turn } = pick(table, service, picking, state.pick(service), at.slot);
  const how: How = { by: "pick", hash: at.hash, slot };
  const turns: readonly Effect[] = turn === undefined ? NO_EFFECTS : [{ kind: "take-turn", next: turn }];
  const remembers = trackingOf(service) === "full" && destination !== null;
  const decision = destination === null
    ? forgetting({ verdict: "DROP_NO_BACKEND", service, destination, effects: NO_EFFECTS, how }, state)
    : leave(state, service, destination, remembers ? [remembering(destination, packet)] : NO_EFFECTS, how);
  return { ...decision, effects: [...decision.effects, ...turns] };
}

/** A datagram without an entry may be of a flow from before the window. */
function isNew(table: ForwardingTable, packet: Packet, service: Service, slot: number, nowNs: bigint): boolean {
  if (packet.protocol === PROTOCOL_NUMBERS.tcp) return opensConnection(packet);
  return untrackedOwner(table, service, packet, slot, nowNs) === null;
}

function chooseByRing(
  table: ForwardingTable, state: State, packet: Packet, service: Service,
): Decision {
  const at = slotFor(service, packet);
  const tracking = trackingOf(service);
  const isMarked = service.states.exceptional?.[at.slot] === 1;
  if (tracking === "none" || (tracking === "minimal" && !isMarked))
    return byOwner(table, state, packet, service, { ...at, remembers: false });
  if (tracking === "minimal") {
    const holder = flowHolder(table, state, packet, service);
    if (holder !== null) return { ...followFlow(state, packet, service, holder), tracking: "followed" };
  }
  const before = untrackedOwner(table, service, packet, at.slot, state.nowNs);
  if (before !== null) return whileChanging(table, state, packet, service, { ...at, before });
  if (tracking === "full") return forgetting(byOwner(table, state, packet, service, { ...at, remembers: true }), state);
  // Another flow from now on, also when the backend of the old one comes back: datagrams whose backend is
  // dead, and a connection that takes the addresses and ports of one.
  const opens = opensConnection(packet);
  const remembers = state.flow !== null && (opens || packet.protocol === PROTOCOL_NUMBERS.udp);
  const outcome = !remembers ? "settled" : opens ? "began" : "lost";
  return { ...forgetting(byOwner(table, state, packet, service, { ...at, remembers }), state), tracking: outcome };
}

/** A flow with nobody to go to is forgotten. */
function forgetting(decision: Decision, state: State): Decision {
  const isOver = decision.verdict === "DROP_NO_BACKEND" && state.flow !== null;
  return isOver ? { ...decision, effects: [{ kind: "forget" }] } : decision;
}

type At = ReturnType<typeof slotFor>;

function byOwner(
  table: ForwardingTable, state: State, packet: Packet, service: Service, { remembers, ...at }: At & { readonly remembers: boolean },
): Decision {
  const how: How = { by: "ring", hash: at.hash, slot: at.slot };
  const owner = table.destinations.get(service.ring.slots[at.slot] ?? 0);
  if (owner === undefined)
    return { verdict: "DROP_NO_BACKEND", service, destination: null, effects: NO_EFFECTS, how };
  return leave(state, service, owner, remembers ? [remembering(owner, packet)] : NO_EFFECTS, how);
}

/**
 * Whose the untracked flows are (0: nobody's) of a slot that is changing, or of a client that came to another region: for it
 * all slots are. Null: neither is.
 */
export function untrackedOwner(
  table: ForwardingTable, service: Service, packet: SlotInput, slot: number, nowNs: bigint,
): number | null {
  const former = serviceBefore(table, service, packet.source, nowNs)?.service ?? null;
  if (former === null) return changingOwner(service, packet, slot, nowNs);
  const at = slotFor(former, packet);
  return changingOwner(former, packet, at.slot, nowNs) ?? former.ring.slots[at.slot] ?? 0;
}

function changingOwner(service: Service, packet: SlotInput, slot: number, nowNs: bigint): number | null {
  const { states } = service;
  if (states.predecessor === null) return null;
  const { scheme, owners } = states.predecessor;
  const rehashed = isRehashed(states, schemeOf(service));
  const owner = owners[rehashed ? slotBy(scheme, packet).slot : slot] ?? 0;
  return isChanging(states, rehashed, owner, nowNs) ? owner : null;
}

/**
 * A slot that is changing, and a flow that nobody remembers: what opens goes to the owner, anything
 * else to whoever owned the slot before, and both are remembered. What may not be remembered now goes
 * where its next packets will.
 */
function whileChanging(
  table: ForwardingTable, state: State, packet: Packet, service: Service,
  { before: id, ...at }: At & { readonly before: number },
): Decision {
  const before = table.destinations.get(id);
  const opens = opensConnection(packet);
  const isMinimal = trackingOf(service) === "minimal";
  const remembers = !isMinimal || state.flow !== null || (state.mayRemember?.(service, kindOf(packet, opens)) ?? true);
  const keeps = before?.alive === true && (!opens || !remembers);
  const isLost = !opens && !keeps;
  // TCP that is lost is not remembered: its owner may come back. Datagrams may be a new flow.
  const isForgone = isLost && packet.protocol === PROTOCOL_NUMBERS.tcp;
  const outcome = !remembers && !isForgone ? "unremembered" : opens ? "began" : isLost ? "lost" : "kept";
  const how: How = { by: keeps ? "predecessor" : "ring", hash: at.hash, slot: at.slot };
  const isRemembered = remembers && !isForgone;
  const decision = keeps
    ? leave(state, service, before, isRemembered ? [remembering(before, packet)] : NO_EFFECTS, how)
    : forgetting(byOwner(table, state, packet, service, { ...at, remembers: isRemembered }), state);
  return isMinimal ? { ...decision, tracking: outcome } : decision;
}

function kindOf({ protocol }: Packet, opens: boolean): RememberKind {
  if (protocol === PROTOCOL_NUMBERS.udp) return "udp";
  return opens ? "tcp-opened" : "tcp-other";
}

export function leave(
  state: State,
  service: Service,
  destination: Destination,
  effects: readonly Effect[],
  how: How,
): Decision {
  if (state.local?.(destination.id) === true)
    return { verdict: "PASS_LOCAL", service, destination, effects, how };
  const obstacle = state.neighbour(destination.id)
    ? (state.obstacle?.(destination.id, service) ?? null)
    : "DROP_NO_NEIGHBOUR";
  if (obstacle !== null)
    return { verdict: obstacle, service, destination, effects: NO_EFFECTS, how };
  return { verdict: "TX_FORWARDED", service, destination, effects, how };
}
