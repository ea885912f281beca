// A plan in the making: the state that it starts from, moved along with each step that is planned. Pure; every part of
// planning a change takes one.

import { copyState, isQuiet, record, type KernelState } from "./kernel_state.ts";
import type { Step } from "./steps.ts";

export interface Planner {
  readonly state: KernelState;
  readonly take: (step: Step) => void;
  /** Plans a grace period unless what bears this mark is quiet. */
  readonly settle: (mark: number) => void;
}

/** On a copy of the state. */
export function createPlanner(have: KernelState): Planner & { readonly steps: readonly Step[] } {
  const state = copyState(have);
  const steps: Step[] = [];
  const take = (step: Step): void => {
    record(state, step);
    steps.push(step);
  };
  const settle = (mark: number): void => {
    if (!isQuiet(state, mark)) take({ kind: "grace-period" });
  };
  return { state, steps, take, settle };
}
