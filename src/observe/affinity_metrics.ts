// What there is to know of clients that are remembered (`affinityTimeout`); nothing where no service remembers any. Knows
// the supervisor's answers; opens no socket.

import type { MetricDefinition } from "./metric_definition.ts";

export const AFFINITY_METRICS: readonly MetricDefinition[] = [
  {
    name: "pointsman_affinities",
    type: "gauge",
    labels: [],
    help: "Clients that are remembered: heard of within affinityTimeout.",
    samples: ({ counters: { affinities } }) => typeof affinities?.count === "number" ? [[{}, affinities.count]] : [],
  },
  {
    name: "pointsman_affinities_max",
    type: "gauge",
    labels: [],
    help: "Clients that fit.",
    samples: ({ counters: { affinities } }) => affinities === undefined ? [] : [[{}, affinities.max]],
  },
  {
    name: "pointsman_service_affinities",
    type: "gauge",
    labels: ["service"],
    help: "Clients that a service remembers; of services with affinityTimeout.",
    samples: ({ counters }) => [...(counters.affinities?.services ?? [])].map(([service, count]) => [{ service }, count]),
  },
];
