// Flap damping against its definition, which looks at every change: one is held from a change that is one too many
// within the time, until it has not changed for as long as it is to be held.

import fc from "fast-check";
import { expect, test } from "vitest";
import { holdEndsMs, noteChange, release, UNDAMPED } from "../../src/health/damp.ts";
import { CHANGES_MAX, type DampingRules } from "../../src/model/health_check.ts";
import { assertProperty } from "../support/counts.ts";

const rules: fc.Arbitrary<DampingRules> = fc.record({
  changesMax: fc.oneof(fc.integer({ min: 1, max: 6 }), fc.constant(100)),
  withinMs: fc.integer({ min: 1, max: 20 }), holdMs: fc.integer({ min: 1, max: 10 }),
});
/** Small numbers: what falls onto the end of a time is what goes wrong. */
const gaps = fc.array(fc.oneof(fc.integer({ min: 0, max: 4 }), fc.integer({ min: 0, max: 25 })), { maxLength: 150 });

function isTooMany(changes: readonly number[], at: number, { changesMax, withinMs }: DampingRules): boolean {
  const atMs = changes[at]!;
  return changes.slice(0, at + 1).filter((each) => atMs - each <= withinMs).length > changesMax;
}

function isHeldBy(changes: readonly number[], nowMs: number, given: DampingRules): boolean {
  let quietFromMs = nowMs;
  for (let at = changes.length - 1; at >= 0 && quietFromMs - changes[at]! < given.holdMs; at--) {
    if (isTooMany(changes, at, given)) return true;
    quietFromMs = changes[at]!;
  }
  return false;
}

test("a backend is held exactly while its changes say so, and never once it has been quiet", () => {
  assertProperty("judge", fc.property(gaps, rules, (pauses, given) => {
    const changes: number[] = [];
    let state = UNDAMPED;
    let nowMs = 0;
    for (const pauseMs of pauses) {
      for (const lookMs of [nowMs + Math.floor(pauseMs / 2), nowMs + pauseMs]) {
        state = release(state, given, lookMs);
        expect(state.isHeld).toBe(isHeldBy(changes, lookMs, given));
      }
      nowMs += pauseMs;
      changes.push(nowMs);
      state = noteChange(state, given, nowMs);
      expect(state.isHeld).toBe(isHeldBy(changes, nowMs, given));
      expect(holdEndsMs(state, given)).toBe(state.isHeld ? nowMs + given.holdMs : null);
    }
    expect(release(state, given, nowMs + given.holdMs).isHeld).toBe(false);
  }));
});

test("a backend that changes less often is never held", () => {
  assertProperty("judge", fc.property(rules, fc.integer({ min: 1, max: 300 }), (given, count) => {
    const everyMs = Math.floor(given.withinMs / given.changesMax) + 1;
    let state = UNDAMPED;
    for (let at = 0; at < count; at++) state = noteChange(state, given, at * everyMs);
    expect(state.isHeld).toBe(false);
  }));
});

test("as many changes as can be allowed are kept of each backend, and one more is too many", () => {
  const given: DampingRules = { changesMax: CHANGES_MAX, withinMs: 1000, holdMs: 10 };
  let state = UNDAMPED;
  for (let count = 1; count <= 3 * CHANGES_MAX; count++) {
    state = noteChange(state, given, 5);
    expect([count, state.isHeld]).toEqual([count, count > CHANGES_MAX]);
  }
  expect(state.changes).toHaveLength(CHANGES_MAX + 1);
});
