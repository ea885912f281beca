// Walks over the flow table, slice by slice: what they count, what they find in slots that wait for it, and
// when they begin. The map is a list of entries that can be told to fail; time is fake.

import { describe, expect, it } from "vitest";
import { FlowEntry, FlowKey, FlowOther } from "../../src/dataplane/xdp/abi.gen.ts";
import type { LoadCheck } from "../../src/dataplane/xdp/load_memory.ts";
import { createFlowSweep, REMEMBERED, type FlowSweep } from "../../src/dataplane/xdp/flow_sweep.ts";
import { compile } from "../../src/model/compile.ts";
import { serviceKey } from "../../src/model/service_address.ts";
import { PROTOCOL_NUMBERS } from "../../src/model/service_address.ts";
import { slotFor } from "../../src/model/slot.ts";
import { SETTLED, type SlotStates } from "../../src/model/slot_states.ts";
import { EMPTY_LEDGER, type ForwardingTable } from "../../src/model/table.ts";
import { configOf } from "../support/configs.ts";
import { createFakeEnv, type FakeEnv } from "../support/fake_env.ts";
import { ipv4 } from "../support/packets.ts";
import { WalkedMap } from "../support/walked_map.ts";

const IDLE_MS = 60_000;
const CLOSED_MS = 60_000;
const SLICE = 16_384;
const FRESH_MS = 2_000;
const SETTLE_MS = 1_000;
const AGAIN_MS = 15_000;

interface Entry {
  readonly client: number;
  readonly port: number;
  readonly destination: number;
  readonly generation: number;
  readonly lastSeenMs: number;
  /** Last byte of the virtual address; 10 unless told. */
  readonly to?: number;
  readonly other?: number;
}

/** A flow table of which slices are read. */
class Table extends WalkedMap<Entry> {
  /** What the program says that it did. */
  events = { written: 0, forgotten: 0 };

  constructor() {
    super(keyOf, valueOf);
  }
}

function inputOf(
  { client, port, to = 10 }: Entry,
): { source: Uint8Array; sourcePort: number; destination: Uint8Array; destinationPort: number; protocol: number } {
  return {
    source: ipv4(198, 18, client >> 8, client & 255), sourcePort: 1024, destination: ipv4(203, 0, 113, to),
    destinationPort: port, protocol: PROTOCOL_NUMBERS.tcp,
  };
}

function keyOf(entry: Entry): Uint8Array {
  const { source, sourcePort, destination, destinationPort, protocol } = inputOf(entry);
  return FlowKey.encode({ service: { address: destination, port: destinationPort, protocol }, source, sourcePort });
}

function valueOf({ destination, generation, lastSeenMs, other = 0 }: Entry): Uint8Array {
  return FlowEntry.encode({ destination, generation, other, lastSeenNs: BigInt(lastSeenMs) * 1_000_000n });
}

/** Two services of three backends; in each of the first `waiting` every slot waits for a walk. */
function tableWith(waiting: number, generation = 1): ForwardingTable {
  const config = configOf({
    pools: { web: ["a", "b", "c"] },
    services: [80, 81].map((port) => ({ name: `s${port}`, port, ringSize: 7, tracking: "minimal", flowIdleMs: IDLE_MS })),
  });
  const table = compile({ config, hashSeed: 7n, overrides: [], health: new Map(), nowMs: 1 }, { ledger: EMPTY_LEDGER, generation: generation - 1 });
  const marked: SlotStates = {
    ...SETTLED, exceptional: new Uint8Array(7).fill(1), closedIn: new Uint32Array(7).fill(1), sweepable: 7,
  };
  return { ...table, services: table.services.map((service, at) => at < waiting ? { ...service, states: marked } : service) };
}

function ownerOf(table: ForwardingTable, entry: Entry): { readonly slot: number; readonly owner: number } {
  const service = table.services.find(({ config }) => config.ports.from === entry.port)!;
  const { slot } = slotFor(service, inputOf(entry));
  return { slot, owner: service.ring.slots[slot]! };
}

interface Scene {
  readonly env: FakeEnv;
  readonly flows: Table;
  readonly sweep: FlowSweep;
  /** When slots that were waiting heard of a walk. */
  readonly swept: number[];
  entry(changes: Partial<Entry>): Entry;
}

function scene(loads: LoadCheck | null = null): Scene {
  const env = createFakeEnv();
  const flows = new Table();
  const swept: number[] = [];
  const sweep = createFlowSweep({
    env, flows: () => flows.map, events: () => flows.events, entriesAre: REMEMBERED, loads, onSwept: () => { swept.push(env.clock.monotonicMs()); },
  });
  sweep.follow(tableWith(0));
  const entry = (changes: Partial<Entry>): Entry =>
    ({ client: 1, port: 80, destination: 1, generation: 1, lastSeenMs: env.clock.monotonicMs(), ...changes });
  return { env, flows, sweep, swept, entry };
}

const KEY = serviceKey(tableWith(0).services[0]!.config);

describe("a walk for the sake of loads", () => {
  /** What walks found, each by destination. */
  function check(isWanted = true): LoadCheck & { readonly found: Record<number, number>[] } {
    const found: Record<number, number>[] = [];
    return { found, isWanted: () => isWanted, begin: () => undefined, end: (open) => { found.push(Object.fromEntries(open)); } };
  }

  it("counts flows whose client has not closed, of whom the table has at that place", () => {
    const loads = check();
    const { env, flows, sweep, entry } = scene(loads);
    env.advanceSync(2 * IDLE_MS);
    flows.entries = [
      entry({}), entry({ client: 2 }), entry({ client: 3, other: 0x8000 | 2 }), entry({ client: 4, generation: 9 }),
      entry({ client: 5, destination: 2 }), entry({ client: 6, lastSeenMs: 0 }),
    ];
    env.advanceSync(FRESH_MS);
    sweep.read();
    expect(loads.found.at(-1)).toEqual({ 1: 2, 2: 1 });
  });

  it("says nothing where nobody knows by which table packets are sent", () => {
    const loads = check();
    const { env, flows, sweep, entry } = scene(loads);
    flows.entries = [entry({})];
    sweep.follow(null);
    env.advanceSync(FRESH_MS);
    sweep.read();
    expect(flows.slices).toEqual([1]);
    expect(loads.found).toEqual([]);
  });

  it("comes soon after the start, then every ten seconds, and never where nobody compares loads", () => {
    const loads = check();
    const { env } = scene(loads);
    expect(env.nextTimerMs()).toBe(1000);
    env.advanceSync(1000);
    expect([loads.found.length, env.nextTimerMs()]).toEqual([1, 10_000]);
    env.advanceSync(10_000);
    expect(loads.found).toHaveLength(2);
    expect(scene(check(false)).env.timers()).toBe(0);
  });
});

describe("a walk over the flow table", () => {
  it("counts flows by backend and generation, without those that were silent for too long", () => {
    const { env, flows, sweep, entry } = scene();
    const nowMs = env.clock.monotonicMs();
    flows.entries = [
      entry({ client: 1 }), entry({ client: 2 }), entry({ client: 3, destination: 2 }), entry({ client: 4, generation: 2 }),
      entry({ client: 5, lastSeenMs: nowMs - IDLE_MS }), entry({ client: 6, lastSeenMs: nowMs - IDLE_MS - 1 }),
    ];
    expect(sweep.read()).toMatchObject({ count: 5, atMs: expect.any(Number) as number });
    const first = tableWith(0).services[0]!.index;
    expect([...sweep.read().byCell]).toEqual([["1/1", 3], ["2/1", 1], ["1/2", 1]].map(([place, count]) => [`${first} ${place}`, count]));
    expect(sweep.found().size).toBe(0);
  });

  it("does not count flows that their client has closed, once they have been silent for a minute", () => {
    const { env, flows, sweep, entry } = scene();
    const config = configOf({ pools: { web: ["a"] }, services: [{ name: "s", port: 80, flowIdleMs: 10 * CLOSED_MS }] });
    const table = compile({ config, hashSeed: 7n, overrides: [], health: new Map(), nowMs: 1 }, { ledger: EMPTY_LEDGER, generation: 0 });
    sweep.follow(table);
    const nowMs = env.clock.monotonicMs();
    const other = FlowOther.FLOW_CLOSES;
    flows.entries = [
      entry({ client: 1, other, lastSeenMs: nowMs - CLOSED_MS }), entry({ client: 2, other, lastSeenMs: nowMs - CLOSED_MS - 1 }),
      entry({ client: 3, lastSeenMs: nowMs - CLOSED_MS - 1 }), entry({ client: 4, other: other | 2, lastSeenMs: nowMs - CLOSED_MS - 1 }),
    ];
    // They are entries still, and give way only when they are idle.
    expect(sweep.read()).toMatchObject({ count: 4, idle: 0 });
    expect(sweep.read().byCell).toEqual(new Map([[`${table.services[0]!.index} 1/1`, 2]]));
  });

  it("tells services apart that share a backend, and leaves out flows of services that are gone", () => {
    const { flows, sweep, entry } = scene();
    const config = configOf({
      pools: { web: ["a"] }, services: [10, 11].map((last) => ({ name: `s${last}`, address: `203.0.113.${last}`, port: 80, flowIdleMs: IDLE_MS })),
    });
    const table = compile({ config, hashSeed: 7n, overrides: [], health: new Map(), nowMs: 1 }, { ledger: EMPTY_LEDGER, generation: 0 });
    sweep.follow(table);
    flows.entries = [entry({ client: 1 }), entry({ client: 2, to: 11 }), entry({ client: 3, to: 11 }), entry({ client: 4, to: 12 })];
    expect(sweep.read().count).toBe(4);
    const [s10, s11] = table.services;
    expect(sweep.read().byCell).toEqual(new Map([[`${s10!.index} 1/1`, 1], [`${s11!.index} 1/1`, 2]]));
  });

  it("tells what was pushed out: what was written and is not there, and nobody forgot", () => {
    const { env, flows, sweep, entry } = scene();
    const walk = (written: number, forgotten: number, there: number, idle = 0): object => {
      flows.events = { written, forgotten };
      flows.entries = Array.from({ length: there + idle }, (_, client) =>
        entry({ client, lastSeenMs: client < there ? env.clock.monotonicMs() : env.clock.monotonicMs() - IDLE_MS - 1 }));
      env.advanceSync(FRESH_MS);
      const { evicted, evictedLately, idle: found } = sweep.read();
      return { evicted, evictedLately, idle: found };
    };
    // Some may have been pushed out before anybody looked: not lately.
    expect(walk(10, 1, 7)).toEqual({ evicted: 2, evictedLately: 0, idle: 0 });
    expect(walk(12, 1, 8, 1)).toEqual({ evicted: 2, evictedLately: 0, idle: 1 });
    expect(walk(20, 3, 9)).toEqual({ evicted: 8, evictedLately: 6, idle: 0 });
    // Written after the walk began, and found: what was pushed out stays so.
    expect(walk(20, 3, 12)).toEqual({ evicted: 8, evictedLately: 0, idle: 0 });
  });

  it("takes what somebody copied into the table for as good as written", () => {
    const { env, flows, sweep, entry } = scene();
    flows.entries = Array.from({ length: 5 }, (_, client) => entry({ client }));
    expect(sweep.read()).toMatchObject({ count: 5, evicted: 0 });
    flows.entries = flows.entries.slice(1);
    flows.events = { written: 1, forgotten: 0 };
    env.advanceSync(FRESH_MS);
    expect(sweep.read()).toMatchObject({ count: 4, evicted: 2, evictedLately: 2 });
  });

  it("that cannot begin, since nobody tells what was written, is told and begun again", () => {
    const { env, flows, sweep, entry } = scene();
    flows.entries = [entry({})];
    const { events } = flows;
    Object.defineProperty(flows, "events", { configurable: true, get: () => { throw new Error("told to fail"); } });
    expect(sweep.read()).toMatchObject({ count: 0, atMs: null });
    expect(env.messages("warn")).toEqual(["the flow table could not be walked to its end"]);
    Object.defineProperty(flows, "events", { value: events });
    expect(sweep.read()).toMatchObject({ count: 1 });
  });

  it("begins when it is known whose flows they are", () => {
    const env = createFakeEnv();
    const flows = new Table();
    const sweep = createFlowSweep({ env, flows: () => flows.map, events: () => flows.events, entriesAre: REMEMBERED, loads: null, onSwept: () => undefined });
    expect(sweep.read()).toMatchObject({ atMs: null });
    expect(flows.slices).toEqual([]);
    sweep.follow(tableWith(0));
    expect(sweep.read().atMs).not.toBeNull();
    // While another table is written, the flows are those of the one before.
    sweep.follow(null);
    env.advanceSync(FRESH_MS);
    sweep.read();
    expect(flows.slices).toEqual([0, 0]);
  });

  it("is good enough for two seconds", () => {
    const { env, flows, sweep, entry } = scene();
    expect(sweep.read().count).toBe(0);
    flows.entries = [entry({})];
    env.advanceSync(FRESH_MS - 1);
    expect(sweep.read().count).toBe(0);
    env.advanceSync(1);
    expect(sweep.read().count).toBe(1);
    expect(flows.slices).toEqual([0, 1]);
    expect(env.timers()).toBe(0);
  });

  it("takes a large table in slices with pauses, and tells the last count until its end", () => {
    const { env, flows, sweep, entry } = scene();
    flows.entries = Array.from({ length: SLICE * 2 + 1 }, (_, client) => entry({ client }));
    expect(sweep.read()).toMatchObject({ count: 0, atMs: null });
    expect([flows.slices, env.nextTimerMs()]).toEqual([[SLICE], 5]);
    // Asking again begins no second walk.
    expect(sweep.read().atMs).toBe(null);
    env.advanceSync(5);
    expect(flows.slices).toEqual([SLICE, SLICE]);
    env.advanceSync(5);
    expect(flows.slices).toEqual([SLICE, SLICE, 1]);
    expect(sweep.read()).toMatchObject({ count: SLICE * 2 + 1, atMs: expect.any(Number) as number });
  });

  it("that fails counts for nothing, and the next one begins at the first entry", () => {
    const { env, flows, sweep, entry } = scene();
    flows.entries = Array.from({ length: SLICE + 3 }, (_, client) => entry({ client }));
    sweep.read();
    flows.fails = true;
    env.advanceSync(5);
    expect(env.messages("warn")).toEqual(["the flow table could not be walked to its end"]);
    expect(sweep.read()).toMatchObject({ count: 0, atMs: null });
    flows.fails = false;
    sweep.read();
    env.advanceSync(5);
    expect(flows.slices).toEqual([SLICE, SLICE, 3]);
    expect(sweep.read().count).toBe(SLICE + 3);
  });
});

describe("slots that wait for a walk", () => {
  it("hear where flows are remembered elsewhere than with the owner", () => {
    const { env, flows, sweep, swept, entry } = scene();
    const table = tableWith(1);
    const candidates = Array.from({ length: 40 }, (_, client) => entry({ client }));
    const at = (slot: number): Entry => candidates.find((each) => ownerOf(table, each).slot === slot)!;
    const ofOwner = { ...at(0), destination: ownerOf(table, at(0)).owner };
    const elsewhere = (entry: Entry): number => ownerOf(table, entry).owner % 3 + 1;
    flows.entries = [
      ofOwner,
      { ...at(1), destination: elsewhere(at(1)) },
      // Not followed any more: silent for too long, or of a backend whose id is somebody else's.
      { ...at(2), destination: elsewhere(at(2)), lastSeenMs: env.clock.monotonicMs() - IDLE_MS - SETTLE_MS },
      { ...at(3), destination: elsewhere(at(3)), generation: 2 },
      { ...at(4), destination: 99 },
      // Of a service that does not wait, and of one that is gone.
      { ...at(5), destination: elsewhere(at(5)), port: 81 },
      { ...at(6), destination: elsewhere(at(6)), port: 82 },
    ];
    sweep.follow(table);
    expect(flows.slices).toEqual([]);
    env.advanceSync(SETTLE_MS);
    expect(swept).toEqual([env.clock.monotonicMs()]);
    expect([...sweep.found().keys()]).toEqual([KEY]);
    expect(sweep.found().get(KEY)).toEqual({ generation: 1, exceptional: Uint8Array.of(0, 1, 0, 0, 0, 0, 0) });
  });

  it("count a flow of the owner's that may be somebody else's", () => {
    const { env, flows, sweep, entry } = scene();
    const table = tableWith(1);
    const one = entry({});
    const { owner, slot } = ownerOf(table, one);
    flows.entries = [{ ...one, destination: owner, other: owner % 3 + 1 | FlowOther.FLOW_CLOSES }];
    sweep.follow(table);
    env.advanceSync(SETTLE_MS);
    expect(sweep.found().get(KEY)!.exceptional[slot]).toBe(1);
    // A mark alone is nobody.
    flows.entries = [{ ...one, destination: owner, other: FlowOther.FLOW_CLOSES }];
    sweep.follow(table);
    env.advanceSync(AGAIN_MS);
    expect(sweep.found().get(KEY)!.exceptional[slot]).toBe(0);
  });

  it("count a backend that is down for one that may be back", () => {
    const { env, flows, sweep, entry } = scene();
    const table = tableWith(1);
    const down = new Map([...table.destinations].map(([id, each]) => [id, { ...each, alive: false, admission: 0 }]));
    const one = entry({});
    flows.entries = [{ ...one, destination: ownerOf(table, one).owner % 3 + 1 }];
    sweep.follow({ ...table, destinations: down });
    env.advanceSync(SETTLE_MS);
    expect(sweep.found().get(KEY)!.exceptional[ownerOf(table, one).slot]).toBe(1);
  });

  it("count a backend that the config has no more, until its id is somebody else's: it may be back with it", () => {
    const { env, flows, sweep, entry } = scene();
    const table = tableWith(1);
    const one = entry({});
    const { owner, slot } = ownerOf(table, one);
    const gone = owner % 3 + 1;
    flows.entries = [{ ...one, destination: gone }];
    const without = (generation: number): ForwardingTable => ({
      ...table,
      destinations: new Map([...table.destinations].filter(([id]) => id !== gone)),
      ledger: {
        ...table.ledger, destinations: new Map([...table.ledger.destinations].map(([identity, claim]) =>
          [identity, claim.id === gone ? { ...claim, generation, live: false } : claim])),
      },
    });
    sweep.follow(without(1));
    env.advanceSync(SETTLE_MS);
    expect(sweep.found().get(KEY)!.exceptional[slot]).toBe(1);
    sweep.follow(without(2));
    env.advanceSync(AGAIN_MS);
    expect(sweep.found().get(KEY)!.exceptional[slot]).toBe(0);
  });

  it("are walked for again and again, and nobody else is", () => {
    const { env, flows, sweep, swept } = scene();
    sweep.follow(tableWith(0));
    env.advanceSync(AGAIN_MS * 3);
    expect([flows.slices.length, swept.length, env.timers()]).toEqual([0, 0, 0]);
    const begunMs = env.clock.monotonicMs();
    sweep.follow(tableWith(2, 5));
    env.advanceSync(AGAIN_MS * 2 + SETTLE_MS);
    expect(swept.map((ms) => ms - begunMs)).toEqual([SETTLE_MS, SETTLE_MS + AGAIN_MS, SETTLE_MS + AGAIN_MS * 2]);
    expect([...sweep.found().values()].map(({ generation }) => generation)).toEqual([5, 5]);
    sweep.follow(tableWith(0, 6));
    env.advanceSync(AGAIN_MS * 3);
    expect(swept.length).toBe(3);
    expect(env.timers()).toBe(0);
  });

  it("hear nothing of a walk that began while a table was on its way", () => {
    const { env, flows, sweep, swept, entry } = scene();
    flows.entries = Array.from({ length: SLICE + 1 }, (_, client) => entry({ client }));
    sweep.follow(null);
    sweep.read();
    sweep.follow(tableWith(1, 2));
    env.advanceSync(5);
    expect(sweep.read().atMs).not.toBe(null);
    expect([sweep.found().size, swept.length]).toEqual([0, 0]);
    env.advanceSync(SETTLE_MS + 5);
    expect(sweep.found().get(KEY)?.generation).toBe(2);
  });

  it("hear of a walk in the name of the table that it began with", () => {
    const { env, flows, sweep, swept, entry } = scene();
    const table = tableWith(1, 2);
    const last = entry({ client: SLICE });
    const { slot, owner } = ownerOf(table, last);
    // All with their owner but the last one, which is met when there is another table.
    flows.entries = Array.from({ length: SLICE }, (_, client) => entry({ client }))
      .map((each) => ({ ...each, destination: ownerOf(table, each).owner }));
    flows.entries.push({ ...last, destination: owner % 3 + 1 });
    sweep.follow(table);
    env.advanceSync(SETTLE_MS);
    sweep.follow(null);
    sweep.follow(tableWith(2, 3));
    env.advanceSync(5);
    expect(swept.length).toBe(1);
    const exceptional = Uint8Array.from({ length: 7 }, (_, at) => (at === slot ? 1 : 0));
    expect([...sweep.found()]).toEqual([[KEY, { generation: 2, exceptional }]]);
  });

  it("of another table are walked for when the next walk is due", () => {
    const { env, sweep, swept } = scene();
    sweep.follow(tableWith(1, 2));
    env.advanceSync(SETTLE_MS);
    expect(swept.length).toBe(1);
    // Another table, whose slots no walk has seen.
    sweep.follow(null);
    sweep.follow(tableWith(2, 3));
    env.advanceSync(AGAIN_MS);
    expect([...sweep.found().values()].map(({ generation }) => generation)).toEqual([3, 3]);
  });

  it("are walked for later when a walk fails", () => {
    const { env, flows, sweep, swept } = scene();
    flows.fails = true;
    sweep.follow(tableWith(1));
    env.advanceSync(SETTLE_MS);
    expect([swept.length, env.nextTimerMs()]).toEqual([0, AGAIN_MS]);
    flows.fails = false;
    env.advanceSync(AGAIN_MS);
    expect(swept.length).toBe(1);
  });

  it("wait in vain once it is stopped, in the middle of a walk or between two", () => {
    for (const waitMs of [0, SETTLE_MS, SETTLE_MS + 5]) {
      const { env, flows, sweep, swept, entry } = scene();
      flows.entries = Array.from({ length: SLICE + 1 }, (_, client) => entry({ client }));
      sweep.follow(tableWith(1));
      env.advanceSync(waitMs);
      const heard = swept.length;
      sweep.stop();
      env.advanceSync(AGAIN_MS * 3);
      expect([swept.length, env.timers()]).toEqual([heard, 0]);
    }
  });
});
