// The checker: when each target is probed, and what the judge makes of it. Knows time through Env
// only and probes through one function; must never know what becomes of a backend that is down.
//
// Intervals count from start to start. Jitter and the end of the previous probe only decide where
// inside one interval the next probe starts, so while there is room for it no gap is longer than
// the interval, and a backend that stops answering is down within fall × interval + timeout.

import type { Cancel, Env } from "../env.ts";
import type { FlowsSeen } from "../model/flows_seen.ts";
import type { BackendHealth } from "../model/table.ts";
import { ADMISSION_MAX } from "../model/table.ts";
import type { Health } from "../model/health_check.ts";
import type { JudgeState, Outcome, Transition } from "./judge.ts";
import { judge, unjudged } from "./judge.ts";
import { isSamePlace, type ProbeTarget } from "./target.ts";
import { transcriptOf, type ProbeNote } from "./transcript.ts";

/** One attempt. Resolves, never rejects, within the target's timeout; at once when aborted. */
export type Probe = (target: ProbeTarget, signal: AbortSignal) => Promise<Outcome>;

export interface HealthTransition extends Transition {
  /** "pool/backend". */
  readonly name: string;
  readonly pool: string;
  readonly backend: string;
  readonly health: BackendHealth;
  /** What led to it, oldest first. None where it was no probe. */
  readonly probes: readonly ProbeNote[];
}

export interface ProbeRecord extends Outcome {
  /** When the probe ended (wall clock). */
  readonly atMs: number;
}

export interface CheckerOptions {
  readonly env: Env;
  readonly probe: Probe;
  readonly onTransition: (transition: HealthTransition) => void;
  /**
   * What is already known by "pool/backend" (from an adopted plane, say): a start need not forget
   * it.
   */
  readonly initial?: ReadonlyMap<string, BackendHealth>;
  /** Probes under way at once; further ones wait their turn. */
  readonly probesMax?: number;
}

export interface CheckerCounts {
  readonly running: number;
  readonly waiting: number;
  readonly started: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly inconclusive: number;
  /** Probes that had to wait for another to end, and so may break the detection bound. */
  readonly delayed: number;
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
  /** Replaces the targets. What is probed at the same place as before keeps its state. */
  update(targets: readonly ProbeTarget[]): void;
  /**
   * Brings the next probe of a target forward, because of a doubt. False where there is nothing to bring forward, and
   * within PROBE_NOW_MS of the last time: whoever can raise doubts does not set the pace.
   */
  probeNow(name: string): boolean;
  states(): ReadonlyMap<string, BackendHealth>;
  /** The last outcomes of one target, oldest first. */
  records(name: string): readonly ProbeRecord[];
  counts(): CheckerCounts;
  /** What a plane saw of flows with a backend. */
  hearFlows(name: string, seen: FlowsSeen): void;
  /** Of those whose flows are judged. */
  flowTotals(): ReadonlyMap<string, FlowTotals>;
  /** Nothing is called back afterwards. */
  stop(): void;
}

type ActiveHealth = Exclude<Health, { type: "none" }>;

/** One target and all that is known of it. Replaced when the place that is probed changes. */
interface Subject {
  target: ProbeTarget;
  state: JudgeState;
  health: BackendHealth;
  readonly records: ProbeRecord[];
  /** The timer of the next probe, or null while one runs or waits. */
  cancelTimer: Cancel | null;
  /** Of the probe under way. */
  abort: AbortController | null;
  /** When a doubt last brought a probe forward (monotonic). */
  hurriedAtMs: number;
}

const PROBE_NOW_MS = 1000;

const PROBES_MAX = 1024;
const RECORDS_MAX = 20;
/** How often at most the log says that probes wait for each other. */
const DELAY_WARNING_MS = 60_000;

export function createChecker(options: CheckerOptions): Checker {
  return new ScheduledChecker(options);
}

class ScheduledChecker implements Checker {
  readonly #env: Env;
  readonly #options: CheckerOptions;
  readonly #probesMax: number;
  #subjects = new Map<string, Subject>();
  #states: ReadonlyMap<string, BackendHealth> | null = null;
  /** First come, first served. */
  readonly #waiting = new Set<Subject>();
  /** Only the first update may use it: later it is old news. */
  #initial: ReadonlyMap<string, BackendHealth>;
  #isStopped = false;
  #warnedAtMs = -Infinity;
  readonly #counts = {
    running: 0, started: 0, succeeded: 0, failed: 0, inconclusive: 0, delayed: 0,
  };

  constructor(options: CheckerOptions) {
    this.#options = options;
    this.#env = options.env;
    this.#initial = options.initial ?? new Map();
    this.#probesMax = options.probesMax ?? PROBES_MAX;
  }

  update(targets: readonly ProbeTarget[]): void {
    if (this.#isStopped) return;
    const before = this.#subjects;
    this.#subjects = new Map();
    const fresh: Subject[] = [];
    for (const target of targets) {
      const old = before.get(target.name);
      if (old !== undefined && isSamePlace(old.target, target)) {
        before.delete(target.name);
        if (!hasSameRules(old.target, target)) fresh.push(old);
        this.#adjust(old, target);
        this.#subjects.set(target.name, old);
      } else {
        const subject = this.#createSubject(target);
        fresh.push(subject);
        this.#subjects.set(target.name, subject);
      }
    }
    for (const gone of before.values()) this.#drop(gone);
    this.#initial = new Map();
    this.#states = null;
    this.#spread(fresh);
  }

  probeNow(name: string): boolean {
    const subject = this.#subjects.get(name);
    const nowMs = this.#env.clock.monotonicMs();
    if (subject === undefined || subject.cancelTimer === null || nowMs - subject.hurriedAtMs < PROBE_NOW_MS) return false;
    subject.hurriedAtMs = nowMs;
    subject.cancelTimer();
    subject.cancelTimer = null;
    this.#request(subject);
    return true;
  }

  states(): ReadonlyMap<string, BackendHealth> {
    this.#states ??= new Map([...this.#subjects].map(([name, subject]) => [name, subject.health]));
    return this.#states;
  }

  records(name: string): readonly ProbeRecord[] {
    return [...this.#subjects.get(name)?.records ?? []];
  }

  counts(): CheckerCounts {
    return { ...this.#counts, waiting: this.#waiting.size };
  }

  /** Probes alone decide here. */
  hearFlows(): void { /* src/health/outliers.ts listens */ }
  flowTotals(): ReadonlyMap<string, FlowTotals> { return new Map(); }

  stop(): void {
    this.#isStopped = true;
    for (const subject of this.#subjects.values()) this.#drop(subject);
  }

  #createSubject(target: ProbeTarget): Subject {
    const nowMs = this.#env.clock.wallMs();
    const known = this.#initial.get(target.name);
    const state = known?.known === true ? judgedEarlier(known) : unjudged(nowMs);
    const health = healthOf(target, state);
    return { target, state, health, records: [], cancelTimer: null, abort: null, hurriedAtMs: -Infinity };
  }

  /**
   * The same place, perhaps by other rules: the verdict stays, the counting and the schedule begin
   * anew.
   */
  #adjust(subject: Subject, target: ProbeTarget): void {
    if (!hasSameRules(subject.target, target)) {
      this.#drop(subject);
      const isPaused = target.health.type === "none" || subject.target.health.type === "none";
      const nowMs = this.#env.clock.wallMs();
      subject.state = isPaused ? unjudged(nowMs) : { ...subject.state, streak: 0 };
      subject.health = healthOf(target, subject.state);
    }
    subject.target = target;
  }

  #drop(subject: Subject): void {
    subject.cancelTimer?.();
    subject.cancelTimer = null;
    this.#waiting.delete(subject);
    const abort = subject.abort;
    subject.abort = null; // whoever ends with another controller than this one is ignored
    abort?.abort();
  }

  /** First probes are spread evenly over one interval, with chance inside each share of it. */
  #spread(subjects: readonly Subject[]): void {
    const nowMs = this.#env.clock.monotonicMs();
    subjects.forEach((subject, index) => {
      const { health } = subject.target;
      if (health.type === "none") return;
      const share = (index + this.#env.random.next()) / subjects.length;
      this.#schedule(subject, nowMs + share * health.intervalMs);
    });
  }

  #schedule(subject: Subject, dueMs: number): void {
    const delayMs = Math.max(0, dueMs - this.#env.clock.monotonicMs());
    subject.cancelTimer = this.#env.clock.after(delayMs, () => {
      subject.cancelTimer = null;
      this.#request(subject);
    });
  }

  #request(subject: Subject): void {
    if (this.#counts.running < this.#probesMax) {
      this.#start(subject);
      return;
    }
    this.#counts.delayed += 1;
    this.#waiting.add(subject);
    this.#warnOfDelay();
  }

  #warnOfDelay(): void {
    const nowMs = this.#env.clock.monotonicMs();
    if (nowMs - this.#warnedAtMs < DELAY_WARNING_MS) return;
    this.#warnedAtMs = nowMs;
    this.#env.log.warn({ running: this.#counts.running, waiting: this.#waiting.size },
      "health probes wait for each other, and failures may be noticed late: "
        + "raise interval or lower timeout");
  }

  #start(subject: Subject): void {
    const health = subject.target.health as ActiveHealth;
    const abort = new AbortController();
    subject.abort = abort;
    this.#counts.running += 1;
    this.#counts.started += 1;
    const startMs = this.#env.clock.monotonicMs();
    const advance = this.#env.random.next() * health.jitter;
    void this.#options.probe(subject.target, abort.signal).then((outcome) => {
      this.#counts.running -= 1;
      if (subject.abort === abort) {
        subject.abort = null;
        const tell = this.#record(subject, health, outcome);
        this.#schedule(subject, startMs + (1 - advance) * intervalOf(health, subject.state));
        tell();
      }
      this.#startNext();
    });
  }

  #startNext(): void {
    if (this.#counts.running >= this.#probesMax) return;
    const [next] = this.#waiting;
    if (next === undefined) return;
    this.#waiting.delete(next);
    this.#start(next);
  }

  /** What there is to tell, once the next probe is arranged: whoever hears it may take the target away. */
  #record(subject: Subject, rules: ActiveHealth, outcome: Outcome): () => void {
    const atMs = this.#env.clock.wallMs();
    subject.records.push({ ...outcome, atMs });
    if (subject.records.length > RECORDS_MAX) subject.records.shift();
    this.#counts[!outcome.conclusive ? "inconclusive" : outcome.ok ? "succeeded" : "failed"] += 1;
    const { state, transition } = judge(subject.state, outcome, rules, atMs);
    const isNews = state.reason !== subject.state.reason;
    subject.state = state;
    if (transition === null && !isNews) return () => undefined;
    const health = healthOf(subject.target, state);
    subject.health = health;
    this.#states = null;
    if (transition === null) return () => undefined;
    const { name, pool, backend } = subject.target;
    const probes = transcriptOf(subject.records, transition, rules);
    return () => { this.#options.onTransition({ ...transition, name, pool, backend, health, probes }); };
  }
}

/** As HAProxy's inter, fastinter and downinter: whoever is in doubt is asked at the fast pace, alive or not. */
function intervalOf(
  { intervalMs, fastIntervalMs, downIntervalMs }: ActiveHealth, { status, streak }: JudgeState,
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

/** Configs are plain values built by the same code, so equal ones have equal texts. */
function hasSameRules(a: ProbeTarget, b: ProbeTarget): boolean {
  return isSame(a.health, b.health) && isSame(wayOf(a), wayOf(b));
}

function wayOf({ through }: ProbeTarget): readonly string[] {
  return through.map(({ service, address, port }) => `${service} ${address.text} ${port}`);
}

function isSame(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}
