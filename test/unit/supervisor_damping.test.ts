// Flap damping from probes to the table: admission and nothing else moves, people hear of it, and a restart begins
// anew. The plane is simulated; time is fake.

import { describe, expect, it } from "vitest";
import type { BackendView } from "../../src/api/schemas.ts";
import { METRICS } from "../../src/observe/metrics.ts";
import { ADMISSION_MAX } from "../../src/model/table.ts";
import type { ConfigSketch } from "../support/configs.ts";
import { request, World } from "../support/world.ts";

const WEB: ConfigSketch = {
  probes: true, damping: { changesMax: 3, withinMs: 600_000, holdMs: 60_000 }, pools: { web: ["a", "b", "c"] }, services: [{ name: "web" }],
};

function backendOf(world: World, name: string): BackendView {
  return world.supervisor.status().backends.find((each) => each.name === name)!;
}

async function flapping(sketch: ConfigSketch = WEB): Promise<World> {
  const world = new World();
  await world.start(sketch);
  await world.pass(5_000);
  for (let at = 0; at < 2; at++) {
    world.dead.add("web/b");
    await world.pass(5_000);
    world.dead.delete("web/b");
    await world.pass(5_000);
  }
  return world;
}

describe("a backend that flaps", () => {
  it.each(["xdp", "proxy"] as const)("lends its slots while it is held, and has them back, in the %s plane", async (mode) => {
    const world = await flapping({ ...WEB, mode });
    expect(backendOf(world, "web/b")).toMatchObject({
      state: "damped", alive: true, admission: 0, slots: 0, weight: backendOf(world, "web/a").weight,
      reason: "more than 3 changes within 600 s; held until there was none for 60 s",
    });
    const { ring } = world.supervisor.table()!.services[0]!;
    await world.pass(61_000);
    expect(backendOf(world, "web/b")).toMatchObject({ state: "active", admission: ADMISSION_MAX });
    const after = world.supervisor.table()!.services[0]!.ring;
    expect(after.configured).toEqual(ring.configured);
    const id = [...world.supervisor.table()!.destinations.values()].find(({ name }) => name === "web/b")!.id;
    expect(ring.slots.every((owner, slot) => owner === after.slots[slot] || after.slots[slot] === id)).toBe(true);
    const told = world.supervisor.events.since(0).filter(({ subject, fields }) => subject === "web/b" && fields["to"] !== undefined);
    expect(told.map(({ fields: { to } }) => to)).toEqual(["up", "down", "up", "down", "damped", "up"]);
    expect(world.env.messages("warn").filter((each) => each.startsWith("web/b is damped: more than 3 changes"))).toHaveLength(1);
    const { supervisor } = world;
    const snapshot = { status: supervisor.status(), counters: supervisor.counters(), totals: supervisor.totals() };
    expect(METRICS.find(({ name }) => name === "pointsman_health_transitions_total")!.samples(snapshot))
      .toContainEqual([{ pool: "web", backend: "b", to: "damped" }, 1]);
  });

  it("is let go by a reload that takes the key away, and by a restart", async () => {
    const world = await flapping();
    const { damping: _, ...free } = WEB;
    await world.supervisor.apply(request(free));
    expect(backendOf(world, "web/b")).toMatchObject({ state: "active", admission: ADMISSION_MAX });
    const other = await flapping();
    expect(backendOf(other, "web/b").state).toBe("damped");
    other.kill();
    await other.start(WEB);
    await other.pass(5_000);
    expect(backendOf(other, "web/b")).toMatchObject({ state: "active", admission: ADMISSION_MAX });
  });
});
