// The schedule: when each distinct target is probed, once for all backends that have it, and who hears of it. Knows
// time through Env only and probes through one function; must never know what an outcome means to a backend.
//
// Intervals count from start to start. Jitter and the end of the previous probe only decide where
// inside one interval the next probe starts, so while there is room for it no gap is longer than
// the interval, and a backend that stops answering is down within fall × interval + timeout.

import type { Cancel, Env } from "../env.ts";
import type { Outcome } from "./judge.ts";
import type { ActiveTarget, ProbeTarget } from "./target.ts";

/** One attempt. Resolves, never rejects, within the target's timeout; at once when aborted. */
export type Probe = (target: ProbeTarget, signal: AbortSignal) => Promise<Outcome>;

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
  /** When the last probe started, or the wait for the first began (monotonic). */
  startedMs: number;
  /** When the next one starts, while there is a timer (monotonic). */
  dueMs: number;
  /** The timer of the next probe, or null while one runs or waits. */
  cancelTimer: Cancel | null;
  /** Of the probe under way. */
  abort: AbortController | null;
  /** When a doubt last brought a probe forward (monotonic). */
  hurriedAtMs: number;
}

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
      const share = old ?? { listeners: [], startedMs: 0, dueMs: 0, cancelTimer: null, abort: null, hurriedAtMs: -Infinity };
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
    if (share === undefined || share.cancelTimer === null || nowMs - share.hurriedAtMs < PROBE_NOW_MS) return false;
    share.hurriedAtMs = nowMs;
    share.cancelTimer();
    share.cancelTimer = null;
    this.#request(share);
    return true;
  }

  counts(): ProbeCounts {
    return { ...this.#counts, waiting: this.#waiting.size };
  }

  #drop(share: Share): void {
    share.cancelTimer?.();
    share.cancelTimer = null;
    this.#waiting.delete(share);
    const abort = share.abort;
    share.abort = null; // whoever ends with another controller than this one is ignored
    abort?.abort();
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
    if (share.cancelTimer === null) return;
    const wantedMs = share.startedMs + intervalMsOf(share);
    if (wantedMs >= share.dueMs) return;
    share.cancelTimer();
    this.#schedule(share, wantedMs);
  }

  #schedule(share: Share, dueMs: number): void {
    const delayMs = Math.max(0, dueMs - this.#env.clock.monotonicMs());
    share.dueMs = dueMs;
    share.cancelTimer = this.#env.clock.after(delayMs, () => {
      share.cancelTimer = null;
      this.#request(share);
    });
  }

  #request(share: Share): void {
    if (this.#counts.running < this.#probesMax) {
      this.#start(share);
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

  #start(share: Share): void {
    const { target } = share.listeners[0]!; // all have the same
    const abort = new AbortController();
    share.abort = abort;
    this.#counts.running += 1;
    this.#counts.started += 1;
    share.startedMs = this.#env.clock.monotonicMs();
    const advance = this.#env.random.next() * target.health.jitter;
    void this.#probe(target, abort.signal).then((outcome) => {
      this.#counts.running -= 1;
      if (share.abort === abort) {
        share.abort = null;
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
    this.#start(next);
  }
}

/** Whoever is in doubt sets the pace for all. */
function intervalMsOf({ listeners }: Share): number {
  return listeners.reduce((least, listener) => Math.min(least, listener.intervalMs()), Infinity);
}
