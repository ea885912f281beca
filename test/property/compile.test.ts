// Whatever is configured, overridden and down: a table holds together, says the same however the file is
// ordered, and follows its predecessor without moving what did not change.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compile } from "../../src/model/compile.ts";
import type { ForwardingTable, Intent } from "../../src/model/table.ts";
import { ADMISSION_MAX, EMPTY_LEDGER } from "../../src/model/table.ts";
import { createRingMemo } from "../../src/model/table_ring.ts";
import type { ConfigSketch } from "../support/configs.ts";
import { configOf } from "../support/configs.ts";
import { assertProperty } from "../support/counts.ts";

const START = { ledger: EMPTY_LEDGER, generation: 0 };
const NAMES = ["a", "b", "c", "d", "e", "f"];

const backend = (name: string): fc.Arbitrary<ConfigSketch["pools"][string][number]> => fc.record({
  name: fc.constant(name),
  address: fc.constantFrom(`10.0.0.${NAMES.indexOf(name) + 1}`, `10.0.1.${NAMES.indexOf(name) + 1}`),
  weight: fc.constantFrom(0, 1, 100, 100, 250, 65_535),
});

const pool = fc.subarray(NAMES).chain((names) => fc.tuple(...names.map(backend)));

const sketch: fc.Arbitrary<ConfigSketch> = fc.record({
  pools: fc.record({ web: pool, db: pool }),
  services: fc.subarray([
    { name: "one", address: "203.0.113.1", port: 80, pool: "web" },
    { name: "two", address: "203.0.113.2", port: 80, pool: "web", forwarding: "ipip" as const },
    { name: "three", address: "203.0.113.1", port: 443, pool: "web", failOpen: true },
    { name: "four", address: "203.0.113.1", port: 80, protocol: "udp" as const, pool: "db" },
    { name: "five", address: "203.0.113.3", port: 80, pool: "db", affinityGroup: "g", ringSize: 31 },
  ]),
});

const health = fc.array(fc.record({
  name: fc.constantFrom(...["web", "db"].flatMap((p) => NAMES.map((n) => `${p}/${n}`))),
  alive: fc.boolean(),
  admission: fc.constantFrom(0, 1, 20_000, ADMISSION_MAX),
}), { maxLength: 8 });

const overrides = fc.array(fc.record({
  target: fc.constantFrom("web/a", "web/b", "web/c", "db/a", "db/b", "gone/x"),
  change: fc.oneof(
    fc.constant({ kind: "drain" as const }),
    fc.record({ kind: fc.constant("weight" as const), weight: fc.constantFrom(0, 7, 500) }),
  ),
  actor: fc.constant("ann"), reason: fc.constant(null), atMs: fc.integer({ min: 0, max: 9 }),
  expiresAtMs: fc.constantFrom(null, 50, 150),
}), { maxLength: 4 });

const intent: fc.Arbitrary<Intent> = fc.record({ sketch, health, overrides }).map((drawn) => ({
  config: configOf(drawn.sketch),
  hashSeed: 1n,
  overrides: drawn.overrides,
  health: new Map(drawn.health.map(({ name, alive, admission }) =>
    [name, { alive, known: true, admission: alive ? admission : 0, reason: "drawn", sinceMs: 1 }])),
  nowMs: 100,
}));

function checkWhole(table: ForwardingTable): void {
  for (const [id, destination] of table.destinations) {
    expect(destination.id).toBe(id);
    expect(table.ledger.destinations.get(destination.identity)).toEqual({
      id, generation: destination.generation, live: true,
    });
  }
  const live = [...table.ledger.destinations.values()].filter((each) => each.live).length;
  expect(live).toBe(table.destinations.size);
  for (const { ring, destinations, failedOpen } of table.services) {
    const own = new Set(destinations);
    expect(own.size).toBe(destinations.length);
    for (const id of new Set([...ring.slots, ...ring.configured])) expect(id === 0 || own.has(id)).toBe(true);
    for (const id of new Set(ring.configured)) expect(id === 0 || table.destinations.get(id)!.weight > 0).toBe(true);
    const takers = new Set(ring.slots);
    for (const id of takers) {
      const taker = table.destinations.get(id);
      if (taker !== undefined && !failedOpen) expect(taker.alive && taker.admission > 0).toBe(true);
    }
    const anybody = destinations.some((id) => {
      const { alive, admission, weight } = table.destinations.get(id)!;
      return alive && admission > 0 && weight > 0;
    });
    // Nobody has a slot, or nobody lacks one.
    expect(takers.has(0)).toBe(!anybody && !failedOpen);
  }
}

describe("compile", () => {
  it("makes tables that hold together", () => {
    assertProperty("table", fc.property(intent, (drawn) => { checkWhole(compile(drawn, START)); }));
  });

  it("does not care for the order of the file", () => {
    assertProperty("table", fc.property(intent, (drawn) => {
      const { config } = drawn;
      const turned = {
        ...config, pools: config.pools.map((each) => ({ ...each, backends: each.backends.toReversed() })).toReversed(),
      };
      const namesOf = (table: ForwardingTable): string[] => table.services.map(({ ring }) =>
        [...ring.slots].map((id) => table.destinations.get(id)?.name ?? "-").join());
      expect(namesOf(compile({ ...drawn, config: turned }, START))).toEqual(namesOf(compile(drawn, START)));
    }));
  });

  it("keeps ids and indexes from table to table, with a memo as without", () => {
    assertProperty("table", fc.property(fc.array(intent, { minLength: 2, maxLength: 5 }), (drawn) => {
      const memo = createRingMemo();
      const numbers = new Map<bigint, string>();
      let previous: { ledger: ForwardingTable["ledger"]; generation: number } = START;
      for (const each of drawn) {
        const table = compile(each, previous, memo);
        expect(table).toEqual(compile(each, previous));
        checkWhole(table);
        for (const { identity, id, generation } of table.destinations.values()) {
          const number = `${id}.${generation}`;
          expect(numbers.get(identity) ?? number).toBe(number);
          numbers.set(identity, number);
        }
        previous = table;
      }
      expect(new Set(numbers.values()).size).toBe(numbers.size);
    }));
  });

  it("moves no foreign slot when one backend's state changes", () => {
    const changed = fc.constantFrom("web/a", "web/b", "web/c", "db/a", "db/b");
    assertProperty("table", fc.property(intent, changed, (drawn, name) => {
      const before = compile(drawn, START);
      const flipped = new Map(drawn.health);
      const alive = !(flipped.get(name)?.alive ?? true);
      flipped.set(name, { alive, known: true, admission: alive ? ADMISSION_MAX : 0, reason: "", sinceMs: 2 });
      const after = compile({ ...drawn, health: flipped }, before);
      before.services.forEach((service, index) => {
        const { ring, failedOpen } = after.services[index]!;
        if (service.failedOpen !== failedOpen) return;
        const nameOf = (id: number): string => before.destinations.get(id)?.name ?? "nobody";
        for (const [slot, id] of service.ring.slots.entries()) {
          const to = ring.slots[slot]!;
          if (id !== to && id !== 0 && to !== 0) expect([nameOf(id), nameOf(to)]).toContain(name);
        }
      });
    }));
  });
});
