// The step of explain that is about flows from before: whether the slot is settled, changing, or settled
// with exceptions, in words. Pure.

import { trackingOf, untrackedOwner } from "./flow_decide.ts";
import type { ExplainStep } from "./explain.ts";
import type { SlotInput } from "./slot.ts";
import type { ForwardingTable, Service } from "./table.ts";

/** Nothing to say where no flow is remembered. */
export function stateSteps(
  table: ForwardingTable, service: Service, packet: SlotInput, slot: number, nowNs: bigint,
): ExplainStep[] {
  const tracking = trackingOf(service);
  if (tracking === "none") return [];
  const before = untrackedOwner(service, packet, slot, nowNs);
  if (before !== null) {
    const seconds = (service.states.changingUntilNs - nowNs) / 1_000_000_000n;
    const owner = table.destinations.get(before)?.name ?? "nobody";
    return [{
      step: "older flows",
      detail: `the slot is changing, for ${seconds} s at most: flows from before that nobody remembers are ${owner}'s`,
    }];
  }
  const isMarked = service.states.exceptional?.[slot] === 1;
  if (tracking === "full") return [{ step: "older flows", detail: "each stays where it is remembered" }];
  return [{
    step: "older flows",
    detail: isMarked ? "the slot is settled with exceptions: some flows may be remembered elsewhere"
      : "the slot is settled: they are where a new one goes",
  }];
}
