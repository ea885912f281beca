// Flows that a process which was taken over from has still, and how they are added to what is counted here. Pure;
// knows names and numbers only.

import type { Counters, FlowsElsewhere } from "../dataplane.ts";
import type { HeldFlows } from "../../model/held_flows.ts";
import type { Account } from "./tally.ts";

/** Those of the accounts and those that are elsewhere again. */
export function flowsOf(accounts: readonly Account[], elsewhere: FlowsElsewhere): FlowsElsewhere {
  const services = new Map(Object.entries(elsewhere.services));
  const backends = new Map(Object.entries(elsewhere.backends));
  for (const { service, backend } of accounts) {
    services.set(service, (services.get(service) ?? 0) + 1);
    backends.set(backend, (backends.get(backend) ?? 0) + 1);
  }
  return { services: Object.fromEntries(services), backends: Object.fromEntries(backends) };
}

/** `flowTable` stays what this process has, since its limit is of this process. */
export function withFlowsElsewhere(counters: Counters, { services, backends }: FlowsElsewhere): Counters {
  const backendFlows = withMore(counters.backendFlows, backends);
  return { ...counters, serviceFlows: withMore(counters.serviceFlows, services), backendFlows, drainFlows: backendFlows };
}

function withMore(
  here: ReadonlyMap<string, HeldFlows>, elsewhere: Readonly<Record<string, number>>,
): ReadonlyMap<string, HeldFlows> {
  const [any] = here.values();
  const sums = new Map(here);
  for (const [name, count] of Object.entries(elsewhere)) {
    const held = here.get(name) ?? { count: 0, kind: "exact" as const, atMs: any?.atMs ?? 0 };
    sums.set(name, { ...held, count: held.count + count });
  }
  return sums;
}
