// Every metric in one table: name, help, labels and where its values come from. The registry, the docs
// and the tests are made from it. Knows the supervisor's answers; opens no socket.

import { collectDefaultMetrics, Counter, Gauge, Registry } from "prom-client";
import type { Status } from "../api/schemas.ts";
import { backendLabels, type Labels, type MetricDefinition, type Sample, type Snapshot } from "./metric_definition.ts";
import { AFFINITY_METRICS } from "./affinity_metrics.ts";
import { ANSWER_METRICS } from "./answer_metrics.ts";
import { GEO_METRICS } from "./geo_metrics.ts";
import { OUTLIER_METRICS } from "./outlier_metrics.ts";
import { PRESSURE, pressureOf } from "./pressure.ts";
import type { Supervisor } from "../supervisor/contract.ts";

const NO_LABELS: Labels = {};

function one(
  name: string,
  type: "counter" | "gauge",
  help: string,
  value: (snapshot: Snapshot) => number,
): MetricDefinition {
  return { name, type, help, labels: [], samples: (snapshot) => [[NO_LABELS, value(snapshot)]] };
}

function traffic(noun: "service" | "backend", unit: "packets" | "bytes" | "flows", help: string): MetricDefinition {
  return {
    name: `pointsman_${noun}_${unit}_total`,
    type: "counter",
    help,
    labels: noun === "service" ? ["service"] : ["pool", "backend"],
    samples: ({ counters }) =>
      [...(noun === "service" ? counters.services : counters.backends)].map(([name, count]) => [
        noun === "service" ? { service: name } : backendLabels(name),
        count[unit],
      ]),
  };
}

type BackendView = Status["backends"][number];
function backendGauge(unit: string, help: string, value: (backend: BackendView) => number | null): MetricDefinition {
  return {
    name: `pointsman_backend_${unit}`,
    type: "gauge",
    help,
    labels: ["pool", "backend"],
    samples: ({ status }) =>
      status.backends.flatMap((backend): Sample[] => {
        const known = value(backend);
        return known === null ? [] : [[{ pool: backend.pool, backend: backend.backend }, known]];
      }),
  };
}

function heldFlows(noun: "service" | "backend", help: string): MetricDefinition {
  return {
    name: `pointsman_${noun}_flows`,
    type: "gauge",
    help,
    labels: noun === "service" ? ["service", "kind"] : ["pool", "backend", "kind"],
    samples: ({ status }) => (noun === "service"
      ? status.services.map(({ name, flows }) => ({ labels: { service: name }, flows }))
      : status.backends.map(({ pool, backend, flows }) => ({ labels: { pool, backend }, flows })))
      .flatMap(({ labels, flows: { count, kind } }): Sample[] => (count === null ? [] : [[{ ...labels, kind }, count]])),
  };
}

type ServiceView = Status["services"][number];
function serviceGauge(unit: string, help: string, value: (service: ServiceView) => number): MetricDefinition {
  return {
    name: `pointsman_service_${unit}`,
    type: "gauge",
    help,
    labels: ["service"],
    samples: ({ status }) => status.services.map((service): Sample => [{ service: service.name }, value(service)]),
  };
}

type PoolView = Status["pools"][number];
function poolGauge(unit: string, help: string, value: (pool: PoolView) => number): MetricDefinition {
  return {
    name: `pointsman_pool_${unit}`,
    type: "gauge",
    help,
    labels: ["pool"],
    samples: ({ status }) => status.pools.map((pool): Sample => [{ pool: pool.name }, value(pool)]),
  };
}

type SubsetView = NonNullable<ServiceView["split"]>[number];
function subsetGauge(unit: string, help: string, value: (subset: SubsetView) => number): MetricDefinition {
  return {
    name: `pointsman_subset_${unit}`,
    type: "gauge",
    help,
    labels: ["service", "subset", "pool"],
    samples: ({ status }) => status.services.flatMap((service) => (service.split ?? []).map((subset): Sample =>
      [{ service: service.name, subset: subset.name, pool: subset.pool }, value(subset)])),
  };
}

export const METRICS: readonly MetricDefinition[] = [
  {
    name: "pointsman_info",
    type: "gauge",
    labels: ["instance", "version"],
    help: "Always 1; the labels say what runs.",
    samples: ({ status }) => [[{ instance: status.instance, version: status.version }, 1]],
  },
  {
    name: "pointsman_plane_info",
    type: "gauge",
    labels: ["mode", "reason"],
    help: "Always 1; the labels say which data plane runs, and why that one.",
    samples: ({ status }) => [[{ mode: status.mode, reason: status.plane.reason }, 1]],
  },
  one("pointsman_ready", "gauge", "1 when every service is served and the last apply succeeded.", ({ status }) =>
    status.ready ? 1 : 0,
  ),
  {
    name: "pointsman_verdict_packets_total",
    type: "counter",
    labels: ["verdict"],
    help: "Packets by what became of them (xdp), or connections and sessions (proxy).",
    samples: ({ counters }) =>
      Object.entries(counters.verdicts).map(([verdict, { packets }]) => [{ verdict }, packets]),
  },
  {
    name: "pointsman_verdict_bytes_total",
    type: "counter",
    labels: ["verdict"],
    help: "Bytes of these packets, from the Ethernet header on (xdp), or payload from clients (proxy).",
    samples: ({ counters }) => Object.entries(counters.verdicts).map(([verdict, { bytes }]) => [{ verdict }, bytes]),
  },
  traffic("service", "packets",
    "Packets forwarded for a service (xdp), or datagrams (proxy: UDP alone, of TCP 0)."),
  traffic("service", "bytes", "Bytes forwarded for a service."),
  traffic("service", "flows", "New flows of a service."),
  traffic("backend", "packets",
    "Packets forwarded to a backend (xdp), or datagrams (proxy: UDP alone, of TCP 0)."),
  traffic("backend", "bytes", "Bytes forwarded to a backend."),
  traffic("backend", "flows", "New flows of a backend."),
  backendGauge("up", "1 when a backend may keep flows.", ({ alive }) => (alive ? 1 : 0)),
  backendGauge(
    "admission_ratio",
    "How much of a backend's share may take new flows, 0 to 1.",
    ({ admission }) => admission / 65536,
  ),
  ...ANSWER_METRICS,
  backendGauge("weight", "Effective weight.", ({ weight }) => weight),
  backendGauge("slots", "Ring slots over all services, after lending.", ({ slots }) => slots),
  heldFlows("backend", "Flows of a backend now, and what sort of number that is; none where nobody can tell."),
  backendGauge(
    "path_mtu_bytes",
    "Path MTU of a backend's tunnels that a router told (xdp), while it counts.",
    ({ destinations }) => {
      const told = destinations.map(({ pathMtu }) => pathMtu).filter((mtu) => mtu !== null);
      return told.length === 0 ? null : Math.min(...told);
    },
  ),
  backendGauge(
    "certificate_expiry_timestamp_seconds",
    "When the certificate that health probes were shown ends, since the epoch, or the first of its issuers' that came with it.",
    ({ certificateEndsAtMs }) => (certificateEndsAtMs === null ? null : certificateEndsAtMs / 1000),
  ),
  serviceGauge("backends", "Backends of a service.", ({ backends }) => backends),
  serviceGauge("backends_up", "Backends of a service that are up.", ({ backendsUp }) => backendsUp),
  serviceGauge("failed_open", "1 when too few are healthy, and all are used (failOpen, panicBelow).", ({ failedOpen }) =>
    failedOpen ? 1 : 0,
  ),
  poolGauge("backends", "Backends of a pool with a positive weight.", ({ backends }) => backends),
  poolGauge("backends_up", "Of those, the ones that could take flows, needed or not.", ({ backendsUp }) => backendsUp),
  {
    name: "pointsman_pool_priority_active",
    type: "gauge",
    labels: ["pool", "priority"],
    help: "1 when the backends of a priority take flows; of pools with reserves.",
    samples: ({ status }) => status.pools.filter(({ priorities }) => priorities.length > 1).flatMap(({ name, priorities }) =>
      priorities.map(({ priority, active }): Sample => [{ pool: name, priority: String(priority) }, active ? 1 : 0])),
  },
  {
    name: "pointsman_pool_quorum",
    type: "gauge",
    labels: ["pool"],
    help: "1 while as many backends of a pool are up as its quorum asks for, 0 once it is lost; none while nobody knows.",
    samples: ({ status }) => status.pools.flatMap(({ name, quorum }): Sample[] =>
      typeof quorum?.met === "boolean" ? [[{ pool: name }, quorum.met ? 1 : 0]] : []),
  },
  {
    name: "pointsman_pool_spill_ratio",
    type: "gauge",
    labels: ["pool"],
    help: "Part of new flows that goes to other zones than this instance's; of pools with spillBelow and local backends.",
    samples: ({ status }) => status.pools.flatMap(({ name, zone }): Sample[] => zone === null ? [] : [[{ pool: name }, zone.spill]]),
  },
  {
    name: "pointsman_pool_sorry",
    type: "gauge",
    labels: ["pool"],
    help: "1 when the sorry backend of a pool takes flows; of pools that have one.",
    samples: ({ status }) => status.pools.flatMap(({ name, sorry }): Sample[] => sorry === null ? [] : [[{ pool: name }, sorry ? 1 : 0]]),
  },
  subsetGauge("ratio", "Part of a split service's traffic that a subset is to have, 0 to 1.", ({ percent }) => percent / 100),
  subsetGauge(
    "slots", "Ring slots that a subset of a split service has now, with those lent to it by subsets that nobody is up in.",
    ({ slots }) => slots,
  ),
  heldFlows("service", "Flows of a service now, and what sort of number that is; none where nobody can tell."),
  serviceGauge("served", "0 when the plane cannot serve it.", ({ error }) => (error === null ? 1 : 0)),
  {
    name: "pointsman_incidents_total",
    type: "counter",
    labels: ["incident"],
    help: "What befell connections and sessions beside their verdict: limits, timeouts, retries (proxy).",
    samples: ({ counters }) => [...(counters.incidents ?? [])].map(([incident, n]) => [{ incident }, n]),
  },
  {
    name: "pointsman_tracking_packets_total",
    type: "counter",
    labels: ["outcome"],
    help:
      "Packets of services with tracking minimal that met a slot with exceptions, by what became of them. "
      + "unremembered: more flows than limits.flows allows for.",
    samples: ({ counters }) => [...(counters.tracking ?? [])].map(([outcome, n]) => [{ outcome }, n]),
  },
  {
    name: "pointsman_quic_packets_total",
    type: "counter",
    labels: ["outcome"],
    help:
      "Packets of services with quicLb by what their connection ID said: routed by it, or why flow and ring decided.",
    samples: ({ counters }) => [...(counters.quic ?? [])].map(([outcome, n]) => [{ outcome }, n]),
  },
  one("pointsman_nat_flows", "gauge", "Translated flows under way, all of them (exact).", ({ counters }) => counters.nat?.count ?? 0),
  one("pointsman_nat_flows_max", "gauge", "Translated flows that fit.", ({ counters }) => counters.nat?.max ?? 0),
  {
    name: "pointsman_nat_claims_total",
    type: "counter",
    labels: ["outcome"],
    help:
      "Translated flows begun: claimed, all of them; port_translated, in nat with another port than the client's;"
      + " taken_over, with a port whose flow was over and not swept yet.",
    samples: ({ counters }) => [...(counters.nat?.outcomes ?? [])].map(([outcome, n]) => [{ outcome }, n]),
  },
  one("pointsman_nat_ended_total", "counter", "Translated flows that sweeps ended.",
    ({ counters }) => counters.nat?.ended ?? 0),
  {
    name: "pointsman_nat_unanswered",
    type: "gauge",
    labels: ["pool", "backend"],
    help: "Translated flows without an answer for three seconds; the way back may not lead through this host.",
    samples: ({ counters }) => [...(counters.nat?.unanswered ?? [])].map(([name, n]) => [backendLabels(name), n]),
  },
  {
    name: "pointsman_flows",
    type: "gauge",
    labels: ["kind"],
    help:
      "Flows of all services now, by what sort of number that is: exact (proxy; nat, fullnat), tracked (seen within"
      + " flowIdle) or estimated (one flow in 64 looked at); without those that nobody can tell.",
    samples: ({ status }) => status.flows.flatMap(({ count, kind }): Sample[] => count === null ? [] : [[{ kind }, count]]),
  },
  {
    name: "pointsman_flow_table_entries",
    type: "gauge",
    labels: [],
    help: "What the flow table holds, of exceptions alone where a service has tracking minimal (xdp), or connections and sessions (proxy).",
    samples: ({ counters: { flowTable: { count } } }) => (count === null ? [] : [[NO_LABELS, count]]),
  },
  {
    name: "pointsman_flow_table_idle_entries",
    type: "gauge",
    labels: [],
    help: "Entries of flows that were silent for longer than they may be (xdp): they give way first.",
    samples: ({ counters: { evictions } }) => (evictions === undefined ? [] : [[NO_LABELS, evictions.idle]]),
  },
  {
    name: "pointsman_pressure_total",
    type: "counter",
    labels: ["cause"],
    help: `What a full table or limit refused or gave up: ${PRESSURE.map(({ cause, what }) => `${cause}, ${what}`).join("; ")}.`,
    samples: ({ counters }) => pressureOf(counters).map(({ cause, count }) => [{ cause }, count]),
  },
  one("pointsman_flow_table_entries_max", "gauge", "Entries that fit.", ({ counters }) => counters.flowTable.max),
  ...AFFINITY_METRICS,
  {
    name: "pointsman_health_transitions_total",
    type: "counter",
    labels: ["pool", "backend", "to"],
    help: "Changes of a backend's health, by what it became.",
    samples: ({ totals }) => [...totals.transitions].flatMap(([name, counts]) =>
      [...counts].map(([to, count]): Sample => [{ ...backendLabels(name), to }, count])),
  },
  ...GEO_METRICS,
  ...OUTLIER_METRICS,
  one("pointsman_compiles_total", "counter", "Forwarding tables compiled.", ({ totals }) => totals.compiles),
  one("pointsman_ring_rebuilds_total", "counter", "Rings whose content changed.", ({ totals }) => totals.ringRebuilds),
  one("pointsman_applies_total", "counter", "Tables applied.", ({ totals }) => totals.applies),
  one(
    "pointsman_apply_failures_total",
    "counter",
    "Applies that failed; each is tried again.",
    ({ totals }) => totals.applyFailures,
  ),
  one("pointsman_apply_seconds_total", "counter", "Time spent applying.", ({ totals }) => totals.applySeconds),
  one(
    "pointsman_last_apply_seconds",
    "gauge",
    "How long the last apply took.",
    ({ totals }) => totals.lastApplySeconds,
  ),
  {
    name: "pointsman_last_verdict_seconds",
    type: "gauge",
    labels: [],
    help: "From the last health verdict that changed a table to its last slot written.",
    samples: ({ totals }) => (totals.lastVerdictSeconds === null ? [] : [[NO_LABELS, totals.lastVerdictSeconds]]),
  },
  one("pointsman_reloads_total", "counter", "Configurations taken from the file.", ({ totals }) => totals.reloads),
  one(
    "pointsman_reloads_refused_total",
    "counter",
    "Reloads refused because the file was invalid or unreadable.",
    ({ totals }) => totals.reloadsRefused,
  ),
  one("pointsman_config_revision", "gauge", "Revision in force.", ({ status }) => status.config.revision),
  one(
    "pointsman_config_loaded_timestamp_seconds",
    "gauge",
    "When it was loaded, since the epoch.",
    ({ status }) => status.config.loadedAtMs / 1000,
  ),
  one(
    "pointsman_config_file_differs",
    "gauge",
    "1 when the file on disk differs from what is in force.",
    ({ status }) => (status.config.fileDiffers === true ? 1 : 0),
  ),
  one("pointsman_overrides", "gauge", "Overrides in force.", ({ status }) => status.overrides.length),
  one("pointsman_events_total", "counter", "Events recorded.", ({ totals }) => totals.events),
];

/**
 * A registry that asks the supervisor at each scrape. Kernel counters are the truth, so a counter is
 * reset and set to them; with the reset the series of a removed backend go too.
 */
export function createRegistry(supervisor: Supervisor): Registry {
  const registry = new Registry();
  let snapshot: Snapshot | null = null;
  const take = (): Snapshot => {
    if (snapshot === null) {
      snapshot = { status: supervisor.status(), counters: supervisor.counters(), totals: supervisor.totals() };
      // All collectors of one scrape start in the same turn of the event loop.
      setImmediate(() => {
        snapshot = null;
      });
    }
    return snapshot;
  };
  for (const definition of METRICS) register(registry, definition, take);
  collectDefaultMetrics({ register: registry });
  return registry;
}

function register(registry: Registry, definition: MetricDefinition, take: () => Snapshot): void {
  const { name, help, samples } = definition;
  const common = { name, help, labelNames: [...definition.labels], registers: [registry] };
  if (definition.type === "gauge") {
    new Gauge({
      ...common,
      collect() {
        this.reset();
        // A reset leaves a 0 where there is no label: that would be a value, and nobody has measured it.
        if (definition.labels.length === 0) this.remove();
        for (const [labels, value] of samples(take())) this.set(labels, value);
      },
    });
  } else {
    new Counter({
      ...common,
      collect() {
        this.reset();
        for (const [labels, value] of samples(take())) this.inc(labels, value);
      },
    });
  }
}

/** The documentation's table, from the same definitions. */
export function metricsTable(): string {
  const rows = METRICS.map(
    ({ name, type, labels, help }) => `| \`${name}\` | ${type} | ${labels.join(", ")} | ${help} |\n`,
  ).join("");
  return `| metric | type | labels | meaning |\n|---|---|---|---|\n${rows}`;
}
