// A table that was too long on its way. Knows that windows close by the clock, whoever is late.

import { Failure } from "../../errors.ts";
import { WINDOW_SLACK_MS } from "../../model/slot_states.ts";
import { hasOpenWindows, type KernelState } from "./kernel_state.ts";

/** Throws when the table counts on windows that may have closed since it was made, so long ago. */
export function refuseLate(state: KernelState, durationMs: number): void {
  if (durationMs < WINDOW_SLACK_MS || !hasOpenWindows(state)) return;
  throw new Failure("SYSTEM", { operation: "apply" },
    `the table has become too old on its way, after ${Math.round(durationMs / 1000)} s: it is made anew`);
}
