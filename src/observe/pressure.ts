// What was refused, or given up, because a table or a limit was full: by cause, with the setting that makes room.
// One list for status, metrics and the docs. Pure; knows counts, must never ask a plane.

import type { Counters } from "../dataplane/dataplane.ts";

export interface PressureCause {
  /** Label of the metric. */
  readonly cause: string;
  readonly setting: string;
  /** What was refused or given up. */
  readonly what: string;
  /** Undefined: the plane knows no such thing. */
  readonly count: (counters: Counters) => number | undefined;
}

const incident = (name: string) => ({ incidents }: Counters): number | undefined =>
  incidents === undefined ? undefined : incidents.get(name) ?? 0;
const natVerdict = (name: "DROP_NO_PORT" | "DROP_NAT_FULL") => ({ nat, verdicts }: Counters): number | undefined =>
  nat === undefined ? undefined : verdicts[name]?.packets ?? 0;

export const PRESSURE: readonly PressureCause[] = [
  {
    cause: "remember_pace", setting: "limits.flows", what: "packets whose flows minimal could not remember, since too many were just now",
    count: ({ tracking }) => tracking?.get("unremembered"),
  },
  {
    cause: "flow_evicted", setting: "limits.flows", what: "flows pushed out of the full flow table",
    count: ({ evictions }) => evictions?.flows,
  },
  {
    cause: "flow_refused", setting: "limits.flows", what: "packets whose flows the flow table had no element for",
    count: ({ evictions }) => evictions?.refused,
  },
  {
    cause: "nat_port", setting: "dataplane.nat.ports", what: "packets of new translated flows that found no free port",
    count: natVerdict("DROP_NO_PORT"),
  },
  {
    cause: "nat_full", setting: "limits.natFlows", what: "packets of new translated flows that found the table full",
    count: natVerdict("DROP_NAT_FULL"),
  },
  {
    cause: "affinity_evicted", setting: "limits.affinities", what: "clients forgotten before their affinityTimeout, to make room (proxy)",
    count: ({ affinities }) => affinities?.evicted,
  },
  {
    cause: "connections_max", setting: "proxy.connectionsMax", what: "connections refused",
    count: incident("connections_max"),
  },
  { cause: "sessions_max", setting: "proxy.sessionsMax", what: "datagrams of new sessions dropped", count: incident("sessions_max") },
  {
    cause: "descriptors_max", setting: "the limit of open files", what: "connections and sessions refused",
    count: incident("descriptors_max"),
  },
];

export interface Pressure {
  readonly cause: string;
  readonly count: number;
}

/** Of the causes that the plane knows, also those that never were. */
export function pressureOf(counters: Counters): Pressure[] {
  return PRESSURE.flatMap(({ cause, count: counted }) => {
    const count = counted(counters);
    return count === undefined ? [] : [{ cause, count }];
  });
}

/** For people, where flows that count are being forgotten; else null. */
export function forgettingFlows({ evictions, flowTable }: Counters): string | null {
  if (evictions === undefined || evictions.lately === 0 || evictions.idle > 0) return null;
  return `the flow table is full (${flowTable.max}) of flows that were seen within flowIdle, and pushed out ${evictions.lately}`
    + " between the last two counts: those whose slots have changed lose their backend; raise limits.flows";
}

/** Below all that fits: the kernel keeps some of the room for each CPU, and what is idle takes some too. */
const CROWDED = 0.8;

/** For people, where clients are many enough to be forgotten before their time, or soon will be; else null. */
export function crowdedAffinities({ affinities }: Counters): string | null {
  const { count = null, max = 0 } = affinities ?? {};
  if (count === null || count < max * CROWDED) return null;
  return `${count} clients of services with affinityTimeout are remembered, and ${max} fit: as the table fills, those that were silent`
    + " longest are forgotten before their time; raise limits.affinities";
}
