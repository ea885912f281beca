// The checker: what the judge makes of probes, for each backend by itself. Backends that have one target share its
// probes (schedule.ts), and each keeps a verdict of its own. Must never know what becomes of a backend that is down.

import type { Env } from "../env.ts";
import type { FlowsSeen } from "../model/flows_seen.ts";
import type { BackendHealth } from "../model/table.ts";
import { ADMISSION_MAX } from "../model/table.ts";
import type { ProbedHealth } from "../model/health_check.ts";
import type { JudgeState, Outcome, Transition } from "./judge.ts";
import { judge, unjudged } from "./judge.ts";
import { ProbeSchedule, type Listener, type ProbeCounts, type ScheduleOptions } from "./schedule.ts";
import { isActive, isSamePlace, probeKey, type ActiveTarget, type ProbeTarget } from "./target.ts";
import { transcriptOf, type ProbeNote } from "./transcript.ts";

export interface HealthTransition extends Transition {
  /** "pool/backend". */
  readonly name: string;
  readonly pool: string;
  readonly backend: string;
  readonly health: BackendHealth;
  /** What led to it, oldest first. None where it was no probe of its own. */
  readonly probes: readonly ProbeNote[];
}

export interface ProbeRecord extends Outcome {
  /** When the probe ended (wall clock). */
  readonly atMs: number;
}

export interface CheckerOptions extends ScheduleOptions {
  readonly onTransition: (transition: HealthTransition) => void;
  /**
   * What is already known by "pool/backend" (from an adopted plane, say): a start need not forget
   * it.
   */
  readonly initial?: ReadonlyMap<string, BackendHealth>;
}

/** Flows of one backend that were judged, and what came of it, since it is a target. */
export interface FlowTotals {
  readonly ok: number;
  readonly failed: number;
  readonly ejections: number;
  /** Times that it was not ejected since too many of its pool would have been. */
  readonly spared: number;
}

export interface Checker {
  /**
   * Replaces the targets. What is probed at the same place as before keeps its state, and what is new where somebody
   * was probed the same way before begins with what is known there.
   */
  update(targets: readonly ProbeTarget[]): void;
  /**
   * Brings the next probe of a target forward, because of a doubt. False where there is nothing to bring forward, and
   * within PROBE_NOW_MS of the last time: whoever can raise doubts does not set the pace.
   */
  probeNow(name: string): boolean;
  states(): ReadonlyMap<string, BackendHealth>;
  /** The last outcomes of one target, oldest first. */
  records(name: string): readonly ProbeRecord[];
  counts(): ProbeCounts;
  /** What a plane saw of flows with a backend. */
  hearFlows(name: string, seen: FlowsSeen): void;
  /** Of those whose flows are judged. */
  flowTotals(): ReadonlyMap<string, FlowTotals>;
  /** Nothing is called back afterwards. */
  stop(): void;
}

/** A backend and all that is known of it. Replaced when the place that is probed changes. */
interface Subject {
  target: ProbeTarget;
  /** Null: nobody asks. */
  key: string | null;
  state: JudgeState;
  /** Whether a probe has said anything by this key: else the verdict is of other rules, or of an earlier process. */
  isAnswered: boolean;
  health: BackendHealth;
  readonly records: ProbeRecord[];
}

/** What whoever is new begins with. */
type Knowledge = Pick<Subject, "records" | "state">;

const RECORDS_MAX = 20;

export function createChecker(options: CheckerOptions): Checker {
  return new JudgingChecker(options);
}

class JudgingChecker implements Checker {
  readonly #env: Env;
  readonly #options: CheckerOptions;
  readonly #schedule: ProbeSchedule;
  #subjects = new Map<string, Subject>();
  #states: ReadonlyMap<string, BackendHealth> | null = null;
  /** Only the first update may use it: later it is old news. */
  #initial: ReadonlyMap<string, BackendHealth>;
  #isStopped = false;

  constructor(options: CheckerOptions) {
    this.#options = options;
    this.#env = options.env;
    this.#initial = options.initial ?? new Map();
    this.#schedule = new ProbeSchedule(options);
  }

  update(targets: readonly ProbeTarget[]): void {
    if (this.#isStopped) return;
    const before = this.#subjects;
    const known = this.#known();
    const met: Subject[] = [];
    this.#subjects = new Map();
    for (const target of targets) {
      const key = isActive(target) ? probeKey(target) : null;
      const old = before.get(target.name);
      const stays = old !== undefined && isSamePlace(old.target, target) && (key === null) === (old.key === null);
      const shared = key === null ? undefined : known.get(key);
      const subject = stays ? adjusted(old, target, key) : this.#createSubject(target, key, shared);
      this.#subjects.set(target.name, subject);
      if (!stays && shared !== undefined) met.push(subject);
    }
    this.#initial = new Map();
    this.#states = null;
    this.#schedule.update([...this.#subjects.values()].flatMap((subject) => this.#listener(subject)));
    for (const subject of met) if (this.#has(subject)) this.#introduce(subject);
  }

  probeNow(name: string): boolean {
    const key = this.#subjects.get(name)?.key ?? null;
    return key !== null && this.#schedule.probeNow(key);
  }

  states(): ReadonlyMap<string, BackendHealth> {
    this.#states ??= new Map([...this.#subjects].map(([name, subject]) => [name, subject.health]));
    return this.#states;
  }

  records(name: string): readonly ProbeRecord[] {
    return [...this.#subjects.get(name)?.records ?? []];
  }

  counts(): ProbeCounts { return this.#schedule.counts(); }

  /** Probes alone decide here. */
  hearFlows(): void { /* src/health/outliers.ts listens */ }
  flowTotals(): ReadonlyMap<string, FlowTotals> { return new Map(); }

  stop(): void {
    this.#isStopped = true;
    this.#schedule.update([]);
  }

  /** By what is asked. Those that go with this update leave what they knew. */
  #known(): ReadonlyMap<string, Knowledge> {
    const known = new Map<string, Knowledge>();
    for (const { key, state, isAnswered, records } of this.#subjects.values()) {
      if (key !== null && isAnswered && !known.has(key)) known.set(key, { state, records });
    }
    return known;
  }

  #createSubject(target: ProbeTarget, key: string | null, shared: Knowledge | undefined): Subject {
    const earlier = this.#initial.get(target.name);
    const state = earlier?.known === true ? judgedEarlier(earlier) : shared?.state ?? unjudged(this.#env.clock.wallMs());
    const isAnswered = shared !== undefined;
    return { target, key, state, isAnswered, health: healthOf(target, state), records: [...shared?.records ?? []] };
  }

  /** What is known of it from others is the first that anybody hears of it. */
  #introduce({ target: { name, pool, backend }, state: { status, reason }, health }: Subject): void {
    const atMs = this.#env.clock.wallMs();
    this.#options.onTransition({ from: "unknown", to: status, reason, atMs, name, pool, backend, health, probes: [] });
  }

  /** Whoever was told something may have taken it away. */
  #has(subject: Subject): boolean {
    return !this.#isStopped && this.#subjects.get(subject.target.name) === subject;
  }

  #listener(subject: Subject): Listener[] {
    const { target, key } = subject;
    if (key === null || !isActive(target)) return [];
    return [{
      target, key,
      intervalMs: () => intervalOf(target.health, subject.state),
      hear: (outcome) => this.#hear(subject, target, outcome),
    }];
  }

  #hear(subject: Subject, target: ActiveTarget, outcome: Outcome): () => void {
    const atMs = this.#env.clock.wallMs();
    subject.records.push({ atMs, ...outcome });
    if (subject.records.length > RECORDS_MAX) subject.records.shift();
    const { state, transition } = judge(subject.state, outcome, target.health, atMs);
    subject.isAnswered ||= state.status !== "unknown" && outcome.conclusive;
    const isNews = state.reason !== subject.state.reason;
    subject.state = state;
    if (transition === null && !isNews) return () => undefined;
    const health = healthOf(target, state);
    subject.health = health;
    this.#states = null;
    if (transition === null) return () => undefined;
    const { name, pool, backend } = target;
    const probes = transcriptOf(subject.records, transition, target.health);
    return () => {
      if (this.#has(subject)) this.#options.onTransition({ ...transition, name, pool, backend, health, probes });
    };
  }
}

/** The same place, perhaps by other rules: the verdict stays, and the counting begins anew. */
function adjusted(subject: Subject, target: ProbeTarget, key: string | null): Subject {
  if (key !== subject.key) {
    subject.state = { ...subject.state, streak: 0 };
    subject.isAnswered = false;
  }
  subject.target = target;
  subject.key = key;
  return subject;
}

/** As HAProxy's inter, fastinter and downinter: whoever is in doubt is asked at the fast pace, alive or not. */
function intervalOf(
  { intervalMs, fastIntervalMs, downIntervalMs }: ProbedHealth, { status, streak }: JudgeState,
): number {
  const steady = status === "down" ? downIntervalMs : undefined;
  return (streak > 0 ? fastIntervalMs : undefined) ?? steady ?? intervalMs;
}

function healthOf(target: ProbeTarget, state: JudgeState): BackendHealth {
  const isUnprobed = target.health.type === "none";
  const alive = isUnprobed || state.status !== "down";
  return {
    alive,
    known: isUnprobed || state.status !== "unknown",
    admission: alive && (isUnprobed || state.status !== "draining") ? ADMISSION_MAX : 0,
    reason: isUnprobed ? "no health check" : state.reason,
    sinceMs: state.sinceMs,
  };
}

function judgedEarlier({ alive, admission, reason, sinceMs }: BackendHealth): JudgeState {
  return { status: !alive ? "down" : admission === 0 ? "draining" : "up", streak: 0, reason, sinceMs };
}
