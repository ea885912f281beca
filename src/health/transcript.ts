// The transcript of a verdict: what the probes that led to it found, for events and the log. Knows outcomes and
// how many of them a verdict takes; must never know who reads it.

import type { JudgeRules, Outcome, Transition } from "./judge.ts";

/** Probes that a transcript has at most; where `rise` or `fall` is more, the last ones. */
export const TRANSCRIPT_MAX = 10;
/** Characters of one reason: those of commands and servers are cut shorter than that already. */
const REASON_MAX = 300;

/** One probe as it is told. Nothing else of an outcome goes out. */
export interface ProbeNote {
  /** When it ended (wall clock). */
  readonly atMs: number;
  readonly durationMs: number;
  readonly ok: boolean;
  /** False: it says nothing of the backend, and did not count. */
  readonly conclusive: boolean;
  /** "status 503", "connection refused": never a secret, since probes take those out of what they tell. */
  readonly reason: string;
}

export function noteOf({ durationMs, ok, conclusive, reason }: Outcome, atMs: number): ProbeNote {
  const told = reason.length <= REASON_MAX ? reason : `${reason.slice(0, REASON_MAX)}…`;
  return { atMs, durationMs: Math.round(durationMs * 10) / 10, ok, conclusive, reason: told };
}

/** Of the last of these records (oldest first): those that counted, and those in between that did not. */
export function transcriptOf(
  records: readonly (Outcome & { readonly atMs: number })[], { from, to }: Pick<Transition, "from" | "to">, rules: JudgeRules,
): readonly ProbeNote[] {
  let missing = to === "down" ? rules.fall : from === "down" ? rules.rise : 1;
  const found: ProbeNote[] = [];
  for (const record of [...records].reverse()) {
    if (missing === 0 || found.length === TRANSCRIPT_MAX) break;
    if (record.conclusive) missing -= 1;
    found.push(noteOf(record, record.atMs));
  }
  return found.reverse();
}

/** One line for each, for people. */
export function layProbe({ durationMs, ok, conclusive, reason }: ProbeNote): string {
  return `${conclusive ? ok ? "passed" : "failed" : "unsaid"} after ${durationMs} ms: ${reason}`;
}
