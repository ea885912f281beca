// Slow start from the probes to the table: a backend that is back gets its own slots back step by step, and
// nobody else's move. The plane is simulated; time is fake.

import { describe, expect, it } from "vitest";
import { ADMISSION_MAX } from "../../src/model/table.ts";
import type { Service } from "../../src/model/table.ts";
import { request, World } from "../support/world.ts";

function serviceOf(world: World): Service {
  return world.supervisor.table()!.services[0]!;
}

describe("slow start in the supervisor", () => {
  it("is none for a backend whose drain or maintenance an operator ends, and is for one that is new", async () => {
    const world = new World();
    const sketch = { pools: { web: ["a", "b", "c"] }, services: [{ name: "web", port: 80 }], probes: true, slowStartMs: 20_000 };
    await world.start(sketch);
    await world.pass(5_000);
    const admissions = (): number[] => world.supervisor.status().backends.map(({ admission }) => admission);
    for (const [target, kind] of [["web/a", "drain"], ["web/b", "maintenance"]] as const)
      await world.supervisor.override({ target, change: { kind }, actor: "ann", reason: null, expiresInMs: null });
    await world.pass(5_000);
    expect(admissions()).toEqual([0, 0, ADMISSION_MAX]);
    await world.supervisor.clearOverrides({ target: null, kind: null }, "ann");
    await world.supervisor.quiet();
    expect(admissions()).toEqual([ADMISSION_MAX, ADMISSION_MAX, ADMISSION_MAX]);
    await world.supervisor.apply(request({ ...sketch, pools: { web: ["a", "b", "c", "d"] } }));
    await world.supervisor.quiet();
    expect(admissions()).toEqual([ADMISSION_MAX, ADMISSION_MAX, ADMISSION_MAX, 3276]);
  });

  it("gives a backend its slots back one after the other, by tables of their own", async () => {
    const world = new World();
    await world.start({ pools: { web: ["a", "b", "c"] }, services: [{ name: "web", port: 80 }], probes: true, slowStartMs: 20_000 });
    await world.pass(5_000);
    const { configured } = serviceOf(world).ring;
    expect(serviceOf(world).ring.slots).toEqual(configured);
    const [destination] = [...world.supervisor.table()!.destinations.values()].filter(({ name }) => name === "web/b");
    const own = Array.from(configured.keys()).filter((slot) => configured[slot] === destination!.id);
    world.dead.add("web/b");
    await world.pass(5_000);
    const lent = serviceOf(world).ring.slots;
    expect(lent).not.toContain(destination!.id);
    world.dead.delete("web/b");
    const shares: number[] = [];
    for (let second = 0; second < 30; second++) {
      await world.pass(1_000);
      const { slots } = serviceOf(world).ring;
      // Those that it does not have yet are where they were lent to, and no other slot ever moved.
      expect(slots.every((id, slot) => id === destination!.id || id === lent[slot])).toBe(true);
      shares.push(own.filter((slot) => slots[slot] === destination!.id).length);
    }
    expect(shares.toSorted((a, b) => a - b)).toEqual(shares);
    expect(new Set(shares).size).toBeGreaterThan(10);
    expect(serviceOf(world).ring.slots).toEqual(configured);
    const now = world.supervisor.table()!.destinations.get(destination!.id);
    expect(now?.admission).toBe(ADMISSION_MAX);
  });
});
