// Clients that the XDP plane remembers, as walks over their table count them, and what counters say of it.

import { describe, expect, it } from "vitest";
import { AffinityKey, FlowEntry } from "../../src/dataplane/xdp/abi.gen.ts";
import { createAffinitySweep, type AffinitySweep } from "../../src/dataplane/xdp/affinity_sweep.ts";
import { compile } from "../../src/model/compile.ts";
import { EMPTY_LEDGER, type ForwardingTable } from "../../src/model/table.ts";
import { configOf } from "../support/configs.ts";
import { createFakeEnv, type FakeEnv } from "../support/fake_env.ts";
import { ipv4 } from "../support/packets.ts";
import { WalkedMap } from "../support/walked_map.ts";

const [SHORT_MS, LONG_MS] = [60_000, 600_000];
const SLICE = 16_384;
const FRESH_MS = 2_000;

interface Entry {
  readonly id: bigint;
  readonly client: number;
  readonly lastSeenMs: number;
}

const keyOf = ({ id, client }: Entry): Uint8Array =>
  AffinityKey.encode({ affinityId: id, client: ipv4(198, 18 + (client >> 16), client >> 8 & 255, client & 255) });
const valueOf = ({ lastSeenMs }: Entry): Uint8Array =>
  FlowEntry.encode({ destination: 1, generation: 1, other: 0, lastSeenNs: BigInt(lastSeenMs) * 1_000_000n });

function tableWith(timeouts: readonly (number | null)[]): ForwardingTable {
  const services = timeouts.map((affinityTimeoutMs, at) => ({ name: `s${at}`, port: 80 + at, tracking: "full" as const, affinityTimeoutMs }));
  const config = configOf({ pools: { web: ["a"] }, services });
  return compile({ config, hashSeed: 7n, overrides: [], health: new Map(), nowMs: 1 }, { ledger: EMPTY_LEDGER, generation: 0 });
}

interface Scene {
  readonly env: FakeEnv;
  readonly clients: WalkedMap<Entry>;
  readonly sweep: AffinitySweep;
  readonly ids: readonly bigint[];
  fresh(id: bigint, client: number, silentMs?: number): Entry;
}

function scene(): Scene {
  const env = createFakeEnv();
  env.advanceSync(2 * LONG_MS);
  const clients = new WalkedMap(keyOf, valueOf);
  const sweep = createAffinitySweep(env, () => clients.map);
  const table = tableWith([SHORT_MS, LONG_MS, null]);
  sweep.follow(table);
  return {
    env, clients, sweep, ids: table.services.flatMap(({ affinity }) => affinity?.id ?? []),
    fresh: (id, client, silentMs = 0) => ({ id, client, lastSeenMs: env.clock.monotonicMs() - silentMs }),
  };
}

describe("a walk over the clients that are remembered", () => {
  it("counts those of each service that were heard of within its own timeout, and nobody else's", () => {
    const { env, clients, sweep, ids: [short, long], fresh } = scene();
    clients.entries = [
      fresh(short!, 1), fresh(short!, 2, SHORT_MS), fresh(short!, 3, SHORT_MS + 1),
      fresh(long!, 1), fresh(long!, 3, SHORT_MS + 1), fresh(long!, 4, LONG_MS), fresh(long!, 5, LONG_MS + 1),
      fresh(1n, 1), fresh((1n << 64n) - 1n, 1),
    ];
    expect([...sweep.read().byId]).toEqual([[short, 2], [long, 3]]);
    expect(sweep.read().atMs).toBe(env.clock.monotonicMs());
  });

  it("goes by the timeout that a service has now, and by the last one known while a table is written", () => {
    const { env, clients, sweep, ids: [short], fresh } = scene();
    clients.entries = [fresh(short!, 1, SHORT_MS + 1)];
    expect(sweep.read().byId.get(short!)).toBeUndefined();
    sweep.follow(tableWith([LONG_MS]));
    sweep.follow(null);
    env.advanceSync(FRESH_MS);
    expect(sweep.read().byId.get(short!)).toBe(1);
  });

  it("is never begun where no client is remembered", () => {
    const { env, clients, sweep } = scene();
    sweep.follow(tableWith([null]));
    env.advanceSync(FRESH_MS);
    expect(sweep.read()).toEqual({ byId: new Map(), atMs: null });
    expect([clients.slices, env.timers()]).toEqual([[], 0]);
  });

  it("is good enough for two seconds, takes slices with pauses, and tells the last count until its end", () => {
    const { env, clients, sweep, ids: [short], fresh } = scene();
    const count = (): number | undefined => sweep.read().byId.get(short!);
    clients.entries = [fresh(short!, 1)];
    expect(count()).toBe(1);
    clients.entries = Array.from({ length: 2 * SLICE + 1 }, (_, client) => fresh(short!, client));
    env.advanceSync(FRESH_MS - 1);
    expect([count(), clients.slices]).toEqual([1, [1]]);
    env.advanceSync(1);
    expect([count(), clients.slices, env.nextTimerMs()]).toEqual([1, [1, SLICE], 5]);
    // Asking again begins no second walk.
    expect([count(), clients.slices]).toEqual([1, [1, SLICE]]);
    env.advanceSync(5);
    env.advanceSync(5);
    expect([count(), clients.slices, env.timers()]).toEqual([2 * SLICE + 1, [1, SLICE, SLICE, 1], 0]);
  });

  it("that fails counts for nothing, and the next one begins at the first entry", () => {
    const { env, clients, sweep, ids: [short], fresh } = scene();
    clients.entries = Array.from({ length: SLICE + 3 }, (_, client) => fresh(short!, client));
    sweep.read();
    clients.fails = true;
    env.advanceSync(5);
    expect(env.messages("warn")).toEqual(["the table of clients could not be walked to its end"]);
    expect(sweep.read()).toEqual({ byId: new Map(), atMs: null });
    clients.fails = false;
    sweep.read();
    env.advanceSync(5);
    expect([clients.slices, sweep.read().byId.get(short!)]).toEqual([[SLICE, SLICE, 3], SLICE + 3]);
  });

  it("ends with its plane", () => {
    const { env, clients, sweep, ids: [short], fresh } = scene();
    clients.entries = Array.from({ length: SLICE + 1 }, (_, client) => fresh(short!, client));
    sweep.read();
    expect(env.timers()).toBe(1);
    sweep.stop();
    expect(env.timers()).toBe(0);
  });
});
