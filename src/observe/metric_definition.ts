// What a metric is, for those who define some. Knows the supervisor's answers; must never know a registry.

import type { Status } from "../api/schemas.ts";
import type { Counters } from "../dataplane/dataplane.ts";
import type { SupervisorTotals } from "../supervisor/contract.ts";

/** What one scrape looks at: taken once, so that a scrape agrees with itself. */
export interface Snapshot {
  readonly status: Status;
  readonly counters: Counters;
  readonly totals: SupervisorTotals;
}

export type Labels = Readonly<Record<string, string>>;
export type Sample = readonly [Labels, number];

export interface MetricDefinition {
  /** pointsman_<noun>_<unit>; counters end in _total. Seconds and bytes only. */
  readonly name: string;
  readonly type: "counter" | "gauge";
  readonly help: string;
  readonly labels: readonly string[];
  readonly samples: (snapshot: Snapshot) => readonly Sample[];
}

/** Of "pool/backend". */
export function backendLabels(name: string): Labels {
  const slash = name.indexOf("/");
  return { pool: name.slice(0, slash), backend: name.slice(slash + 1) };
}
