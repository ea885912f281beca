// Outlier detection: what flows say of a backend that nobody asked. A pure state machine like judge.ts: too many
// failures in a row, or too large a share of them in an interval, and for how long the backend is ejected then.
// Knows counts; must never know other backends, a timer or a plane.
//
// The ideas are Envoy's (outlier detection) and HAProxy's (observe layer4). An ejection lasts for the base time, and
// one base time more with each further one; each base time of good behaviour takes that off again.

import type { FlowsSeen } from "../model/flows_seen.ts";
import type { OutlierRules } from "../model/health_check.ts";

export interface OutlierState {
  /** Failures in a row. */
  readonly streak: number;
  /** Flows of the interval that began then (monotonic). */
  readonly beganMs: number;
  readonly ok: number;
  readonly failed: number;
  /** Ejections that count, when the last one ended (monotonic). */
  readonly level: number;
  readonly goodSinceMs: number;
}

export interface OutlierJudgement {
  readonly state: OutlierState;
  /** Why it is to be ejected; null: it is not. */
  readonly complaint: string | null;
}

export function unsuspected(nowMs: number): OutlierState {
  return { streak: 0, beganMs: nowMs, ok: 0, failed: 0, level: 0, goodSinceMs: nowMs };
}

/** Several flows at once have no order: a single one that was answered ends the row. */
export function judgeFlows(
  state: OutlierState, seen: FlowsSeen, rules: OutlierRules, nowMs: number,
): OutlierJudgement {
  const failures = failuresIn(seen, rules);
  if (failures === 0 && seen.ok === 0) return { state, complaint: null };
  const isOver = nowMs - state.beganMs >= rules.intervalMs;
  const interval = isOver ? { beganMs: nowMs, ok: 0, failed: 0 } : state;
  const streak = seen.ok > 0 ? 0 : state.streak + failures;
  const ok = interval.ok + seen.ok;
  const failed = interval.failed + failures;
  const next = { ...state, beganMs: interval.beganMs, streak, ok, failed };
  if (failures === 0) return { state: next, complaint: null };
  return { state: next, complaint: complaintOf(next, rules, seen.reason) };
}

/** Of these, what counts against a backend. */
export function failuresIn({ failed, silent }: FlowsSeen, { silence }: OutlierRules): number {
  return failed + (silence ? silent : 0);
}

function complaintOf({ streak, ok, failed }: OutlierState, rules: OutlierRules, reason: string): string | null {
  const { consecutive, failuresAbove, flowsMin } = rules;
  if (consecutive !== null && streak >= consecutive) return `${streak} flows in a row failed: ${reason}`;
  const flows = ok + failed;
  if (failuresAbove === null || flows < flowsMin || failed * 100 <= failuresAbove * flows) return null;
  return `${failed} of ${flows} flows failed: ${reason}`;
}

/** The backend is ejected now; the answer says for how long. */
export function eject(state: OutlierState, rules: OutlierRules, nowMs: number): { readonly state: OutlierState; readonly forMs: number } {
  const { ejectionMs, ejectionMaxMs } = rules;
  const forgiven = Math.floor((nowMs - state.goodSinceMs) / ejectionMs);
  const level = Math.max(0, state.level - forgiven) + 1;
  const forMs = Math.min(ejectionMaxMs, ejectionMs * level);
  // What is longer than the maximum is not to be forgiven one base time after the other.
  return { state: { ...state, level: Math.min(level, Math.ceil(ejectionMaxMs / ejectionMs)) }, forMs };
}

/** Its ejection is over, or was never: it begins with a clean sheet, but for its earlier ejections. */
export function readmit(state: OutlierState, nowMs: number): OutlierState {
  return { ...unsuspected(nowMs), level: state.level };
}

/** The same where it was not away: what it did well before still counts. */
export function pardon(state: OutlierState, nowMs: number): OutlierState {
  return { ...state, streak: 0, beganMs: nowMs, ok: 0, failed: 0 };
}

/** How many of a pool may be ejected at once: one at least. */
export function ejectedMax(backends: number, { ejectedMax: percent }: OutlierRules): number {
  return Math.max(1, Math.floor((backends * percent) / 100));
}
