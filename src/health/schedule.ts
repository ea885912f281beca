// The schedule: when each distinct target is probed, once for all backends that have it, and who hears of it. Knows
// time through Env only and probes through one function; must never know what an outcome means to a backend.
//
// Intervals count from start to start. Jitter and the end of the previous probe only decide where
// inside one interval the next probe starts, so while there is room for it no gap is longer than
// the interval, and a backend that stops answering is down within fall × interval + timeout.
//
// Probes start in ticks: what is due within one starts at its beginning, together. A timer, the wait for
// answers and what they wake are then paid once for all of a tick. An interval counts from the beginning of
// the tick, however late that came, so that a stall of this process leaves the targets spread as they were.

import type { Cancel, Env } from "../env.ts";
import type { Outcome } from "./judge.ts";
import type { ActiveTarget, ProbeTarget } from "./target.ts";

/** What a probe needs of an AbortSignal. */
export interface StopSignal {
  readonly aborted: boolean;
  addEventListener(type: "abort", listener: () => void): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

/** One attempt. Resolves, never rejects, within the target's timeout; at once when aborted. */
export type Probe = (target: ProbeTarget, signal: StopSignal) => Promise<Outcome>;

/** A backend that wants to hear of its target. */
export interface Listener {
  readonly target: ActiveTarget;
  /** Of the target (probeKey). */
  readonly key: string;
  /** From the start of a probe to that of the next, as it wants it now. */
  intervalMs(): number;
  /** Returns what there is to tell once the next probe is arranged: whoever is told may take targets away. */
  hear(outcome: Outcome): () => void;
}

export interface ScheduleOptions {
  readonly env: Env;
  readonly probe: Probe;
  /** Probes under way at once; further ones wait their turn. */
  readonly probesMax?: number;
}

/** A probe counts once, however many backends hear of it. */
export interface ProbeCounts {
  readonly running: number;
  readonly waiting: number;
  readonly started: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly inconclusive: number;
  /** Probes that had to wait for another to end, and so may break the detection bound. */
  readonly delayed: number;
}

/** One probe after the other, and who hears of them. */
interface Share {
  /** At least one. */
  listeners: Listener[];
  /** When the last probe was to start, or the wait for the first began (monotonic): intervals count from here. */
  startedMs: number;
  /** In which the next one starts, or null while one runs or waits. */
  tick: Tick | null;
  /** Of the probe under way. */
  stop: Stop | null;
  /** When a doubt last brought a probe forward (monotonic). */
  hurriedAtMs: number;
}

/** Probes that start together. */
interface Tick {
  /** Monotonic. */
  readonly beginMs: number;
  readonly shares: Set<Share>;
  readonly cancelTimer: Cancel;
}

/** How long a tick is at most, and as a part of the interval: so much sooner than due a probe may start. */
const TICK_MAX_MS = 10;
const TICK_PART = 0.01;
/** In ticks: what is due at the beginning of one belongs to it, whatever became of the last digits. */
const ROUNDING = 1e-6;
/** As a part of the interval: what starts later than that begins a schedule of its own, or two probes would be too close. */
const LATE_PART = 0.5;
const PROBE_NOW_MS = 1000;
const PROBES_MAX = 1024;
/** How often at most the log says that probes wait for each other. */
const DELAY_WARNING_MS = 60_000;

export class ProbeSchedule {
  readonly #env: Env;
  readonly #probe: Probe;
  readonly #probesMax: number;
  /** By the key of their target. */
  #shares = new Map<string, Share>();
  /** By when they begin. */
  readonly #ticks = new Map<number, Tick>();
  /** First come, first served. */
  readonly #waiting = new Set<Share>();
  #warnedAtMs = -Infinity;
  readonly #counts = {
    running: 0, started: 0, succeeded: 0, failed: 0, inconclusive: 0, delayed: 0,
  };

  constructor({ env, probe, probesMax }: ScheduleOptions) {
    this.#env = env;
    this.#probe = probe;
    this.#probesMax = probesMax ?? PROBES_MAX;
  }

  /** Replaces the listeners. As long as a target has any, its schedule goes on, whoever comes and goes. */
  update(listeners: readonly Listener[]): void {
    const before = this.#shares;
    this.#shares = new Map();
    const fresh: Share[] = [];
    for (const listener of listeners) {
      const { key } = listener;
      const shared = this.#shares.get(key);
      if (shared !== undefined) {
        shared.listeners.push(listener);
        continue;
      }
      const old = before.get(key);
      before.delete(key);
      const share = old ?? { listeners: [], startedMs: 0, tick: null, stop: null, hurriedAtMs: -Infinity };
      share.listeners = [listener];
      if (old === undefined) fresh.push(share);
      this.#shares.set(key, share);
    }
    for (const gone of before.values()) this.#drop(gone);
    for (const share of this.#shares.values()) this.#hasten(share);
    this.#spread(fresh);
  }

  /** False where there is nothing to bring forward, and within PROBE_NOW_MS of the last time. */
  probeNow(key: string): boolean {
    const share = this.#shares.get(key);
    const nowMs = this.#env.clock.monotonicMs();
    if (share === undefined || share.tick === null || nowMs - share.hurriedAtMs < PROBE_NOW_MS) return false;
    share.hurriedAtMs = nowMs;
    this.#unschedule(share);
    this.#request(share, nowMs);
    return true;
  }

  counts(): ProbeCounts {
    return { ...this.#counts, waiting: this.#waiting.size };
  }

  #drop(share: Share): void {
    this.#unschedule(share);
    this.#waiting.delete(share);
    const { stop } = share;
    share.stop = null; // whoever ends with another one than this is ignored
    stop?.abort();
  }

  /** First probes are spread evenly over one interval, with chance inside each share of it. */
  #spread(shares: readonly Share[]): void {
    const nowMs = this.#env.clock.monotonicMs();
    shares.forEach((share, index) => {
      const part = (index + this.#env.random.next()) / shares.length;
      share.startedMs = nowMs;
      this.#schedule(share, nowMs + part * share.listeners[0]!.target.health.intervalMs);
    });
  }

  /** Whoever has come may want to know sooner than those who were there: they may have known it for down. */
  #hasten(share: Share): void {
    if (share.tick === null) return;
    const wantedMs = share.startedMs + intervalMsOf(share);
    if (wantedMs >= share.tick.beginMs) return;
    this.#unschedule(share);
    this.#schedule(share, wantedMs);
  }

  #schedule(share: Share, dueMs: number): void {
    const lengthMs = Math.min(TICK_MAX_MS, intervalMsOf(share) * TICK_PART);
    const beginMs = Math.floor(dueMs / lengthMs + ROUNDING) * lengthMs;
    const tick = this.#ticks.get(beginMs) ?? this.#createTick(beginMs);
    tick.shares.add(share);
    share.tick = tick;
  }

  #createTick(beginMs: number): Tick {
    const shares = new Set<Share>();
    const delayMs = Math.max(0, beginMs - this.#env.clock.monotonicMs());
    const cancelTimer = this.#env.clock.after(delayMs, () => {
      this.#ticks.delete(beginMs);
      for (const share of shares) share.tick = null;
      const nowMs = this.#env.clock.monotonicMs();
      for (const share of shares) {
        const isMissed = nowMs - beginMs > intervalMsOf(share) * LATE_PART;
        this.#request(share, isMissed ? nowMs : beginMs);
      }
    });
    const tick = { beginMs, shares, cancelTimer };
    this.#ticks.set(beginMs, tick);
    return tick;
  }

  #unschedule(share: Share): void {
    const { tick } = share;
    if (tick === null) return;
    share.tick = null;
    tick.shares.delete(share);
    if (tick.shares.size > 0) return;
    tick.cancelTimer();
    this.#ticks.delete(tick.beginMs);
  }

  #request(share: Share, startMs: number): void {
    if (this.#counts.running < this.#probesMax) {
      this.#start(share, startMs);
      return;
    }
    this.#counts.delayed += 1;
    this.#waiting.add(share);
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

  #start(share: Share, startMs: number): void {
    const { target } = share.listeners[0]!; // all have the same
    const stop = new Stop();
    share.stop = stop;
    this.#counts.running += 1;
    this.#counts.started += 1;
    share.startedMs = startMs;
    const advance = this.#env.random.next() * target.health.jitter;
    void this.#probe(target, stop).then((outcome) => {
      this.#counts.running -= 1;
      if (share.stop === stop) {
        share.stop = null;
        this.#counts[!outcome.conclusive ? "inconclusive" : outcome.ok ? "succeeded" : "failed"] += 1;
        const tells = share.listeners.map((listener) => listener.hear(outcome));
        this.#schedule(share, share.startedMs + (1 - advance) * intervalMsOf(share));
        for (const tell of tells) tell();
      }
      this.#startNext();
    });
  }

  #startNext(): void {
    if (this.#counts.running >= this.#probesMax) return;
    const [next] = this.#waiting;
    if (next === undefined) return;
    this.#waiting.delete(next);
    this.#start(next, this.#env.clock.monotonicMs());
  }
}

/** As an AbortController with its signal, which would be a tenth of what a probe costs besides its socket. */
class Stop implements StopSignal {
  aborted = false;
  readonly #listeners: (() => void)[] = [];

  addEventListener(_type: "abort", listener: () => void): void { this.#listeners.push(listener); }

  removeEventListener(_type: "abort", listener: () => void): void {
    const at = this.#listeners.indexOf(listener);
    if (at !== -1) this.#listeners.splice(at, 1);
  }

  abort(): void {
    this.aborted = true;
    for (const listener of this.#listeners.splice(0)) listener();
  }
}

/** Whoever is in doubt sets the pace for all. */
function intervalMsOf({ listeners }: Share): number {
  return listeners.reduce((least, listener) => Math.min(least, listener.intervalMs()), Infinity);
}
