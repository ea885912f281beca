// Backend states, and drains from their begin to their end, under the fake clock: what is shown, what a table
// asks of a plane, and what outlives the process.

import { describe, expect, it } from "vitest";
import { z } from "zod";
import { drainSchema, statusSchema } from "../../src/api/schemas.ts";
import type { BackendView, DrainView } from "../../src/api/schemas.ts";
import type { OverrideChange } from "../../src/model/table.ts";
import type { ConfigSketch } from "../support/configs.ts";
import { messages, slotsOf, STATE, World } from "../support/world.ts";

const MINUTE = 60_000;

function sketch(tracking: "full" | "minimal" | "none" = "full"): ConfigSketch {
  return {
    probes: true, pools: { web: ["a", "b", "c"] },
    services: [{ name: "web", tracking, flowIdleMs: 3 * MINUTE, changeWindowMs: 2 * MINUTE }],
  };
}

async function started(tracking: "full" | "minimal" | "none" = "full"): Promise<World> {
  const world = new World();
  await world.start(sketch(tracking));
  await world.pass(5000);
  return world;
}

async function say(world: World, change: OverrideChange, target = "web/b"): Promise<void> {
  await world.supervisor.override({ target, change, actor: "ann", reason: "kernel update", expiresInMs: null });
}

function row(world: World, name = "web/b"): BackendView {
  return statusSchema.parse(world.supervisor.status()).backends.find((each) => each.name === name)!;
}

function drainOf(world: World): DrainView {
  return z.array(drainSchema).length(1).parse(world.supervisor.drains())[0]!;
}

function destination(world: World, name = "web/b"): { alive: boolean; admission: number; resets: boolean } {
  return [...world.pinned.table!.destinations.values()].find((each) => each.name === name)!;
}

describe("states", () => {
  it("are unknown before the first probe, then active, and down for the probes' reason", async () => {
    const world = new World();
    await world.start(sketch());
    expect(row(world)).toMatchObject({ state: "unknown", alive: true, actor: null });
    await world.pass(5000);
    expect(row(world)).toMatchObject({ state: "active", reason: "connected", actor: null });
    world.dead.add("web/b");
    await world.pass(5000);
    expect(row(world)).toMatchObject({ state: "down", alive: false, reason: "connection refused", actor: null });
  });

  it("maintenance takes everything, is not probed, has actor, reason and time, and outlives kill -9", async () => {
    const world = await started();
    const atMs = world.env.clock.wallMs();
    await say(world, { kind: "maintenance" });
    const shown = { state: "maintenance", alive: false, admission: 0, slots: 0, actor: "ann", sinceMs: atMs,
      reason: "in maintenance by ann: kernel update" };
    expect(row(world)).toMatchObject(shown);
    expect(destination(world)).toMatchObject({ alive: false, admission: 0, resets: true });
    const seen = world.supervisor.events.since(0).length;
    world.dead.add("web/b");
    await world.pass(10_000);
    expect(world.supervisor.events.since(seen).filter(({ kind }) => kind === "health")).toEqual([]);
    world.kill();
    await world.start();
    await world.pass(10_000);
    expect(row(world)).toMatchObject(shown);
    expect(messages(world).filter((each) => each.includes("connection refused"))).toEqual([]);
    // Back, it is taken as alive until its probes say otherwise.
    await world.supervisor.clearOverrides({ target: "b", kind: "maintenance" }, "bob");
    expect(row(world).state).toBe("unknown");
    expect(slotsOf(world, "web/b")).toBeGreaterThan(0);
    await world.pass(10_000);
    expect(row(world)).toMatchObject({ state: "down", reason: "connection refused" });
  });

  it("drain and maintenance replace each other, and leave a weight alone", async () => {
    const world = await started();
    await say(world, { kind: "weight", weight: 7 });
    await say(world, { kind: "drain" });
    await say(world, { kind: "maintenance" });
    expect(world.supervisor.overrides().map(({ id }) => id)).toEqual(["weight:web:b", "maintenance:web:b"]);
    await say(world, { kind: "drain", timeoutMs: MINUTE });
    expect(world.supervisor.overrides().map(({ id }) => id)).toEqual(["weight:web:b", "drain:web:b"]);
    expect(row(world)).toMatchObject({ weight: 7, alive: true });
  });

  it("a backend that dies while it drains is down; one that is drained may go", async () => {
    const world = await started();
    world.plane.held.set("web/b", 3);
    await say(world, { kind: "drain", timeoutMs: MINUTE });
    world.dead.add("web/b");
    await world.pass(5000);
    expect(row(world)).toMatchObject({ state: "down", reason: "connection refused", actor: null });
    await world.pass(MINUTE);
    expect(row(world)).toMatchObject({ state: "drained", actor: "ann" });
  });
});

describe("a backend's own word", () => {
  it("drains it for as long as it says so, also over kill -9, and fails to be a death", async () => {
    const world = await started();
    world.leaving.add("web/b");
    await world.pass(2000);
    expect(row(world)).toMatchObject({
      state: "draining", alive: true, admission: 0, slots: 0, actor: null, stateProvenance: { source: "health" },
    });
    expect(destination(world)).toMatchObject({ alive: true, admission: 0, resets: false });
    expect(messages(world)).toContain("is draining: connected");
    world.kill();
    await world.start();
    expect(row(world)).toMatchObject({ state: "draining", admission: 0 });
    world.leaving.delete("web/b");
    await world.pass(2000);
    expect(row(world)).toMatchObject({ state: "active", alive: true, admission: 65_536 });
  });

  it("of all backends at once leaves a service that fails open served", async () => {
    const world = new World();
    await world.start({ ...sketch(), services: [{ name: "web", failOpen: true }] });
    for (const name of ["a", "b", "c"]) world.leaving.add(`web/${name}`);
    await world.pass(3000);
    expect(world.supervisor.status().services[0]).toMatchObject({ failedOpen: true });
    expect(slotsOf(world, "web/b")).toBeGreaterThan(0);
  });
});

describe("a drain", () => {
  it("is over when the last flow has ended, which is told once", async () => {
    const world = await started();
    world.plane.held.set("web/b", 3);
    await say(world, { kind: "drain" });
    await world.pass(2000);
    expect(row(world)).toMatchObject({ state: "draining", flows: { count: 3, kind: "tracked" }, admission: 0, alive: true });
    expect(drainOf(world)).toMatchObject({ flows: { count: 3, kind: "tracked" }, end: null, deadlineAtMs: null, certainAtMs: null });
    world.plane.held.set("web/b", 0);
    await world.pass(2000);
    expect(row(world)).toMatchObject({ state: "drained", alive: true, flows: { count: 0 } });
    expect(drainOf(world)).toMatchObject({ flows: { count: 0 }, end: "empty" });
    expect(messages(world).filter((each) => each.startsWith("is drained"))).toEqual(["is drained: no flow is left"]);
    await world.supervisor.clearOverrides({ target: "b", kind: "drain" }, "bob");
    expect(row(world).state).toBe("active");
    expect(world.supervisor.drains()).toEqual([]);
  });

  it("takes no count for its end that was begun before it", async () => {
    const world = await started();
    world.plane.countedAtMs = world.env.clock.monotonicMs() - 1;
    await say(world, { kind: "drain" });
    await world.pass(5000);
    expect(drainOf(world)).toMatchObject({ flows: { count: 0 }, end: null });
    world.plane.countedAtMs = Infinity;
    expect(drainOf(world).end).toBe("empty");
  });

  it("is over at its deadline, when the rest is given up", async () => {
    const world = await started();
    world.plane.held.set("web/b", 3);
    await say(world, { kind: "drain", timeoutMs: MINUTE });
    await world.pass(MINUTE - 1000);
    expect(destination(world)).toMatchObject({ alive: true, admission: 0, resets: false });
    expect(drainOf(world).end).toBe(null);
    await world.pass(1000);
    expect(destination(world)).toMatchObject({ alive: false, admission: 0, resets: true });
    expect(drainOf(world)).toMatchObject({ end: "deadline", flows: { count: 3 }, resets: [], moves: ["web"] });
    expect(row(world)).toMatchObject({ state: "drained", reason: "drained by ann: kernel update" });
    expect(messages(world)).toContain("is drained: its time is over, and 3 flow(s) (tracked) are sent to other backends,"
      + " which do not know them");
  });

  it("goes on while nobody supervises: a deadline that passed meanwhile is carried out at the start", async () => {
    const world = await started();
    world.plane.held.set("web/b", 3);
    await say(world, { kind: "drain", timeoutMs: 5 * MINUTE });
    await world.pass(MINUTE);
    world.kill();
    await world.pass(MINUTE);
    await world.start();
    world.plane.held.set("web/b", 3);
    expect(destination(world)).toMatchObject({ alive: true, admission: 0, resets: false });
    const { startedAtMs, deadlineAtMs } = drainOf(world);
    expect(deadlineAtMs! - startedAtMs).toBe(5 * MINUTE);
    world.kill();
    await world.pass(4 * MINUTE);
    expect(destination(world).resets).toBe(false);
    await world.start();
    expect(destination(world)).toMatchObject({ alive: false, admission: 0, resets: true });
    expect(drainOf(world)).toMatchObject({ end: "deadline", flows: { count: null, kind: "unknown" } });
  });

  it("a deadline whose apply fails is not said to be carried out before it is", async () => {
    const world = await started();
    world.plane.held.set("web/b", 1);
    await say(world, { kind: "drain", timeoutMs: MINUTE });
    world.plane.failures = 3;
    await world.pass(MINUTE + 100);
    expect([drainOf(world).end, destination(world).resets]).toEqual([null, false]);
    await world.pass(30_000);
    expect([drainOf(world).end, destination(world).resets]).toEqual(["deadline", true]);
  });

  it.each([["minimal", "estimated", 2], ["none", "unknown", 3]] as const)(
    "with tracking %s (%s) is not over before flows have had %d minutes to show", async (tracking, kind, minutes) => {
      const world = await started(tracking);
      world.plane.heldKind = kind;
      await say(world, { kind: "drain" });
      await world.pass(minutes * MINUTE - 2000);
      expect(drainOf(world)).toMatchObject({ end: null, flows: { count: kind === "unknown" ? null : 0, kind } });
      expect(drainOf(world).certainAtMs! - drainOf(world).startedAtMs).toBe(minutes * MINUTE);
      await world.pass(3000);
      expect(drainOf(world)).toMatchObject({ end: "empty", flows: { kind } });
    });

  it("of a backend that no service uses is over at once", async () => {
    const world = new World();
    await world.start({ ...sketch(), pools: { web: ["a"], spare: ["s"] } });
    await say(world, { kind: "drain" }, "spare/s");
    expect(drainOf(world)).toMatchObject({ end: "empty", flows: { kind: "exact" } });
  });

  it.each([["empty", 0, null], ["deadline", 3, MINUTE]] as const)(
    "that is over (%s) is told once, also when the supervisor is another one", async (end, count, timeoutMs) => {
      const world = await started();
      world.plane.held.set("web/b", 3);
      await say(world, { kind: "drain", ...(timeoutMs === null ? {} : { timeoutMs }) });
      await world.pass(2000);
      world.plane.held.set("web/b", count);
      await world.pass(MINUTE);
      const told = drainOf(world);
      expect(told).toMatchObject({ end, flows: { count } });
      for (let restarts = 0; restarts < 2; restarts += 1) {
        world.kill();
        await world.pass(MINUTE);
        await world.start();
        expect(drainOf(world)).toEqual(told);
        expect(row(world)).toMatchObject({ state: "drained" });
        await world.pass(10_000);
        expect(drainOf(world)).toEqual(told);
        expect(messages(world).filter((each) => each.startsWith("is drained"))).toEqual([]);
      }
      // Another drain of the same backend is another one.
      await world.supervisor.clearOverrides({ target: "b", kind: "drain" }, "bob");
      await world.pass(2000);
      expect(world.state().endedDrains()).toEqual([]);
      world.plane.held.set("web/b", 3);
      await say(world, { kind: "drain" });
      await world.pass(2000);
      expect(drainOf(world)).toMatchObject({ end: null });
      world.plane.held.set("web/b", 0);
      await world.pass(2000);
      expect(messages(world).filter((each) => each.startsWith("is drained"))).toEqual(["is drained: no flow is left"]);
    });

  it("that is over is told again by the next supervisor only where that could not be kept", async () => {
    const world = await started();
    await say(world, { kind: "drain" });
    world.stateRefuses = "no space left";
    await world.pass(5000);
    expect(drainOf(world)).toMatchObject({ end: "empty" });
    expect(world.supervisor.status().warnings.join()).toContain("drains.json cannot be written: no space left");
    expect(world.setAside.filter((each) => each.includes("drains.json"))).toHaveLength(1);
    world.stateRefuses = null;
    await world.pass(2000);
    expect(world.state().endedDrains()).toMatchObject([{ target: "web/b", how: "empty" }]);
    expect(world.supervisor.status().warnings.join()).not.toContain("drains.json");
  });

  it("of an older version is read, with no deadline", async () => {
    const world = new World();
    const old = { target: "web/b", change: { kind: "drain" }, actor: "ann", reason: null, atMs: 5, expiresAtMs: null };
    world.env.files.makeDirectory(STATE, 0o700);
    world.env.files.writeAtomic(`${STATE}/overrides.json`, JSON.stringify({ version: 1, overrides: [old] }), 0o600);
    await world.start(sketch());
    expect(world.setAside).toEqual([]);
    expect(drainOf(world)).toMatchObject({ target: "web/b", startedAtMs: 5, deadlineAtMs: null });
    expect(destination(world)).toMatchObject({ alive: true, admission: 0, resets: false });
  });
});
