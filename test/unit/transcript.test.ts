// Transcripts of verdicts: which probes are told for a change of health, through checker and layers, and what of them.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { probeNoteSchema } from "../../src/api/schemas_events.ts";
import type { HealthTransition } from "../../src/health/checker.ts";
import { createChecker } from "../../src/health/checker.ts";
import { judge, unjudged, type Outcome } from "../../src/health/judge.ts";
import type { ProbeTarget } from "../../src/health/target.ts";
import { layProbe, transcriptOf, TRANSCRIPT_MAX } from "../../src/health/transcript.ts";
import { parseAddress } from "../../src/model/address.ts";
import { createFakeEnv } from "../support/fake_env.ts";

const outcome = fc.constantFrom<Outcome>(
  { ok: true, conclusive: true, reason: "status 200", durationMs: 4 },
  { ok: false, conclusive: true, reason: "status 503", durationMs: 3 },
  { ok: false, conclusive: false, reason: "no file descriptor left", durationMs: 0 },
);

describe("a transcript", () => {
  it("holds those in a row that made the verdict, and no probe before them", () => {
    const counting = fc.record({ rise: fc.integer({ min: 1, max: 4 }), fall: fc.integer({ min: 1, max: 4 }) });
    let verdicts = 0;
    fc.assert(fc.property(fc.array(outcome, { maxLength: 60 }), counting, (outcomes, rules) => {
      let state = unjudged(0);
      const records: (Outcome & { atMs: number })[] = [];
      for (const [atMs, each] of outcomes.entries()) {
        records.push({ ...each, atMs });
        const { state: next, transition } = judge(state, each, rules, atMs);
        state = next;
        if (transition === null) continue;
        verdicts += 1;
        const probes = transcriptOf(records, transition, rules);
        const counted = probes.filter(({ conclusive }) => conclusive);
        expect(probes.at(-1)).toMatchObject({ atMs, reason: transition.reason });
        expect(probes.map((probe) => probe.atMs)).toEqual(probes.map((_, at) => atMs - probes.length + 1 + at));
        expect(counted.every(({ ok }) => ok === (transition.to !== "down"))).toBe(true);
        const wanted = transition.to === "down" ? rules.fall : transition.from === "down" ? rules.rise : 1;
        expect(probes.length === TRANSCRIPT_MAX ? counted.length <= wanted : counted.length === wanted).toBe(true);
      }
    }));
    expect(verdicts).toBeGreaterThan(50);
  });

  it("is bounded in its probes and their words, and has nothing else of an outcome", () => {
    const record = {
      ok: false, conclusive: true, reason: "x".repeat(1000), durationMs: 1.23456, said: "a line", atMs: 7,
      certificate: { endsAtMs: 1, isDue: true },
    };
    const probes = transcriptOf(Array(500).fill(record) as typeof record[], { from: "up", to: "down" }, { rise: 1, fall: 400 });
    expect(probes).toHaveLength(TRANSCRIPT_MAX);
    expect(probeNoteSchema.parse(probes[0])).toEqual({
      ok: false, conclusive: true, reason: `${"x".repeat(300)}…`, durationMs: 1.2, atMs: 7,
    });
  });

  it("comes with the transition of a checker", async () => {
    const env = createFakeEnv();
    const heard: HealthTransition[] = [];
    const words = ["connected", "EMFILE", "status 503", "EMFILE", "status 500", "status 502"];
    createChecker({
      env, onTransition: (transition) => { heard.push(transition); },
      probe: () => {
        const reason = words.shift() ?? "status 502";
        return Promise.resolve({ ok: reason === "connected", conclusive: reason !== "EMFILE", reason, durationMs: 2 });
      },
    }).update([TARGET]);
    await env.advance(10_000);
    expect(heard.map(({ to, probes }) => [to, probes.map(layProbe)])).toEqual([
      ["up", ["passed after 2 ms: connected"]],
      ["down", ["failed after 2 ms: status 503", "unsaid after 2 ms: EMFILE", "failed after 2 ms: status 500", "failed after 2 ms: status 502"]],
    ]);
  });
});

const TARGET: ProbeTarget = {
  name: "web/a", pool: "web", backend: "a", address: parseAddress("2001:db8::1")!, port: 80, through: [],
  health: { type: "tcp", intervalMs: 1000, timeoutMs: 400, rise: 2, fall: 3, jitter: 0, port: null, via: "direct", source: null },
};
