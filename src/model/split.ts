// Traffic split: which subset of a service's pools has which slot. Slots stand in one fixed order, and the
// subsets divide that line in the order of the file, so that a percentage that changes moves a border and
// nothing else. Knows subsets and slots; must never know what is inside a ring.

import type { ServiceConfig, Subset } from "./config.ts";
import { lend, lendingDraw, lendingOrder } from "./lending.ts";
import type { LendingBackend } from "./lending.ts";
import { contentKey } from "./ring_content.ts";
import { NO_BACKEND } from "./ring.ts";
import type { Ring, Service, ServiceSplit, SplitPart } from "./table.ts";
import { ADMISSION_MAX } from "./table.ts";

/** All of a service's traffic, in hundredths of a percent: what its subsets add up to. */
export const SPLIT_WHOLE = 10_000;
export const SUBSETS_MAX = 16;

/** The word of h(s, x) by which slots are put in order: none that lending draws with. */
const ORDER_WORD = 0x7370_6c74;

/** What a flow of a slot may be given to, first and when that fails. */
export type SlotChoice = Pick<Service, "ring" | "destinations" | "failedOpen">;

/** The pools that a service sends to, in the order of its subsets. */
export function poolsOf({ pool, split }: Pick<ServiceConfig, "pool" | "split">): readonly string[] {
  return split === null ? pool === null ? [] : [pool] : split.map((subset) => subset.pool);
}

export function usesPool(service: Pick<ServiceConfig, "pool" | "split">, pool: string): boolean {
  return poolsOf(service).includes(pool);
}

const orders = new Map<number, Uint32Array>();
const ORDERS_MAX = 8;

/** Slot numbers by their draw, then by number: a function of the size alone. */
function orderOf(size: number): Uint32Array {
  let order = orders.get(size);
  if (order === undefined) {
    // Both in one number, which sorts faster than a comparison of two: 32 bits of draw and 21 of slot.
    const keys = Float64Array.from({ length: size }, (_, slot) => lendingDraw(slot, ORDER_WORD) * 2 ** 21 + slot).sort();
    order = Uint32Array.from(keys, (key) => key % 2 ** 21);
    if (orders.size >= ORDERS_MAX) orders.clear();
    orders.set(size, order);
  }
  return order;
}

/** Slot → index of its subset, as configured. Each border is where exact division puts it, to the nearest slot. */
export function splitSlots(subsets: readonly Pick<Subset, "hundredths">[], size: number): Uint16Array {
  const order = orderOf(size);
  const slots = new Uint16Array(size);
  let share = 0;
  let from = 0;
  for (const [index, { hundredths }] of subsets.entries()) {
    share += hundredths;
    const to = Math.round((share * size) / SPLIT_WHOLE);
    for (let at = from; at < to; at++) slots[order[at]!] = index;
    from = to;
  }
  return slots;
}

/** Subsets as lending sees them: whoever has nobody up gives its slots to the others, by their percentages. */
function lenders(parts: readonly Pick<SplitPart, "name" | "hundredths" | "takesFlows">[]): LendingBackend[] {
  return parts.map(({ name, hundredths, takesFlows }) =>
    ({ key: name, weight: hundredths, alive: takesFlows, admission: ADMISSION_MAX }));
}

/** Slot → index of the subset that has it now. */
export function assignSlots(
  configured: Uint16Array, parts: readonly Pick<SplitPart, "name" | "hundredths" | "takesFlows">[],
): Uint16Array {
  return lend(configured, lenders(parts));
}

/** The ring that the planes see: of each slot what the ring of its subset has there. */
export function joinRings(parts: readonly Pick<SplitPart, "ring">[], configured: Uint16Array, assigned: Uint16Array): Ring {
  const size = configured.length;
  const slots = new Uint16Array(size);
  const own = new Uint16Array(size);
  for (let slot = 0; slot < size; slot++) {
    const subset = assigned[slot]!;
    own[slot] = parts[configured[slot]!]!.ring.configured[slot]!;
    slots[slot] = subset === NO_BACKEND ? 0 : parts[subset]!.ring.slots[slot]!;
  }
  return { key: contentKey(slots), size, slots, configured: own };
}

/** What answers for a slot, then what does if that fails. */
export function choicesFor(service: Service, slot: number): readonly SlotChoice[] {
  const { split } = service;
  if (split === null) return [service];
  const { parts, configured } = split;
  return lendingOrder(configured, lenders(parts), slot, parts.length).map((index) => parts[index]!);
}

/** The part of a slot as configured, and the one that has it; null: nobody has, or the service is not split. */
export function partsOf({ split }: Service, slot: number): { readonly own: SplitPart | null; readonly now: SplitPart | null } {
  if (split === null) return { own: null, now: null };
  const { parts, configured, assigned } = split;
  return { own: parts[configured[slot]!] ?? null, now: parts[assigned[slot]!] ?? null };
}

/** Whether all of its backends that are to have flows get them, of whichever subset: the XDP program asks the service alone. */
export function isAllFailedOpen({ split, failedOpen }: Pick<Service, "split" | "failedOpen">): boolean {
  return split === null ? failedOpen : split.parts.every((part) => part.failedOpen || part.hundredths === 0);
}

/** Whether this destination gets flows of the service whatever health says of it. */
export function isFailedOpen({ split, failedOpen }: Pick<Service, "split" | "failedOpen">, destination: number): boolean {
  if (split === null) return failedOpen;
  return split.parts.some((part) => part.failedOpen && part.destinations.includes(destination));
}

type Group = Pick<SplitPart, "destinations" | "hundredths">;

/** Who shares what of a service's flows: its parts, or all of it. */
export function groupsOf({ split, destinations }: Pick<Service, "split" | "destinations">): readonly Group[] {
  return split?.parts ?? [{ destinations, hundredths: SPLIT_WHOLE }];
}

/**
 * By destination id: which part of the service's flows is to be its, by weights and percentages. A part whose weights
 * come to nothing leaves its percentage to the others.
 */
export function idealShares(groups: readonly Group[], weightOf: (destination: number) => number): ReadonlyMap<number, number> {
  const weighed = groups.map(({ destinations, hundredths }) => {
    const total = destinations.reduce((sum, id) => sum + weightOf(id), 0);
    return { destinations, total, hundredths: total === 0 ? 0 : hundredths };
  });
  const whole = weighed.reduce((sum, { hundredths }) => sum + hundredths, 0);
  return new Map(weighed.flatMap(({ destinations, total, hundredths }) => destinations.map((id) =>
    [id, hundredths === 0 ? 0 : (weightOf(id) / total) * (hundredths / whole)] as const)));
}

/** Slots of each part, in the order of the file: as configured, and now. */
export function slotsOfParts({ parts, configured, assigned }: ServiceSplit): { readonly configured: number; readonly now: number }[] {
  const counts = parts.map(() => ({ configured: 0, now: 0 }));
  for (const index of configured) counts[index]!.configured += 1;
  for (const index of assigned) if (index !== NO_BACKEND) counts[index]!.now += 1;
  return counts;
}
