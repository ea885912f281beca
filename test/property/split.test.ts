// The split's definition, checked on random parts: borders that move are all that moves, and lending between
// parts touches only the slots of the part that is out.

import fc from "fast-check";
import { expect, test } from "vitest";
import { NO_BACKEND } from "../../src/model/ring.ts";
import { assignSlots, SPLIT_WHOLE, splitSlots } from "../../src/model/split.ts";
import { assertProperty } from "../support/counts.ts";

const SIZES = [7, 251, 4099];

/** Hundredths of a percent that add up. */
function shares(count: number): fc.Arbitrary<number[]> {
  return fc.array(fc.integer({ min: 0, max: SPLIT_WHOLE }), { minLength: count - 1, maxLength: count - 1 }).map((cuts) => {
    const borders = [0, ...cuts.sort((a, b) => a - b), SPLIT_WHOLE];
    return borders.slice(1).map((border, index) => border - borders[index]!);
  });
}

const pairs = fc.integer({ min: 1, max: 16 }).chain((count) =>
  fc.tuple(shares(count), shares(count), fc.constantFrom(...SIZES), fc.array(fc.boolean(), { minLength: count, maxLength: count })));

function bordersOf(hundredths: readonly number[], size: number): number[] {
  let sum = 0;
  return hundredths.map((each) => Math.round(((sum += each) * size) / SPLIT_WHOLE));
}

function slots(hundredths: readonly number[], size: number): Uint16Array {
  return splitSlots(hundredths.map((each) => ({ hundredths: each })), size);
}

test("parts have their quotas, and a change moves what its borders sweep over and nothing else", () => {
  assertProperty("split", fc.property(pairs, ([from, to, size]) => {
    const [before, after] = [slots(from, size), slots(to, size)];
    for (const [index, each] of from.entries()) {
      const quota = before.reduce((sum, part) => sum + (part === index ? 1 : 0), 0);
      expect(Math.abs(quota - (each * size) / SPLIT_WHOLE)).toBeLessThanOrEqual(1);
    }
    const [old, now] = [bordersOf(from, size), bordersOf(to, size)];
    // Positions of the line whose part is another one, counted border by border.
    const partAt = (borders: readonly number[], at: number): number => borders.findIndex((border) => at < border);
    const swept = Array.from({ length: size }, (_, at) => at).filter((at) => partAt(old, at) !== partAt(now, at)).length;
    expect(before.filter((part, slot) => part !== after[slot])).toHaveLength(swept);
  }));
});

test("of two parts exactly the difference moves", () => {
  assertProperty("split", fc.property(shares(2), shares(2), fc.constantFrom(...SIZES), (from, to, size) => {
    const [before, after] = [slots(from, size), slots(to, size)];
    const gained = after.reduce((sum, part) => sum + part, 0) - before.reduce((sum, part) => sum + part, 0);
    const moved = before.filter((part, slot) => part !== after[slot]);
    expect(moved).toHaveLength(Math.abs(gained));
  }));
});

test("parts that are out give their own slots to those that are up and are to have some", () => {
  assertProperty("split", fc.property(pairs, ([hundredths, , size, up]) => {
    const configured = slots(hundredths, size);
    const parts = hundredths.map((each, index) => ({ name: `p${index}`, hundredths: each, takesFlows: up[index]! }));
    const assigned = assignSlots(configured, parts);
    const takers = parts.flatMap(({ hundredths: each, takesFlows }, index) => (each > 0 && takesFlows ? [index] : []));
    const wrong = configured.filter((own, slot) => {
      const now = assigned[slot]!;
      if (takers.length === 0) return now !== NO_BACKEND;
      return takers.includes(own) ? now !== own : !takers.includes(now);
    });
    expect(wrong).toHaveLength(0);
    // One more that fails moves nobody else's slots.
    const [failing] = takers;
    if (failing === undefined) return;
    const after = assignSlots(configured, parts.map((part, index) => (index === failing ? { ...part, takesFlows: false } : part)));
    expect(assigned.filter((now, slot) => now !== failing && after[slot] !== now)).toHaveLength(0);
  }));
});
