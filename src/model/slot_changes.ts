// What becomes of the slots of a table's services, and of the clients of their regions, since the table before: compile's
// look at what was published. Pure; the rules themselves are slot_states.ts's and region_changes.ts's.

import { trackingOf } from "./flow_decide.ts";
import { markedStates, nextBefore, NO_REGIONS, regionsDigest, windowAfter } from "./region_changes.ts";
import type { PublishedRegions, RegionWindow } from "./region_changes.ts";
import { regionKey, serviceKey } from "./service_address.ts";
import { isSameScheme, schemeOf } from "./slot.ts";
import { nextStates, rememberedSinceNs } from "./slot_states.ts";
import type { NextSlots, PublishedSlots, SlotStates, SlotSweep, SlotTimes } from "./slot_states.ts";
import type { Ledger, Service } from "./table.ts";

/** What ids and indexes are promised, and how many tables there were. */
export interface Previous {
  readonly ledger: Ledger;
  readonly generation: number;
  /** Absent: no slot is changing, as where connections end in this process and none is moved. */
  readonly changes?: SlotChanges;
}

/** Who has which number, of a ledger. */
export type Claims = Pick<Ledger, "destinations" | "services">;

/** What is known of the slots since the last table. */
export interface SlotChanges extends Pick<SlotTimes, "nowMs"> {
  /** What packets are sent by. Of the last table, unless that was published in part or not at all. */
  readonly shown: Pick<Ledger, "destinations" | "slots">;
  /** By service key: what the last walk over the flow table found. */
  readonly sweeps: ReadonlyMap<string, SlotSweep>;
}

/**
 * Gives each service, in the order of the config, the states that its slots come into. `live`: keys of all of them.
 */
export function followSlots(
  { generation, changes, ledger: { services: knownServices } }: Previous, claimed: Claims, live: readonly string[],
): (service: Service) => Service {
  if (changes === undefined) return (service) => service;
  const { nowMs, shown, sweeps } = changes;
  const { destinations } = claimed;
  const indexOf = indexesOf(claimed, live);
  const asked = new Map<string, { readonly window: RegionWindow; readonly since: bigint }>();
  const times = { nowMs, reused: reusedIds(shown.destinations, destinations), generation: generation + 1 };
  const made: MadeStates[] = [];
  return (service) => {
    const key = serviceKey(service.config);
    const isBack = !shown.slots.has(key) && knownServices.has(key);
    const step = { previous: shown.slots.get(key) ?? null, next: { ...nextSlots(service), isBack }, sweep: sweeps.get(key) ?? null };
    // Services of one pool have one ring: what its slots come into is made once, and is one object.
    let known = made.find((each) => isSameStep(each, step));
    if (known === undefined) {
      known = { ...step, states: nextStates(step.previous, step.next, times, step.sweep) };
      made.push(known);
    }
    const before = nextRegions(step.previous, service, nowMs);
    // The services of the regions come after the one that is asked for.
    const whole = asked.get(service.config.region?.service ?? "");
    const window = whole?.window ?? windowAfter(step.previous?.regions?.before ?? null, before);
    const states = markedStates(known.states, step.next, window, times);
    // What is remembered of the clients of a new region was another one's, by the same rules.
    const since = step.previous === null && whole !== undefined ? whole.since : rememberedSinceNs(step.previous, step.next, times);
    asked.set(service.name, { window, since });
    if (states === service.states && since === 0n && before === null) return service;
    const regions = before === null ? service.regions
      : { ...service.regions!, before: { ...before, services: before.services.map(indexOf) } };
    return { ...service, states, rememberedSinceNs: since, regions };
  };
}

/** The next time that a window closes, of slots or of regions; Infinity: none is open. */
export function nextDeadlineMs(services: readonly Service[]): number {
  return Math.min(...services.map(({ states, regions }) =>
    Math.min(states.nextDeadlineMs ?? Infinity, regions?.before?.deadlineMs ?? Infinity)));
}

/** Indexes of services that there are, by key. */
function indexesOf({ services }: Claims, live: readonly string[]): (key: string) => number | null {
  const keys = new Set(live);
  return (key) => (keys.has(key) ? services.get(key) ?? null : null);
}

/**
 * What clients another region had before; where all flows are remembered, or none is, no window opens, nor where the
 * regions went with their pools.
 */
function nextRegions(previous: PublishedSlots | null, service: Service, nowMs: number): PublishedRegions["before"] {
  const { regions, config: { changeWindowMs } } = service;
  if (previous === null || regions === null || trackingOf(service) !== "minimal") return null;
  return nextBefore(previous.regions ?? NO_REGIONS, regionsNow(service), changeWindowMs, nowMs);
}

function regionsNow(service: Service): Omit<PublishedRegions, "before"> {
  const { config, regions } = service;
  const digest = regionsDigest(service);
  if (digest === 0n) return NO_REGIONS;
  return { digest, prefixes: regions?.prefixes ?? null, services: config.geo?.regions.map(({ name }) => regionKey(config, name)) ?? [] };
}

/** What nextStates() is a function of, beside the time. */
interface SlotStep {
  readonly previous: PublishedSlots | null;
  readonly next: NextSlots;
  readonly sweep: SlotSweep | null;
}

interface MadeStates extends SlotStep {
  readonly states: SlotStates;
}

function isSameStep(a: SlotStep, b: SlotStep): boolean {
  if (a.previous === null || b.previous === null) {
    return a.previous === b.previous && a.next.tracking === b.next.tracking && a.next.isBack === b.next.isBack
      && a.next.owners.length === b.next.owners.length;
  }
  return a.sweep === null && b.sweep === null
    && a.previous.states === b.previous.states && a.previous.owners === b.previous.owners
    && a.previous.tracking === b.previous.tracking && isSameScheme(a.previous.scheme, b.previous.scheme)
    && a.next.owners === b.next.owners && a.next.tracking === b.next.tracking
    && a.next.tellsOpening === b.next.tellsOpening && a.next.windowMs === b.next.windowMs
    && isSameScheme(a.next.scheme, b.next.scheme);
}

function slotsNow(service: Service): Omit<PublishedSlots, "states" | "rememberedSinceNs"> {
  const { flowIdleMs } = service.config;
  return { scheme: schemeOf(service), owners: service.ring.slots, tracking: trackingOf(service), flowIdleMs };
}

function nextSlots(service: Service): Omit<NextSlots, "isBack"> {
  const { protocol, changeWindowMs } = service.config;
  return { ...slotsNow(service), tellsOpening: protocol === "tcp", windowMs: changeWindowMs };
}

/** What packets are sent by once the table of these services is published. */
export function slotsOf(services: readonly Service[], { changes }: Previous, { services: indexes }: Claims): Ledger["slots"] {
  if (changes === undefined) return new Map();
  const keys = new Map([...indexes].map(([key, index]) => [index, key]));
  return new Map(services.map((service) => {
    const { states, rememberedSinceNs: since, regions } = service;
    const published = { ...slotsNow(service), states, rememberedSinceNs: since };
    return [serviceKey(service.config), regions === null ? published : { ...published, regions: publishedRegions(service, keys) }];
  }));
}

function publishedRegions(service: Service, keys: ReadonlyMap<number, string>): PublishedRegions {
  const before = service.regions?.before ?? null;
  const services = before?.services.map((index) => keys.get(index ?? -1) ?? "") ?? [];
  return { ...regionsNow(service), before: before === null ? null : { ...before, services } };
}

/** Ids that have another identity from now on. */
function reusedIds(before: Ledger["destinations"], after: Ledger["destinations"]): ReadonlySet<number> {
  const owners = new Map([...before].map(([identity, { id }]) => [id, identity]));
  return new Set([...after].flatMap(([identity, { id, live }]) =>
    live && owners.has(id) && owners.get(id) !== identity ? [id] : []));
}
