// compile: ids, indexes, effective weights and states, warnings, sharing. Lending and the ring itself
// have tests of their own.

import { describe, expect, it } from "vitest";
import { compile, destinationIdentity } from "../../src/model/compile.ts";
import { LedgerFull } from "../../src/model/ledger.ts";
import type { BackendHealth, ForwardingTable, Intent, Override } from "../../src/model/table.ts";
import { ADMISSION_MAX, EMPTY_LEDGER } from "../../src/model/table.ts";
import { createRingMemo } from "../../src/model/table_ring.ts";
import { address, configOf } from "../support/configs.ts";
import type { ConfigSketch } from "../support/configs.ts";

const START = { ledger: EMPTY_LEDGER, generation: 0 };
const WEB: ConfigSketch = { pools: { web: ["a", "b", "c"] }, services: [{ name: "web" }] };

function intentOf(sketch: ConfigSketch, changes: Partial<Intent> = {}): Intent {
  return {
    config: configOf(sketch), hashSeed: 7n, overrides: [], health: new Map(), nowMs: 1000, ...changes,
  };
}

function tableOf(sketch: ConfigSketch, changes: Partial<Intent> = {}, previous = START): ForwardingTable {
  return compile(intentOf(sketch, changes), previous);
}

function byName(table: ForwardingTable): Record<string, ForwardingTable["destinations"] extends ReadonlyMap<number, infer D> ? D : never> {
  return Object.fromEntries([...table.destinations.values()].map((each) => [each.name, each]));
}

function slotsOf(table: ForwardingTable, service: number): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const id of table.services[service]!.ring.slots) {
    const name = table.destinations.get(id)?.name ?? "nobody";
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

const DOWN: BackendHealth = { alive: false, known: true, admission: 0, reason: "refused", sinceMs: 5 };
const UP: BackendHealth = { alive: true, known: true, admission: ADMISSION_MAX, reason: "status 200", sinceMs: 5 };

function override(target: string, change: Override["change"], more: Partial<Override> = {}): Override {
  return { target, change, actor: "ann", reason: null, atMs: 1, expiresAtMs: null, ...more };
}

describe("ids", () => {
  it("are the lowest never used, and stay while the destination exists", () => {
    const first = tableOf(WEB);
    expect([...first.destinations.keys()]).toEqual([1, 2, 3]);
    const more = { ...WEB, pools: { web: ["a", { name: "x", address: "10.0.9.9" }, "c"] } };
    const second = tableOf(more, {}, first);
    expect(byName(second)["web/a"]?.id).toBe(byName(first)["web/a"]?.id);
    expect(byName(second)["web/c"]?.id).toBe(byName(first)["web/c"]?.id);
    expect(byName(second)["web/x"]?.id).toBe(4);
    expect(second.generation).toBe(2);
    const gone = second.ledger.destinations.get(byName(first)["web/b"]!.identity);
    expect(gone).toEqual({ id: byName(first)["web/b"]!.id, generation: 1, live: false });
  });

  it("come back to their owner, with the same generation", () => {
    const first = tableOf(WEB);
    const without = tableOf({ ...WEB, pools: { web: ["a"] } }, {}, first);
    const again = tableOf(WEB, {}, without);
    expect([...again.destinations.values()].map(({ name, id, generation }) => [name, id, generation]))
      .toEqual([...first.destinations.values()].map(({ name, id, generation }) => [name, id, generation]));
  });

  it("are reused, the longest given up first, only when none is left, under another generation", () => {
    const limits = { backends: 3 };
    const one = (...names: string[]): ConfigSketch => ({
      limits, pools: { web: names.map((name) => ({ name, address: `10.1.0.${name.charCodeAt(0)}` })) },
      services: [{ name: "web" }],
    });
    const steps = [
      one("a", "b"), one("b"), one("b", "c"), one("c"), one("c", "d"), one("d", "e"), one("e", "f"), one("f", "g"), one("g", "h"),
    ];
    let previous: { ledger: ForwardingTable["ledger"]; generation: number } = START;
    const seen: string[] = [];
    for (const step of steps) {
      const table = compile(intentOf(step), previous);
      previous = table;
      seen.push([...table.destinations.values()].map((d) => `${d.backend}${d.id}.${d.generation}`).join(" "));
    }
    // Twice as many as there may be destinations; then g takes 1 (given up before 2), and h takes 2.
    expect(seen).toEqual([
      "a1.1 b2.1", "b2.1", "b2.1 c3.1", "c3.1", "c3.1 d4.1", "d4.1 e5.1", "e5.1 f6.1", "g1.2 f6.1", "g1.2 h2.2",
    ]);
  });

  it("change hands in no table, also when all destinations are others", () => {
    const limits = { backends: 2 };
    const of = (...lasts: number[]): ConfigSketch => ({
      limits, pools: { web: lasts.map((last) => ({ name: `b${last}`, address: `10.1.0.${last}` })) }, services: [{ name: "web" }],
    });
    let previous: { ledger: ForwardingTable["ledger"]; generation: number } = START;
    let before: number[] = [];
    for (const step of [of(1, 2), of(3, 4), of(5, 6), of(1, 2), of(2, 3)]) {
      const table = compile(intentOf(step), previous);
      const taken = [...table.destinations.values()].filter(({ identity }) => previous.ledger.destinations.get(identity)?.live !== true);
      expect(taken.map(({ id }) => id).filter((id) => before.includes(id))).toEqual([]);
      [previous, before] = [table, [...table.destinations.keys()]];
    }
  });

  it("that run out are a failure that names the limit", () => {
    const sketch = { ...WEB, limits: { backends: 2 } };
    expect(() => tableOf(sketch)).toThrow(LedgerFull);
    expect(() => tableOf(sketch)).toThrow("3 destinations are configured, and there is room for 2");
    expect(() => tableOf({ ...WEB, limits: { services: 0 } })).toThrow("1 services");
  });

  it("belong to name, endpoint and way of forwarding", () => {
    const base = tableOf(WEB);
    const same = tableOf({ ...WEB, services: [{ name: "renamed" }] }, {}, base);
    expect([...same.destinations.keys()]).toEqual([1, 2, 3]);
    expect(same.services[0]?.index).toBe(base.services[0]?.index);
    for (const service of [
      { name: "web", port: 81 }, { name: "web", forwarding: "ipip" as const }, { name: "web", forwarding: "gue" as const },
    ]) {
      expect([...tableOf({ ...WEB, services: [service] }, {}, base).destinations.keys()]).toEqual([4, 5, 6]);
    }
    const gue = tableOf({ ...WEB, services: [{ name: "web", forwarding: "gue" }] }, {}, base);
    for (const changed of [{ port: 6081 }, { variant: 1 as const }]) {
      const table = tableOf({ ...WEB, services: [{ name: "web", forwarding: "gue", gue: changed }] }, {}, gue);
      expect([...table.destinations.keys()]).toEqual([7, 8, 9]);
      expect(table.destinations.get(7)?.gue).toEqual({ port: 6080, variant: 0, ...changed });
    }
    expect(base.destinations.get(1)?.gue).toBeNull();
    expect(base.destinations.get(1)?.identity)
      .toBe(destinationIdentity("web/a", address("10.0.0.1"), 80, "l2"));
  });

  it("are shared by services that use the same destination", () => {
    const table = tableOf({ ...WEB, services: [
      { name: "one", address: "203.0.113.1", port: 80 }, { name: "two", address: "203.0.113.2", port: 80 },
    ] });
    expect(table.destinations.size).toBe(3);
    expect(table.services.map((each) => each.index)).toEqual([0, 1]);
    expect(table.services[0]!.ring).toBe(table.services[1]!.ring);
  });
});

describe("weights and states", () => {
  it("keep their provenance: config, then override", () => {
    const table = tableOf(WEB, { overrides: [override("web/a", { kind: "weight", weight: 300 })] });
    const { "web/a": a, "web/b": b } = byName(table);
    expect([a?.weight, a?.weightProvenance.source]).toEqual([300, "override"]);
    expect([b?.weight, b?.weightProvenance.source]).toEqual([100, "config"]);
    expect(slotsOf(table, 0)["web/a"]).toBe(151); // 3/5 of 251
  });

  it("an override of weight counts as configured: the ring is that of a config with this weight", () => {
    const overridden = tableOf(WEB, { overrides: [override("web/a", { kind: "weight", weight: 300 })] });
    const configured = tableOf({ ...WEB, pools: { web: [{ name: "a", weight: 300 }, "b", "c"] } });
    expect(overridden.services[0]!.ring.key).toBe(configured.services[0]!.ring.key);
    expect(overridden.services[0]!.ring.configured).toEqual(configured.services[0]!.ring.configured);
  });

  it("expired overrides have no say, from their last millisecond on; the later of two has", () => {
    const expiring = override("web/a", { kind: "drain" }, { expiresAtMs: 1000 });
    expect(byName(tableOf(WEB, { overrides: [expiring], nowMs: 999 }))["web/a"]?.admission).toBe(0);
    expect(byName(tableOf(WEB, { overrides: [expiring], nowMs: 1000 }))["web/a"]?.admission).toBe(ADMISSION_MAX);
    const two = [
      override("web/a", { kind: "weight", weight: 2 }, { atMs: 9 }), override("web/a", { kind: "weight", weight: 3 }, { atMs: 8 }),
    ];
    expect(byName(tableOf(WEB, { overrides: two }))["web/a"]?.weight).toBe(2);
    expect(byName(tableOf(WEB, { overrides: two.toReversed() }))["web/a"]?.weight).toBe(2);
  });

  it("a drained backend is alive with admission 0 and lends every slot; the ring stays as configured", () => {
    const plain = tableOf(WEB);
    const table = tableOf(WEB, { overrides: [override("web/b", { kind: "drain" })] });
    expect(byName(table)["web/b"]).toMatchObject({ alive: true, admission: 0 });
    expect(byName(table)["web/b"]?.stateProvenance.source).toBe("override");
    expect(slotsOf(table, 0)["web/b"]).toBeUndefined();
    expect(table.services[0]!.ring.configured).toEqual(plain.services[0]!.ring.configured);
    expect(table.services[0]!.ring.slots).not.toEqual(plain.services[0]!.ring.slots);
  });

  it("a backend that is down and drained is down, for the reason that the probes give", () => {
    const table = tableOf(WEB, {
      overrides: [override("web/b", { kind: "drain" })], health: new Map([["web/b", DOWN], ["web/a", UP]]),
    });
    expect(byName(table)["web/b"]).toMatchObject({
      alive: false, admission: 0, stateProvenance: { source: "health", reason: "refused" },
    });
    expect(byName(table)["web/a"]?.stateProvenance.source).toBe("health");
    expect(byName(table)["web/c"]?.stateProvenance.source).toBe("config");
  });

  it("moves only slots of the backend that changes", () => {
    const before = tableOf(WEB).services[0]!.ring;
    const table = tableOf(WEB, { health: new Map([["web/a", DOWN]]) });
    const after = table.services[0]!.ring;
    const a = byName(table)["web/a"]!.id;
    const foreign = before.slots.filter((id, slot) => id !== a && after.slots[slot] !== id);
    expect(foreign).toHaveLength(0);
    expect([...after.slots]).not.toContain(a);
  });
});

describe("when everybody is out", () => {
  const allDown = new Map(["web/a", "web/b", "web/c"].map((name) => [name, DOWN]));

  it("fails closed: nobody has a slot, and a warning says so", () => {
    const table = tableOf(WEB, { health: allDown });
    expect(slotsOf(table, 0)).toEqual({ nobody: 251 });
    expect(table.services[0]?.failedOpen).toBe(false);
    expect(table.warnings).toEqual(["service web: no backend can take flows"]);
  });

  it("fails open where that was asked for, with the ring as configured", () => {
    const table = tableOf({ ...WEB, services: [{ name: "web", failOpen: true }] }, { health: allDown });
    const { ring, failedOpen } = table.services[0]!;
    expect(failedOpen).toBe(true);
    expect(ring.slots).toEqual(ring.configured);
    expect(byName(table)["web/a"]?.alive).toBe(false);
    expect(table.warnings[0]).toContain("failOpen");
  });

  it("one that can take flows is enough, and drains hold even then", () => {
    const open = { ...WEB, services: [{ name: "web", failOpen: true }] };
    const one = new Map([...allDown, ["web/c", UP] as const]);
    expect(tableOf(open, { health: one }).services[0]?.failedOpen).toBe(false);
    const drained = tableOf(open, { health: allDown, overrides: [override("web/a", { kind: "drain" })] });
    expect(drained.services[0]?.failedOpen).toBe(true);
    expect(Object.keys(slotsOf(drained, 0)).sort()).toEqual(["web/b", "web/c"]);
    const overrides = ["web/a", "web/b", "web/c"].map((name) => override(name, { kind: "drain" }));
    expect(tableOf(open, { overrides }).services[0]?.failedOpen).toBe(false);
  });

  it("panics below the share that was asked for, and not at it; who is drained does not count", () => {
    const panicky = (panicBelow: number): ConfigSketch => ({ ...WEB, services: [{ name: "web", panicBelow }] });
    const one = new Map([...allDown, ["web/c", UP] as const]);
    const isOpen = (panicBelow: number, with_: Parameters<typeof tableOf>[1]): boolean | undefined =>
      tableOf(panicky(panicBelow), with_).services[0]?.failedOpen;
    expect([isOpen(33, { health: one }), isOpen(34, { health: one })]).toEqual([false, true]);
    expect([isOpen(0, { health: allDown }), isOpen(1, { health: allDown })]).toEqual([false, true]);
    const table = tableOf(panicky(50), { health: one });
    expect(table.services[0]!.ring.slots).toEqual(table.services[0]!.ring.configured);
    expect(table.warnings).toEqual(["service web: 1 of 3 backends are up, fewer than 50% (panicBelow): all of them get flows"]);
    // One of two is half of them.
    const overrides = [override("web/a", { kind: "drain" })];
    expect(isOpen(50, { health: one, overrides })).toBe(false);
    expect(Object.keys(slotsOf(tableOf(panicky(51), { health: one, overrides }), 0)).sort()).toEqual(["web/b", "web/c"]);
    // There is nobody else to ask.
    const others = ["web/a", "web/b"].map((name) => override(name, { kind: "drain" }));
    expect(isOpen(100, { health: one, overrides: others })).toBe(false);
  });
});

describe("ring keys", () => {
  it("are endpoints by default: the name and the order in the file do not matter", () => {
    const ring = (backends: ConfigSketch["pools"][string]): number[] => {
      const table = tableOf({ ...WEB, pools: { web: backends } });
      return [...table.services[0]!.ring.slots].map((id) => table.destinations.get(id)!.address.bytes[15]!);
    };
    const a = { name: "a", address: "10.0.0.1" };
    const b = { name: "b", address: "10.0.0.2" };
    expect(ring([b, a])).toEqual(ring([a, b]));
    expect(ring([{ ...a, name: "z" }, b])).toEqual(ring([a, b]));
    expect(ring([{ ...a, port: 8080 }, b])).not.toEqual(ring([a, b]));
  });

  it("a hashKey lets a new host inherit its predecessor's slots", () => {
    const old = tableOf({ ...WEB, pools: { web: [{ name: "a", hashKey: "k1" }, { name: "b", hashKey: "k2" }] } });
    const fresh = tableOf({ ...WEB, pools: { web: [
      { name: "new", address: "10.7.7.7", hashKey: "k1" }, { name: "b", address: "10.0.0.2", hashKey: "k2" },
    ] } });
    const held = (table: ForwardingTable, name: string): number[] => [...table.services[0]!.ring.slots]
      .flatMap((id, slot) => (table.destinations.get(id)?.backend === name ? [slot] : []));
    expect(held(fresh, "new")).toEqual(held(old, "a"));
  });

  it("services of one affinity group choose the same host on every port", () => {
    const table = tableOf({ ...WEB, services: [
      { name: "http", port: 80, affinityGroup: "g" }, { name: "https", port: 443, affinityGroup: "g" },
      { name: "alone", port: 444 },
    ] });
    const hosts = table.services.map(({ ring }) =>
      [...ring.slots].map((id) => table.destinations.get(id)!.name).join());
    expect(hosts[1]).toBe(hosts[0]);
    expect(hosts[2]).not.toBe(hosts[0]);
  });

  it("that are there twice are told apart by name, with a warning, alike in any order", () => {
    const twins = [{ name: "a", hashKey: "k" }, { name: "b", hashKey: "k" }];
    const [one, two] = [twins, twins.toReversed()].map((web) => tableOf({ ...WEB, pools: { web } }));
    expect(one!.warnings[0]).toContain("web/b has the ring key k of web/a");
    expect(slotsOf(one!, 0)).toEqual(slotsOf(two!, 0));
    expect(Object.keys(slotsOf(one!, 0))).toHaveLength(2);
  });
});

describe("warnings and the memo", () => {
  it("names a positive weight without a slot, and not one of zero", () => {
    const table = tableOf({
      pools: { web: [{ name: "big", weight: 60_000 }, { name: "small", weight: 1 }, { name: "zero", weight: 0 }] },
      services: [{ name: "web", ringSize: 7 }],
    });
    expect(table.warnings).toEqual([
      "service web: backend web/small (weight 1) gets no slot of 7; raise ringSize or its weight",
    ]);
    expect(table.services[0]?.destinations).toHaveLength(3);
  });

  it("changes nothing but the work: the same tables with and without it", () => {
    const memo = createRingMemo();
    const healths = [new Map(), new Map([["web/a", DOWN]]), new Map([["web/b", DOWN]]), new Map()];
    let previous: { ledger: ForwardingTable["ledger"]; generation: number } = START;
    const rings = new Set<object>();
    for (const health of healths) {
      const intent = intentOf(WEB, { health });
      const table = compile(intent, previous, memo);
      expect(table).toEqual(compile(intent, previous));
      rings.add(table.services[0]!.ring);
      previous = table;
    }
    expect(rings.size).toBe(4); // the first was forgotten after two tables that did not ask for it
  });

  it("keeps the ring object of services that a change does not concern", () => {
    const memo = createRingMemo();
    const sketch: ConfigSketch = {
      pools: { web: ["a", "b"], db: [{ name: "x", address: "10.2.0.1" }, { name: "y", address: "10.2.0.2" }] },
      services: [{ name: "web" }, { name: "db", pool: "db" }],
    };
    const before = compile(intentOf(sketch), START, memo);
    const after = compile(intentOf(sketch, { health: new Map([["web/a", DOWN]]) }), before, memo);
    expect(after.services[1]!.ring).toBe(before.services[1]!.ring);
    expect(after.services[0]!.ring.configured).toEqual(before.services[0]!.ring.configured);
  });
});
