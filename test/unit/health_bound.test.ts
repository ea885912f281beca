// From a backend's last word to its last slot: probes, judge, supervisor and plane together, under a
// fake clock. A backend that stops answering is out of the plane within fall × interval + timeout.

import { describe, expect, it } from "vitest";
import type { ConfigSketch } from "../support/configs.ts";
import { configOf } from "../support/configs.ts";
import { World } from "../support/world.ts";

const WEB: ConfigSketch = {
  probes: true, pools: { web: ["a", "b", "c"] },
  services: [{ name: "web" }, { name: "more", port: 81 }],
};
const STEP_MS = 5;
/** Every phase of the schedule is met: this and the interval have no common factor but STEP_MS. */
const PHASE_MS = 35;
const ROUNDS = 30;

const health = configOf(WEB).pools[0]?.health;
if (health === undefined || health.type === "none") throw new Error("the sketch has no probes");
const { intervalMs, timeoutMs, rise, fall } = health;

/** Slots of these backends in all that the plane holds, over all services. */
function slotsHeld(world: World, names: readonly string[]): number {
  const table = world.plane.table;
  if (table === null) throw new Error("nothing was applied");
  const ids = new Set([...table.destinations.values()]
    .filter(({ name }) => names.includes(name)).map(({ id }) => id));
  expect(ids.size).toBeGreaterThan(0);
  return table.services.reduce((sum, { ring }) =>
    sum + ring.slots.reduce((held, id) => held + (ids.has(id) ? 1 : 0), 0), 0);
}

/** How long it takes until the condition holds; -1 if it does not within `mostMs`. */
async function timeUntil(world: World, mostMs: number, holds: () => boolean): Promise<number> {
  for (let passedMs = 0; passedMs <= mostMs; passedMs += STEP_MS) {
    if (holds()) return passedMs;
    await world.pass(STEP_MS);
  }
  return -1;
}

describe.each([["a"], ["a", "b"]])("backends that stop answering: %s %s", (...letters) => {
  const names = letters.filter((each) => each !== undefined).map((each) => `web/${each}`);

  it("leave the plane within fall × interval + timeout, and come back", async () => {
    const fell: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const world = new World(round + 1);
      await world.start(WEB);
      await world.pass(2 * intervalMs + round * PHASE_MS);
      const appliedBefore = world.plane.applied.length;
      const before = slotsHeld(world, names);
      expect(before).toBeGreaterThan(0);

      for (const name of names) world.silent.add(name);
      const mostMs = fall * intervalMs + timeoutMs;
      const fellMs = await timeUntil(world, mostMs, () => slotsHeld(world, names) === 0);
      expect(fellMs, `seed ${round + 1}`).not.toBe(-1);
      const leastMs = (fall - 1) * intervalMs + timeoutMs - STEP_MS;
      expect(fellMs, `seed ${round + 1}`).toBeGreaterThanOrEqual(leastMs);
      fell.push(fellMs);
      // Each verdict is one apply, and nothing else is.
      expect(world.plane.applied.length - appliedBefore).toBe(names.length);

      for (const name of names) world.silent.delete(name);
      const backMs = rise * intervalMs + timeoutMs;
      const rose = await timeUntil(world, backMs, () => slotsHeld(world, names) === before);
      expect(rose, `seed ${round + 1}`).not.toBe(-1);
      expect(world.plane.applied.length - appliedBefore).toBe(2 * names.length);
      world.kill();
    }
    // The bound is met, not merely kept: some rounds are the worst case, some the best.
    expect(Math.max(...fell)).toBeGreaterThan(fall * intervalMs + timeoutMs - 2 * PHASE_MS);
  });
});

it("a verdict during an apply is in the next, which begins when that one ends", async () => {
  const world = new World();
  await world.start(WEB);
  await world.pass(2 * intervalMs);
  world.plane.hang();
  world.dead.add("web/c");
  await world.pass(fall * intervalMs + timeoutMs);
  world.silent.add("web/a");
  await world.pass(fall * intervalMs + timeoutMs);
  expect(slotsHeld(world, ["web/a"])).toBeGreaterThan(0);
  world.plane.release();
  await world.pass(0);
  expect(slotsHeld(world, ["web/a", "web/c"])).toBe(0);
});
