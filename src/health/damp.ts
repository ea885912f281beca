// Flap damping: a backend that changes between down and not down too often is held, until it has been quiet for long
// enough. A pure state machine like judge.ts. Knows moments; must never know other backends, a timer or a plane.
//
// The idea is that of route flap damping (RFC 2439): what changes often is not to be used until it is stable. Its
// penalty and half-life are a number of changes within a time here, which people can foresee.

import { CHANGES_MAX, type DampingRules } from "../model/health_check.ts";

export interface DampState {
  /** The last ones, oldest first (monotonic). */
  readonly changes: readonly number[];
  readonly isHeld: boolean;
}

export const UNDAMPED: DampState = { changes: [], isHeld: false };

/** It has changed now. What is held stays so until release() says otherwise. */
export function noteChange({ changes, isHeld }: DampState, rules: DampingRules, nowMs: number): DampState {
  const all = [...changes, nowMs].slice(-1 - CHANGES_MAX);
  const first = all.at(-1 - rules.changesMax);
  return { changes: all, isHeld: isHeld || (first !== undefined && nowMs - first <= rules.withinMs) };
}

/** Null: it is not held. */
export function holdEndsMs({ changes, isHeld }: DampState, rules: DampingRules): number | null {
  const last = changes.at(-1);
  return isHeld && last !== undefined ? last + rules.holdMs : null;
}

/** Lets go of what has been quiet for long enough. Its changes still count for as long as they are recent. */
export function release(state: DampState, rules: DampingRules, nowMs: number): DampState {
  const endsMs = holdEndsMs(state, rules);
  return endsMs === null || nowMs < endsMs ? state : { ...state, isHeld: false };
}
