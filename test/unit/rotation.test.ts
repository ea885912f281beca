// Smooth weighted round robin, from its published sequence and its definition.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NO_BACKEND } from "../../src/model/ring.ts";
import { rotationOf } from "../../src/model/rotation.ts";
import { assertProperty } from "../support/counts.ts";

function letters(slots: Uint16Array, count: number): string {
  return Array.from(slots.subarray(0, count), (index) => "abcdefgh"[index] ?? "-").join("");
}

describe("rotationOf", () => {
  it("is nginx's sequence for weights 5, 1 and 1", () => {
    const { slots, turns } = rotationOf([5, 1, 1], 67);
    expect(letters(slots, 14)).toBe("aabacaaaabacaa");
    expect(turns).toBe(63);
    expect(letters(slots.subarray(63), 4)).toBe("aaba");
  });

  it("takes out what all weights have in common, and asks equals in order", () => {
    expect(rotationOf([500, 100, 100], 67)).toEqual(rotationOf([5, 1, 1], 67));
    expect(letters(rotationOf([30, 30, 30], 7).slots, 7)).toBe("abcabca");
    expect(rotationOf([30, 30, 30], 7).turns).toBe(6);
  });

  it("asks nobody without a weight, and nobody at all where there is none", () => {
    expect(letters(rotationOf([0, 2, 0, 1], 7).slots, 3)).toBe("bdb");
    const { slots, turns } = rotationOf([0, 0], 7);
    expect(turns).toBe(0);
    expect(new Set(slots)).toEqual(new Set([NO_BACKEND]));
  });

  it("asks each as often as its weight says in every round, and nobody two turns early or late", () => {
    const cases = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 8 });
    assertProperty("ring-shares", fc.property(cases, (weights) => {
      const { slots, turns } = rotationOf(weights, 1009);
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      const counts = weights.map(() => 0);
      for (let turn = 0; turn < turns; turn++) {
        counts[slots[turn]!]! += 1;
        weights.forEach((weight, at) => {
          expect(Math.abs(counts[at]! - ((turn + 1) * weight) / total)).toBeLessThan(2);
        });
      }
      weights.forEach((weight, at) => { expect(counts[at]! * total).toBe(turns * weight); });
    }));
  });

  it("rounds weights whose round the table does not hold, and leaves nobody out", () => {
    const weights = [65_535, 65_534, 1, 32_767];
    const { slots, turns } = rotationOf(weights, 4099);
    const counts = weights.map((_, at) => slots.subarray(0, turns).filter((index) => index === at).length);
    expect(counts[2]).toBe(1);
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    weights.forEach((weight, at) => { expect(Math.abs(counts[at]! / turns - weight / total)).toBeLessThan(2 / turns); });
  });

  it("holds more backends than a round that is worth its time", () => {
    const weights = Array.from({ length: 9000 }, (_, at) => 1 + (at % 7));
    const { slots, turns } = rotationOf(weights, 65_537);
    expect(new Set(slots.subarray(0, turns)).size).toBe(9000);
  });
});
