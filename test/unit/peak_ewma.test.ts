// Latencies as least-response-time sees them: up at once, down with time, and what nobody knows.

import { describe, expect, it } from "vitest";
import { Latencies } from "../../src/dataplane/proxy/latencies.ts";
import { costOf, decayed, DECAY_MS, withSample, withWait } from "../../src/model/peak_ewma.ts";

describe("the average", () => {
  it("jumps up to a peak, and comes down with time towards what is measured", () => {
    const peak = withSample({ ms: 10, atMs: 0 }, 200, 5);
    expect(peak).toEqual({ ms: 200, atMs: 5 });
    expect(withSample(peak, 20, 5).ms).toBe(200);
    expect(withSample(peak, 20, 5 + DECAY_MS).ms).toBeCloseTo(200 / Math.E + 20 * (1 - 1 / Math.E), 9);
    expect(withSample(peak, 20, 5 + 100 * DECAY_MS).ms).toBeCloseTo(20, 9);
  });

  it("wears off without samples, and never grows by a clock that stands still or goes back", () => {
    const peak = withSample(null, 100, 50);
    expect(decayed(peak, 50 + DECAY_MS)).toBeCloseTo(100 / Math.E, 9);
    expect(decayed(peak, 40)).toBe(100);
  });

  it("is raised by what waits, and lowered by none of it", () => {
    const known = { ms: 100, atMs: 0 };
    expect(withWait(known, 99, 0)).toBe(known);
    expect(withWait(known, 101, 0)).toEqual({ ms: 101, atMs: 0 });
    expect(withWait(known, 60, DECAY_MS)).toEqual({ ms: 60, atMs: DECAY_MS });
    expect(withWait(null, 7, 3)).toEqual({ ms: 7, atMs: 3 });
  });
});

describe("the cost of one flow more", () => {
  it("is the time for all flows; of the unknown nothing for the first flow, and more than anything for a second", () => {
    expect(costOf(10, 0)).toBe(10);
    expect(costOf(10, 4)).toBe(50);
    expect(costOf(null, 0)).toBe(0);
    expect(costOf(null, 1)).toBeGreaterThan(costOf(3_600_000, 999));
    expect(costOf(null, 2)).toBeGreaterThan(costOf(null, 1));
  });
});

describe("the book", () => {
  it("adds what it takes to connect and to answer, and forgets who is gone", () => {
    let nowMs = 0;
    const book = new Latencies({ monotonicMs: () => nowMs });
    expect(book.of("web/a")).toBeNull();
    book.connected("web/a", 4);
    book.answered("web/a", 30);
    book.waits("web/b", 500);
    expect(book.of("web/a")).toBe(34);
    expect([...book.all()]).toEqual([["web/a", 34], ["web/b", 500]]);
    nowMs = DECAY_MS;
    book.connected("web/a", 4);
    expect(book.of("web/a")).toBeCloseTo(4 + 30 / Math.E, 9);
    // As measured, for as long as that says something.
    expect([book.lately("web/a"), book.lately("web/b"), book.lately("web/c")]).toEqual([34, 500, null]);
    nowMs = DECAY_MS + 1;
    expect([book.lately("web/a"), book.lately("web/b")]).toEqual([34, null]);
    book.keep(new Set(["web/b"]));
    expect(book.of("web/a")).toBeNull();
  });
});
