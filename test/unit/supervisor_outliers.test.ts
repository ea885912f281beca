// Ejections from what a plane saw of flows to the table: admission and nothing else moves, people hear of it, and a
// restart begins anew. The plane is simulated; time is fake.

import { describe, expect, it } from "vitest";
import { METRICS } from "../../src/observe/metrics.ts";
import { failedFlow } from "../../src/model/flows_seen.ts";
import type { OutlierRules } from "../../src/model/health_check.ts";
import { ADMISSION_MAX } from "../../src/model/table.ts";
import type { BackendView } from "../../src/api/schemas.ts";
import type { ConfigSketch } from "../support/configs.ts";
import { request, World } from "../support/world.ts";

const RULES: OutlierRules = {
  consecutive: 5, failuresAbove: 50, intervalMs: 10_000, flowsMin: 50, ejectionMs: 30_000, ejectionMaxMs: 300_000,
  ejectedMax: 10, silence: false,
};
const WEB: ConfigSketch = { probes: true, outlier: RULES, pools: { web: ["a", "b", "c"] }, services: [{ name: "web" }] };

function backendOf(world: World, name: string): BackendView {
  return world.supervisor.status().backends.find((each) => each.name === name)!;
}

function fails(world: World, name: string, times = 5): void {
  for (let at = 0; at < times; at++) world.plane.flows(name, failedFlow("ECONNREFUSED"));
}

describe("an ejection in the supervisor", () => {
  it("moves the slots of the backend alone, which is alive, and moves them back", async () => {
    const world = new World();
    await world.start(WEB);
    await world.pass(5_000);
    const before = world.supervisor.table()!;
    fails(world, "web/b");
    await world.supervisor.quiet();
    expect(backendOf(world, "web/b")).toMatchObject({
      state: "ejected", alive: true, admission: 0, slots: 0, weight: backendOf(world, "web/a").weight,
      reason: "5 flows in a row failed: ECONNREFUSED; ejected for 30 s",
    });
    const ring = world.supervisor.table()!.services[0]!.ring;
    const id = [...before.destinations.values()].find(({ name }) => name === "web/b")!.id;
    expect(ring.configured).toEqual(before.services[0]!.ring.configured);
    expect(ring.slots.every((owner, slot) => owner === before.services[0]!.ring.slots[slot] || ring.configured[slot] === id)).toBe(true);
    await world.pass(31_000);
    expect(backendOf(world, "web/b")).toMatchObject({ state: "active", admission: ADMISSION_MAX });
    expect(world.supervisor.table()!.services[0]!.ring.slots).toEqual(before.services[0]!.ring.slots);
    const told = world.supervisor.events.since(0).filter(({ subject, fields }) => subject === "web/b" && fields["to"] !== undefined);
    expect(told.map(({ kind, fields: { from, to } }) => [kind, from, to])).toEqual([
      ["health", "unknown", "up"], ["health", "up", "ejected"], ["health", "ejected", "up"],
    ]);
  });

  it("stands in the log and the metrics", async () => {
    const world = new World();
    await world.start({ ...WEB, probes: false });
    world.plane.flows("web/b", { ok: 7, failed: 2, silent: 4, reason: "unanswered" });
    fails(world, "web/b");
    fails(world, "web/c");
    expect(world.env.messages("warn").filter((each) => each.startsWith("web/b is ejected"))).toHaveLength(1);
    const { supervisor } = world;
    const snapshot = { status: supervisor.status(), counters: supervisor.counters(), totals: supervisor.totals() };
    const valueOf = (metric: string, backend: string): unknown[] => METRICS.find(({ name }) => name === metric)!.samples(snapshot)
      .filter(([labels]) => labels["backend"] === backend).map(([, value]) => value);
    expect(valueOf("pointsman_backend_judged_flows_total", "b")).toEqual([7, 7]);
    expect([valueOf("pointsman_backend_ejections_total", "b"), valueOf("pointsman_backend_ejections_spared_total", "c")]).toEqual([[1], [1]]);
  });

  it("works without probes, on backends whose services have no single port, and with another plane", async () => {
    const world = new World();
    const many: ConfigSketch = { ...WEB, probes: false, services: [{ name: "web", port: "8000-8010" }] };
    await world.start(many);
    fails(world, "web/b", 4);
    await world.supervisor.apply(request({ ...many, mode: "proxy" }));
    fails(world, "web/b", 1);
    await world.supervisor.quiet();
    expect(backendOf(world, "web/b")).toMatchObject({ state: "ejected", slots: 0 });
  });

  it("ends with a reload that takes the key away, and at once", async () => {
    const world = new World();
    await world.start(WEB);
    fails(world, "web/b");
    await world.supervisor.quiet();
    const { outlier, ...without } = WEB;
    expect(outlier).toBeDefined();
    await world.supervisor.apply(request(without));
    await world.supervisor.quiet();
    expect(backendOf(world, "web/b").slots).toBeGreaterThan(0);
    fails(world, "web/b", 50);
    await world.supervisor.quiet();
    expect(backendOf(world, "web/b").state).not.toBe("ejected");
  });

  it.each([
    ["drain", { kind: "drain" }], ["maintenance", { kind: "maintenance" }], ["weight", { kind: "weight", weight: 0 }],
  ] as const)("gives way to a %s of all others, and comes back when that ends", async (_, change) => {
    const world = new World();
    await world.start(WEB);
    await world.pass(5_000);
    fails(world, "web/b");
    await world.supervisor.quiet();
    const states = (): string[] => ["a", "b", "c"].map((name) => `${name} ${backendOf(world, `web/${name}`).slots > 0}`);
    expect(states()).toEqual(["a true", "b false", "c true"]);
    for (const target of ["web/a", "web/c"]) {
      await world.supervisor.override({ target, change, actor: "ann", reason: null, expiresInMs: null });
      // The table that carries it out has somebody already.
      expect(world.plane.table?.services[0]?.ring.slots).not.toContain(0);
    }
    expect(states()).toEqual(["a false", "b true", "c false"]);
    await world.supervisor.clearOverrides({ target: null, kind: null }, "ann");
    await world.supervisor.quiet();
    expect(states()).toEqual(["a true", "b false", "c true"]);
  });

  it("takes nobody whose others have no weight", async () => {
    const world = new World();
    await world.start({ ...WEB, pools: { web: [{ name: "a", weight: 0 }, { name: "b" }] } });
    await world.pass(5_000);
    fails(world, "web/b", 50);
    await world.supervisor.quiet();
    expect(backendOf(world, "web/b")).toMatchObject({ state: "active", admission: ADMISSION_MAX });
  });

  it("is not kept: a restart begins with everybody, also one that adopts the plane", async () => {
    const world = new World();
    await world.start(WEB);
    await world.pass(5_000);
    fails(world, "web/b");
    world.dead.add("web/c");
    await world.pass(5_000);
    expect([backendOf(world, "web/b").state, backendOf(world, "web/c").state]).toEqual(["ejected", "down"]);
    world.kill();
    await world.start();
    expect([backendOf(world, "web/b").admission, backendOf(world, "web/c").state]).toEqual([ADMISSION_MAX, "down"]);
  });
});
