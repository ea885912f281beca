// Which entries of the flow table keep the mark on their slot. Pure; the walk over the table asks it of each.

import type { FlowEntry } from "./decide.ts";
import { slotFor } from "./slot.ts";
import type { SlotInput } from "./slot.ts";
import type { ForwardingTable, Service } from "./table.ts";

/**
 * The slot of a flow that is remembered elsewhere than with the slot's owner; null: it is not. Without its mark
 * nobody looks at the entry, and none is written for whoever comes with the same addresses and ports: so one that
 * could ever be followed again counts, or the other connection would be sent there then.
 */
export function exceptionalSlot(
  table: ForwardingTable, service: Service, flow: SlotInput, entry: FlowEntry, nowNs: bigint,
): number | null {
  if (isIdle(service, entry, nowNs)) return null;
  // A backend that is down, or was taken out of the config, may be back as it was. Not once its id is somebody else's.
  if (generationsOf(table).get(entry.destination) !== entry.generation) return null;
  const { slot } = slotFor(service, flow);
  // Of one that was taken over, nobody knows which of the two has it.
  const isElsewhere = service.ring.slots[slot] !== entry.destination || (entry.other ?? 0) !== 0;
  return isElsewhere ? slot : null;
}

/** Whether an entry counts for nothing any more. */
export function isIdle(
  { config, rememberedSinceNs }: Service, { lastSeenNs }: Pick<FlowEntry, "lastSeenNs">, nowNs: bigint,
): boolean {
  return lastSeenNs + BigInt(config.flowIdleMs) * 1_000_000n < nowNs || lastSeenNs < rememberedSinceNs;
}

const generationsByTable = new WeakMap<ForwardingTable, ReadonlyMap<number, number>>();

/** By id, of those that have one and those that had it last. */
function generationsOf(table: ForwardingTable): ReadonlyMap<number, number> {
  let generations = generationsByTable.get(table);
  if (generations === undefined) {
    generations = new Map([...table.ledger.destinations.values()].map(({ id, generation }) => [id, generation]));
    generationsByTable.set(table, generations);
  }
  return generations;
}
