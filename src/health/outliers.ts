// Backends whose flows fail are ejected for a while: a layer that takes admission from them, and keeps within what a
// pool can spare. Knows what planes saw of flows, and time; must never know a plane, or what admission does.
//
// It adds to what probes find and never says that a backend is down: flows that are under way stay. One that the
// probes have down is theirs, and no longer ejected. Nothing of it outlives the process.

import type { FlowsSeen } from "../model/flows_seen.ts";
import type { OutlierRules } from "../model/health_check.ts";
import type { Checker, CheckerOptions, FlowTotals, HealthTransition } from "./checker.ts";
import { takesFlows, type MakeChecker } from "./layer.ts";
import { eject, ejectedMax, failuresIn, judgeFlows, pardon, readmit, unsuspected, type OutlierState } from "./outlier.ts";
import { isSamePlace, type ProbeTarget } from "./target.ts";
import { Withholding, type Hold } from "./withholding.ts";

interface Suspect {
  readonly target: ProbeTarget;
  readonly rules: OutlierRules;
  state: OutlierState;
  ejected: Omit<Hold, "target"> | null;
  totals: FlowTotals;
}

const NO_FLOWS: FlowTotals = { ok: 0, failed: 0, ejections: 0, spared: 0 };
/** How often at most the log says that a pool has nobody to spare. */
const SPARED_WARNING_MS = 60_000;

export function createOutliers(options: CheckerOptions, make: MakeChecker): Checker {
  return new Outliers(options, make);
}

class Outliers extends Withholding {
  protected readonly withheld = "ejected";
  protected readonly participle = "ejected";
  #suspects = new Map<string, Suspect>();
  /** By pool, when it was last said (monotonic). */
  readonly #warnedAtMs = new Map<string, number>();

  override flowTotals(): ReadonlyMap<string, FlowTotals> {
    return new Map([...this.#suspects].map(([name, { totals }]) => [name, totals]));
  }

  override hearFlows(name: string, seen: FlowsSeen): void {
    const suspect = this.#suspects.get(name);
    if (this.isStopped || suspect === undefined) return;
    const { rules, totals } = suspect;
    suspect.totals = { ...totals, ok: totals.ok + seen.ok, failed: totals.failed + failuresIn(seen, rules) };
    if (suspect.ejected !== null || !takesFlows(this.below.states().get(name))) return;
    const nowMs = this.env.clock.monotonicMs();
    const { state, complaint } = judgeFlows(suspect.state, seen, rules, nowMs);
    suspect.state = state;
    if (complaint !== null) this.#accuse(suspect, complaint, nowMs);
  }

  protected adopt(targets: readonly ProbeTarget[]): readonly ProbeTarget[] {
    const before = this.#suspects;
    const nowMs = this.env.clock.monotonicMs();
    this.#suspects = new Map(targets.flatMap((target) => {
      const rules = target.health.outlier;
      if (rules === undefined) return [];
      const old = before.get(target.name);
      const isSame = old !== undefined && isSamePlace(old.target, target);
      const begun = isSame ? old : { state: unsuspected(nowMs), ejected: null, totals: NO_FLOWS };
      return [[target.name, { ...begun, target, rules }] as const];
    }));
    for (const pool of this.#warnedAtMs.keys()) {
      if (!targets.some((each) => each.pool === pool)) this.#warnedAtMs.delete(pool);
    }
    this.await();
    return targets;
  }

  /** Whom probes have down, they will bring back. */
  protected learn({ name, to }: HealthTransition): void {
    const suspect = this.#suspects.get(name);
    if (suspect === undefined || to !== "down") return;
    const nowMs = this.env.clock.monotonicMs();
    suspect.state = suspect.ejected === null ? pardon(suspect.state, nowMs) : readmit(suspect.state, nowMs);
    suspect.ejected = null;
    this.await();
  }

  protected holds(): ReadonlyMap<string, Hold> {
    return new Map([...this.#suspects].flatMap(([name, { target, ejected }]) =>
      (ejected === null ? [] : [[name, { ...ejected, target }] as const])));
  }

  protected letGo(nowMs: number): void {
    for (const suspect of this.#suspects.values()) {
      if (suspect.ejected === null || suspect.ejected.untilMs > nowMs) continue;
      suspect.ejected = null;
      suspect.state = readmit(suspect.state, nowMs);
    }
  }

  #accuse(suspect: Suspect, complaint: string, nowMs: number): void {
    const { target: { name, pool }, rules, totals } = suspect;
    const refusal = this.#whySpared(suspect);
    if (refusal !== null) {
      suspect.state = pardon(suspect.state, nowMs);
      suspect.totals = { ...totals, spared: totals.spared + 1 };
      if (nowMs - (this.#warnedAtMs.get(pool) ?? -Infinity) < SPARED_WARNING_MS) return;
      this.#warnedAtMs.set(pool, nowMs);
      this.env.log.warn({ backend: name }, `${name} is not ejected, though ${complaint}: ${refusal}`);
      return;
    }
    const { state, forMs } = eject(suspect.state, rules, nowMs);
    const sinceMs = this.env.clock.wallMs();
    suspect.state = state;
    suspect.totals = { ...totals, ejections: totals.ejections + 1 };
    suspect.ejected = { untilMs: nowMs + forMs, sinceMs, complaint, sentence: `ejected for ${forMs / 1000} s` };
    this.await();
    this.tell(name, sinceMs, []);
  }

  /** Null: its pool can spare it. */
  #whySpared({ target: { name, pool }, rules }: Suspect): string | null {
    const members = [...this.targets.values()].filter((each) => each.pool === pool);
    const ejected = members.filter((each) => (this.#suspects.get(each.name)?.ejected ?? null) !== null);
    const max = ejectedMax(members.length, rules);
    if (ejected.length >= max) return `${ejected.length} of ${members.length} backends of ${pool} are ejected already (ejectedMax)`;
    const others = members.filter((each) => each.name !== name && !ejected.includes(each) && this.couldTake(each));
    return others.length > 0 ? null : `no other backend of ${pool} takes flows`;
  }
}
