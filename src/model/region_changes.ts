// What services remember of changes of their regions, so that no flow is moved whose owner lives: which region each
// client was in when a window opened. Within it, what opens is remembered where the client is now, and everything else
// where it was, as with slots that change (slot_states.ts), but for the clients alone that came to another region. Any
// slot may have some of those, so afterwards each is looked at until a walk over the flow table has found none. Pure.

import { NOWHERE } from "./regions.ts";
import type { RegionPrefixes } from "./regions.ts";
import { untilNs } from "./slot_states.ts";
import type { NextSlots, SlotStates, SlotTimes } from "./slot_states.ts";
import type { Service } from "./table.ts";
import { xxh64 } from "./xxh64.ts";

/** Who has which clients. `S` names a service: by its key where it outlives a table, by its index in one. */
interface RegionsShown<S> {
  /** By digestOf(). */
  readonly digest: bigint;
  /** Null: there are none, or nobody here knows them any more. */
  readonly prefixes: RegionPrefixes | null;
  /** By number of the region, less one. */
  readonly services: readonly S[];
}

interface Window {
  /** When it closes: CLOCK_MONOTONIC, milliseconds. */
  readonly deadlineMs: number;
  /** When the program stops by itself to ask who was where (CLOCK_MONOTONIC). */
  readonly untilNs: bigint;
}

/** Regions at the start of a window; of services that are gone null. */
export type RegionsBefore = RegionsShown<number | null> & Window;

/** What packets are sent by, of a service's regions: its services by key. */
export interface PublishedRegions extends RegionsShown<string> {
  readonly before: (RegionsShown<string> & Window) | null;
}

export const NO_REGIONS: PublishedRegions = { digest: 0n, prefixes: null, services: [], before: null };

/** Equal for equal prefixes of equally named regions, so that a number in them means the same; 0n: there are no prefixes. */
export function digestOf(prefixes: RegionPrefixes | null, names: readonly string[]): bigint {
  if (prefixes === null || prefixes.size === 0) return 0n;
  return xxh64([prefixes.key, ...names].join(" "), 0) || 1n;
}

/** The same of a service. */
export function regionsDigest({ regions, config: { geo } }: Pick<Service, "regions" | "config">): bigint {
  return digestOf(regions?.prefixes ?? null, geo?.regions.map(({ name }) => name) ?? []);
}

/** The region's number that a client was in, or NOWHERE; null: nobody knows any more. */
export function regionBefore({ digest, prefixes }: RegionsBefore, client: Uint8Array): number | null {
  if (digest === 0n) return NOWHERE;
  return prefixes?.regionOf(client) ?? null;
}

/** The regions at the start of the window that is open after this change; null: none is. */
export function nextBefore(
  previous: PublishedRegions, next: RegionsShown<string>, windowMs: number, nowMs: number,
): PublishedRegions["before"] {
  const open = previous.before !== null && previous.before.deadlineMs > nowMs ? previous.before : null;
  if (isSame(previous, next)) return open;
  const { digest, prefixes, services } = open ?? previous;
  // Every client is back where it was: what nobody remembers is there again.
  if (isSame({ digest, services }, next)) return null;
  const deadlineMs = nowMs + windowMs;
  return { digest, prefixes, services, deadlineMs, untilNs: untilNs(deadlineMs) };
}

type Shown = Pick<RegionsShown<string>, "digest" | "services">;

function isSame(a: Shown, b: Shown): boolean {
  return a.digest === b.digest && a.services.length === b.services.length
    && a.services.every((key, at) => key === b.services[at]);
}

/** Whether clients are changing their region, or did so until this table. */
export type RegionWindow = "none" | "open" | "closes";

export function windowAfter(before: PublishedRegions["before"], after: PublishedRegions["before"]): RegionWindow {
  if (after !== null) return "open";
  return before === null ? "none" : "closes";
}

/** The states with a mark on every slot, which no walk may take away as long as the window is open. */
export function markedStates(
  states: SlotStates, { owners: { length }, tracking }: Pick<NextSlots, "owners" | "tracking">, window: RegionWindow,
  { generation }: Pick<SlotTimes, "generation">,
): SlotStates {
  if (window === "none" || tracking !== "minimal") return states;
  const isOpen = window === "open";
  if (isOpen && states.sweepable === 0 && states.exceptional?.every((mark) => mark === 1) === true) return states;
  const isChanging = (slot: number): boolean => (states.deadlinesMs?.[slot] ?? 0) !== 0;
  let sweepable = 0;
  for (let slot = 0; slot < length && !isOpen; slot += 1) if (!isChanging(slot)) sweepable += 1;
  return {
    ...states, exceptional: new Uint8Array(length).fill(1), closedIn: new Uint32Array(length).fill(generation), sweepable,
  };
}
