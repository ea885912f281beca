// The judge against a model that keeps the whole history: what it says must follow from the
// outcomes alone, whatever their order.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { JudgeRules, JudgeState, Outcome } from "../../src/health/judge.ts";
import { judge, unjudged } from "../../src/health/judge.ts";
import { assertProperty } from "../support/counts.ts";

type Letter = "s" | "f" | "i";

function outcome(letter: Letter, index: number): Outcome {
  return { ok: letter === "s", conclusive: letter !== "i", reason: `${letter}${index}`, durationMs: 1 };
}

/** The status after a history, found by looking at the whole of it (no state is carried along). */
function modelStatus(history: readonly Letter[], { rise, fall }: JudgeRules): "unknown" | "up" | "down" {
  const text = history.filter((letter) => letter !== "i").join("");
  // The last place where a run of failures reached `fall`, or one of successes the number needed.
  for (let end = text.length; end > 0; end -= 1) {
    const head = text.slice(0, end);
    if (head.endsWith("f".repeat(fall))) return "down";
    const hasBeenDown = head.includes("f".repeat(fall));
    const successes = "s".repeat(hasBeenDown ? rise : 1);
    if (head.endsWith(successes)) return "up";
    if (hasBeenDown && head.endsWith("s")) continue;
  }
  return "unknown";
}

const letters = fc.array(fc.constantFrom<Letter>("s", "f", "f", "s", "i"), { maxLength: 40 });
const rules = fc.record({ rise: fc.integer({ min: 1, max: 5 }), fall: fc.integer({ min: 1, max: 5 }) });

describe("judge", () => {
  it("agrees with a model that sees the whole history", () => {
    assertProperty("judge", fc.property(letters, rules, (history, given) => {
      let state: JudgeState = unjudged(0);
      history.forEach((letter, index) => {
        state = judge(state, outcome(letter, index), given, index + 1).state;
        expect(state.status).toBe(modelStatus(history.slice(0, index + 1), given));
      });
    }));
  });

  it("reports a transition exactly when the status changes, with the outcome that made it", () => {
    assertProperty("judge", fc.property(letters, rules, (history, given) => {
      let state: JudgeState = unjudged(0);
      history.forEach((letter, index) => {
        const before = state;
        const result = judge(before, outcome(letter, index), given, index + 1);
        state = result.state;
        if (result.transition === null) {
          // As long as nothing is known, the reason says why.
          const reason = before.status === "unknown" && letter === "i" ? `i${index}` : before.reason;
          expect([state.status, state.reason, state.sinceMs]).toEqual([before.status, reason, before.sinceMs]);
        } else {
          expect(result.transition).toEqual(
            { from: before.status, to: state.status, reason: `${letter}${index}`, atMs: index + 1 });
          expect(state.status).not.toBe(before.status);
          expect(state.sinceMs).toBe(index + 1);
        }
      });
    }));
  });

  it("fall failures in a row always take a backend down, rise successes always bring it back", () => {
    assertProperty("judge", fc.property(letters, rules, (history, given) => {
      const run = (from: JudgeState, sequence: readonly Letter[]): JudgeState =>
        sequence.reduce((state, letter, i) => judge(state, outcome(letter, i), given, i).state, from);
      const down = run(run(unjudged(0), history), Array<Letter>(given.fall).fill("f"));
      expect(down.status).toBe("down");
      expect(run(down, Array<Letter>(given.rise).fill("s")).status).toBe("up");
      expect(run(down, Array<Letter>(given.rise - 1).fill("s")).status).toBe("down");
    }));
  });

  it("the streak stays below its threshold, so the state is small and finite", () => {
    assertProperty("judge", fc.property(letters, rules, (history, given) => {
      let state: JudgeState = unjudged(0);
      for (const letter of history) {
        state = judge(state, outcome(letter, 0), given, 0).state;
        expect(state.streak).toBeLessThan(state.status === "down" ? given.rise : given.fall);
      }
    }));
  });
});

describe("a backend that asks for a drain", () => {
  const rules = { rise: 2, fall: 3 };
  /** "d": a success that asks for it. */
  const run = (history: string): JudgeState => history.split("").reduce((state, letter, index) => judge(state, {
    ok: letter !== "f", conclusive: true, reason: `${letter}${index}`, durationMs: 1,
    ...(letter === "d" ? { drains: true } : {}),
  }, rules, index + 1).state, unjudged(0));

  it.each([
    ["d", "draining", "d0"], ["sd", "draining", "d1"], ["sdd", "draining", "d1"], ["sds", "up", "s2"],
    ["sdff", "draining", "d1"], ["sdfff", "down", "f4"], ["fffd", "down", "f2"], ["fffdd", "draining", "d4"],
    ["fffsd", "draining", "d4"], ["fffds", "up", "s4"], ["sdffdff", "draining", "d1"],
  ])("after %s is %s since %s", (history, status, reason) => {
    expect(run(history)).toMatchObject({ status, reason });
  });
});
