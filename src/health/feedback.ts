// Feedback: backends that answer later than their pool does get fewer new flows. A layer that takes admission from what
// a Checker finds, step by step. Knows how long answers took, to clients and to probes, and time; must never know a
// plane.
//
// Nothing of it outlives the process: after a start everybody has all of its share.

import type { Cancel } from "../env.ts";
import { feedbackStep, medianOf, type FeedbackRules } from "../model/feedback.ts";
import { ADMISSION_MAX, type BackendHealth } from "../model/table.ts";
import type { Checker, CheckerOptions, HealthTransition } from "./checker.ts";
import { Layer, takesFlows, withPart, type MakeChecker } from "./layer.ts";
import type { ProbeTarget } from "./target.ts";

/** What the plane that serves has measured lately of a backend ("pool/backend"), in milliseconds; null: nothing. */
export interface ClientTimes {
  /** How long clients wait for it, all in all. */
  readonly answerMs: (name: string) => number | null;
  /** How long it takes to answer what begins a flow: a connection is accepted then, and was asked nothing yet. */
  readonly handshakeMs: (name: string) => number | null;
}

export interface FeedbackOptions extends CheckerOptions {
  /** Admissions have changed by a step, and nothing else is new. */
  readonly onStep: () => void;
  readonly clients: ClientTimes;
}

interface Pool {
  readonly rules: FeedbackRules;
  readonly members: readonly ProbeTarget[];
  cancel: Cancel | null;
}

/** Of the last probes that succeeded, so many make a latency. */
const RECORDS = 5;

export function createFeedback(options: FeedbackOptions, make: MakeChecker): Checker {
  return new Feedback(options, make);
}

class Feedback extends Layer {
  readonly #options: FeedbackOptions;
  #pools = new Map<string, Pool>();
  /** Of those that have less than all of it. */
  readonly #shares = new Map<string, { readonly share: number; readonly why: string }>();

  constructor(options: FeedbackOptions, make: MakeChecker) {
    super(options, make);
    this.#options = options;
  }

  protected get isIdle(): boolean { return this.#shares.size === 0; }

  protected adopt(targets: readonly ProbeTarget[]): readonly ProbeTarget[] {
    for (const { cancel } of this.#pools.values()) cancel?.();
    this.#pools = new Map();
    for (const name of new Set(targets.map(({ pool }) => pool))) {
      const members = targets.filter(({ pool }) => pool === name);
      const rules = members[0]!.health.type === "none" ? undefined : members[0]!.health.feedback;
      if (rules === undefined) continue;
      const pool = { rules, members, cancel: null };
      this.#pools.set(name, pool);
      this.#await(pool);
    }
    const known = new Set([...this.#pools.values()].flatMap(({ members }) => members.map(({ name }) => name)));
    for (const name of this.#shares.keys()) if (!known.has(name)) this.#shares.delete(name);
    return targets;
  }

  /** Whoever comes back begins anew. */
  protected learn({ name, to }: HealthTransition): void {
    if (to === "down") this.#shares.delete(name);
  }

  protected release(): void {
    for (const { cancel } of this.#pools.values()) cancel?.();
  }

  protected lay(name: string, health: BackendHealth): BackendHealth {
    const held = this.#shares.get(name);
    return held === undefined ? health : withPart(health, held.share, `feedback: ${Math.round(held.share * 100)}%, ${held.why}`);
  }

  #await(pool: Pool): void {
    pool.cancel = this.env.clock.after(pool.rules.intervalMs, () => {
      this.#await(pool);
      this.#step(pool);
    });
  }

  /** Whoever takes no flows has none that could move, and nobody is compared with it. */
  #step({ rules, members }: Pool): void {
    const below = this.below.states();
    const up = members.filter(({ name, weight }) => weight !== 0 && takesFlows(below.get(name)));
    const { latencies, from } = this.#measured(up);
    const before = up.map(({ name, weight = 1 }, at) => ({
      weight: (weight * below.get(name)!.admission) / ADMISSION_MAX, latencyMs: latencies[at] ?? null,
      share: this.#shares.get(name)?.share ?? 1,
    }));
    const { shares, moved, medianMs } = feedbackStep(before, rules);
    if (moved === 0) return;
    for (const [at, { name }] of up.entries()) {
      const why = `${Math.round(before[at]!.latencyMs ?? 0)} ms, the pool ${Math.round(medianMs ?? 0)} ms${from}`;
      if (shares[at]! >= 1) this.#shares.delete(name);
      else this.#shares.set(name, { share: shares[at]!, why });
    }
    this.env.log.info({ pool: up[0]!.pool, movedShare: moved },
      `feedback moves ${(moved * 100).toFixed(2)}% of the flows of ${up[0]!.pool}`);
    this.changed();
    this.#options.onStep();
  }

  /**
   * Latencies of one kind, or they could not be compared: of clients' flows where all are known, else of probes. What
   * handshakes with clients take comes on top of probes, which know what is behind them; who had none has the median's.
   */
  #measured(members: readonly ProbeTarget[]): { readonly latencies: readonly (number | null)[]; readonly from: string } {
    const { answerMs, handshakeMs } = this.#options.clients;
    const answers = members.map(({ name }) => answerMs(name));
    if (!answers.includes(null)) return { latencies: answers, from: " by clients' flows" };
    const probed = members.map(({ name }) => this.#probedMs(name));
    const handshakes = members.map(({ name }) => handshakeMs(name));
    const usualMs = medianOf(handshakes.flatMap((ms) => ms ?? []));
    if (usualMs === null) return { latencies: probed, from: "" };
    const latencies = probed.map((ms, at) => (ms === null ? null : ms + (handshakes[at] ?? usualMs)));
    return { latencies, from: " with clients' handshakes" };
  }

  #probedMs(name: string): number | null {
    const times = this.below.records(name).filter(({ ok, conclusive }) => ok && conclusive)
      .slice(-RECORDS).map(({ durationMs }) => durationMs);
    return times.length < RECORDS ? null : times.reduce((sum, each) => sum + each, 0) / times.length;
  }
}
