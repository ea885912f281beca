// How many flows may be remembered: each kind a quarter of the table at once, and over any time that
// entries live together no more than the table has room for. Knows numbers only.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { afterRemembering, isInPace, NO_PACE, rememberPace, type RememberPace } from "../../src/model/remember_pace.ts";
import { assertProperty } from "../support/counts.ts";

const MINUTE_MS = 60_000;
const NS_PER_MS = 1_000_000;

/** How many of those that ask at these times (ns, in order) are remembered. */
function granted(pace: RememberPace, times: readonly bigint[]): number {
  let [count, nextNs] = [0, 0n];
  for (const nowNs of times) {
    if (!isInPace(pace, nextNs, nowNs)) continue;
    nextNs = afterRemembering(pace, nextNs, nowNs);
    count += 1;
  }
  return count;
}

function flood(fromMs: number, forMs: number, count: number): bigint[] {
  return Array.from({ length: count }, (_, at) => BigInt(Math.round((fromMs + forMs * at / count) * NS_PER_MS)));
}

describe("the pace of remembering", () => {
  it.each([[65_536, 1], [65_536, 2], [1024, 4], [64, 3]])("gives each kind a quarter of %i entries at once, on %i CPUs together", (flowsMax, cpus) => {
    const pace = rememberPace(flowsMax, MINUTE_MS, cpus);
    const atOnce = granted(pace, flood(1e6, 0, flowsMax)) * cpus;
    // The one that is due now is not taken in advance.
    expect(atOnce).toBeLessThanOrEqual(flowsMax / 4 + cpus);
    expect(atOnce).toBeGreaterThan(flowsMax / 4 - cpus);
  });

  it("gives as much again while the entries live, and a whole burst after a rest", () => {
    const [flowsMax, cpus] = [4096, 2];
    const pace = rememberPace(flowsMax, MINUTE_MS, cpus);
    const share = flowsMax / 4 / cpus;
    expect(pace.burstNs).toBe(pace.intervalNs * BigInt(share));
    const longFlood = granted(pace, flood(1e6, MINUTE_MS, 100_000));
    expect(longFlood).toBeGreaterThan(2 * share - 2);
    expect(longFlood).toBeLessThanOrEqual(2 * share + 1);
    const twice = [...flood(1e6, 0, share * 2), ...flood(1e6 + MINUTE_MS, 0, share * 2)];
    expect(granted(pace, twice)).toBeGreaterThanOrEqual(2 * share);
    expect(granted(pace, twice)).toBeLessThanOrEqual(2 * share + 2);
  });

  it("never gives the two kinds of all CPUs more than the table within the life of an entry", () => {
    assertProperty("decide", fc.property(
      fc.integer({ min: 64, max: 65_536 }), fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1000, max: 10 * MINUTE_MS }),
      fc.array(fc.nat(100), { minLength: 1, maxLength: 20 }),
      (flowsMax, cpus, idleMs, gaps) => {
        const pace = rememberPace(flowsMax, idleMs, cpus);
        const share = Math.max(1, Math.floor(flowsMax / (4 * cpus)));
        // As much as there is at times of anybody's choice, all within the life of the first entry.
        let [atMs, nextNs, count] = [1e6, 0n, 0];
        for (const gap of gaps) {
          atMs += gap / 100 * idleMs / gaps.length;
          const nowNs = BigInt(Math.round(atMs * NS_PER_MS));
          while (isInPace(pace, nextNs, nowNs)) {
            nextNs = afterRemembering(pace, nextNs, nowNs);
            count += 1;
          }
        }
        // One more for what is due at the very moment.
        expect(count).toBeLessThanOrEqual(2 * share + 1);
        expect(count).toBeGreaterThanOrEqual(share);
      },
    ));
  });

  it("has a share for every CPU, even of a table that is too small for that", () => {
    const pace = rememberPace(64, MINUTE_MS, 128);
    expect(pace.intervalNs).toBe(60_000_000_000n);
    expect(granted(pace, flood(1e6, 0, 100))).toBe(2);
  });

  it("is no limit where no flow lives, nor without a table", () => {
    expect(rememberPace(1024, 0, 4)).toEqual({ intervalNs: 0n, burstNs: 0n });
    for (const pace of [rememberPace(1024, 0, 4), NO_PACE]) expect(granted(pace, flood(1e6, 0, 5000))).toBe(5000);
  });

  it("lets nothing pile up over a rest that is longer than the burst", () => {
    const pace = { intervalNs: 10n, burstNs: 50n };
    expect(afterRemembering(pace, 0n, 1000n)).toBe(1010n);
    expect(afterRemembering(pace, 1040n, 1000n)).toBe(1050n);
    expect([isInPace(pace, 1050n, 1000n), isInPace(pace, 1051n, 1000n)]).toEqual([true, false]);
  });
});
