// The rules of a pool by example: who takes flows when who else is up, and what is said of it.

import { describe, expect, it } from "vitest";
import { compile } from "../../src/model/compile.ts";
import { explain } from "../../src/model/explain.ts";
import { probeTargets } from "../../src/health/target.ts";
import { isUpIn, neededOf } from "../../src/model/pool_rules.ts";
import type { BackendHealth, ForwardingTable, Intent, Override } from "../../src/model/table.ts";
import { ADMISSION_MAX, EMPTY_LEDGER } from "../../src/model/table.ts";
import { createRingMemo } from "../../src/model/table_ring.ts";
import { poolViews } from "../../src/supervisor/pool_views.ts";
import { address, configOf } from "../support/configs.ts";
import type { ConfigSketch, PoolRules, ServiceSketch } from "../support/configs.ts";

const UP: BackendHealth = { alive: true, known: true, admission: ADMISSION_MAX, reason: "status 200", sinceMs: 5 };
const DOWN: BackendHealth = { ...UP, alive: false, admission: 0, reason: "refused" };
const LEAVING: BackendHealth = { ...UP, admission: 0, reason: "says drain" };

type Change = Partial<Omit<Intent, "health">> & { readonly health?: Readonly<Record<string, BackendHealth>> };

function intentOf(sketch: ConfigSketch, { health = {}, ...changes }: Change = {}): Intent {
  const states = new Map(Object.entries(health).map(([name, each]) => [`web/${name}`, each]));
  return { config: configOf(sketch), hashSeed: 7n, overrides: [], nowMs: 1000, ...changes, health: states };
}

function tableOf(sketch: ConfigSketch, change: Change = {}): ForwardingTable {
  return compile(intentOf(sketch, change), { ledger: EMPTY_LEDGER, generation: 0 });
}

/** Names of those that have slots, in order. */
function takers(table: ForwardingTable): string {
  return [...new Set(table.services[0]!.ring.slots)].map((id) => table.destinations.get(id)?.backend ?? "nobody").sort().join(" ");
}

function override(name: string, change: Override["change"]): Override {
  return { target: `web/${name}`, change, actor: "ann", reason: null, atMs: 1, expiresAtMs: null };
}

/** a, b and c are first, r and s in reserve, x behind them. */
function tiers(rules: Partial<PoolRules> = {}, service: Partial<ServiceSketch> = {}): ConfigSketch {
  return {
    pools: { web: ["a", "b", "c", { name: "r", priority: 10 }, { name: "s", priority: 10 }, { name: "x", priority: 20 }] },
    rules: { web: rules }, services: [{ name: "web", ...service }],
  };
}

describe("reserves", () => {
  const minimum = (count: number): Partial<PoolRules> => ({ reserves: { minimum: { count } } });
  const share = (percent: number): Partial<PoolRules> => ({ reserves: { minimum: { percent } } });

  it("take flows while fewer than the minimum of those before them are up", () => {
    expect(takers(tableOf(tiers()))).toBe("a b c");
    expect(takers(tableOf(tiers(), { health: { a: DOWN, b: DOWN } }))).toBe("c");
    expect(takers(tableOf(tiers(), { health: { a: DOWN, b: DOWN, c: DOWN } }))).toBe("r s");
    expect(takers(tableOf(tiers(minimum(2)), { health: { a: DOWN } }))).toBe("b c");
    expect(takers(tableOf(tiers(minimum(2)), { health: { a: DOWN, b: DOWN } }))).toBe("c r s");
    expect(takers(tableOf(tiers(minimum(3)), { health: { a: DOWN, b: DOWN, s: DOWN } }))).toBe("c r x");
    expect(takers(tableOf(tiers(share(67)), { health: { a: DOWN } }))).toBe("b c r s");
    expect(takers(tableOf(tiers(share(66)), { health: { a: DOWN } }))).toBe("b c");
  });

  it("are behind each other: who is held back holds back all after it, however few are up there", () => {
    // 3 of 3 suffice, and 3 of 5 would not.
    expect(takers(tableOf(tiers(share(70)), { health: { r: DOWN, s: DOWN } }))).toBe("a b c");
    // 1 of 3 do not, nor do 2 of 5.
    expect(takers(tableOf(tiers(share(70)), { health: { a: DOWN, b: DOWN, s: DOWN } }))).toBe("c r x");
    expect(takers(tableOf(tiers(share(60)), { health: { a: DOWN, b: DOWN } }))).toBe("c r s");
  });

  it("stand in for whoever is out for whatever reason, and for whoever has no weight", () => {
    for (const change of [{ kind: "drain" }, { kind: "maintenance" }, { kind: "weight", weight: 0 }] as const) {
      const overrides = ["a", "b", "c"].map((name) => override(name, change));
      expect(takers(tableOf(tiers(), { overrides })), change.kind).toBe("r s");
      expect(takers(tableOf(tiers(share(40)), { overrides })), change.kind).toBe("r s");
    }
    expect(takers(tableOf(tiers(), { health: { a: LEAVING, b: LEAVING, c: LEAVING } }))).toBe("r s");
    // Little is not nothing: a slow start or an agent's word makes nobody down.
    expect(takers(tableOf(tiers(), { health: { a: { ...UP, admission: 1 }, b: DOWN, c: DOWN } }))).toBe("a");
    // Weight 0 counts for no share: two of two are up.
    expect(takers(tableOf(tiers(share(100)), { overrides: [override("a", { kind: "weight", weight: 0 })] }))).toBe("b c");
  });

  it("are alive while they are held back, and say why they get nothing", () => {
    const table = tableOf(tiers(), { health: { s: DOWN } });
    const of = (name: string): unknown => {
      const { alive, admission, stateProvenance } = [...table.destinations.values()].find(({ backend }) => backend === name)!;
      return { alive, admission, stateProvenance };
    };
    const reason = "in reserve, 3 of 3 backends before priority 10 are up";
    expect(of("r")).toEqual({ alive: true, admission: 0, stateProvenance: { source: "pool", reason } });
    expect(of("s")).toEqual({ alive: false, admission: 0, stateProvenance: { source: "health", reason: "refused", sinceMs: 5 } });
    expect(of("a")).toMatchObject({ alive: true, admission: ADMISSION_MAX, stateProvenance: { source: "config" } });
    expect(table.warnings).toEqual([]);
  });

  it("are a warning while they take flows, and part of the pool's status", () => {
    const change: Change = { health: { a: DOWN, b: DOWN, c: DOWN, s: DOWN } };
    expect(tableOf(tiers(), change).warnings)
      .toEqual(["pool web: 0 of 3 backends before priority 10 are up, and those with it take flows too"]);
    expect(poolViews({ intent: intentOf(tiers(), change) })).toEqual([{
      name: "web", backends: 6, backendsUp: 2, sorry: null, quorum: null, zone: null,
      priorities: [
        { priority: 0, backends: 3, backendsUp: 0, active: true }, { priority: 10, backends: 2, backendsUp: 1, active: true },
        { priority: 20, backends: 1, backendsUp: 1, active: false },
      ],
    }]);
  });

  it("are explained: their slots are lent while they are held back", () => {
    const sketch = tiers();
    const table = tableOf(sketch);
    const [service] = table.services;
    const told = Array.from({ length: 40 }, (_, at) => explain(
      table, configOf(sketch), service!, { address: address("192.0.2.1"), port: 1000 + at }, { address: address("203.0.113.10"), port: 80 },
    )).find(({ configuredOwner }) => configuredOwner === "web/r")!;
    expect(told.steps).toContainEqual({
      step: "eligible", detail: "web/r is in reserve, 3 of 3 backends before priority 10 are up",
    });
    expect(["web/a", "web/b", "web/c"]).toContain(told.backend);
  });
});

describe("a destination", () => {
  it("is up where it takes flows, or would if its pool needed it", () => {
    const up = (change: Change): string =>
      [...tableOf(tiers(), change).destinations.values()].filter(isUpIn).map(({ backend }) => backend).sort().join(" ");
    expect(up({})).toBe("a b c r s x");
    expect(up({ health: { a: DOWN, b: LEAVING, r: DOWN, s: LEAVING } })).toBe("c x");
    const overrides = [
      override("a", { kind: "drain" }), override("r", { kind: "drain" }), override("s", { kind: "maintenance" }), override("x", { kind: "weight", weight: 0 }),
    ];
    expect(up({ overrides })).toBe("b c");
  });
});

describe("a sorry backend", () => {
  const sorry = (service: Partial<ServiceSketch> = {}): ConfigSketch => ({
    pools: { web: ["a", "b", "s"] }, rules: { web: { sorry: "s" } }, services: [{ name: "web", ...service }],
  });
  const allDown = { health: { a: DOWN, b: DOWN } };
  const admissionOf = (table: ForwardingTable): number => [...table.destinations.values()].find(({ backend }) => backend === "s")!.admission;

  it("has no part in the ring, and all slots once nobody else may take flows", () => {
    const [well, none] = [tableOf(sorry()), tableOf(sorry(), allDown)];
    expect([takers(well), takers(tableOf(sorry(), { health: { a: DOWN } })), takers(none)]).toEqual(["a b", "b", "s"]);
    expect([admissionOf(well), admissionOf(none)]).toEqual([0, ADMISSION_MAX]);
    // The ring is what it is without one, and stays so.
    const { ring } = tableOf({ ...sorry(), pools: { web: ["a", "b"] }, rules: {} }).services[0]!;
    expect(well.services[0]!.ring.slots).toEqual(ring.slots);
    expect(none.services[0]!.ring.configured).toEqual(ring.slots);
    expect([well.warnings, none.warnings]).toEqual([[], ["service web: no backend can take flows, and web/s says sorry"]]);
  });

  it("stands in when an operator has taken out everybody else, and goes out itself by an operator's word alone", () => {
    const overrides = ["a", "b"].map((name) => override(name, { kind: "drain" }));
    expect(takers(tableOf(sorry(), { overrides }))).toBe("s");
    expect(takers(tableOf(sorry(), { overrides: [...overrides, override("s", { kind: "maintenance" })] }))).toBe("nobody");
    expect(takers(tableOf(sorry(), { overrides: [override("s", { kind: "weight", weight: 9 })] }))).toBe("a b");
  });

  it("counts in nothing, and gives way to failOpen and panicBelow, but for those that are drained", () => {
    expect(takers(tableOf(sorry({ failOpen: true }), allDown))).toBe("a b");
    expect(takers(tableOf(sorry({ panicBelow: 1 }), allDown))).toBe("a b");
    // A half of two are up, not two of three.
    expect(takers(tableOf(sorry({ panicBelow: 51 }), { health: { a: DOWN } }))).toBe("a b");
    const overrides = ["a", "b"].map((name) => override(name, { kind: "drain" }));
    expect(takers(tableOf(sorry({ failOpen: true }), { overrides }))).toBe("s");
    expect(poolViews({ intent: intentOf(sorry(), allDown) })[0]).toMatchObject({ backends: 2, backendsUp: 0, sorry: true });
    expect(poolViews({ intent: intentOf(sorry()) })[0]).toMatchObject({
      backendsUp: 2, sorry: false, priorities: [{ priority: 0, backends: 2, backendsUp: 2, active: true }],
    });
  });

  it("is on standby with the reason, but where an operator's word says more", () => {
    const saidOf = (change: Change): unknown =>
      [...tableOf(sorry(), change).destinations.values()].find(({ backend }) => backend === "s")!.stateProvenance;
    const idle = { source: "pool", reason: "not needed, others take flows" };
    expect(saidOf({})).toEqual(idle);
    const elsewhere = { ...sorry(), zone: "east", pools: { web: [{ name: "a", zone: "east" }, { name: "s", zone: "west" }] } };
    const table = tableOf({ ...elsewhere, rules: { web: { sorry: "s", spillBelow: 50 } } });
    expect([...table.destinations.values()].find(({ backend }) => backend === "s")!.stateProvenance).toEqual(idle);
    expect(saidOf({ overrides: [override("s", { kind: "drain" })] })).toMatchObject({ source: "override", actor: "ann" });
    expect(saidOf(allDown)).toEqual({ source: "config" });
  });

  it("is asked after all reserves", () => {
    const both: ConfigSketch = {
      pools: { web: ["a", { name: "r", priority: 1 }, "s"] }, rules: { web: { sorry: "s" } }, services: [{ name: "web" }],
    };
    expect(takers(tableOf(both, { health: { a: DOWN } }))).toBe("r");
    expect(takers(tableOf(both, { health: { a: DOWN, r: DOWN } }))).toBe("s");
  });

  it("is probed by nobody, and explained", () => {
    const sketch = sorry();
    expect(probeTargets(configOf({ ...sketch, probes: true }), "proxy").map(({ backend }) => backend)).toEqual(["a", "b"]);
    const table = tableOf(sketch, allDown);
    const told = explain(table, configOf(sketch), table.services[0]!,
      { address: address("192.0.2.1"), port: 1000 }, { address: address("203.0.113.10"), port: 80 });
    expect(told).toMatchObject({ backend: "web/s", verdict: "TX_FORWARDED" });
    expect(told.steps).toContainEqual({ step: "sorry", detail: "no backend can take flows, and web/s says sorry" });
  });

  it("shares its ring object from table to table, and among services", () => {
    const memo = createRingMemo();
    const intent = intentOf({ ...sorry(), services: [{ name: "web" }, { name: "more", address: "203.0.113.11", port: 80 }] }, allDown);
    const first = compile(intent, { ledger: EMPTY_LEDGER, generation: 0 }, memo);
    const second = compile(intent, first, memo);
    expect(first.services[1]!.ring).toBe(first.services[0]!.ring);
    expect(second.services[0]!.ring).toBe(first.services[0]!.ring);
    // The same backends, of which the last has weight 0 and says nothing.
    const silent = { ...sorry(), pools: { web: ["a", "b", { name: "s", weight: 0 }] }, rules: {} };
    expect(takers(compile(intentOf(silent, allDown), second, memo))).toBe("nobody");
  });
});

describe("reserves and the rules for when nearly all are out", () => {
  const all = (state: BackendHealth): Record<string, BackendHealth> =>
    Object.fromEntries(["a", "b", "c", "r", "s", "x"].map((name) => [name, state]));
  const half: Partial<PoolRules> = { reserves: { minimum: { percent: 50 } } };

  it("failOpen asks all, once reserves are out too", () => {
    expect(takers(tableOf(tiers({}, { failOpen: true }), { health: { ...all(DOWN), x: UP } }))).toBe("x");
    const open = tableOf(tiers({}, { failOpen: true }), { health: all(DOWN) });
    expect([open.services[0]!.failedOpen, takers(open)]).toEqual([true, "a b c r s x"]);
  });

  it("panics over the groups that take flows, unless the pool as a whole is well", () => {
    const panic = (health: Record<string, BackendHealth>): string =>
      takers(tableOf(tiers({}, { panicBelow: 50 }), { health }));
    // A third of those that take flows are up, but 4 of 6 of the pool.
    expect(panic({ a: DOWN, b: DOWN })).toBe("c");
    // 2 of 6 are up, but two thirds of those that take flows.
    expect(panic({ a: DOWN, r: DOWN, s: DOWN, x: DOWN })).toBe("b c");
    // Both are below: those in reserve are asked no more than before.
    expect(panic({ a: DOWN, b: DOWN, r: DOWN, s: DOWN })).toBe("a b c");
    // With reserves called at the same share, they help first.
    const called = (health: Record<string, BackendHealth>): string =>
      takers(tableOf(tiers(half, { panicBelow: 50 }), { health }));
    expect(called({ a: DOWN, b: DOWN })).toBe("c r s");
    expect(called({ ...all(DOWN), x: UP })).toBe("a b c r s x");
  });
});

describe("a minimum", () => {
  it("is a number, or a share of those that there are, and at least one", () => {
    expect([1, 2, 99].map((count) => neededOf({ count }, 3))).toEqual([1, 2, 99]);
    expect([1, 33, 34, 66, 67, 100].map((percent) => neededOf({ percent }, 3))).toEqual([1, 1, 2, 2, 3, 3]);
    expect(neededOf({ percent: 29 }, 100)).toBe(29);
    expect(neededOf({ percent: 100 }, 0)).toBe(1);
  });
});
