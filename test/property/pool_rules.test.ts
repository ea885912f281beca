// The rules of a pool for any backends and any health: who takes flows is as the definition says, written out here
// a second time, and slots move only to and from those whose admission has changed.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compile } from "../../src/model/compile.ts";
import type { Minimum } from "../../src/model/config.ts";
import type { ForwardingTable, Intent } from "../../src/model/table.ts";
import { ADMISSION_MAX, EMPTY_LEDGER } from "../../src/model/table.ts";
import { configOf } from "../support/configs.ts";
import type { BackendSketch, PoolRules } from "../support/configs.ts";
import { assertProperty } from "../support/counts.ts";

interface State { readonly alive: boolean; readonly admission: number; readonly isDrained: boolean }
interface World {
  readonly backends: readonly (BackendSketch & { readonly weight: number; readonly priority: number })[];
  readonly rules: Partial<PoolRules>;
}

const minimum: fc.Arbitrary<Minimum> = fc.oneof(
  fc.record({ count: fc.integer({ min: 1, max: 6 }) }), fc.record({ percent: fc.integer({ min: 1, max: 100 }) }),
);
const world: fc.Arbitrary<World> = fc.record({
  backends: fc.array(fc.record({
    weight: fc.constantFrom(0, 1, 50, 100, 100), priority: fc.constantFrom(0, 0, 1, 7), zone: fc.constantFrom("east", "west", "north"),
  }), { minLength: 1, maxLength: 9 })
    .map((drawn) => drawn.map((each, at) => ({ ...each, name: `b${at}` }))),
  rules: fc.record({ reserves: fc.record({ minimum }), sorry: fc.constantFrom(null, null, "b0", "b2"), spillBelow: fc.constantFrom(null, 1, 50, 70, 100) }),
});
const states = fc.array(fc.record({
  alive: fc.boolean(), admission: fc.constantFrom(0, 1000, 40_000, ADMISSION_MAX, ADMISSION_MAX), isDrained: fc.constantFrom(false, false, false, true),
}), { minLength: 9, maxLength: 9 });

function tableOf({ backends, rules }: World, health: readonly State[]): ForwardingTable {
  const intent: Intent = {
    config: configOf({ zone: "east", pools: { web: backends }, rules: { web: rules }, services: [{ name: "web", ringSize: 1009 }] }),
    hashSeed: 7n, nowMs: 1000,
    overrides: backends.flatMap(({ name }, at) => health[at]!.isDrained
      ? [{ target: `web/${name}`, change: { kind: "drain" as const }, actor: "ann", reason: null, atMs: 1, expiresAtMs: null }] : []),
    health: new Map(backends.map(({ name }, at) => {
      const { alive, admission } = health[at]!;
      return [`web/${name}`, { alive, known: true, admission: alive ? admission : 0, reason: "drawn", sinceMs: 1 }];
    })),
  };
  return compile(intent, { ledger: EMPTY_LEDGER, generation: 0 });
}

function admissions(table: ForwardingTable): Record<string, number> {
  return Object.fromEntries([...table.destinations.values()].map(({ backend, admission }) => [backend, admission]));
}

/** As docs/pools.md has it. */
function asDefined({ backends, rules }: World, health: readonly State[]): Record<string, number> {
  const own = (at: number): number => health[at]!.alive && !health[at]!.isDrained ? health[at]!.admission : 0;
  const { reserves, sorry, spillBelow } = rules as PoolRules;
  const counts = ({ name, weight }: World["backends"][number]): boolean => name !== sorry && weight > 0;
  const suffices = (priority: number): boolean => {
    const group = backends.flatMap((each, at) => (each.priority <= priority && counts(each) ? [own(at) > 0] : []));
    const up = group.filter(Boolean).length;
    return "count" in reserves.minimum ? up >= reserves.minimum.count
      : up >= 1 && up * 100 >= reserves.minimum.percent * group.length;
  };
  const asked = backends.map(({ name, priority }, at) => {
    const isHeld = name !== sorry && backends.some((other) =>
      other.name !== sorry && other.priority < priority && suffices(other.priority));
    return isHeld ? null : own(at);
  });
  const weigh = (isHere: boolean, admissionOf: (at: number) => number): number => backends.reduce((sum, each, at) =>
    sum + (counts(each) && asked[at] !== null && (each.zone === "east") === isHere ? each.weight * admissionOf(at) : 0), 0);
  const [full, here, elsewhere] = [weigh(true, () => ADMISSION_MAX), weigh(true, own), weigh(false, own)];
  const lack = Math.max(0, full * (spillBelow ?? 0) / 100 - here);
  const isWell = spillBelow !== null && full > 0 && lack === 0;
  const isAlone = spillBelow === null || full === 0 || here === 0 || elsewhere === 0;
  const part = isWell ? 0 : isAlone ? 1 : Math.min(1, lack / elsewhere);
  const admitted = asked.map((admission, at) => {
    const { name, zone } = backends[at]!;
    if (admission === null || name === sorry || zone === "east" || part === 1) return admission ?? 0;
    const counted = counts(backends[at]!) && admission > 0 ? Math.max(1, Math.floor(admission * part)) : admission;
    return part === 0 ? 0 : counted;
  });
  const isServed = backends.some((each, at) => counts(each) && admitted[at]! > 0);
  return Object.fromEntries(backends.map(({ name }, at) => [name, name === sorry && isServed ? 0 : admitted[at]!]));
}

describe("the rules of a pool", () => {
  it("admit whom the definition admits", () => {
    assertProperty("pool-rules", fc.property(world, states, (drawn, health) => {
      const table = tableOf(drawn, health);
      const admitted = asDefined(drawn, health);
      expect(admissions(table)).toEqual(admitted);
      const takers = new Set([...table.services[0]!.ring.slots].map((id) => table.destinations.get(id)?.backend ?? "nobody"));
      for (const taker of takers) expect(taker === "nobody" || admitted[taker]! > 0).toBe(true);
      const { sorry } = drawn.rules as PoolRules;
      if (sorry !== null && (admitted[sorry] ?? 0) > 0) expect([...takers]).toEqual([sorry]);
    }));
  });

  it("move slots only to and from those whose admission changes", () => {
    assertProperty("pool-rules", fc.property(world, states, states, fc.nat(8), (drawn, health, others, which) => {
      const at = which % drawn.backends.length;
      const before = tableOf(drawn, health);
      const after = tableOf(drawn, health.with(at, others[at]!));
      const [from, to] = [admissions(before), admissions(after)];
      const nameOf = (id: number): string => before.destinations.get(id)?.backend ?? "nobody";
      const { slots } = after.services[0]!.ring;
      for (const [slot, id] of before.services[0]!.ring.slots.entries()) {
        if (id === slots[slot] || id === 0 || slots[slot] === 0) continue;
        const [lost, won] = [nameOf(id), nameOf(slots[slot]!)];
        expect(to[lost]! < from[lost]! || to[won]! > from[won]!, `slot ${slot} from ${lost} to ${won}`).toBe(true);
      }
    }));
  });
});
