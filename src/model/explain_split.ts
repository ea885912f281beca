// explain, of a service whose traffic is split: which part has the slot, and why. Words for what split.ts
// computes.

import type { ExplainStep } from "./explain.ts";
import { partsOf } from "./split.ts";
import type { SlotChoice } from "./split.ts";
import type { Service, SplitPart } from "./table.ts";

/** None for a service with one pool. */
export function splitSteps(service: Service, slot: number): ExplainStep[] {
  const { own, now } = partsOf(service, slot);
  if (own === null) return [];
  const steps = [{ step: "subset", detail: `${nameOf(own)} has this slot: its pool is ${own.pool}` }];
  if (now === own) return steps;
  const detail = now === null
    ? `nobody of ${own.name} can take flows, nor of any other subset`
    : `nobody of ${own.name} can take flows: the slot is lent to ${nameOf(now)}, whose pool is ${now.pool}`;
  return [...steps, { step: "subset now", detail }];
}

function nameOf({ name, hundredths }: SplitPart): string {
  return `${name} (${hundredths / 100}%)`;
}

/** Of whose ring the slot is: the service's, or that of the part that has it. */
export function ringFor(service: Service, slot: number): SlotChoice {
  const { own, now } = partsOf(service, slot);
  return now ?? own ?? service;
}
