// The next choice: where a connection goes after the backend of its slot refused it. A function of
// the table, the slot and what was tried, so every node retries in the same order. Knows no socket.

import { LENDING_DRAWS_MAX, lendingDraw } from "./lending.ts";
import { pick } from "./pick.ts";
import type { Picked, PickState } from "./pick.ts";
import { choicesFor } from "./split.ts";
import type { SlotChoice } from "./split.ts";
import type { Destination, ForwardingTable, Service } from "./table.ts";
import { ADMISSION_MAX } from "./table.ts";

/** The same where the service picks: whoever it would pick next, of those that were not tried. */
export function nextPick(
  table: ForwardingTable, service: Service, state: PickState, slot: number, tried: ReadonlySet<number>,
): Picked {
  return service.picking === null ? { destination: nextChoice(table, service, slot, tried), slot }
    : pick(table, service, service.picking, state, slot, tried);
}

/**
 * The backend that lending would give the slot if those tried were out: the first of its draws that
 * is up and admits everything. So a connection that ran into a dead backend goes where its
 * successors go once the judge has spoken. Where no draw helps (ramps, failed open) the slots after
 * this one are walked in order, as lent. Of a split service the slot's part is asked first, then those
 * that its slots are lent to. null: nobody is left.
 */
export function nextChoice(
  table: ForwardingTable, service: Service, slot: number, tried: ReadonlySet<number>,
): Destination | null {
  for (const choice of choicesFor(service, slot)) {
    const next = nextOf(table, choice, slot, tried);
    if (next !== null) return next;
  }
  return null;
}

function nextOf(
  table: ForwardingTable, choice: SlotChoice, slot: number, tried: ReadonlySet<number>,
): Destination | null {
  const { configured, slots, size } = choice.ring;
  const untried = choice.destinations.filter((id) => !tried.has(id));
  // Cheap, and usual where one backend stands alone.
  if (!untried.some((id) => mayTake(table.destinations.get(id), choice))) return null;
  for (let k = 0; k <= LENDING_DRAWS_MAX; k += 1) {
    const drawn = k === 0 ? slot : lendingDraw(slot, k) % size;
    const destination = table.destinations.get(configured[drawn] ?? 0);
    if (destination === undefined || tried.has(destination.id)) continue;
    if (destination.alive && destination.admission === ADMISSION_MAX) return destination;
  }
  for (let step = 0; step < size; step += 1) {
    const id = slots[(slot + step) % size] ?? 0;
    if (id !== 0 && !tried.has(id)) return table.destinations.get(id) ?? null;
  }
  return null;
}

function mayTake(destination: Destination | undefined, { failedOpen }: SlotChoice): boolean {
  if (destination === undefined || destination.weight === 0) return false;
  return failedOpen || (destination.alive && destination.admission > 0);
}
