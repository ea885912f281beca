// The steps of explain that are about flows from before: whether the slot is settled, changing, or settled
// with exceptions, and who else may have a flow of it, in words. Pure.

import { decide, type Decision, type Packet, type State } from "./decide.ts";
import { trackingOf, untrackedOwner } from "./flow_decide.ts";
import type { ExplainStep } from "./explain.ts";
import { serviceBefore } from "./service_lookup.ts";
import type { SlotInput } from "./slot.ts";
import type { ForwardingTable, Service } from "./table.ts";

/** Nothing to say where no flow is remembered. */
export function stateSteps(
  table: ForwardingTable, service: Service, packet: SlotInput, slot: number, nowNs: bigint,
): ExplainStep[] {
  const tracking = trackingOf(service);
  if (tracking === "none") return [];
  const before = untrackedOwner(table, service, packet, slot, nowNs);
  if (before !== null) {
    const former = serviceBefore(table, service, packet.source, nowNs);
    const seconds = ((former?.untilNs ?? service.states.changingUntilNs) - nowNs) / 1_000_000_000n;
    const owner = table.destinations.get(before)?.name ?? "nobody";
    const why = former === null ? "the slot is changing" : `the client was ${former.service.name}'s before the regions changed`;
    return [{
      step: "older flows",
      detail: `${why}, which counts for ${seconds} s at most: flows from before that nobody remembers are ${owner}'s`,
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

/** Those that a packet names for the second chance. */
export function namesOf(table: ForwardingTable, { alternates = [] }: Decision): readonly string[] {
  return alternates.map((id) => table.destinations.get(id)?.name ?? "nobody");
}

/** Whom the packets of this flow, which is new, name, and those of one that began before and nobody remembers. */
export function secondChanceSteps(
  table: ForwardingTable, state: State, first: Packet, opening: Decision,
): ExplainStep[] {
  if (opening.service?.config.secondChance !== true) return [];
  const older = decide(table, state, { ...first, syn: false, ack: true });
  const said = (decision: Decision): string => namesOf(table, decision).join(", then ") || "nobody";
  if (namesOf(table, opening).length + namesOf(table, older).length === 0)
    return [{ step: "second chance", detail: "packets name nobody else" }];
  return [{
    step: "second chance",
    detail: `its packets name ${said(opening)}; those of a flow from before that nobody remembers go to`
      + ` ${older.destination?.name ?? "nobody"} and name ${said(older)}`,
  }];
}
