// What status, services and backends show: the table, the config, health and counts laid side by side.
// Pure; knows values only, must never ask a plane or a clock.

import type { BackendView, OverrideView, ServiceView } from "../api/schemas.ts";
import type { Counters, PlaneStatus, TrafficCount } from "../dataplane/dataplane.ts";
import type { Certificate } from "../health/judge.ts";
import { formatDestination } from "../model/address.ts";
import type { Config, ServiceConfig } from "../model/config.ts";
import { backendState } from "../model/effective.ts";
import type { EffectiveBackend } from "../model/effective.ts";
import { amountOf } from "../model/held_flows.ts";
import { isUpIn, type RuledPool } from "../model/pool_rules.ts";
import { formatServiceAddress } from "../model/service_address.ts";
import { groupsOf, idealShares, slotsOfParts } from "../model/split.ts";
import { outerProtocols } from "../model/tunnel_error.ts";
import type {
  BackendHealth, Destination, ForwardingTable, Intent, Override, Service,
} from "../model/table.ts";

/** Counts at a time; two of them make a rate. */
export interface Sample {
  readonly atMs: number;
  readonly counters: Counters;
}

export interface ViewInput {
  readonly intent: Intent;
  /** Null before the first apply. */
  readonly table: ForwardingTable | null;
  readonly plane: PlaneStatus;
  readonly now: Sample;
  /** An earlier one, or null. */
  readonly before: Sample | null;
  /** "pool/backend" that are drained and have no flow left. */
  readonly empty: ReadonlySet<string>;
  /** What probes over TLS were shown, by "pool/backend". */
  readonly certificates: ReadonlyMap<string, Certificate>;
}

type Rates = ServiceView["rates"];

const NO_TRAFFIC: TrafficCount = { packets: 0, bytes: 0, flows: 0 };
const NO_RATES: Rates = { packetsPerSecond: 0, bytesPerSecond: 0, flowsPerSecond: 0 };

export function overrideId(override: Pick<Override, "target" | "change">): string {
  return `${override.change.kind}:${override.target.replace("/", ":")}`;
}

export function overrideView(override: Override, config: Config): OverrideView {
  const { target, change, actor, reason, atMs, expiresAtMs } = override;
  const matches = config.pools.some((pool) =>
    pool.backends.some((backend) => `${pool.name}/${backend.name}` === target));
  return { id: overrideId(override), target, change, actor, reason, atMs, expiresAtMs, matches };
}

export function serviceViews(input: ViewInput): ServiceView[] {
  return (input.table?.services ?? []).map((service) => serviceView(service, input));
}

function serviceView(service: Service, input: ViewInput): ServiceView {
  const { table, plane, now, before } = input;
  const { config, name, ring } = service;
  // Clients of every region come to the sockets of the service itself.
  const asked = config.region?.service ?? name;
  const destinations = service.destinations.flatMap((id) => table?.destinations.get(id) ?? []);
  return {
    name,
    endpoint: formatServiceAddress(config),
    protocol: config.protocol,
    forwarding: config.forwarding,
    pool: config.pool,
    split: splitView(service, destinations),
    geo: geoView(config),
    region: config.region?.name ?? null,
    hash: config.hash,
    listening: plane.listening.get(asked) ?? null,
    ringSize: ring.size,
    ringKey: ring.key,
    evenness: evenness(service, destinations),
    backends: destinations.filter(({ pool, backend }) =>
      !input.intent.config.pools.some((each) => each.name === pool && each.sorry === backend)).length,
    backendsUp: destinations.filter(isUpIn).length,
    failedOpen: service.failedOpen,
    traffic: { ...(now.counters.services.get(name) ?? NO_TRAFFIC) },
    rates: rates(now, before, (counters) => counters.services.get(name)),
    flows: amountOf(now.counters.serviceFlows.get(name)),
    affinities: now.counters.affinities?.services.get(name) ?? null,
    error: plane.failed.get(name) ?? plane.failed.get(asked) ?? null,
  };
}

function geoView({ geo }: ServiceConfig): ServiceView["geo"] {
  if (geo === null) return null;
  const { database, prefixes, regions } = geo;
  return {
    database, databaseType: prefixes?.source?.type ?? null, builtAtMs: prefixes?.source?.builtAtMs ?? null,
    prefixes: prefixes?.size ?? 0, regions: regions.map(({ name }) => name),
  };
}

function splitView({ split, ring }: Service, destinations: readonly Destination[]): ServiceView["split"] {
  if (split === null) return null;
  const counts = slotsOfParts(split);
  return split.parts.map(({ name, pool, hundredths, failedOpen }, at) => {
    const own = destinations.filter((each) => each.pool === pool);
    const slots = counts[at]!.now;
    return {
      name, pool, percent: hundredths / 100, slots, share: slots / ring.size,
      backends: own.length, backendsUp: own.filter(isUpIn).length, failedOpen,
    };
  });
}

/** Slots against ideal slots, over those that may have any. */
function evenness(service: Service, destinations: readonly Destination[]): ServiceView["evenness"] {
  const slots = slotCounts(service);
  const taking = destinations.filter((each) => each.weight > 0 && (slots.get(each.id) ?? 0) > 0);
  const weights = new Map(taking.map(({ id, weight }) => [id, weight]));
  const ideals = idealShares(groupsOf(service), (id) => weights.get(id) ?? 0);
  let busiest = taking.length === 0 ? 0 : -Infinity;
  let idlest = taking.length === 0 ? 0 : Infinity;
  let slotsOff = 0;
  for (const { id } of taking) {
    const ideal = ideals.get(id)! * service.ring.size;
    const held = slots.get(id) ?? 0;
    busiest = Math.max(busiest, held / ideal);
    idlest = Math.min(idlest, held / ideal);
    slotsOff = Math.max(slotsOff, Math.abs(held - ideal));
  }
  return { busiest, idlest, slotsOff };
}

// Rings are immutable and shared, so each is counted once.
const countsOfRings = new WeakMap<Uint16Array, ReadonlyMap<number, number>>();

/** Slots after lending, by destination id. */
export function slotCounts(service: Service): ReadonlyMap<number, number> {
  const known = countsOfRings.get(service.ring.slots);
  if (known !== undefined) return known;
  const counts = new Map<number, number>();
  for (const id of service.ring.slots) counts.set(id, (counts.get(id) ?? 0) + 1);
  countsOfRings.set(service.ring.slots, counts);
  return counts;
}

/** `ruled`: what ruledPools() makes of the intent. */
export function backendViews(input: ViewInput, ruled: ReadonlyMap<string, RuledPool>): BackendView[] {
  const { table } = input;
  const used = new Map<string, Use[]>();
  for (const service of table?.services ?? []) {
    for (const id of service.destinations) {
      const destination = table?.destinations.get(id);
      if (destination === undefined) continue;
      const uses = used.get(destination.name) ?? [];
      uses.push({ service, destination });
      used.set(destination.name, uses);
    }
  }
  return [...ruled].flatMap(([pool, { backends }]) =>
    backends.map((backend) => backendView(pool, backend, used.get(backend.name) ?? [], input)));
}

/** A destination as one service uses it. */
interface Use {
  readonly service: Service;
  readonly destination: Destination;
}

function backendView(
  pool: string, backend: EffectiveBackend, uses: readonly Use[], input: ViewInput,
): BackendView {
  const { name } = backend;
  const { counters } = input.now;
  const health = input.intent.health.get(name) ?? null;
  let slots = 0;
  let room = 0;
  for (const { service, destination } of uses) {
    slots += slotCounts(service).get(destination.id) ?? 0;
    room += service.ring.size;
  }
  return {
    name,
    pool,
    backend: backend.config.name,
    address: backend.config.address.text,
    destinations: destinationViews(uses, input.plane),
    state: backendState(backend, health, input.empty.has(name)),
    alive: backend.alive,
    reason: reasonOf(backend, health),
    actor: backend.stateProvenance.source === "override" ? backend.stateProvenance.actor : null,
    sinceMs: sinceOf(backend, health),
    certificateEndsAtMs: input.certificates.get(name)?.endsAtMs ?? null,
    weight: backend.weight,
    weightProvenance: backend.weightProvenance,
    stateProvenance: backend.stateProvenance,
    admission: backend.admission,
    slots,
    share: room === 0 ? 0 : slots / room,
    traffic: { ...(counters.backends.get(name) ?? NO_TRAFFIC) },
    rates: rates(input.now, input.before, (each) => each.backends.get(name)),
    flows: amountOf(counters.backendFlows.get(name)),
  };
}

function destinationViews(
  uses: readonly Use[], plane: PlaneStatus,
): BackendView["destinations"] {
  const views = new Map<number, BackendView["destinations"][number]>();
  for (const { service, destination } of uses) {
    const { id, generation, address, port, forwarding, name } = destination;
    const known = views.get(id);
    if (known !== undefined) {
      known.services.push(service.name);
      continue;
    }
    views.set(id, {
      id, generation, endpoint: formatDestination(address, port), forwarding,
      services: [service.name], neighbour: plane.neighbours.get(name) ?? null,
      pathMtu: outerProtocols(destination).length === 0 ? null : plane.pathMtus.get(name) ?? null,
    });
  }
  return [...views.values()];
}

function reasonOf(backend: EffectiveBackend, health: BackendHealth | null): string {
  const { stateProvenance: said } = backend;
  if (said.source === "override") {
    const what = backend.standing === "maintenance" ? "in maintenance" : "drained";
    return `${what} by ${said.actor}${said.reason === null ? "" : `: ${said.reason}`}`;
  }
  const found = health?.reason ?? "no health check";
  return said.source === "pool" ? `${said.reason}; ${found}` : found;
}

function sinceOf(backend: EffectiveBackend, health: BackendHealth | null): number | null {
  const { stateProvenance: said } = backend;
  if (said.source === "override") return said.atMs;
  return health?.sinceMs ?? null;
}

function rates(
  now: Sample, before: Sample | null, pick: (counters: Counters) => TrafficCount | undefined,
): Rates {
  const seconds = before === null ? 0 : (now.atMs - before.atMs) / 1000;
  if (before === null || seconds <= 0) return NO_RATES;
  const to = pick(now.counters) ?? NO_TRAFFIC;
  const from = pick(before.counters) ?? NO_TRAFFIC;
  // A plane that was replaced counts from zero again.
  const rate = (end: number, start: number): number => Math.max(0, end - start) / seconds;
  return {
    packetsPerSecond: rate(to.packets, from.packets),
    bytesPerSecond: rate(to.bytes, from.bytes),
    flowsPerSecond: rate(to.flows, from.flows),
  };
}
