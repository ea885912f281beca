// The test by which shares of traffic are judged, from published percentiles.

import { describe, expect, it } from "vitest";
import { chiSquared, chiSquaredTail } from "../support/chi_squared.ts";

describe("chiSquared", () => {
  it("is Pearson's sum, whatever the shares add up to", () => {
    expect(chiSquared([44, 56], [0.5, 0.5])).toBeCloseTo(1.44, 10);
    expect(chiSquared([44, 56], [3, 3])).toBeCloseTo(1.44, 10);
  });

  it("has room for who expects nothing and gets nothing, and for nobody else without a share", () => {
    expect(chiSquared([5, 0, 5], [1, 0, 1])).toBe(0);
    expect(chiSquared([5, 1, 5], [1, 0, 1])).toBe(Infinity);
  });
});

describe("chiSquaredTail", () => {
  // Percentiles of the NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.4.
  it.each([
    [2, 0.05, 5.991], [2, 0.001, 13.816], [4, 0.05, 9.488], [4, 0.001, 18.467], [10, 0.01, 23.209], [100, 0.05, 124.342],
  ])("of %i degrees is %f at the published %f", (degrees, alpha, critical) => {
    expect(chiSquaredTail(critical, degrees) / alpha).toBeCloseTo(1, 2);
  });

  it("ends at nothing, and refuses what it has no formula for", () => {
    expect(chiSquaredTail(0, 2)).toBe(1);
    expect(chiSquaredTail(Infinity, 4)).toBe(0);
    for (const degrees of [0, 1, 3]) expect(() => chiSquaredTail(1, degrees)).toThrow(RangeError);
  });
});
