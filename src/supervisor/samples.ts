// What the plane counts, now and a moment ago: two samples make a rate. Knows the plane's counters; keeps no others.

import type { Counters, Dataplane } from "../dataplane/dataplane.ts";
import type { Env } from "../env.ts";
import type { Sample } from "./view.ts";

/** Rates are over one to two of these. */
const SAMPLE_MS = 5000;
const NO_COUNTERS: Counters = {
  verdicts: {}, services: new Map(), backends: new Map(),
  flowTable: { count: null, max: 0 }, serviceFlows: new Map(), backendFlows: new Map(), drainFlows: new Map(),
};

export class Samples {
  readonly #env: Pick<Env, "clock" | "log">;
  readonly #plane: () => Dataplane;
  #last: Sample;
  #before: Sample | null = null;

  constructor(env: Pick<Env, "clock" | "log">, plane: () => Dataplane) {
    this.#env = env;
    this.#plane = plane;
    this.#last = this.take();
  }

  /** What rates are measured from. */
  get before(): Sample { return this.#before ?? this.#last; }

  /** To be called often. */
  roll(): void {
    if (this.#env.clock.monotonicMs() - this.#last.atMs < SAMPLE_MS) return;
    [this.#before, this.#last] = [this.#last, this.take()];
  }

  take(): Sample {
    const atMs = this.#env.clock.monotonicMs();
    try {
      return { atMs, counters: this.#plane().counters() };
    } catch (error) {
      this.#env.log.error({ err: error }, "the counters cannot be read");
      return { atMs, counters: NO_COUNTERS };
    }
  }
}
