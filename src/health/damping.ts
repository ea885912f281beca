// Flap damping over what probes, agents and flows have found: backends that change too often get no new flows for a
// while. Knows states and time; must never know probes, a plane, or what admission does.
//
// It lies over outliers.ts, so that it knows who is ejected, and asks anew at each change whether anybody else of the
// pool takes flows: the last one that can always does. Nothing of it outlives the process.

import type { Cancel } from "../env.ts";
import type { DampingRules } from "../model/health_check.ts";
import type { BackendHealth } from "../model/table.ts";
import type { Checker, CheckerOptions, HealthTransition } from "./checker.ts";
import { holdEndsMs, noteChange, release, UNDAMPED, type DampState } from "./damp.ts";
import { Layer, takesFlows, type MakeChecker } from "./layer.ts";
import { isSamePlace, type ProbeTarget } from "./target.ts";

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

class Damping extends Layer {
  #watched = new Map<string, Watched>();
  #held: readonly Watched[] = [];
  #cancelEnd: Cancel | null = null;
  /** Pools that have somebody else, as states below are. */
  #sparing: { readonly of: ReadonlyMap<string, BackendHealth>; readonly pools: ReadonlySet<string> } | null = null;

  protected get isIdle(): boolean { return this.#held.length === 0; }

  protected adopt(targets: readonly ProbeTarget[]): readonly ProbeTarget[] {
    const before = this.#watched;
    this.#watched = new Map(targets.flatMap((target) => {
      const rules = target.health.damping;
      if (rules === undefined) return [];
      const old = before.get(target.name);
      const isSame = old !== undefined && isSamePlace(old.target, target);
      return [[target.name, { ...(isSame ? old : { state: UNDAMPED, sinceMs: 0 }), target, rules }] as const];
    }));
    this.#await();
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
    this.#await();
  }

  /** Whether one that is held gets flows hangs on the others of its pool. */
  protected override hear(transition: HealthTransition): void {
    super.hear(transition);
    for (const { target: { name, pool } } of this.#held) {
      if (pool === transition.pool && name !== transition.name) this.tell(name, transition.atMs, []);
    }
  }

  protected release(): void { this.#cancelEnd?.(); }

  protected lay(name: string, health: BackendHealth): BackendHealth {
    const watched = this.#watched.get(name);
    if (watched?.state.isHeld !== true || !takesFlows(health)) return health;
    const { rules: { changesMax, withinMs, holdMs }, sinceMs } = watched;
    const complaint = `more than ${changesMax} changes within ${withinMs / 1000} s`;
    if (!this.#sparingPools().has(watched.target.pool)) {
      return { ...health, reason: `${health.reason} (not held, though ${complaint}: no other takes flows)` };
    }
    const reason = `${complaint}; held until there was none for ${holdMs / 1000} s`;
    return { ...health, known: true, admission: 0, withheld: "damped", reason, sinceMs };
  }

  protected override changed(): void {
    this.#sparing = null;
    super.changed();
  }

  /** Where all that take flows are held there is none: then each of them takes them. */
  #sparingPools(): ReadonlySet<string> {
    const of = this.below.states();
    if (this.#sparing?.of !== of) {
      const others = [...this.targets.values()].filter(({ name }) =>
        this.#watched.get(name)?.state.isHeld !== true && takesFlows(of.get(name)));
      this.#sparing = { of, pools: new Set(others.map(({ pool }) => pool)) };
    }
    return this.#sparing.pools;
  }

  /** One timer, for the hold that ends first. */
  #await(): void {
    this.#cancelEnd?.();
    this.#cancelEnd = null;
    this.#held = [...this.#watched.values()].filter(({ state }) => state.isHeld);
    if (this.#held.length === 0 || this.isStopped) return;
    const endsMs = Math.min(...this.#held.map(({ state, rules }) => holdEndsMs(state, rules) ?? Infinity));
    this.#cancelEnd = this.env.clock.after(Math.max(0, endsMs - this.env.clock.monotonicMs()), () => { this.#endThoseOver(); });
  }

  #endThoseOver(): void {
    const nowMs = this.env.clock.monotonicMs();
    const before = this.#held;
    for (const watched of before) watched.state = release(watched.state, watched.rules, nowMs);
    this.#await();
    this.changed();
    for (const { target: { name } } of before) this.tell(name, this.env.clock.wallMs(), []);
  }
}
