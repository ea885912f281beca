// A Checker laid over another one: takes something of what the one below finds, and gives it back. Here is what
// all layers share: the states as they are laid, made anew only when they change, and who was told what last. Knows
// Checkers; must never know why anything is taken.

import type { Env } from "../env.ts";
import type { FlowsSeen } from "../model/flows_seen.ts";
import type { BackendHealth } from "../model/table.ts";
import type { Checker, CheckerOptions, FlowTotals, HealthTransition, ProbeRecord } from "./checker.ts";
import type { HealthStatus } from "./judge.ts";
import type { ProbeCounts } from "./schedule.ts";
import type { ProbeTarget } from "./target.ts";
import type { ProbeNote } from "./transcript.ts";

/** Makes the Checker that is laid over. */
export type MakeChecker = (options: CheckerOptions) => Checker;

export abstract class Layer implements Checker {
  protected readonly env: Env;
  protected readonly below: Checker;
  readonly #options: CheckerOptions;
  #targets: ReadonlyMap<string, ProbeTarget> = new Map();
  #laid: { readonly of: ReadonlyMap<string, BackendHealth>; readonly states: ReadonlyMap<string, BackendHealth> } | null = null;
  /** As it was told last. */
  readonly #told = new Map<string, BackendHealth>();
  #isStopped = false;

  constructor(options: CheckerOptions, make: MakeChecker) {
    this.#options = options;
    this.env = options.env;
    this.below = make({ ...options, onTransition: (transition) => { this.hear(transition); } });
  }

  // ---- what each layer is

  /** Begins with new targets, and lets go of what they have no use for. Those below get what it returns. */
  protected abstract adopt(targets: readonly ProbeTarget[]): readonly ProbeTarget[];
  /** What it makes of a state below. */
  protected abstract lay(name: string, health: BackendHealth): BackendHealth;
  /** Whether there is anything to lay. */
  protected abstract get isIdle(): boolean;
  protected abstract release(): void;
  /** The one below has told something. */
  protected abstract learn(transition: HealthTransition): void;

  // ---- what all have

  get isStopped(): boolean { return this.#isStopped; }
  get targets(): ReadonlyMap<string, ProbeTarget> { return this.#targets; }

  update(targets: readonly ProbeTarget[]): void {
    if (this.#isStopped) return;
    this.#targets = new Map(targets.map((target) => [target.name, target]));
    const below = this.adopt(targets);
    this.changed();
    this.below.update(below);
    this.follow(targets);
    this.#told.clear();
    for (const [name, health] of this.states()) this.#told.set(name, health);
  }

  /** When those below have their targets. */
  protected follow(_targets: readonly ProbeTarget[]): void { /* most layers have nobody else to tell */ }

  states(): ReadonlyMap<string, BackendHealth> {
    const of = this.below.states();
    if (this.isIdle) return of;
    if (this.#laid?.of !== of) {
      this.#laid = { of, states: new Map([...of].map(([name, health]) => [name, this.lay(name, health)])) };
    }
    return this.#laid.states;
  }

  probeNow(name: string): boolean { return this.below.probeNow(name); }
  records(name: string): readonly ProbeRecord[] { return this.below.records(name); }
  counts(): ProbeCounts { return this.below.counts(); }
  hearFlows(name: string, seen: FlowsSeen): void { this.below.hearFlows(name, seen); }
  flowTotals(): ReadonlyMap<string, FlowTotals> { return this.below.flowTotals(); }

  stop(): void {
    this.#isStopped = true;
    this.release();
    this.below.stop();
  }

  /** What it lays has changed. */
  protected changed(): void { this.#laid = null; }

  protected hear(transition: HealthTransition): void {
    this.learn(transition);
    this.changed();
    this.tell(transition.name, transition.atMs, transition.probes);
  }

  /** Tells what a backend has come to, where that is news. `probes`: those that led to it. */
  protected tell(name: string, atMs: number, probes: readonly ProbeNote[]): void {
    const target = this.#targets.get(name);
    const health = this.states().get(name);
    if (this.#isStopped || target === undefined || health === undefined) return;
    const before = this.#told.get(name);
    this.#told.set(name, health);
    const [from, to] = [before === undefined ? "unknown" : statusOf(before), statusOf(health)];
    if (from === to && before?.admission === health.admission) return;
    const { pool, backend } = target;
    this.#options.onTransition({ from, to, reason: health.reason, atMs, name, pool, backend, health, probes });
  }
}

export function statusOf({ alive, known, admission, withheld }: BackendHealth): HealthStatus {
  if (!alive) return "down";
  if (withheld !== undefined) return withheld;
  if (!known) return "unknown";
  return admission === 0 ? "draining" : "up";
}

/** The same with a part of its share, 0 to 1, where it takes flows; never none, or no flow would ever show how it does. */
export function withPart(health: BackendHealth, part: number, why: string): BackendHealth {
  if (!takesFlows(health)) return health;
  const admission = Math.max(1, Math.floor(health.admission * part));
  return { ...health, admission, reason: `${health.reason} (${why})` };
}

export function takesFlows(health: BackendHealth | undefined): boolean {
  return health?.alive === true && health.admission > 0;
}
