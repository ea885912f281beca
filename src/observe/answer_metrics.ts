// What backends take to answer clients, as metrics. Knows the supervisor's answers; must never judge.

import type { AnswerCount } from "../dataplane/dataplane.ts";
import { backendLabels, type MetricDefinition } from "./metric_definition.ts";

function answers(unit: string, help: string, value: (count: AnswerCount) => number): MetricDefinition {
  return {
    name: `pointsman_backend_${unit}_total`,
    type: "counter",
    labels: ["pool", "backend"],
    help,
    samples: ({ counters }) => [...(counters.nat?.answers ?? [])].map(([name, count]) => [backendLabels(name), value(count)]),
  };
}

export const ANSWER_METRICS: readonly MetricDefinition[] = [
  {
    name: "pointsman_backend_answer_seconds", type: "gauge", labels: ["pool", "backend"],
    help: "How long a backend takes to accept and to answer, its peaks wearing off (proxy; of services with least-response-time).",
    samples: ({ counters }) => [...(counters.latencies ?? [])].map(([name, ms]) => [backendLabels(name), ms / 1000]),
  },
  answers("answers", "Translated flows that a backend has answered: SYNs by a SYN-ACK, first datagrams by one (xdp).",
    (count) => count.answers),
  answers("answer_wait_seconds", "How long clients waited for these answers, all together; three seconds for one at most.",
    ({ waitedMs }) => waitedMs / 1000),
];
