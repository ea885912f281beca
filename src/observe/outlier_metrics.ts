// What outlier detection counts, as metrics. Knows the supervisor's answers; must never judge.

import { backendLabels, type MetricDefinition, type Sample } from "./metric_definition.ts";

export const OUTLIER_METRICS: readonly MetricDefinition[] = [
  {
    name: "pointsman_backend_judged_flows_total",
    type: "counter",
    labels: ["pool", "backend", "outcome"],
    help: "Flows that outlier detection has looked at: ok, answered; failed.",
    samples: ({ totals }) => [...totals.flows].flatMap(([name, { ok, failed }]): Sample[] =>
      [[{ ...backendLabels(name), outcome: "ok" }, ok], [{ ...backendLabels(name), outcome: "failed" }, failed]]),
  },
  {
    name: "pointsman_backend_ejections_total",
    type: "counter",
    labels: ["pool", "backend"],
    help: "Times that a backend was ejected since its flows failed.",
    samples: ({ totals }) => [...totals.flows].map(([name, { ejections }]) => [backendLabels(name), ejections]),
  },
  {
    name: "pointsman_backend_ejections_spared_total",
    type: "counter",
    labels: ["pool", "backend"],
    help: "Times that it was not, since too few of its pool would have been left (ejectedMax).",
    samples: ({ totals }) => [...totals.flows].map(([name, { spared }]) => [backendLabels(name), spared]),
  },
];
