// Walks the flow table slice by slice, so that a large one is never walked at one go: counts the flows
// that are remembered, and finds the slots with flows that are remembered elsewhere than with the
// slot's owner. Knows the map and the table that packets are sent by; what follows for a slot is
// src/model/slot_states.ts's rule.

import type { Cancel, Env } from "../../env.ts";
import { serviceKey } from "../../model/service_address.ts";
import { exceptionalSlot, isIdle } from "../../model/flow_exception.ts";
import { isInSample, SAMPLE_ONE_IN } from "../../model/flow_sample.ts";
import { askedName } from "../../model/regions.ts";
import { serviceFor, serviceOf } from "../../model/service_lookup.ts";
import type { SlotSweep } from "../../model/slot_states.ts";
import type { ForwardingTable, Service } from "../../model/table.ts";
import { FlowEntry, FlowKey, FlowOther } from "./abi.gen.ts";
import type { LoadCheck } from "./load_memory.ts";
import { walkMap } from "./map_walk.ts";
import type { BpfMap } from "./native.ts";

export interface FlowCount {
  readonly count: number;
  /** Entries of flows that were silent for longer than any may be: they give way first. */
  readonly idle: number;
  /** Pushed out of the full table since it was made, as far as it shows: at least so many. */
  readonly evicted: number;
  /** Of those, since the walk before. */
  readonly evictedLately: number;
  /** By cellOf(): those of the services and destinations of the table. */
  readonly byCell: ReadonlyMap<string, number>;
  /** When the walk began (monotonic); null until the table was walked once. */
  readonly atMs: number | null;
}

/** A service, by its index, at a destination. */
export function cellOf(service: number, id: number, generation: number): string {
  return `${service} ${id}/${generation}`;
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
  /** Entries that the program wrote, and that it has taken out again. */
  readonly events: () => { readonly written: number; readonly forgotten: number };
  readonly entriesAre: Entries;
  /** A walk has ended that slots were waiting for. */
  readonly onSwept: () => void;
  /** Null: nobody compares how many flows of this table destinations have. */
  readonly loads: LoadCheck | null;
}

/** What the entries of a table are. */
export interface Entries {
  /** How many flows each stands for. */
  readonly flowsEach: number;
  /** So many are a slice; a large table takes several, with other work in between. */
  readonly slice: number;
  /** Whether they tell which slots have flows elsewhere. */
  readonly tellSlots: boolean;
  ownersIn(table: ForwardingTable): OwnerOf;
}

/** Whose flow it is; null: nobody's any more. */
type OwnerOf = (entry: FlowEntry, key: () => FlowKey) => Service | null;

/** Flows that are remembered, each with an entry. */
export const REMEMBERED: Entries = { flowsEach: 1, slice: 16_384, tellSlots: true, ownersIn: ownersOfRemembered };
/** Flows that are looked at, and have to be hashed again. */
export const SAMPLED: Entries = { flowsEach: SAMPLE_ONE_IN, slice: 2048, tellSlots: false, ownersIn: ownersOfSampled };

/** A walk that ended less long ago is good enough. */
const FRESH_MS = 2_000;
/** Between a table with slots to settle and the walk for it. */
const SETTLE_MS = 1_000;
/** Between two such walks, when the first one left exceptions. */
const AGAIN_MS = 15_000;
/** Between two walks for the sake of loads; a walk that took long is not begun again before this share of time has passed. */
const LOADS_MS = 10_000;
const LOADS_SHARE = 20;

/** One walk, from its first slice on. */
interface Walk {
  readonly atMs: number;
  /** Entries that had been written at its begin: what comes later may be found or not. */
  written: number;
  readonly table: ForwardingTable | null;
  /** Whose flows are counted: the last table that all packets were sent by. */
  readonly ownerOf: OwnerOf;
  count: number;
  idle: number;
  readonly byCell: Map<string, number>;
  /** By destination: open flows. */
  readonly open: Map<number, number>;
  readonly sought: ReadonlyMap<Service, SlotSweep>;
}

export function createFlowSweep(parts: FlowSweepParts): FlowSweep {
  return new Sweep(parts);
}

class Sweep implements FlowSweep {
  readonly #parts: FlowSweepParts;
  #last: FlowCount = { count: 0, idle: 0, evicted: 0, evictedLately: 0, byCell: new Map(), atMs: null };
  /** Entries that are there and were not counted when they were written: somebody copied them. Of the first walk. */
  #copied: number | null = null;
  #lastMs = -Infinity;
  #results: ReadonlyMap<string, SlotSweep> = new Map();
  #table: ForwardingTable | null = null;
  #ownerOf: OwnerOf | null = null;
  /** The longest that any flow may be silent and still count. */
  #idleNs = 0n;
  #walk: Walk | null = null;
  #cancelSlices: Cancel | null = null;
  #cancelWalk: Cancel | null = null;
  #nextWalkMs = 0;
  /** Slots that wait for a walk. */
  #waiting = 0;
  #tookMs = 0;

  constructor(parts: FlowSweepParts) {
    this.#parts = parts;
  }

  read(): FlowCount {
    if (this.#walk === null && this.#nowMs() - this.#lastMs >= FRESH_MS) this.#begin();
    return this.#last;
  }

  found(): ReadonlyMap<string, SlotSweep> {
    return this.#results;
  }

  follow(next: ForwardingTable | null): void {
    this.#table = next;
    if (next !== null) {
      this.#idleNs = longestIdleNs(next);
      this.#ownerOf = this.#parts.entriesAre.ownersIn(next);
    }
    const sweepable = next?.services.reduce((sum, { states }) => sum + states.sweepable, 0) ?? this.#waiting;
    this.#later(sweepable > this.#waiting ? SETTLE_MS : AGAIN_MS);
    this.#waiting = sweepable;
  }

  stop(): void {
    this.#cancelSlices?.();
    this.#cancelWalk?.();
  }

  #nowMs(): number {
    return this.#parts.env.clock.monotonicMs();
  }

  #begin(): void {
    if (this.#walk !== null || this.#ownerOf === null) return;
    this.#walk = {
      atMs: this.#nowMs(), written: 0, table: this.#table, ownerOf: this.#ownerOf,
      count: 0, idle: 0, byCell: new Map(), open: new Map(), sought: this.#sought(),
    };
    if (this.#table !== null) this.#parts.loads?.begin();
    this.#slices(this.#walk);
  }

  #slices(walk: Walk): void {
    const { env: { clock, log }, flows, events, entriesAre } = this.#parts;
    const failed = (error: unknown): void => {
      // The next one begins again.
      this.#walk = null;
      log.warn({ error: String(error) }, "the flow table could not be walked to its end");
      this.#later(AGAIN_MS);
    };
    try {
      walk.written = events().written;
    } catch (error) {
      failed(error);
      return;
    }
    this.#cancelSlices = walkMap({
      clock, map: flows, slice: entriesAre.slice, failed,
      take: (keys, values) => { take(walk, entriesAre.flowsEach, keys, values, clock.monotonicNs(), this.#idleNs); },
      end: () => { this.#end(walk); },
    });
  }

  #end({ count, idle, byCell, open, atMs, written: atFirst, table, sought }: Walk): void {
    const { written, forgotten } = this.#parts.events();
    this.#walk = null;
    const before = this.#last;
    this.#copied ??= Math.max(0, count + idle - (written - forgotten));
    const evicted = Math.max(before.evicted, atFirst - forgotten + this.#copied - count - idle);
    this.#last = { count, idle, evicted, evictedLately: before.atMs === null ? 0 : evicted - before.evicted, byCell, atMs };
    this.#lastMs = this.#nowMs();
    this.#tookMs = this.#lastMs - atMs;
    // Where nobody knew by what table packets are sent, nothing was found of loads.
    if (table !== null) this.#parts.loads?.end(open);
    this.#results = new Map([...sought].map(([{ config }, sweep]) => [serviceKey(config), sweep]));
    if (this.#results.size > 0) this.#parts.onSwept();
    this.#later(table === this.#table ? AGAIN_MS : SETTLE_MS);
  }

  /** At once for the first time: what packets have counted before is not known. */
  #loadsMs(): number {
    return this.#lastMs === -Infinity ? SETTLE_MS : Math.max(LOADS_MS, this.#tookMs * LOADS_SHARE);
  }

  #sought(): Map<Service, SlotSweep> {
    return soughtIn(this.#parts.entriesAre.tellSlots ? this.#table : null);
  }

  #later(settleMs: number): void {
    const ms = this.#sought().size > 0 ? settleMs : this.#parts.loads?.isWanted() === true ? this.#loadsMs() : null;
    if (ms === null) return;
    const isSooner = this.#nowMs() + ms < this.#nextWalkMs;
    if ((this.#cancelWalk !== null && !isSooner) || this.#walk !== null) return;
    this.#cancelWalk?.();
    this.#nextWalkMs = this.#nowMs() + ms;
    this.#cancelWalk = this.#parts.env.clock.after(ms, () => {
      this.#cancelWalk = null;
      this.#begin();
    });
  }
}

/** Whether the entry leads to whom the table has at this place, and its client has not closed. */
function isOpen(table: ForwardingTable | null, { destination, generation, other }: FlowEntry): boolean {
  return (other & FlowOther.FLOW_CLOSES) === 0 && table?.destinations.get(destination)?.generation === generation;
}

/** By the services that may have flows at a destination; where that is one alone, no key has to be read. */
function ownersOfRemembered(table: ForwardingTable): OwnerOf {
  const byId = new Map<number, Service[]>();
  for (const service of table.services) {
    for (const id of service.destinations) byId.set(id, [...byId.get(id) ?? [], service]);
  }
  return ({ destination }, key) => {
    const [one = null, ...others] = byId.get(destination) ?? [];
    if (one === null || others.length === 0) return one;
    const now = serviceOfFlow(table, key());
    if (now === null || now.destinations.includes(destination)) return now;
    // The flow of a client that came to another region stays where it was.
    const asked = askedName(now.config);
    return [one, ...others].find(({ config }) => askedName(config) === asked) ?? now;
  };
}

/** With another seed, other flows are looked at. */
function ownersOfSampled(table: ForwardingTable): OwnerOf {
  return (_, key) => {
    const found = key();
    const { service: { address, port, protocol }, source, sourcePort } = found;
    const service = serviceOfFlow(table, found);
    const flow = { source, sourcePort, destination: address, destinationPort: port, protocol };
    return service !== null && isInSample(service, flow) ? service : null;
  };
}

/** What its service is for its client now. */
function serviceOfFlow(table: ForwardingTable, { service: { address, port, protocol }, source }: FlowKey): Service | null {
  const asked = serviceOf(table, address, port, protocol);
  return asked === null ? null : serviceFor(table, asked, source);
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

function take(walk: Walk, flowsEach: number, keys: Uint8Array, values: Uint8Array, nowNs: bigint, idleNs: bigint): void {
  const { table, ownerOf, byCell, open, sought } = walk;
  for (let at = 0; at * FlowEntry.size < values.length; at += 1) {
    const entry = FlowEntry.decode(values.subarray(at * FlowEntry.size, (at + 1) * FlowEntry.size));
    if (entry.lastSeenNs + idleNs < nowNs) {
      walk.idle += 1;
      continue;
    }
    const key = (): FlowKey => FlowKey.decode(keys.subarray(at * FlowKey.size, (at + 1) * FlowKey.size));
    walk.count += 1;
    const owner = ownerOf(entry, key);
    if (owner !== null && !isIdle(owner, entry, nowNs) && isOpen(table, entry)) {
      open.set(entry.destination, (open.get(entry.destination) ?? 0) + 1);
    }
    if (owner !== null && !isIdle(owner, entry, nowNs) && !isClosed(entry, nowNs)) {
      const cell = cellOf(owner.index, entry.destination, entry.generation);
      byCell.set(cell, (byCell.get(cell) ?? 0) + flowsEach);
    }
    if (table !== null && sought.size > 0) seek(table, sought, entry, key(), nowNs);
  }
}

/**
 * A client that has closed waits for so long, on Linux, and then resets what still comes (tcp_fin_timeout). One that has
 * nothing more to say, but still listens, acknowledges what it is sent, and so is heard of.
 */
const CLOSED_NS = 60_000_000_000n;

function isClosed({ lastSeenNs, other }: FlowEntry, nowNs: bigint): boolean {
  return (other & FlowOther.FLOW_CLOSES) !== 0 && lastSeenNs + CLOSED_NS < nowNs;
}

/** Notes the flow's slot, if its service waits for that and the flow keeps the mark on it. */
function seek(
  table: ForwardingTable, sought: ReadonlyMap<Service, SlotSweep>, entry: FlowEntry, key: FlowKey, nowNs: bigint,
): void {
  const { address, port, protocol } = key.service;
  const service = serviceOfFlow(table, key);
  const sweep = service === null ? undefined : sought.get(service);
  if (service === null || sweep === undefined) return;
  const flow = { source: key.source, sourcePort: key.sourcePort, destination: address, destinationPort: port, protocol };
  const slot = exceptionalSlot(table, service, flow, { ...entry, other: entry.other & FlowOther.FLOW_OTHER_MASK }, nowNs);
  if (slot !== null) sweep.exceptional[slot] = 1;
}
