// Walks the flow table slice by slice, so that a large one is never walked at one go: counts the flows
// that are remembered, and finds the slots with flows that are remembered elsewhere than with the
// slot's owner. Knows the map and the table that packets are sent by; what follows for a slot is
// src/model/slot_states.ts's rule.

import type { Cancel, Env } from "../../env.ts";
import { serviceKey } from "../../model/compile.ts";
import { serviceOf } from "../../model/service_lookup.ts";
import { slotFor } from "../../model/slot.ts";
import type { SlotSweep } from "../../model/slot_states.ts";
import type { ForwardingTable, Service } from "../../model/table.ts";
import { FlowEntry, FlowKey } from "./abi.gen.ts";
import type { BpfMap } from "./native.ts";

export interface FlowCount {
  readonly count: number;
  /** By "id/generation". */
  readonly byDestination: ReadonlyMap<string, number>;
  /** When the walk began (monotonic); null until the table was walked once. */
  readonly atMs: number | null;
}

export interface FlowSweep {
  /** The last walk's count; begins another one when that is not fresh. */
  read(): FlowCount;
  /** By service key, of the last walk: nothing of services that it did not look for. */
  found(): ReadonlyMap<string, SlotSweep>;
  /** Packets are sent by this table now, all of it; null: nobody knows. Walks while it has slots to settle. */
  follow(table: ForwardingTable | null): void;
  stop(): void;
}

export interface FlowSweepParts {
  readonly env: Env;
  readonly flows: () => BpfMap;
  /** A walk has ended that slots were waiting for. */
  readonly onSwept: () => void;
}

/** Entries of one slice; a large table takes several, with other work in between. */
const SLICE = 16_384;
const SLICE_PAUSE_MS = 5;
/** A walk that ended less long ago is good enough. */
const FRESH_MS = 2_000;
/** Between a table with slots to settle and the walk for it. */
const SETTLE_MS = 1_000;
/** Between two such walks, when the first one left exceptions. */
const AGAIN_MS = 15_000;

/** One walk, from its first slice on. */
interface Walk {
  readonly atMs: number;
  readonly table: ForwardingTable | null;
  readonly byDestination: Map<string, number>;
  readonly sought: ReadonlyMap<Service, SlotSweep>;
}

export function createFlowSweep({ env, flows, onSwept }: FlowSweepParts): FlowSweep {
  const { clock } = env;
  let last: FlowCount = { count: 0, byDestination: new Map(), atMs: null };
  let lastMs = -Infinity;
  let results: ReadonlyMap<string, SlotSweep> = new Map();
  let table: ForwardingTable | null = null;
  /** The longest that any flow may be silent and still count. */
  let idleNs = 0n;
  let walk: Walk | null = null;
  let cancelSlice: Cancel | null = null;
  let cancelWalk: Cancel | null = null;
  let nextWalkMs = 0;
  /** Slots that wait for a walk. */
  let waiting = 0;

  const begin = (): void => {
    if (walk !== null) return;
    walk = { atMs: clock.monotonicMs(), table, byDestination: new Map(), sought: soughtIn(table) };
    slice(walk, null);
  };
  const slice = (current: Walk, cursor: Uint8Array | null): void => {
    cancelSlice = null;
    try {
      const batch = flows().lookupBatch(cursor, SLICE);
      take(current, batch.keys, batch.values, clock.monotonicNs(), idleNs);
      const next = batch.cursor;
      if (next !== null) cancelSlice = clock.after(SLICE_PAUSE_MS, () => { slice(current, next); });
      else end(current);
    } catch (error) {
      // The next one begins again.
      walk = null;
      env.log.warn({ error: String(error) }, "the flow table could not be walked to its end");
      later(AGAIN_MS);
    }
  };
  const end = (ended: Walk): void => {
    walk = null;
    last = { count: total(ended.byDestination), byDestination: ended.byDestination, atMs: ended.atMs };
    lastMs = clock.monotonicMs();
    results = new Map([...ended.sought].map(([{ config }, sweep]) => [serviceKey(config), sweep]));
    if (results.size > 0) onSwept();
    later(ended.table === table ? AGAIN_MS : SETTLE_MS);
  };
  const later = (ms: number): void => {
    const isSooner = clock.monotonicMs() + ms < nextWalkMs;
    if ((cancelWalk !== null && !isSooner) || walk !== null || soughtIn(table).size === 0) return;
    cancelWalk?.();
    nextWalkMs = clock.monotonicMs() + ms;
    cancelWalk = clock.after(ms, () => {
      cancelWalk = null;
      begin();
    });
  };
  return {
    read: () => {
      if (walk === null && clock.monotonicMs() - lastMs >= FRESH_MS) begin();
      return last;
    },
    found: () => results,
    follow: (next) => {
      table = next;
      if (next !== null) idleNs = longestIdleNs(next);
      const sweepable = next?.services.reduce((sum, { states }) => sum + states.sweepable, 0) ?? waiting;
      later(sweepable > waiting ? SETTLE_MS : AGAIN_MS);
      waiting = sweepable;
    },
    stop: () => { cancelSlice?.(); cancelWalk?.(); },
  };
}

function total(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((sum, count) => sum + count, 0);
}

function longestIdleNs({ services }: ForwardingTable): bigint {
  return BigInt(Math.max(0, ...services.map(({ config }) => config.flowIdleMs))) * 1_000_000n;
}

/** Services with slots that may be found to be settled. */
function soughtIn(table: ForwardingTable | null): Map<Service, SlotSweep> {
  const sought = new Map<Service, SlotSweep>();
  for (const service of table?.services ?? []) {
    if (service.states.sweepable === 0) continue;
    sought.set(service, { generation: table!.generation, exceptional: new Uint8Array(service.ring.size) });
  }
  return sought;
}

function take(
  { table, byDestination, sought }: Walk, keys: Uint8Array, values: Uint8Array, nowNs: bigint, idleNs: bigint,
): void {
  for (let at = 0; at * FlowEntry.size < values.length; at += 1) {
    const entry = FlowEntry.decode(values.subarray(at * FlowEntry.size, (at + 1) * FlowEntry.size));
    if (entry.lastSeenNs + idleNs < nowNs) continue;
    const place = `${entry.destination}/${entry.generation}`;
    byDestination.set(place, (byDestination.get(place) ?? 0) + 1);
    if (table === null || sought.size === 0) continue;
    const key = FlowKey.decode(keys.subarray(at * FlowKey.size, (at + 1) * FlowKey.size));
    const { address, port, protocol } = key.service;
    const service = serviceOf(table, address, port, protocol);
    const sweep = service === null ? undefined : sought.get(service);
    if (service === null || sweep === undefined) continue;
    if (entry.lastSeenNs + BigInt(service.config.flowIdleMs) * 1_000_000n < nowNs) continue;
    // A flow whose backend is gone is followed no more; one whose backend is down may be again.
    if (table.destinations.get(entry.destination)?.generation !== entry.generation) continue;
    const { slot } = slotFor(service, {
      source: key.source, sourcePort: key.sourcePort, destination: address, destinationPort: port, protocol,
    });
    if (service.ring.slots[slot] !== entry.destination) sweep.exceptional[slot] = 1;
  }
}
