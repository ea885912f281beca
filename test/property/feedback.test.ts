// The feedback controller: bounded movement for any input, rest within the dead band, and a closed loop with delay.

import fc from "fast-check";
import { expect, test } from "vitest";
import { feedbackStep, type FeedbackMember, type FeedbackRules } from "../../src/model/feedback.ts";
import { assertProperty, randomised } from "../support/counts.ts";
import { Draws } from "../support/random.ts";

const RULES: FeedbackRules = { intervalMs: 5000, floorPercent: 25, deadBandPercent: 10, movedPercentPerSecond: 0.5 };

const rules = fc.record({
  intervalMs: fc.integer({ min: 1000, max: 600_000 }), floorPercent: fc.integer({ min: 1, max: 100 }),
  deadBandPercent: fc.integer({ min: 1, max: 99 }), movedPercentPerSecond: fc.double({ min: 0.01, max: 100, noNaN: true }),
});
const members = fc.array(fc.record({
  weight: fc.integer({ min: 0, max: 65_535 }), latencyMs: fc.option(fc.double({ min: 0, max: 1e6, noNaN: true })),
  share: fc.double({ min: 0.01, max: 1, noNaN: true }),
}), { maxLength: 20 });

test("a step moves no more than it may, and no share leaves its bounds", () => {
  assertProperty("feedback", fc.property(members, rules, (given, by) => {
    const { shares, moved } = feedbackStep(given, by);
    const weights = given.reduce((sum, { weight }) => sum + weight, 0);
    const sum = given.reduce((total, { weight, share }, at) => total + weight * Math.abs(shares[at]! - share), 0);
    if (weights > 0) expect(moved).toBeCloseTo(sum / weights, 9);
    expect(moved).toBeLessThanOrEqual((by.movedPercentPerSecond / 100) * (by.intervalMs / 1000) + 1e-12);
    for (const [at, share] of shares.entries()) {
      expect(share).toBeGreaterThanOrEqual(Math.min(given[at]!.share, by.floorPercent / 100) - 1e-12);
      expect(share).toBeLessThanOrEqual(1 + 1e-12);
    }
  }));
});

test("who is about as fast as the median stays as it is, whatever the noise", () => {
  const noise = fc.array(fc.double({ min: 95, max: 104, noNaN: true }), { minLength: 2, maxLength: 20 });
  assertProperty("feedback", fc.property(noise, (times) => {
    const { shares, moved } = feedbackStep(times.map((latencyMs) => ({ weight: 100, latencyMs, share: 1 })), RULES);
    expect(moved).toBe(0);
    expect(shares).toEqual(times.map(() => 1));
  }));
});

test("at a steady latency it comes to rest within the dead band, and when that is over all of the ring is as it was", () => {
  const slow = fc.integer({ min: 21, max: 10_000 });
  assertProperty("feedback", fc.property(slow, fc.integer({ min: 2, max: 9 }), rules, (latencyMs, count, by) => {
    const least = Math.max(by.floorPercent / 100, 20 / latencyMs);
    const after = (start: number, ms: number): number => {
      let share = start;
      for (let moved = 1, steps = 0; moved > 0 && steps < 5000; steps++) {
        const members = Array.from({ length: count }, (_, at) => ({ weight: 1, latencyMs: at === 0 ? ms : 20, share: at === 0 ? share : 1 }));
        const step = feedbackStep(members, { ...by, movedPercentPerSecond: Math.max(1, by.movedPercentPerSecond) });
        share = step.shares[0]!;
        moved = step.moved;
      }
      return share;
    };
    const rest = after(1, latencyMs);
    expect(rest).toBeGreaterThanOrEqual(least - 1e-9);
    expect(rest).toBeLessThanOrEqual(least + by.deadBandPercent / 100 + 1e-9);
    expect(after(rest, 20)).toBe(1);
  }));
});

test("with nobody to compare with, or nothing measured, shares come back", () => {
  for (const latencyMs of [null, 900]) {
    const { shares } = feedbackStep([{ weight: 1, latencyMs, share: 0.5 }], { ...RULES, movedPercentPerSecond: 100 });
    expect(shares).toEqual([1]);
  }
});

/** Latency grows with the share of the flows, and is seen some steps late. */
function closedLoop(draws: Draws, steps: number): FeedbackMember[][] {
  const count = 3 + draws.below(6);
  const bases = Array.from({ length: count }, (_, at) => (at === 0 ? 100 : 20) * (1 + draws.below(10) / 100));
  const delay = 1 + draws.below(3);
  const seen: number[][] = [];
  let shares = bases.map(() => 1);
  const history: FeedbackMember[][] = [];
  for (let step = 0; step < steps; step++) {
    const total = shares.reduce((sum, share) => sum + share, 0);
    seen.push(bases.map((base, at) => base * (1 + (shares[at]! / total) * count * 0.3)));
    const late = seen[Math.max(0, step - delay)]!;
    const now = shares.map((share, at) => ({ weight: 100, latencyMs: late[at]!, share }));
    history.push(now);
    shares = [...feedbackStep(now, RULES).shares];
  }
  return history;
}

test("a closed loop with delay comes to rest, with the slow one at a smaller share", () => {
  randomised("feedback-loop", ({ seed, count }) => {
    for (let run = 0; run < count; run++) {
      const history = closedLoop(new Draws(seed + run), 400);
      const last = history.slice(-50).map((each) => each.map(({ share }) => share));
      for (const shares of last) expect(shares).toEqual(last[0]);
      expect(last[0]![0]).toBeLessThan(0.5);
      for (const share of last[0]!.slice(1)) expect(share).toBeGreaterThan(0.75);
    }
  });
});
