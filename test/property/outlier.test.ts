// Outlier detection against a model that keeps every flow: what is said of a backend must follow from its flows alone.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { eject, ejectedMax, judgeFlows, readmit, unsuspected } from "../../src/health/outlier.ts";
import { ANSWERED, failedFlow, silentFlow, type FlowsSeen } from "../../src/model/flows_seen.ts";
import type { OutlierRules } from "../../src/model/health_check.ts";
import { assertProperty } from "../support/counts.ts";

type Letter = "s" | "f" | "q";
interface Flow { readonly letter: Letter; readonly atMs: number }

const SEEN: Readonly<Record<Letter, FlowsSeen>> = { s: ANSWERED, f: failedFlow("refused"), q: silentFlow("silence") };

const rules: fc.Arbitrary<OutlierRules> = fc.record({
  consecutive: fc.option(fc.integer({ min: 1, max: 6 })), failuresAbove: fc.option(fc.integer({ min: 1, max: 99 })),
  intervalMs: fc.constantFrom(10, 50), flowsMin: fc.integer({ min: 1, max: 8 }),
  ejectionMs: fc.constant(100), ejectionMaxMs: fc.constantFrom(100, 250, 1000), ejectedMax: fc.integer({ min: 1, max: 100 }),
  silence: fc.boolean(),
});

const history: fc.Arbitrary<readonly Flow[]> = fc.array(
  fc.record({ letter: fc.constantFrom<Letter>("s", "f", "f", "q"), gapMs: fc.integer({ min: 0, max: 15 }) }), { maxLength: 60 },
).map((flows) => {
  let atMs = 0;
  return flows.map(({ letter, gapMs }) => ({ letter, atMs: atMs += gapMs }));
});

/** Whether the last of these flows has the backend ejected, from all of them. */
function isTooMuch(flows: readonly Flow[], { consecutive, failuresAbove, intervalMs, flowsMin, silence }: OutlierRules): boolean {
  const counted = flows.filter(({ letter }) => letter !== "q" || silence);
  const last = counted.at(-1);
  if (last === undefined || last !== flows.at(-1) || last.letter === "s") return false;
  const letters = counted.map(({ letter }) => (letter === "s" ? "s" : "f")).join("");
  if (consecutive !== null && letters.endsWith("f".repeat(consecutive))) return true;
  let beganMs = 0;
  for (const { atMs } of counted) if (atMs - beganMs >= intervalMs) beganMs = atMs;
  // Those of one millisecond may be of the interval before, if it ended in it.
  const from = beganMs === 0 ? 0 : counted.findIndex(({ atMs }) => atMs === beganMs);
  const now = letters.slice(from);
  const failed = now.split("f").length - 1;
  return failuresAbove !== null && now.length >= flowsMin && failed / now.length > failuresAbove / 100;
}

describe("outlier detection", () => {
  it("agrees with a model that sees every flow", () => {
    assertProperty("judge", fc.property(history, rules, (flows, given) => {
      let state = unsuspected(0);
      for (const [at, { letter, atMs }] of flows.entries()) {
        const judged = judgeFlows(state, SEEN[letter], given, atMs);
        state = judged.state;
        expect(judged.complaint !== null, `flow ${at}`).toBe(isTooMuch(flows.slice(0, at + 1), given));
      }
    }));
  });

  it("says the same of many flows at once as of one by one, where they have one fate", () => {
    assertProperty("judge", fc.property(rules, fc.integer({ min: 1, max: 30 }), fc.constantFrom<"ok" | "failed">("ok", "failed"),
      (given, count, fate) => {
        const seen = { ok: 0, failed: 0, silent: 0, reason: "refused", [fate]: 1 };
        let one = unsuspected(0);
        let complaints = 0;
        for (let at = 0; at < count; at++) {
          const judged = judgeFlows(one, seen, given, 1);
          one = judged.state;
          complaints += judged.complaint === null ? 0 : 1;
        }
        const all = judgeFlows(unsuspected(0), { ...seen, [fate]: count }, given, 1);
        expect(all.state).toEqual(one);
        expect(all.complaint !== null).toBe(complaints > 0);
      }));
  });

  it("ejects for longer each time, at most for the maximum, and forgets with good time", () => {
    assertProperty("judge", fc.property(rules, fc.array(fc.integer({ min: 0, max: 500 }), { maxLength: 20 }), (given, pauses) => {
      const { ejectionMs, ejectionMaxMs } = given;
      const cap = Math.ceil(ejectionMaxMs / ejectionMs);
      let state = unsuspected(0);
      let nowMs = 0;
      let level = 0;
      for (const pauseMs of pauses) {
        nowMs += pauseMs;
        level = Math.min(cap, Math.max(0, level - Math.floor(pauseMs / ejectionMs)) + 1);
        const ejected = eject(state, given, nowMs);
        expect(ejected.forMs).toBe(Math.min(ejectionMaxMs, level * ejectionMs));
        nowMs += ejected.forMs;
        state = readmit(ejected.state, nowMs);
        expect([state.streak, state.ok, state.failed]).toEqual([0, 0, 0]);
      }
    }));
  });

  it("takes one backend of a pool at least, and no more than its share", () => {
    assertProperty("judge", fc.property(rules, fc.integer({ min: 1, max: 500 }), (given, backends) => {
      const max = ejectedMax(backends, given);
      expect(max).toBeGreaterThanOrEqual(1);
      expect(max === 1 || max * 100 <= given.ejectedMax * backends).toBe(true);
      expect((max + 1) * 100).toBeGreaterThan(given.ejectedMax * backends);
    }));
  });
});
