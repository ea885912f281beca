// What sort of number a count of flows is, service by service, and from when on it says that a backend has
// none left. Pure; knows how services remember flows, must never know how they are counted.

import { trackingOf } from "./flow_decide.ts";
import { isNatService } from "./nat_decide.ts";
import type { Service } from "./table.ts";

/**
 * exact: every flow is known. tracked: every flow that was seen within `flowIdle`. estimated: some of the flows
 * that were, and what follows for all of them, or those that a drain has learned of. unknown: nobody has looked.
 * From the best to the worst.
 */
export const FLOW_KINDS = ["exact", "tracked", "estimated", "unknown"] as const;
export type FlowKind = (typeof FLOW_KINDS)[number];

/** A number of flows, as everybody gets to see it. `count` is null where, and only where, the kind is unknown. */
export interface FlowAmount {
  readonly count: number | null;
  readonly kind: FlowKind;
}

export const UNKNOWN_AMOUNT: FlowAmount = { count: null, kind: "unknown" };
export const NO_FLOWS: FlowAmount = { count: 0, kind: "exact" };

/** Flows that a backend, or a service, has. */
export interface HeldFlows {
  readonly count: number;
  readonly kind: FlowKind;
  /** When counting began (monotonic): what happened since is not in it. -Infinity: nobody has counted yet. */
  readonly atMs: number;
}

/** What the XDP plane can say of the flows that a service has now. */
export function flowKindOf(service: Service): FlowKind {
  if (isNatService(service)) return "exact";
  return trackingOf(service) === "full" ? "tracked" : "estimated";
}

/**
 * What it can say of the flows of a backend that gets no new ones, which may not count as none because none was
 * looked at: exceptions alone are remembered by `minimal`, but every flow of such a backend becomes one with its
 * next packet; and with `none` the flows are elsewhere.
 */
export function drainKindOf(service: Service): FlowKind {
  return !isNatService(service) && trackingOf(service) === "none" ? "unknown" : flowKindOf(service);
}

export function worseKind(a: FlowKind, b: FlowKind): FlowKind {
  return FLOW_KINDS.indexOf(a) > FLOW_KINDS.indexOf(b) ? a : b;
}

export function sumOfFlows(a: HeldFlows, b: HeldFlows): HeldFlows {
  return { count: a.count + b.count, kind: worseKind(a.kind, b.kind), atMs: Math.min(a.atMs, b.atMs) };
}

export function amountOf(held: HeldFlows | null = null): FlowAmount {
  return held === null || held.kind === "unknown" ? UNKNOWN_AMOUNT : { count: held.count, kind: held.kind };
}

/** Of the worst kind among them; nothing at all is none, exactly. */
export function sumOfAmounts(amounts: Iterable<FlowAmount>): FlowAmount {
  let sum = NO_FLOWS;
  for (const { count, kind } of amounts) {
    sum = { count: sum.count === null || count === null ? null : sum.count + count, kind: worseKind(sum.kind, kind) };
  }
  return sum;
}

/** A sum for each kind that occurs, so that no better number is spoilt by a worse one. */
export function sumsByKind(amounts: readonly FlowAmount[]): FlowAmount[] {
  return FLOW_KINDS.flatMap((wanted) => {
    const found = amounts.filter(({ kind }) => kind === wanted);
    return found.length === 0 ? [] : [sumOfAmounts(found)];
  });
}

/**
 * How long after a drain began a count of none means that there are none. Who remembers exceptions alone
 * learns within one window of every flow that is not silent; who remembers nothing has to take a flow for
 * ended when it could have been silent for so long.
 */
export function certainAfterMs(service: Service): number {
  switch (drainKindOf(service)) {
    case "exact":
    case "tracked": return 0;
    case "estimated": return service.config.changeWindowMs;
    case "unknown": return service.config.flowIdleMs;
  }
}
