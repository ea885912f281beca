// The noun `events` from outside.

import { describe, expect, it } from "vitest";
import type { PointsmanEvent } from "../../src/api/schemas.ts";
import { layEvent, layTranscript } from "../../src/cli/events.ts";

const PROBE = { atMs: 1_800_000_000_000, durationMs: 12.5, ok: false, conclusive: true, reason: "status 503" };
const EVENT: PointsmanEvent = {
  id: 7, atMs: 1_800_000_000_000, kind: "health", subject: "web/a", message: "is down: status 503",
  fields: { from: "up", to: "down", probes: [PROBE, { ...PROBE, conclusive: false, reason: "EMFILE" }] },
};

describe("an event as it is printed", () => {
  it("is one line, and its transcript one for each probe", () => {
    expect(layEvent(EVENT)).toMatch(/^\S+ \S+ {2}health {6}web\/a: is down: status 503\n$/);
    expect(layTranscript(EVENT)).toMatch(/^ {4}\S+ \S+ {2}failed after 12\.5 ms: status 503\n {4}\S+ \S+ {2}unsaid after 12\.5 ms: EMFILE\n$/);
  });

  it.each([{}, { probes: 7 }, { probes: [{ reason: "of another version" }] }])("has no transcript in %j", (fields) => {
    expect(layTranscript({ ...EVENT, fields })).toBe("");
  });
});
