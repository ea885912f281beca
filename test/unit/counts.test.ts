// The table of counts: what a failing randomised test tells the person who has to repeat it.

import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import {
  assertProperty, assertPropertyAsync, count, parameters, randomised, replayCommand, seed,
} from "../support/counts.ts";

afterEach(() => { vi.unstubAllEnvs(); });

describe("counts", () => {
  it("takes the short count, and the long one when asked", () => {
    vi.stubEnv("POINTSMAN_LONG", "");
    expect(count("packets")).toBe(4_000);
    vi.stubEnv("POINTSMAN_LONG", "1");
    expect(count("packets")).toBe(5_000_000);
  });

  it("reads the seed, and refuses what is not one", () => {
    vi.stubEnv("SEED", "");
    expect(seed()).toBe(1);
    vi.stubEnv("SEED", "-77");
    expect(seed()).toBe(-77);
    vi.stubEnv("SEED", "seven");
    expect(() => seed()).toThrow(RangeError);
  });

  it("a failing property names the command that repeats it", () => {
    vi.stubEnv("SEED", "42");
    vi.stubEnv("POINTSMAN_LONG", "");
    const property = fc.property(fc.integer(), (n) => n < 10);
    expect(() => { assertProperty("address", property); }).toThrow("SEED=42 npm test -- address");
    expect(parameters("address")).toEqual({ seed: 42, numRuns: count("address") });
  });

  it("a rejected property does too, and a passing one says nothing", async () => {
    vi.stubEnv("SEED", "42");
    const property = fc.asyncProperty(fc.integer(), (n) => Promise.resolve(n < 10));
    await expect(assertPropertyAsync("address", property)).rejects.toThrow(
      replayCommand("address"),
    );
    expect(randomised("address", (run) => run.seed)).toBe(42);
  });
});
