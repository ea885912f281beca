// What services with regions know of where clients are, as metrics. Knows the supervisor's answers; must never judge.

import type { Status } from "../api/schemas.ts";
import type { MetricDefinition, Sample } from "./metric_definition.ts";

type GeoView = NonNullable<Status["services"][number]["geo"]>;

function geoGauge(unit: string, help: string, value: (geo: GeoView) => number | null): MetricDefinition {
  return {
    name: `pointsman_geo_${unit}`,
    type: "gauge",
    help,
    labels: ["service"],
    samples: ({ status }) => status.services.flatMap(({ name, geo }): Sample[] => {
      const found = geo === null ? null : value(geo);
      return found === null ? [] : [[{ service: name }, found]];
    }),
  };
}

export const GEO_METRICS: readonly MetricDefinition[] = [
  geoGauge("prefixes", "Prefixes of clients that are in a region of the service.", ({ prefixes }) => prefixes),
  geoGauge(
    "database_build_timestamp_seconds", "When the database was made by which the service knows where clients are, since the epoch.",
    ({ builtAtMs }) => (builtAtMs === null ? null : builtAtMs / 1000),
  ),
];
