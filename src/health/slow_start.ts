// Slow start: a backend that is back, or new, gets its share of new flows little by little. A layer over what a
// Checker finds. Knows admissions and time; must never know probes, or what admission does.

import type { Cancel } from "../env.ts";
import type { BackendHealth } from "../model/table.ts";
import type { Checker, CheckerOptions, HealthTransition } from "./checker.ts";
import type { HealthStatus } from "./judge.ts";
import { Layer, withPart, type MakeChecker } from "./layer.ts";
import type { ProbeTarget } from "./target.ts";

export interface SlowStartOptions extends CheckerOptions {
  /** Admissions have grown by a step, and nothing else is new. */
  readonly onStep: () => void;
}

interface Ramp {
  /** Monotonic. */
  readonly beganMs: number;
  readonly durationMs: number;
}

/** From nothing to everything; each step is a change of the table. */
const STEPS = 20;
const STEP_MIN_MS = 250;
/** Whoever comes back from there was away. */
const AWAY: ReadonlySet<HealthStatus> = new Set(["down", "ejected", "damped"]);

/** `make` makes what is laid over. */
export function createSlowStart(options: SlowStartOptions, make: MakeChecker): Checker {
  return new SlowStart(options, make);
}

class SlowStart extends Layer {
  readonly #onStep: () => void;
  readonly #ramps = new Map<string, Ramp>();
  /** Of those that may be slow: how long it takes. Null until the first update. */
  #durations: ReadonlyMap<string, number> | null = null;
  #cancelStep: Cancel | null = null;

  constructor(options: SlowStartOptions, make: MakeChecker) {
    super(options, make);
    this.#onStep = options.onStep;
  }

  protected get isIdle(): boolean { return this.#ramps.size === 0; }

  /** Whoever is there from the first update on was there before: a start is no reason to go slow. */
  protected adopt(targets: readonly ProbeTarget[]): readonly ProbeTarget[] {
    const before = this.#durations;
    this.#durations = new Map(targets.map(({ name, health }) => [name, health.type === "none" ? 0 : health.slowStartMs ?? 0]));
    for (const name of this.#ramps.keys()) if ((this.#durations.get(name) ?? 0) === 0) this.#ramps.delete(name);
    if (before !== null) {
      for (const { name, isBack } of targets) if (!before.has(name) && isBack !== true) this.#begin(name);
    }
    return targets;
  }

  protected learn({ name, from, to }: HealthTransition): void {
    if (AWAY.has(to)) this.#ramps.delete(name);
    else if (AWAY.has(from)) this.#begin(name);
  }

  protected release(): void {
    this.#cancelStep?.();
    this.#ramps.clear();
  }

  protected lay(name: string, health: BackendHealth): BackendHealth {
    const ramp = this.#ramps.get(name);
    if (ramp === undefined) return health;
    const share = shareOf(ramp, this.#nowMs());
    return withPart(health, share, `slow start: ${Math.round(share * 100)}%`);
  }

  #begin(name: string): void {
    const durationMs = this.#durations?.get(name) ?? 0;
    if (durationMs === 0) return;
    this.#ramps.set(name, { beganMs: this.#nowMs(), durationMs });
    this.#await();
  }

  /** One timer for all of them. */
  #await(): void {
    this.#cancelStep?.();
    this.#cancelStep = null;
    if (this.#ramps.size === 0) return;
    const nowMs = this.#nowMs();
    const waits = [...this.#ramps.values()].map((ramp) => {
      const stepMs = stepOf(ramp);
      return stepMs - ((nowMs - ramp.beganMs) % stepMs);
    });
    this.#cancelStep = this.env.clock.after(Math.min(...waits), () => { this.#step(); });
  }

  #step(): void {
    const nowMs = this.#nowMs();
    for (const [name, ramp] of this.#ramps) if (nowMs - ramp.beganMs >= ramp.durationMs) this.#ramps.delete(name);
    this.changed();
    this.#await();
    this.#onStep();
  }

  #nowMs(): number { return this.env.clock.monotonicMs(); }
}

function stepOf({ durationMs }: Ramp): number {
  return Math.max(STEP_MIN_MS, durationMs / STEPS);
}

/** Of the step that has begun: never nothing, or no flow would ever show how the backend does. */
function shareOf(ramp: Ramp, nowMs: number): number {
  const stepMs = stepOf(ramp);
  const begun = Math.floor((nowMs - ramp.beganMs) / stepMs) + 1;
  return Math.min(1, (begun * stepMs) / ramp.durationMs);
}
