// diff(have, want): the steps from what the kernel holds to what it should hold, in an order whose every
// prefix is safe. Pure. The law of that order:
//   a destination is whole before a ring names it, a ring before a version names it, a version before it
//   counts, and all of them before a service key leads there; things go in the opposite order; what a
//   packet in flight may still read is not written again before a grace period has passed; and what is
//   served before and after, by whichever service, is served in between.

import type { Address } from "../../model/address.ts";
import type { RememberPace } from "../../model/remember_pace.ts";
import { groupEntriesNeeded, planGroups } from "./group_plan.ts";
import { groupsOf, type GroupImage } from "./groups.ts";
import {
  assignedText, NO_RIGHTS, serviceKeyText, wildcardsOf,
  type Image, type NextHop, type Route, type ServiceKey,
} from "./image.ts";
import { addInterfaces, removeInterfaces, type Interfaces } from "./interfaces.ts";
import type { HeldDestination, KernelState } from "./kernel_state.ts";
import { isSameNat } from "./nat_values.ts";
import { removeQuic, writeQuic } from "./quic_diff.ts";
import { createPlanner, type Planner } from "./planner.ts";
import { leaveRegionServices, releaseRegionTables, removeRegionServices, withKnownRegions } from "./region_plan.ts";
import { releaseRings } from "./ring_places.ts";
import { planServices } from "./service_plan.ts";
import type { Capacities, Step } from "./steps.ts";
import { removeTunnelEnds, writeTunnelEnds } from "./tunnel_ends.ts";
import { withoutDestinations } from "./version_diff.ts";

/** The steps that bring `have` to `want`; none when it is there. */
export function diff(have: KernelState, want: Image): readonly Step[] {
  const planner = createPlanner(have);
  const clashes = clashingIds(have, want);
  // An id that changes hands while rings still name it: nobody may meet a stranger, so its slots are
  // emptied first. Only a table that was compiled without this plane's ledger gets here.
  if (clashes.size > 0) planChange(planner, withoutDestinations(want, clashes));
  planChange(planner, want);
  return planner.steps;
}

/** The steps for a change of the network alone: the table, as far as it was applied, stays. */
export function diffRoutes(
  have: KernelState, routes: ReadonlyMap<number, Route>,
  { attached, linkAddresses = new Map() }: Interfaces,
): readonly Step[] {
  const planner = createPlanner(have);
  const known = new Map<number, Route>();
  for (const [id, route] of routes) if (have.destinations.get(id)?.given === true) known.set(id, route);
  const devices = new Set<number>(attached);
  for (const { nextHop } of known.values()) if (nextHop.ifindex !== 0) devices.add(nextHop.ifindex);
  addInterfaces(planner, { devices, linkAddresses });
  planRoutes(planner, known);
  // Destinations that the view does not cover keep their way, and with it their interface.
  for (const [id, held] of have.destinations) {
    if (held.given && !known.has(id)) devices.add(held.nextHops[held.nextHopActive].ifindex);
  }
  removeInterfaces(planner, { devices, linkAddresses });
  return planner.steps;
}

function planChange(planner: Planner, image: Image): void {
  const want = withKnownRegions(planner.state, image);
  planProgram(planner, want);
  planSettings(planner, want);
  yieldIndexes(planner, want);
  addInterfaces(planner, want);
  addDestinations(planner, want);
  planRoutes(planner, new Map([...want.destinations].map(([id, { route }]) => [id, route])));
  writeTunnelEnds(planner, want);
  addPolicies(planner, want);
  writeQuic(planner, want);
  planServices(planner, want);
  planGroups(planner, want.groups);
  removeServices(planner, want, "with addresses");
  removeRegionServices(planner, want.regions);
  removeServices(planner, want, "of regions");
  removePolicies(planner, want);
  removeQuic(planner, want);
  removeTunnelEnds(planner, want);
  settleFlags(planner, want);
  retireDestinations(planner, want);
  removeInterfaces(planner, want);
  releaseRings(planner);
  releaseRegionTables(planner);
}

/** Ids that belong to one identity in the kernel and to another in the image. */
function clashingIds(have: KernelState, want: Image): Set<number> {
  const clashes = new Set<number>();
  for (const { id, identity, generation } of want.destinations.values()) {
    const held = have.destinations.get(id);
    if (held?.given === true && (held.identity !== identity || held.generation !== generation)) clashes.add(id);
  }
  return clashes;
}

function planProgram({ state, take }: Planner, want: Image): void {
  const features = new Set([...state.features, ...want.features]);
  const capacities = grown(state, want);
  if (features.size === state.features.size && capacities === state.capacities) return;
  take({ kind: "load-program", features, capacities });
}

/** Room for the image: what is too small is doubled until it fits. The same object when all fits. */
export function grown(state: KernelState, want: Image): Capacities {
  const { capacities } = state;
  const needed = {
    services: 1 + Math.max(-1, ...want.services.keys()),
    destinations: 1 + Math.max(0, ...want.destinations.keys()),
    policies: policiesNeeded(state, want),
    groupEntries: groupEntriesNeeded(state, [remainingGroups(state, losers(state, want)), want.groups]),
  };
  const fit = (have: number, need: number): number => {
    let room = Math.max(1, have);
    while (room < need) room *= 2;
    return need <= have ? have : room;
  };
  const next = {
    ...capacities,
    services: fit(capacities.services, needed.services),
    destinations: fit(capacities.destinations, needed.destinations),
    policies: fit(capacities.policies, needed.policies),
    groupEntries: fit(capacities.groupEntries, needed.groupEntries),
    quicConfigs: fit(capacities.quicConfigs, together(state.quicConfigs, want.quicConfigs)),
    quicServers: fit(capacities.quicServers, together(state.quicServers, want.quicServers)),
    natFlows: Math.max(capacities.natFlows, want.features.has("featureNat") ? want.nat.flowsMax : 0),
    affinities: Math.max(capacities.affinities, want.affinitiesMax),
  };
  const same = next.services === capacities.services && next.destinations === capacities.destinations
    && next.policies === capacities.policies && next.groupEntries === capacities.groupEntries
    && next.quicConfigs === capacities.quicConfigs && next.quicServers === capacities.quicServers
    && next.natFlows === capacities.natFlows && next.affinities === capacities.affinities;
  return same ? capacities : next;
}

/** Entries while old and new ones stand side by side, as they do during a change. */
function together(old: ReadonlyMap<string, unknown>, wanted: ReadonlyMap<string, unknown>): number {
  let count = old.size;
  for (const text of wanted.keys()) if (!old.has(text)) count += 1;
  return count;
}

function policiesNeeded(state: KernelState, want: Image): number {
  const none = new Map<string, unknown>();
  let count = 0;
  for (const index of new Set([...state.services.keys(), ...want.services.keys()])) {
    count += together(state.services.get(index)?.policy ?? none, want.services.get(index)?.policy ?? none);
  }
  return count;
}

function planSettings({ state, take }: Planner, { orphan, icmpIntervalNs, nat, remember, features }: Image): void {
  // A table without translated flows leaves them as they are: some may be under way.
  if (features.has("featureNat") && !isSameNat(state.nat, nat)) take({ kind: "set-nat", nat });
  for (const [kind, pace] of features.has("featureMinimal") ? remember.entries() : []) {
    if (!isSamePace(state.remember[kind]!, pace)) take({ kind: "set-remember-pace", of: kind, pace });
  }
  if (state.icmpIntervalNs !== icmpIntervalNs) take({ kind: "set-icmp-interval", intervalNs: icmpIntervalNs });
  if (state.orphan.afterNs === orphan.afterNs && state.orphan.action === orphan.action) return;
  take({ kind: "set-orphan", ...orphan });
}

function isSamePace(a: RememberPace, b: RememberPace): boolean {
  return a.intervalNs === b.intervalNs && a.burstNs === b.burstNs && a.ownIntervalNs === b.ownIntervalNs;
}

/** An index that gets another owner must not lead the old one's packets to the new one's backends. */
function yieldIndexes(planner: Planner, want: Image): void {
  const { state, take } = planner;
  for (const assigned of [...state.assigned.values()]) {
    if (!want.assigned.has(assignedText(assigned))) take({ kind: "unassign-address", assigned });
  }
  const lost = losers(state, want);
  if (lost.size === 0) return;
  planGroups(planner, remainingGroups(state, lost));
  for (const [index, key] of lost) {
    leaveRegionServices(planner, index);
    take({ kind: "remove-service", index, key });
    const { policy } = state.services.get(index)!;
    for (const [text, entry] of [...policy]) take({ kind: "remove-policy", index, text, entry });
    removeQuic(planner, want, index);
  }
  const needed = new Set([...state.services.values()].map(({ key }) => key?.network.address.text));
  removeAddresses(planner, ({ text }) => needed.has(text) || want.virtualAddresses.has(text));
}

function losers(state: KernelState, want: Image): Map<number, ServiceKey> {
  return new Map([...state.services].flatMap(([index, { key }]) => {
    const next = want.services.get(index);
    return key === null || next === undefined || serviceKeyText(next.key) === serviceKeyText(key)
      ? [] : [[index, key] as const];
  }));
}

/** The groups as they are shown, without these services. */
function remainingGroups(
  state: KernelState, lost: ReadonlyMap<number, ServiceKey>,
): ReadonlyMap<string, GroupImage> {
  const shown = [...state.prefixes.values()].flatMap(({ group }) => [...state.groups.get(group)?.entries.values() ?? []]);
  const served = new Set(shown.map(({ index }) => index));
  return groupsOf(wildcardsOf(state.services).filter(({ index }) => served.has(index) && !lost.has(index)));
}

/** Services come before others go: whatever both serve is served by one of them at any moment. */
function removeServices(planner: Planner, want: Image, which: "with addresses" | "of regions"): void {
  const { state, take } = planner;
  const kept = new Set([...want.services.values()].map(({ key }) => serviceKeyText(key)));
  for (const [index, { key }] of [...state.services]) {
    if (key === null || (key.region === null) !== (which === "with addresses")) continue;
    if (!kept.has(serviceKeyText(key))) take({ kind: "remove-service", index, key });
  }
  removeAddresses(planner, ({ text }) => want.virtualAddresses.has(text));
}

function removeAddresses({ state, take }: Planner, isNeeded: (address: Address) => boolean): void {
  for (const address of [...state.virtualAddresses.values()]) {
    if (!isNeeded(address)) take({ kind: "remove-virtual-address", address });
  }
}

function addDestinations(planner: Planner, want: Image): void {
  const { state, take, settle } = planner;
  for (const destination of want.destinations.values()) {
    const { id } = destination;
    const held = state.destinations.get(id);
    if (held?.given === true) {
      const live = held.live || destination.live;
      const admits = held.admits || destination.admits;
      const resets = held.resets && !live;
      if (live !== held.live || admits !== held.admits || resets !== held.resets)
        take({ kind: "set-destination-flags", id, live, admits, resets });
      continue;
    }
    if (held !== undefined) settle(held.mark);
    const isReused = held !== undefined && held.identity !== destination.identity;
    if (held?.identity !== destination.identity) take({ kind: "zero-destination-traffic", id });
    // A ring of before may name the id still: until that one has gone, it sends nobody there.
    take({ kind: "write-destination", id, destination: isReused ? { ...destination, ...NO_RIGHTS } : destination });
  }
}

function settleFlags({ state, take, settle }: Planner, want: Image): void {
  for (const { id, live, admits, resets, pickWeight } of want.destinations.values()) {
    const held = state.destinations.get(id);
    if (held !== undefined && held.pickWeight !== pickWeight) take({ kind: "set-pick-weight", id, weight: pickWeight });
    if (held === undefined || (held.live === live && held.admits === admits && held.resets === resets)) continue;
    if (live && !held.live) settle(state.marks);
    take({ kind: "set-destination-flags", id, live, admits, resets });
  }
}

function retireDestinations({ state, take, settle }: Planner, want: Image): void {
  const retired = [...state.destinations].filter(([id, held]) => held.given && !want.destinations.has(id));
  if (retired.length === 0) return;
  // Packets in flight may have found the id in a ring that no longer counts.
  settle(state.marks);
  for (const [id, { generation }] of retired) {
    take({ kind: "retire-destination", id, generation: (generation + 1) >>> 0 });
  }
}

/** Brings the ways of destinations that are there to these. */
function planRoutes(planner: Planner, routes: ReadonlyMap<number, Route>): void {
  const { state, take } = planner;
  const rewritten: number[] = [];
  for (const [id, { tunnelSource }] of routes) {
    const held = heldDestination(state, id);
    if (held.tunnelSource?.text === tunnelSource?.text) continue;
    if (isOneStore(held, tunnelSource)) take({ kind: "write-tunnel-source", id, source: tunnelSource });
    else rewritten.push(id);
  }
  // Sixteen bytes cannot change at once, nor an address and its mask: nobody is sent this way
  // while they do.
  for (const id of rewritten) {
    const held = heldDestination(state, id);
    const shown = held.nextHops[held.nextHopActive];
    if (shown.resolved) publishNextHop(planner, id, { ...shown, resolved: false });
  }
  for (const id of rewritten) {
    planner.settle(heldDestination(state, id).hopMark);
    take({ kind: "write-tunnel-source", id, source: routes.get(id)?.tunnelSource ?? null });
  }
  const changed = [...routes].filter(([id, { nextHop }]) => {
    const held = heldDestination(state, id);
    return !sameNextHop(held.nextHops[held.nextHopActive], nextHop);
  });
  for (const [id] of changed) planner.settle(heldDestination(state, id).hopMark);
  for (const [id, { nextHop }] of changed) publishNextHop(planner, id, nextHop);
}

/** IPv4 differs in four aligned bytes only, as long as the mask beside them stays. */
function isOneStore(held: HeldDestination, source: Route["tunnelSource"]): boolean {
  return held.tunnelSource?.address.family === 4 && source?.address.family === 4
    && held.tunnelSource.length === source.length;
}

function publishNextHop({ state, take, settle }: Planner, id: number, nextHop: NextHop): void {
  const held = heldDestination(state, id);
  const half = held.nextHopActive === 0 ? 1 : 0;
  settle(held.hopMark);
  take({ kind: "write-next-hop", id, half, nextHop });
  take({ kind: "activate-next-hop", id, half });
}

export function sameNextHop(a: NextHop, b: NextHop): boolean {
  return a.resolved === b.resolved && a.local === b.local && a.destinationMac === b.destinationMac && a.sourceMac === b.sourceMac
    && a.ifindex === b.ifindex && a.mtu === b.mtu && a.vlan === b.vlan;
}

function heldDestination(state: KernelState, id: number): HeldDestination {
  const held = state.destinations.get(id);
  if (held === undefined) throw new RangeError(`destination ${id} was never written`);
  return held;
}

function addPolicies({ state, take }: Planner, want: Image): void {
  for (const { index, policy } of want.services.values()) {
    const held = state.services.get(index)?.policy;
    for (const [text, entry] of policy) {
      if (held?.get(text)?.action !== entry.action) take({ kind: "add-policy", index, text, entry });
    }
  }
}

function removePolicies({ state, take }: Planner, want: Image): void {
  for (const [index, { policy }] of state.services) {
    const wanted = want.services.get(index)?.policy;
    for (const [text, entry] of [...policy]) {
      if (wanted?.has(text) !== true) take({ kind: "remove-policy", index, text, entry });
    }
  }
}
