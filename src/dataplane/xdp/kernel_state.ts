// What the maps hold, as far as we know: the "have" of a diff. Written by adoption, then by record(),
// which says what each step changes. Knows which things may still be read by a packet in flight (they
// are restless until a grace period has passed); must never touch a map itself.

import type { Address, Prefix } from "../../model/address.ts";
import type { Forwarding, Gue, OrphanAction } from "../../model/config.ts";
import type { NatTable } from "../../model/nat.ts";
import { NO_PACE, REMEMBER_KINDS, type RememberPace } from "../../model/remember_pace.ts";
import { isExact } from "../../model/service_address.ts";
import type { PublishedSlots } from "../../model/slot_states.ts";
import type { Ledger } from "../../model/table.ts";
import { recordGroups } from "./group_plan.ts";
import type { GroupEntry } from "./groups.ts";
import {
  assignedText, serviceKeyText, type AssignedAddress, type NextHop, type PolicyImage, type ServiceKey, type SchemeImage, type VersionImage,
} from "./image.ts";
import type { Feature } from "./program_features.ts";
import type { RingClass } from "./ring_class.ts";
import { linkAddressText, type LinkAddress } from "./interfaces.ts";
import { quicConfigText, quicServerText, type QuicConfigImage, type QuicServerImage } from "./quic_maps.ts";
import type { Capacities, Step } from "./steps.ts";
import {
  publishedRegions, recordRegions, tablesOfVersion, type HeldRegions, type HeldRegionService, type HeldRegionTable,
} from "./region_state.ts";
import { tunnelEndText, type TunnelEndImage } from "./tunnel_ends.ts";

/** A scheme as it stands in the map: the ring is a place, not a content. */
export interface HeldScheme extends Omit<SchemeImage, "ringKey"> {
  readonly ringClass: RingClass;
  readonly ringId: number;
}

export interface HeldVersion extends Omit<VersionImage, "scheme" | "predecessor" | "regions"> {
  readonly scheme: HeldScheme;
  readonly predecessor: HeldScheme | null;
  readonly regions: HeldRegions | null;
}

/**
 * `mark` is the number of the change after which something was no longer published; it is quiet once a
 * grace period that began later has ended. 0: always quiet.
 */
export interface HeldService {
  /** What points here, or null. */
  key: ServiceKey | null;
  active: 0 | 1;
  versions: [HeldVersion | null, HeldVersion | null];
  /** By policyText(). */
  policy: Map<string, PolicyImage>;
  mark: number;
}

export interface HeldDestination {
  identity: bigint;
  generation: number;
  /** False: retired. */
  given: boolean;
  live: boolean;
  admits: boolean;
  resets: boolean;
  forwarding: Forwarding;
  gue: Gue | null;
  address: Address;
  port: number | null;
  pickWeight: number;
  tunnelSource: Prefix | null;
  nextHopActive: 0 | 1;
  nextHops: [NextHop, NextHop];
  /** Of the whole element. */
  mark: number;
  /** Of the idle next hop. */
  hopMark: number;
}

export interface HeldRing {
  readonly ringClass: RingClass;
  readonly id: number;
  /** Digest of the content; null: not known, not to be published. */
  key: string | null;
  mark: number;
}

export interface HeldGroup {
  /** By portPrefixText(). */
  readonly entries: Map<string, GroupEntry>;
  mark: number;
}

export interface KernelState {
  /** By index. */
  services: Map<number, HeldService>;
  /** By id. */
  destinations: Map<number, HeldDestination>;
  /** By ringText(). */
  rings: Map<string, HeldRing>;
  /** By number. */
  regionTables: Map<number, HeldRegionTable>;
  /** By regionServiceText(). */
  regionServices: Map<string, HeldRegionService>;
  virtualAddresses: Map<string, Address>;
  /** Where addresses lead that have wildcard services, by the prefix's text. */
  prefixes: Map<string, { readonly network: Prefix; readonly group: number }>;
  /** By number. */
  groups: Map<number, HeldGroup>;
  /** Of the last exact service that was added. */
  keyMark: number;
  /** By quicConfigText() and quicServerText(). */
  quicConfigs: Map<string, QuicConfigImage>;
  quicServers: Map<string, QuicServerImage>;
  /** Of the element of `quicConfigs` that went last. */
  quicMark: number;
  /** By tunnelEndText(). */
  tunnelEnds: Map<string, TunnelEndImage>;
  devices: Set<number>;
  /** By linkAddressText(). */
  linkAddresses: Map<string, LinkAddress>;
  /** By place. */
  firstLinkAddresses: Map<number, LinkAddress>;
  orphan: { afterNs: bigint; action: OrphanAction };
  icmpIntervalNs: bigint;
  /** Null: not written yet. */
  nat: NatTable | null;
  /** In the order of REMEMBER_KINDS. */
  remember: readonly RememberPace[];
  assigned: Map<string, AssignedAddress>;
  features: ReadonlySet<Feature>;
  capacities: Capacities;
  /** Counts what was taken out of publication. */
  marks: number;
  /** Marks up to this one are quiet. */
  quiet: number;
}

export function emptyState(capacities: Capacities, features: ReadonlySet<Feature>): KernelState {
  return {
    services: new Map(), destinations: new Map(), rings: new Map(), virtualAddresses: new Map(),
    regionTables: new Map(), regionServices: new Map(),
    prefixes: new Map(), groups: new Map(), keyMark: 0,
    quicConfigs: new Map(), quicServers: new Map(), quicMark: 0,
    tunnelEnds: new Map(), devices: new Set(), linkAddresses: new Map(), firstLinkAddresses: new Map(),
    orphan: { afterNs: 0n, action: "keep" }, icmpIntervalNs: 0n, nat: null,
    remember: REMEMBER_KINDS.map(() => NO_PACE),
    assigned: new Map(), features, capacities,
    marks: 0, quiet: 0,
  };
}

/** A copy that record() can change without touching the original. */
export function copyState(state: KernelState): KernelState {
  return {
    ...state,
    services: copied(state.services, (held) => ({ ...held, versions: [...held.versions], policy: new Map(held.policy) })),
    destinations: copied(state.destinations, (held) => ({ ...held, nextHops: [...held.nextHops] })),
    rings: copied(state.rings, (held) => ({ ...held })),
    regionTables: copied(state.regionTables, (held) => ({ ...held })),
    regionServices: new Map(state.regionServices),
    virtualAddresses: new Map(state.virtualAddresses),
    prefixes: new Map(state.prefixes),
    groups: copied(state.groups, (held) => ({ ...held, entries: new Map(held.entries) })),
    quicConfigs: new Map(state.quicConfigs),
    quicServers: new Map(state.quicServers),
    tunnelEnds: new Map(state.tunnelEnds),
    devices: new Set(state.devices),
    linkAddresses: new Map(state.linkAddresses),
    firstLinkAddresses: new Map(state.firstLinkAddresses),
    assigned: new Map(state.assigned),
  };
}

function copied<K, V>(map: ReadonlyMap<K, V>, copy: (value: V) => V): Map<K, V> {
  const result = new Map<K, V>();
  for (const [key, value] of map) result.set(key, copy(value));
  return result;
}

export function ringText(ringClass: RingClass, id: number): string {
  return `${ringClass}/${id}`;
}

export function isQuiet(state: KernelState, mark: number): boolean {
  return mark <= state.quiet;
}

/** The version that packets of this service are measured against, or null. */
export function activeVersion(held: HeldService): HeldVersion | null {
  return held.versions[held.active];
}

/** The rings of a version, as ringText(). */
export function ringsOfVersion({ scheme, predecessor }: HeldVersion): string[] {
  const schemes = predecessor === null ? [scheme] : [scheme, predecessor];
  return schemes.map(({ ringClass, ringId }) => ringText(ringClass, ringId));
}

/** Rings that packets may be sent by, as ringText(). */
export function publishedRings(state: KernelState): Set<string> {
  return new Set([...state.services.values()].flatMap((held) => {
    const version = held.key === null ? null : activeVersion(held);
    return version === null ? [] : ringsOfVersion(version);
  }));
}

/** Whether some service shows whose the slots were before a change. */
export function hasOpenWindows(state: KernelState): boolean {
  return [...state.services.values()].some((held) => {
    const version = activeVersion(held);
    return version !== null && (version.predecessor !== null || (version.regions?.before ?? null) !== null);
  });
}

/** Ids and indexes that are taken, and what packets are sent by, for compile(). */
export function ledgerOf(state: KernelState, slotsOf: ((version: HeldVersion) => PublishedSlots) | null = null): Ledger {
  const destinations = new Map<bigint, { id: number; generation: number; live: boolean }>();
  for (const [id, { identity, generation, given }] of state.destinations) {
    // One identity may have had several ids over time: the one in use counts.
    if (given || !destinations.has(identity)) destinations.set(identity, { id, generation, live: given });
  }
  const services = new Map<string, number>();
  const slots = new Map<string, PublishedSlots>();
  for (const [index, held] of state.services) {
    if (held.key === null) continue;
    const text = serviceKeyText(held.key);
    services.set(text, index);
    const version = activeVersion(held);
    if (version !== null && slotsOf !== null) slots.set(text, { ...slotsOf(version), ...publishedRegions(state, version) });
  }
  return { destinations, services, slots };
}

/** Notes that a step was taken. The only place that changes a KernelState after adoption. */
export function record(state: KernelState, step: Step): void {
  switch (step.kind) {
    case "load-program":
      state.features = step.features;
      state.capacities = step.capacities;
      return;
    case "grace-period":
      state.quiet = state.marks;
      return;
    case "set-icmp-interval": state.icmpIntervalNs = step.intervalNs; return;
    case "set-nat": state.nat = step.nat; return;
    case "set-remember-pace": state.remember = state.remember.with(step.of, step.pace); return;
    case "set-orphan":
      state.orphan = { afterNs: step.afterNs, action: step.action };
      return;
    case "write-tunnel-end": state.tunnelEnds.set(tunnelEndText(step.end), step.end); return;
    case "remove-tunnel-end": state.tunnelEnds.delete(tunnelEndText(step.end)); return;
    case "add-device": state.devices.add(step.ifindex); return;
    case "remove-device": state.devices.delete(step.ifindex); return;
    case "add-link-address": state.linkAddresses.set(linkAddressText(step.address), step.address); return;
    case "set-first-link-address":
      if (step.address === null) state.firstLinkAddresses.delete(step.place);
      else state.firstLinkAddresses.set(step.place, step.address);
      return;
    case "remove-link-address": state.linkAddresses.delete(linkAddressText(step.address)); return;
    case "assign-address": state.assigned.set(assignedText(step.assigned), step.assigned); return;
    case "unassign-address": state.assigned.delete(assignedText(step.assigned)); return;
    case "create-ring":
      state.rings.set(ringText(step.ringClass, step.id), { ringClass: step.ringClass, id: step.id, key: null, mark: 0 });
      return;
    case "release-ring": state.rings.delete(ringText(step.ringClass, step.id)); return;
    case "write-ring": ringAt(state, step).key = step.ring.key; return;
    case "write-region-table": case "release-region-table":
    case "add-region-service": case "remove-region-service": recordRegions(state, step); return;
    case "zero-service-traffic": case "zero-destination-traffic": return;
    case "add-virtual-address": state.virtualAddresses.set(step.address.text, step.address); return;
    case "add-group-ports": case "remove-group-ports":
    case "set-address-group": case "remove-address-group": recordGroups(state, step); return;
    case "remove-virtual-address": state.virtualAddresses.delete(step.address.text); return;
    case "write-quic-config": case "remove-quic-config": case "write-quic-server": case "remove-quic-server":
      recordQuic(state, step);
      return;
    default:
      if ("index" in step) recordService(state, step);
      else recordDestination(state, step);
  }
}

type QuicStep = Extract<Step, { kind:
  "write-quic-config" | "remove-quic-config" | "write-quic-server" | "remove-quic-server" }>;

/** What is replaced or removed may be read for one grace period more. */
function recordQuic(state: KernelState, step: QuicStep): void {
  if ("config" in step) {
    const text = quicConfigText(step.config);
    if (state.quicConfigs.delete(text)) state.quicMark = state.marks += 1;
    if (step.kind === "write-quic-config") state.quicConfigs.set(text, step.config);
    return;
  }
  const text = quicServerText(step.server);
  if (state.quicServers.delete(text)) state.marks += 1;
  if (step.kind === "write-quic-server") state.quicServers.set(text, step.server);
}

type ServiceStep = Extract<Step, { kind:
  "write-version" | "activate-version" | "add-service" | "remove-service" | "add-policy" | "remove-policy" }>;

function recordService(state: KernelState, step: ServiceStep): void {
  const held = serviceAt(state, step.index);
  switch (step.kind) {
    case "write-version": held.versions[step.version] = step.value; return;
    case "activate-version":
      unpublish(state, held);
      held.active = step.version;
      return;
    case "add-service": {
      const text = serviceKeyText(step.key);
      for (const [index, other] of state.services) {
        if (index === step.index || other.key === null || serviceKeyText(other.key) !== text) continue;
        unpublish(state, other);
        other.key = null;
      }
      held.key = step.key;
      if (step.key.region === null && isExact(step.key)) state.keyMark = state.marks += 1;
      return;
    }
    case "remove-service":
      unpublish(state, held);
      held.key = null;
      return;
    case "add-policy": held.policy.set(step.text, step.entry); return;
    case "remove-policy": held.policy.delete(step.text); return;
  }
}

type DestinationStep = Extract<Step, { kind:
  "write-destination" | "set-destination-flags" | "set-pick-weight" | "write-next-hop" | "activate-next-hop"
  | "write-tunnel-source" | "retire-destination" }>;

function recordDestination(state: KernelState, step: DestinationStep): void {
  if (step.kind === "write-destination") {
    const { identity, generation, live, admits, resets, forwarding, gue, address, port, pickWeight, route } = step.destination;
    state.destinations.set(step.id, {
      identity, generation, given: true, live, admits, resets, forwarding, gue, address, port, pickWeight,
      tunnelSource: route.tunnelSource,
      nextHopActive: 0, nextHops: [route.nextHop, route.nextHop], mark: 0, hopMark: 0,
    });
    return;
  }
  const held = destinationAt(state, step.id);
  switch (step.kind) {
    case "set-destination-flags":
      held.live = step.live;
      held.admits = step.admits;
      held.resets = step.resets;
      return;
    case "set-pick-weight": held.pickWeight = step.weight; return;
    case "write-next-hop": held.nextHops[step.half] = step.nextHop; return;
    case "activate-next-hop":
      held.nextHopActive = step.half;
      held.hopMark = state.marks += 1;
      return;
    case "write-tunnel-source": held.tunnelSource = step.source; return;
    case "retire-destination":
      held.given = held.live = held.admits = held.resets = false;
      held.generation = step.generation;
      held.mark = state.marks += 1;
      return;
  }
}

/** What the service shows now may be read for one grace period more: its version and that one's ring. */
function unpublish(state: KernelState, held: HeldService): void {
  state.marks += 1;
  held.mark = state.marks;
  const version = activeVersion(held);
  for (const text of version === null ? [] : ringsOfVersion(version)) {
    const ring = state.rings.get(text);
    if (ring !== undefined) ring.mark = state.marks;
  }
  for (const id of version === null ? [] : tablesOfVersion(version)) {
    const table = state.regionTables.get(id);
    if (table !== undefined) table.mark = state.marks;
  }
}

function serviceAt(state: KernelState, index: number): HeldService {
  const held = state.services.get(index)
    ?? { key: null, active: 0, versions: [null, null], policy: new Map<string, PolicyImage>(), mark: 0 };
  state.services.set(index, held);
  return held;
}

function destinationAt(state: KernelState, id: number): HeldDestination {
  const held = state.destinations.get(id);
  if (held === undefined) throw new RangeError(`destination ${id} was never written`);
  return held;
}

function ringAt(state: KernelState, place: { readonly ringClass: RingClass; readonly id: number }): HeldRing {
  const held = state.rings.get(ringText(place.ringClass, place.id));
  if (held === undefined) throw new RangeError(`there is no ring ${ringText(place.ringClass, place.id)}`);
  return held;
}
