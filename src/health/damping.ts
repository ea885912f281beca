// Flap damping over what probes, agents and flows have found: backends that change too often get no new flows for a
// while. Knows states and time; must never know probes, a plane, or what admission does.
//
// It lies over outliers.ts, so that it knows who is ejected. Nothing of it outlives the process.

import type { DampingRules } from "../model/health_check.ts";
import type { Checker, CheckerOptions, HealthTransition } from "./checker.ts";
import { holdEndsMs, noteChange, release, UNDAMPED, type DampState } from "./damp.ts";
import type { MakeChecker } from "./layer.ts";
import { isSamePlace, type ProbeTarget } from "./target.ts";
import { Withholding, type Hold } from "./withholding.ts";

interface Watched {
  readonly target: ProbeTarget;
  readonly rules: DampingRules;
  state: DampState;
  /** Since when it is held, or was last (wall clock). */
  sinceMs: number;
}

export function createDamping(options: CheckerOptions, make: MakeChecker): Checker {
  return new Damping(options, make);
}

class Damping extends Withholding {
  protected readonly withheld = "damped";
  protected readonly participle = "held";
  #watched = new Map<string, Watched>();

  protected adopt(targets: readonly ProbeTarget[]): readonly ProbeTarget[] {
    const before = this.#watched;
    this.#watched = new Map(targets.flatMap((target) => {
      const rules = target.health.damping;
      if (rules === undefined) return [];
      const old = before.get(target.name);
      const isSame = old !== undefined && isSamePlace(old.target, target);
      return [[target.name, { ...(isSame ? old : { state: UNDAMPED, sinceMs: 0 }), target, rules }] as const];
    }));
    this.await();
    return targets;
  }

  /** The first word about a backend is no change, nor is what it asks for itself, or an ejection. */
  protected learn({ name, from, to }: HealthTransition): void {
    const watched = this.#watched.get(name);
    if (watched === undefined || from === "unknown" || (from === "down") === (to === "down")) return;
    const { state, rules } = watched;
    const nowMs = this.env.clock.monotonicMs();
    watched.state = noteChange(release(state, rules, nowMs), rules, nowMs);
    if (watched.state.isHeld && !state.isHeld) watched.sinceMs = this.env.clock.wallMs();
    this.await();
  }

  protected holds(): ReadonlyMap<string, Hold> {
    return new Map([...this.#watched].flatMap(([name, { target, rules, state, sinceMs }]) => {
      const untilMs = holdEndsMs(state, rules);
      if (untilMs === null) return [];
      const { changesMax, withinMs, holdMs } = rules;
      const complaint = `more than ${changesMax} changes within ${withinMs / 1000} s`;
      return [[name, { target, untilMs, sinceMs, complaint, sentence: `held until there was none for ${holdMs / 1000} s` }] as const];
    }));
  }

  protected letGo(nowMs: number): void {
    for (const watched of this.#watched.values()) watched.state = release(watched.state, watched.rules, nowMs);
  }
}
