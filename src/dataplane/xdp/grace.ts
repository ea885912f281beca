// Grace periods of one plane: what a packet in flight may still read is quiet after one. Knows the marks
// of a KernelState and the native call; must never know what is marked.

import type { KernelState } from "./kernel_state.ts";
import type { Native } from "./native.ts";

type Marks = Pick<KernelState, "marks" | "quiet">;

export class GracePeriods {
  readonly #native: Pick<Native, "gracePeriod">;
  #current: { readonly covers: number; readonly done: Promise<void> } | null = null;

  constructor(native: Pick<Native, "gracePeriod">) {
    this.#native = native;
  }

  /** One grace period serves everybody who asks before it begins; whoever comes later needs another. */
  async over(state: Marks): Promise<void> {
    if (this.#current === null || this.#current.covers < state.marks) {
      const covers = state.marks;
      const done = this.#native.gracePeriod().then(() => {
        state.quiet = Math.max(state.quiet, covers);
      }).finally(() => {
        if (this.#current?.covers === covers) this.#current = null;
      });
      done.catch(() => undefined);
      this.#current = { covers, done };
    }
    await this.#current.done;
  }

  /** Resolves when none is under way. */
  async ended(): Promise<void> {
    await this.#current?.done;
  }
}
