// What is known of backends, kept for the next start: at once where a verdict comes alone, and in a while where many
// come together. A write waits for the disk and everything else for it, so that a thousand backends that fall silent
// with their switch would otherwise make the probes of all others late. Knows time; must never know what is kept.

import type { Cancel, Env } from "../env.ts";

/** Between two writes. What a crash may forget; a start that knows nothing probes and finds out. */
const PAUSE_MS = 200;

export interface HealthKeeperOptions {
  readonly env: Pick<Env, "clock" | "log">;
  /** May throw. */
  readonly write: () => void;
}

export class HealthKeeper {
  readonly #options: HealthKeeperOptions;
  #cancel: Cancel | null = null;
  #isDue = false;

  constructor(options: HealthKeeperOptions) { this.#options = options; }

  /** Something has changed. */
  keep(): void {
    if (this.#cancel !== null) {
      this.#isDue = true;
      return;
    }
    this.#write();
    this.#cancel = this.#options.env.clock.after(PAUSE_MS, () => {
      this.#cancel = null;
      if (this.#isDue) this.keep();
    });
  }

  /** Writes what waits. */
  close(): void {
    this.#cancel?.();
    this.#cancel = null;
    if (this.#isDue) this.#write();
  }

  #write(): void {
    this.#isDue = false;
    try {
      this.#options.write();
    } catch (error) {
      this.#options.env.log.warn({ err: error }, "health cannot be kept for the next start");
    }
  }
}
