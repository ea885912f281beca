// What sort of number a count of flows is, service by service, and from when on it says that a backend has
// none left. Pure; knows how services remember flows, must never know how they are counted.

import { trackingOf } from "./flow_decide.ts";
import { isNatService } from "./nat_decide.ts";
import type { Service } from "./table.ts";

/**
 * exact: every flow is known. tracked: every flow that was seen within `flowIdle`. estimated: those that
 * changes made exceptions of, and no others. unknown: nobody remembers any. From the best to the worst.
 */
export const FLOW_KINDS = ["exact", "tracked", "estimated", "unknown"] as const;
export type FlowKind = (typeof FLOW_KINDS)[number];

/** Flows that a backend has. */
export interface HeldFlows {
  readonly count: number;
  readonly kind: FlowKind;
  /** When counting began (monotonic): what happened since is not in it. -Infinity: nobody has counted yet. */
  readonly atMs: number;
}

/** What the XDP plane can say of a service's flows. */
export function flowKindOf(service: Service): FlowKind {
  if (isNatService(service)) return "exact";
  const tracking = trackingOf(service);
  return tracking === "full" ? "tracked" : tracking === "minimal" ? "estimated" : "unknown";
}

export function worseKind(a: FlowKind, b: FlowKind): FlowKind {
  return FLOW_KINDS.indexOf(a) > FLOW_KINDS.indexOf(b) ? a : b;
}

export function sumOfFlows(a: HeldFlows, b: HeldFlows): HeldFlows {
  return { count: a.count + b.count, kind: worseKind(a.kind, b.kind), atMs: Math.min(a.atMs, b.atMs) };
}

/**
 * How long after a drain began a count of none means that there are none. Who remembers exceptions alone
 * learns within one window of every flow that is not silent; who remembers nothing has to take a flow for
 * ended when it could have been silent for so long.
 */
export function certainAfterMs(service: Service): number {
  switch (flowKindOf(service)) {
    case "exact":
    case "tracked": return 0;
    case "estimated": return service.config.changeWindowMs;
    case "unknown": return service.config.flowIdleMs;
  }
}
