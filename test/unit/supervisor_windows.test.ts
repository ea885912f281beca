// The supervisor and the windows of slots: it makes another table when a window closes and when a walk was
// heard, and starts from what packets are sent by when a table was not published. The plane is simulated
// and offers walks; time is fake.

import { describe, expect, it } from "vitest";
import { WINDOWS_GATHER_MS } from "../../src/supervisor/engine.ts";
import { SETTLED, type SlotStates } from "../../src/model/slot_states.ts";
import type { ForwardingTable } from "../../src/model/table.ts";
import type { ConfigSketch } from "../support/configs.ts";
import { settle } from "../support/fake_env.ts";
import { request, World } from "../support/world.ts";

const WINDOW_MS = 60_000;
const KEY = "tcp 203.0.113.10:80";
const WEB: ConfigSketch = {
  pools: { web: ["a", "b", "c"] },
  services: [{ name: "web", port: 80, tracking: "minimal", changeWindowMs: WINDOW_MS }],
};

async function started(sketch = WEB): Promise<World> {
  const world = new World();
  world.walks = true;
  await world.start(sketch);
  await world.pass(2000);
  return world;
}

function tableOf(world: World): ForwardingTable {
  return world.supervisor.table()!;
}

function statesOf(world: World): SlotStates {
  return tableOf(world).services[0]!.states;
}

function slotsOf(world: World): Uint16Array {
  return tableOf(world).services[0]!.ring.slots;
}

function drain(world: World, name: string): Promise<unknown> {
  return world.supervisor.override({ target: `web/${name}`, change: { kind: "drain" }, actor: "ann", reason: null, expiresInMs: null });
}

function walk(world: World, generation: number, exceptional = new Uint8Array(251)): Promise<void> {
  world.plane.walk(new Map([[KEY, { generation, exceptional }]]));
  return settle();
}

describe("windows", () => {
  it("close a little after their time, by another table", async () => {
    const world = await started();
    expect(statesOf(world)).toBe(SETTLED);
    await drain(world, "b");
    const first = statesOf(world).nextDeadlineMs!;
    expect(first).toBe(world.env.clock.monotonicMs() + WINDOW_MS);
    await world.pass(WINDOW_MS / 2);
    await drain(world, "c");
    const { applies } = world.plane;
    // Slots that moved the second time have another half.
    expect(statesOf(world).nextDeadlineMs).toBe(first);
    await world.pass(WINDOW_MS / 2);
    expect(world.plane.applies).toBe(applies);
    await world.pass(WINDOWS_GATHER_MS - 1);
    expect(world.plane.applies).toBe(applies);
    await world.pass(1);
    expect(world.plane.applies).toBe(applies + 1);
    expect(statesOf(world).nextDeadlineMs).toBe(first + WINDOW_MS / 2);
    await world.pass(WINDOW_MS / 2);
    expect(world.plane.applies).toBe(applies + 2);
    expect(statesOf(world)).toMatchObject({ predecessor: null, nextDeadlineMs: null, changingUntilNs: 0n });
    expect(statesOf(world).sweepable).toBeGreaterThan(0);
    await world.pass(WINDOW_MS * 10);
    expect(world.plane.applies).toBe(applies + 2);
  });

  it("close together after a row of changes: one table and not one for each", async () => {
    const names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    const world = await started({ ...WEB, pools: { web: names } });
    for (const name of names.slice(1)) {
      await drain(world, name);
      await world.pass(WINDOWS_GATHER_MS / names.length);
    }
    expect(new Set(statesOf(world).deadlinesMs).size).toBeGreaterThan(names.length / 2);
    const { applies } = world.plane;
    await world.pass(WINDOW_MS + WINDOWS_GATHER_MS);
    expect(world.plane.applies).toBe(applies + 1);
    expect(statesOf(world).predecessor).toBeNull();
  });

  it("close also when the table that should close them fails at first", async () => {
    const world = await started();
    await drain(world, "b");
    world.plane.failures = 2;
    await world.pass(WINDOW_MS + WINDOWS_GATHER_MS);
    expect(statesOf(world).predecessor).not.toBeNull();
    await world.pass(5000);
    expect([statesOf(world).predecessor, world.plane.failures]).toEqual([null, 0]);
  });

  it("outlive their supervisor, and close in the next one", async () => {
    const world = await started();
    await drain(world, "b");
    const { predecessor, nextDeadlineMs } = statesOf(world);
    world.kill();
    await world.pass(WINDOW_MS / 2);
    await world.start();
    await settle();
    expect(statesOf(world)).toMatchObject({ predecessor, nextDeadlineMs });
    await world.pass(WINDOW_MS / 2 + WINDOWS_GATHER_MS);
    expect(statesOf(world).predecessor).toBeNull();
  });

  it("are nobody's when it has ended", async () => {
    const world = await started();
    await drain(world, "b");
    const { applies } = world.plane;
    await world.supervisor.close({ detach: false, drainMs: 0 });
    expect(world.env.timers()).toBe(0);
    await world.pass(WINDOW_MS * 2);
    expect(world.plane.applies).toBe(applies);
  });

  it("are not opened where the plane moves no flows", async () => {
    for (const noXdp of [null, "no CAP_BPF"]) {
      const world = new World();
      world.noXdp = noXdp;
      await world.start(WEB);
      await drain(world, "b");
      expect(statesOf(world)).toBe(SETTLED);
      expect(tableOf(world).ledger.slots.size).toBe(0);
    }
  });
});

describe("a walk that was heard", () => {
  it("settles slots at once, if it began after their window", async () => {
    const world = await started();
    await drain(world, "b");
    await world.pass(WINDOW_MS + WINDOWS_GATHER_MS);
    const marked = statesOf(world);
    const { generation } = tableOf(world);
    await walk(world, generation - 1);
    expect(statesOf(world)).toBe(marked);
    const slot = marked.exceptional!.indexOf(1);
    await walk(world, generation, Uint8Array.from({ length: 251 }, (_, at) => (at === slot ? 1 : 0)));
    expect(statesOf(world)).toMatchObject({ sweepable: 1 });
    expect(statesOf(world).exceptional!.indexOf(1)).toBe(slot);
    await walk(world, tableOf(world).generation);
    expect(statesOf(world)).toBe(SETTLED);
  });

  it("is heard of the plane that has the seat now", async () => {
    const world = await started();
    await drain(world, "b");
    await world.pass(WINDOW_MS + WINDOWS_GATHER_MS);
    const [old] = world.planes;
    await world.supervisor.apply(request({ ...WEB, limits: { backends: 100 } }));
    expect(world.plane).not.toBe(old);
    expect(statesOf(world).sweepable).toBeGreaterThan(0);
    await walk(world, tableOf(world).generation);
    expect(statesOf(world)).toBe(SETTLED);
  });
});

describe("a table that was not published", () => {
  it("is not what the next one starts from", async () => {
    const world = await started();
    const before = slotsOf(world);
    const { generation } = tableOf(world);
    world.plane.failures = 1;
    await drain(world, "b").catch(() => undefined);
    await settle();
    expect(slotsOf(world)).toBe(before);
    // Nobody was sent elsewhere meanwhile: there are no exceptions.
    await world.supervisor.clearOverrides({ target: null, kind: null }, "ann");
    await world.supervisor.quiet();
    expect(slotsOf(world)).toEqual(before);
    expect(statesOf(world)).toBe(SETTLED);
    expect(world.plane.askedFor.at(-1)).toBe(generation + 2);
  });

  it("is read from the maps by the old plane when a new one has written a part of it and gone", async () => {
    const world = await started();
    const [old] = world.planes;
    world.failures = 1;
    const sketch = { ...WEB, pools: { web: ["a", "b"] }, limits: { backends: 100 } };
    await expect(world.supervisor.apply(request(sketch))).rejects.toThrow("told to fail");
    await world.supervisor.quiet();
    expect(world.planes.length).toBe(2);
    expect(world.planes[1]!.closed).toEqual({ detach: false });
    expect(old!.pinned.writer).toBe(old);
    expect(world.supervisor.status().reasons).toEqual([expect.stringContaining("told to fail")]);
    expect(old!.applies).toBe(2);
  });

  it("counts when another one of its kind fails, too: whoever is shown has the flows", async () => {
    const world = await started();
    await drain(world, "b");
    await world.pass(1000);
    const shown = statesOf(world).predecessor!.owners;
    const owners = slotsOf(world);
    world.plane.failures = 3;
    await drain(world, "c").catch(() => undefined);
    await settle();
    await drain(world, "a").catch(() => undefined);
    await world.supervisor.clearOverrides({ target: "web/b", kind: null }, "ann").catch(() => undefined);
    await world.pass(10_000);
    expect(world.plane.failures).toBe(0);
    const { predecessor } = statesOf(world);
    for (const [slot, owner] of slotsOf(world).entries()) {
      const untracked = shown[slot] === 0 ? owners[slot]! : shown[slot]!;
      expect(predecessor!.owners[slot]).toBe(owner === untracked ? 0 : untracked);
    }
  });
});
