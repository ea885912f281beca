// The rhythm of the supervisor: one turn at a time, and whatever is asked for during a turn becomes one
// further turn. Knows nothing of what a turn does; must never swallow what a turn throws.

import type { Cancel, Clock } from "../env.ts";

export interface ApplyLoop {
  /** Asks for a turn. Soon: what else happens in this tick goes along. */
  request(): void;
  /**
   * The same once this pass of the event loop is over, so that what other sockets have to say goes along. With a
   * thousand backends a turn takes longer than an answer to arrive, and there would be one for each.
   */
  requestSoon(): void;
  /** Resolves at the end of the first turn that begins from now on; asks for one. */
  turned(): Promise<void>;
  /** Resolves when no turn runs and none is asked for; does not wait for what is asked for soon, but begins it. */
  quiet(): Promise<void>;
  readonly isBusy: boolean;
  /** No turn begins afterwards. */
  stop(): void;
}

/** `turn` must not reject: whoever writes it decides what a failure means. */
export function createApplyLoop(clock: Pick<Clock, "after">, turn: () => Promise<void>): ApplyLoop {
  let wanted = false;
  let stopped = false;
  let running: Promise<void> | null = null;
  let waiting: (() => void)[] = [];
  let soon: Cancel | null = null;

  const run = async (): Promise<void> => {
    // One microtask later, so that changes of the same tick coalesce.
    await Promise.resolve();
    while (wanted && !stopped) {
      wanted = false;
      const served = waiting;
      waiting = [];
      await turn();
      for (const resolve of served) resolve();
    }
    running = null;
    if (!stopped) return;
    for (const resolve of waiting) resolve();
    waiting = [];
  };
  const request = (): void => {
    if (stopped) return;
    wanted = true;
    running ??= run();
  };
  return {
    request,
    requestSoon: () => {
      if (stopped) return;
      soon ??= clock.after(0, () => {
        soon = null;
        request();
      });
    },
    turned: () => new Promise((resolve) => {
      if (stopped) {
        resolve();
        return;
      }
      waiting.push(resolve);
      request();
    }),
    quiet: async () => {
      for (;;) {
        if (soon !== null) {
          soon();
          soon = null;
          request();
        }
        if (running === null) return;
        await running;
      }
    },
    get isBusy() { return running !== null; },
    stop: () => {
      stopped = true;
      soon?.();
    },
  };
}

const RETRY_FIRST_MS = 250;
const RETRY_LAST_MS = 30_000;

/** When to try again: after 250 ms, then twice as long each time, at most 30 s. */
export class Backoff {
  readonly #clock: Clock;
  readonly #again: () => void;
  #failures = 0;
  #cancel: Cancel | null = null;
  #atMs: number | null = null;

  constructor(clock: Clock, again: () => void) {
    this.#clock = clock;
    this.#again = again;
  }

  /** Wall clock of the next attempt, or null. */
  get atMs(): number | null {
    return this.#atMs;
  }

  /** Returns the delay. */
  fail(): number {
    this.#cancel?.();
    const delayMs = Math.min(RETRY_LAST_MS, RETRY_FIRST_MS * 2 ** this.#failures);
    this.#failures += 1;
    this.#atMs = this.#clock.wallMs() + delayMs;
    this.#cancel = this.#clock.after(delayMs, () => {
      this.#cancel = null;
      this.#atMs = null;
      this.#again();
    });
    return delayMs;
  }

  reset(): void {
    this.#cancel?.();
    this.#cancel = null;
    this.#atMs = null;
    this.#failures = 0;
  }
}
