// Zones by example: who takes flows when how much of the local zone is up, that shares are what the formula says,
// and what a failure moves.

import { describe, expect, it } from "vitest";
import { compile } from "../../src/model/compile.ts";
import type { BackendHealth, ForwardingTable, Intent } from "../../src/model/table.ts";
import { ADMISSION_MAX, EMPTY_LEDGER } from "../../src/model/table.ts";
import { poolViews } from "../../src/supervisor/pool_views.ts";
import { configOf } from "../support/configs.ts";
import type { BackendSketch, ConfigSketch, PoolRules, ServiceSketch } from "../support/configs.ts";

const UP: BackendHealth = { alive: true, known: true, admission: ADMISSION_MAX, reason: "status 200", sinceMs: 5 };
const DOWN: BackendHealth = { ...UP, alive: false, admission: 0, reason: "refused" };

const east = (...names: string[]): BackendSketch[] => names.map((name) => ({ name, zone: "east" }));
const west = (...names: string[]): BackendSketch[] => names.map((name) => ({ name, zone: "west" }));

function sketchOf(backends: readonly BackendSketch[], rules: Partial<PoolRules> = {}, service: Partial<ServiceSketch> = {}): ConfigSketch {
  return {
    zone: "east", pools: { web: backends }, rules: { web: { spillBelow: 70, ...rules } },
    services: [{ name: "web", ringSize: 65_537, ...service }],
  };
}

function intentOf(sketch: ConfigSketch, health: Readonly<Record<string, BackendHealth>> = {}): Intent {
  const states = new Map(Object.entries(health).map(([name, each]) => [`web/${name}`, each]));
  return { config: configOf(sketch), hashSeed: 7n, overrides: [], nowMs: 1000, health: states };
}

function tableOf(sketch: ConfigSketch, health: Readonly<Record<string, BackendHealth>> = {}): ForwardingTable {
  return compile(intentOf(sketch, health), { ledger: EMPTY_LEDGER, generation: 0 });
}

function takers(table: ForwardingTable): string {
  return [...new Set(table.services[0]!.ring.slots)].map((id) => table.destinations.get(id)?.backend ?? "nobody").sort().join(" ");
}

/** Of all slots. */
function shareOf(table: ForwardingTable, names: readonly string[]): number {
  const ids = new Set([...table.destinations.values()].filter(({ backend }) => names.includes(backend)).map(({ id }) => id));
  const { slots } = table.services[0]!.ring;
  return slots.filter((id) => ids.has(id)).length / slots.length;
}

const BOTH = [...east("a", "b", "c", "d"), ...west("w", "x", "y", "z")];
const WEST = ["w", "x", "y", "z"];
const LOCALS = ["a", "b", "c", "d"] as const;
/** The first so many of the local zone are down. */
const down = (count: number): Record<string, BackendHealth> => Object.fromEntries(LOCALS.slice(0, count).map((name) => [name, DOWN]));

describe("zones", () => {
  it("keep flows at home while enough of the local zone is up", () => {
    expect(takers(tableOf(sketchOf(BOTH)))).toBe("a b c d");
    expect(takers(tableOf(sketchOf(BOTH), down(1)))).toBe("b c d");
    expect(takers(tableOf(sketchOf(BOTH, { spillBelow: 75 }), down(1)))).toBe("b c d");
    expect(takers(tableOf(sketchOf(BOTH, { spillBelow: 76 }), down(1)))).toBe("b c d w x y z");
  });

  const many = (zone: (...names: string[]) => BackendSketch[], prefix: string): BackendSketch[] =>
    zone(...Array.from({ length: 40 }, (_, at) => `${prefix}${at}`));
  const MANY = [...many(east, "e"), ...many(west, "w")];
  const FAR = MANY.filter(({ zone }) => zone === "west").map(({ name }) => name);
  const without = (count: number): Record<string, BackendHealth> => Object.fromEntries(
    Array.from({ length: count }, (_, at) => [`e${at}`, DOWN]));

  it("give to others what is missing here, by their weight", () => {
    // Of 28 (70% of 40), 20 and then 10 are up.
    for (const [count, missing] of [[20, 8 / 28], [30, 18 / 28]] as const) {
      const table = tableOf(sketchOf(MANY), without(count));
      expect(Math.abs(shareOf(table, FAR) - missing), String(count)).toBeLessThan(0.02);
      for (const name of FAR) expect(shareOf(table, [name]) / (missing / 40), name).toBeGreaterThan(0.75);
    }
    const heavy = MANY.map((each, at) => ({ ...each, weight: at < 40 ? 100 : at < 60 ? 50 : 150 }));
    const table = tableOf(sketchOf(heavy), without(30));
    expect(Math.abs(shareOf(table, FAR) - 18 / 28)).toBeLessThan(0.02);
    expect(Math.abs(shareOf(table, FAR.slice(0, 20)) / shareOf(table, FAR) - 0.25)).toBeLessThan(0.03);
  });

  it("give less than that where few are elsewhere, for a slot may be admitted by none of them", () => {
    const table = tableOf(sketchOf(BOTH), down(2));
    expect([...table.destinations.values()].filter(({ backend }) => WEST.includes(backend)).map(({ admission }) => admission))
      .toEqual(WEST.map(() => Math.floor(0.2 * ADMISSION_MAX)));
    // By the binomial distribution of those that admit a slot.
    expect(Math.abs(shareOf(table, WEST) - 0.23)).toBeLessThan(0.01);
  });

  it("count an admission as so much weight: a slow start brings flows home little by little", () => {
    const admissionOf = (share: number): number => [...tableOf(sketchOf(BOTH), { ...down(2), a: { ...UP, admission: share * ADMISSION_MAX } })
      .destinations.values()].find(({ backend }) => backend === "w")!.admission;
    expect([0.25, 0.5, 0.75, 1].map(admissionOf)).toEqual([55, 30, 5, 0].map((missing) => Math.floor(missing * ADMISSION_MAX / 400)));
  });

  it("have all take part when nobody here is up, when others cannot make up for it, and when nobody is here", () => {
    expect(shareOf(tableOf(sketchOf(BOTH), down(4)), WEST)).toBe(1);
    const few = [...east("a", "b", "c", "d"), ...west("w")];
    const table = tableOf(sketchOf(few), down(3));
    expect([...table.destinations.values()].find(({ backend }) => backend === "w")!.admission).toBe(ADMISSION_MAX);
    expect(shareOf(table, ["w"])).toBeCloseTo(0.5, 1);
    expect(takers(tableOf(sketchOf(west("w", "x"))))).toBe("w x");
    expect(takers(tableOf({ ...sketchOf(BOTH), rules: {} }))).toBe("a b c d w x y z");
    const { zone: _, ...nowhere } = sketchOf(BOTH);
    expect(takers(tableOf(nowhere))).toBe("a b c d w x y z");
    // Who says no zone is not here.
    expect(takers(tableOf(sketchOf([...east("a"), { name: "n" }])))).toBe("a");
  });

  it("are looked at among the groups that take flows, and before sorry backends and panic", () => {
    const tiers = [...east("a", "b"), ...west("w"), ...west("r").map((each) => ({ ...each, priority: 1 }))];
    expect(takers(tableOf(sketchOf(tiers), { a: DOWN, b: DOWN }))).toBe("w");
    expect(takers(tableOf(sketchOf(tiers), { a: DOWN, b: DOWN, w: DOWN }))).toBe("r");
    // Nobody of the first group is here.
    expect(takers(tableOf(sketchOf([...west("w"), ...east("r").map((each) => ({ ...each, priority: 1 }))])))).toBe("w");
    const withSorry = sketchOf([...east("a"), ...west("w"), { name: "s", zone: "east" }], { sorry: "s" });
    expect(takers(tableOf(withSorry, { a: DOWN }))).toBe("w");
    expect(takers(tableOf(withSorry, { a: DOWN, w: DOWN }))).toBe("s");
    // Three of four here are up; of eight it would be panic.
    const others = Object.fromEntries(WEST.map((name) => [name, DOWN]));
    expect(takers(tableOf(sketchOf(BOTH, {}, { panicBelow: 50 }), { ...others, ...down(1) }))).toBe("b c d");
    expect(takers(tableOf(sketchOf(BOTH, {}, { panicBelow: 50 }), { ...others, ...down(3) }))).toBe("a b c d w x y z");
  });

  it("are told: why a backend gets nothing or little, and how much goes elsewhere", () => {
    const [well, ill] = [tableOf(sketchOf(BOTH)), tableOf(sketchOf(BOTH), down(2))];
    const reasonOf = (table: ForwardingTable): unknown => [...table.destinations.values()].find(({ backend }) => backend === "w")!.stateProvenance;
    expect(reasonOf(well)).toEqual({ source: "pool", reason: "in another zone, 100% of zone east is up" });
    expect(reasonOf(ill)).toEqual({ source: "pool", reason: "takes 20% of its share, 50% of zone east is up" });
    expect([well.warnings, ill.warnings]).toEqual([[], ["pool web: 50% of zone east is up, and 28% of new flows go to other zones"]]);
    expect(poolViews({ intent: intentOf(sketchOf(BOTH), down(2)) })[0]!.zone)
      .toEqual({ name: "east", weight: 400, weightUp: 200, spill: expect.closeTo(80 / 280, 6) as number });
  });

  it("move no more flows at a failure than the backend had, and some that go home to the other zone", () => {
    // Of 20 backends each has a twentieth of 70% of the zone: a fourteenth, once fewer than 14 are up.
    const names = Array.from({ length: 20 }, (_, at) => `e${at}`);
    const sketch = sketchOf([...east(...names), ...west(...names.map((name) => `w${name}`))]);
    let before = tableOf(sketch);
    const moves: number[] = [];
    for (let count = 1; count < 20; count++) {
      const after = tableOf(sketch, Object.fromEntries(names.slice(0, count).map((name) => [name, DOWN])));
      const [from, to] = [before, after].map((table) => table.services[0]!.ring.slots);
      moves.push(from!.filter((id, slot) => id !== to![slot]).length / from!.length);
      before = after;
    }
    // Enough is up: the part of the one that failed alone.
    for (const [at, moved] of moves.slice(0, 6).entries()) expect(moved, `failure ${at + 1}`).toBeCloseTo(1 / (20 - at), 2);
    for (const [at, moved] of moves.slice(6).entries()) {
      expect(moved, `failure ${at + 7}`).toBeGreaterThan(0.95 / 14);
      expect(moved, `failure ${at + 7}`).toBeLessThan(2 / 14);
    }
  });
});
