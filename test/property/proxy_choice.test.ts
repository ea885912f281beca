// The next choice: where a refused connection goes is where lending will send its successors.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { nextChoice } from "../../src/model/choice.ts";
import type { Config } from "../../src/model/config.ts";
import type { Destination, ForwardingTable, Service } from "../../src/model/table.ts";
import { assertProperty } from "../support/counts.ts";
import { config, service, TableMaker } from "../support/proxy_world.ts";

function pool(weights: readonly number[], failOpen = false): Config {
  const backends = Object.fromEntries(weights.map((weight, index) =>
    [`b${index}`, { address: `10.0.0.${index + 1}`, port: 80, weight }]));
  return config([service({ ringSize: 251, failOpen })], { web: backends });
}

function only(table: ForwardingTable): Service {
  const [first] = table.services;
  if (first === undefined) throw new Error("no service");
  return first;
}

function ownerOf(table: ForwardingTable, slot: number): Destination | undefined {
  return table.destinations.get(only(table).ring.slots[slot] ?? 0);
}

function next(table: ForwardingTable, slot: number, tried: readonly Destination[]): Destination | null {
  return nextChoice(table, only(table), slot, new Set(tried.map(({ id }) => id)));
}

const weights = fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 8 });
const slots = fc.integer({ min: 0, max: 250 });

describe("nextChoice", () => {
  it("is what the ring will say when those tried are down", () => {
    // Equal weights: so many draws that find nobody are too rare to meet, and lending's last resort
    // with them.
    const cases = fc.record({ count: fc.integer({ min: 1, max: 8 }), slot: slots });
    assertProperty("proxy", fc.property(cases, ({ count, slot }) => {
      const wanted = pool(Array<number>(count).fill(1));
      const table = new TableMaker().make(wanted);
      const tried: Destination[] = [];
      for (let current = ownerOf(table, slot) ?? null; current !== null; current = next(table, slot, tried)) {
        const expected = ownerOf(new TableMaker().make(wanted, tried.map(({ name }) => name)), slot);
        expect(current.name).toBe(expected?.name);
        tried.push(current);
      }
      expect(tried).toHaveLength(count);
    }));
  });

  it("never repeats itself, never names who may not take a flow, and ends", () => {
    const cases = fc.record({ weights, slot: slots, out: fc.array(fc.nat(7)), half: fc.array(fc.nat(7)), failOpen: fc.boolean() });
    assertProperty("proxy", fc.property(cases, ({ weights: given, slot, out, half, failOpen }) => {
      const down = out.filter((index) => index < given.length).map((index) => `web/b${index}`);
      const ramping = Object.fromEntries(half.map((index) => [`web/b${index}`, 30_000]));
      const table = new TableMaker().make(pool(given, failOpen), down, ramping);
      const tried: Destination[] = [];
      for (let current = ownerOf(table, slot) ?? null; current !== null; current = next(table, slot, tried)) {
        expect(tried).not.toContain(current);
        expect(current.weight).toBeGreaterThan(0);
        if (!only(table).failedOpen) expect(current.alive).toBe(true);
        tried.push(current);
      }
      const able = [...table.destinations.values()].filter((each) =>
        [...only(table).ring.slots].includes(each.id));
      if (tried.length > 0) expect(new Set(tried)).toEqual(new Set(able));
    }));
  });
});
