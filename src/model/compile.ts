// compile: from everything that is wanted and known (an Intent) to where every packet goes (a
// ForwardingTable). A pure function of the intent and of what the previous ledger promised; the memo
// only saves work. Knows no map, socket, file or clock.

import { formatDestination, formatEndpoint } from "./address.ts";
import type { BackendConfig, Config, PoolConfig, ServiceConfig, Subset } from "./config.ts";
import type { EffectiveBackend } from "./effective.ts";
import { claimDestinations, claimServices, destinationIds } from "./ledger.ts";
import { natTable } from "./nat.ts";
import { compareKeys } from "./permutation.ts";
import { ruledPools, ruleWarnings } from "./pool_rules.ts";
import { rememberLimits } from "./remember_pace.ts";
import { quicRouting } from "./quic_servers.ts";
import { regionKey, serviceKey, singlePort } from "./service_address.ts";
import { followSlots, slotsOf } from "./slot_changes.ts";
import type { Claims, Previous } from "./slot_changes.ts";
import type { RingMember, RingMemo } from "./table_ring.ts";
import { createRingMemo, saysSorry, takesFlows } from "./table_ring.ts";
import { affinityOf } from "./affinity.ts";
import { isPickAlgorithm, isSteered, pickWeight } from "./pick.ts";
import type { Picking } from "./pick.ts";
import { poolsOf } from "./split.ts";
import { trackingOf } from "./flow_decide.ts";
import { SETTLED } from "./slot_states.ts";
import type { Destination, ForwardingTable, Intent, Service, SplitPart } from "./table.ts";
import { ADMISSION_MAX } from "./table.ts";
import { xxh64 } from "./xxh64.ts";

/** One backend as one service has it configured. */
interface Member {
  readonly pool: PoolConfig;
  /** Where in the pool it is. */
  readonly position: number;
  readonly port: number | null;
  readonly identity: bigint;
  /** Ring key, unique within the service. */
  readonly key: string;
}

/** The same with everything that is known of it, but before it has an id. */
interface Candidate extends Member {
  readonly backend: EffectiveBackend;
}

/** What follows from a service's config alone. */
interface Membership {
  /** In key order, which is the order of everything that is computed from them. */
  readonly members: readonly Member[];
  readonly warnings: readonly string[];
}

/** What a backend's permutation is made of, in the ring of this service. */
export function ringKey(backend: BackendConfig, service: ServiceConfig): string {
  if (backend.hashKey !== null) return backend.hashKey;
  // Services of one affinity group share this key, so a client meets the same host on every port.
  const port = backendPort(backend, service);
  // With several ports there is none that the backend is at.
  if (service.affinityGroup !== null || port === null) return backend.address.text;
  return formatEndpoint(backend.address, port);
}

/** Where packets of this service find the backend; null: at the port that each came for. */
function backendPort(backend: BackendConfig, service: ServiceConfig): number | null {
  return backend.port ?? singlePort(service.ports);
}

/** What a destination's id belongs to. */
export function destinationIdentity(
  name: string, address: Destination["address"], port: number | null, forwarding: string,
): bigint {
  return xxh64(`${name}|${formatDestination(address, port)}|${forwarding}`, 0);
}

/** The way of forwarding with all that tells two destinations of one backend apart. */
function wayOf({ forwarding, gue }: ServiceConfig): string {
  return forwarding === "gue" ? `gue/${gue.port}/${gue.variant}` : forwarding;
}

/**
 * Throws LedgerFull when the config has more destinations or services than its limits allow. Pass the
 * same memo again to rebuild only the rings that changed.
 */
export function compile(intent: Intent, previous: Previous, memo: RingMemo = createRingMemo()): ForwardingTable {
  const { config } = intent;
  const memberships = membershipsOf(config);
  const warnings = memberships.flatMap((each) => each.warnings);
  const wanted = memberships.flatMap(({ members }) => members.map((member) => member.identity));
  const limit = config.limits.backends;
  const claimed = {
    destinations: claimDestinations(previous.ledger.destinations, wanted, limit, destinationIds(limit)),
    services: claimServices(previous.ledger.services, config.services.map(serviceKey), config.limits.services),
  };
  const follow = followSlots(previous, claimed, config.services.map(serviceKey));
  const ruled = ruledPools(intent);
  for (const [pool, each] of ruled) warnings.push(...ruleWarnings(pool, each));
  const destinations = new Map<number, Destination>();
  const services = config.services.map((service, position): Service => {
    const candidates = memberships[position]!.members.map((member): Candidate =>
      ({ ...member, backend: ruled.get(member.pool.name)!.backends[member.position]! }));
    for (const candidate of candidates) addDestination(destinations, candidate, service, claimed);
    const made = compileService(service, candidates, claimed, intent.hashSeed, memo, warnings);
    return follow(isSteered(service.algorithm, intent.plane ?? null) ? { ...made, picking: null } : made);
  });
  memo.rotate();
  return {
    generation: previous.generation + 1,
    instance: config.instance,
    services,
    destinations: new Map([...destinations].sort(([a], [b]) => a - b)),
    orphan: config.dataplane.orphan,
    icmpErrorsPerSecond: config.limits.icmpErrors,
    pathMtuAgeMs: config.dataplane.pathMtuAgeMs,
    nat: natTable(config.dataplane.nat, config.limits.natFlows),
    affinitiesMax: services.some(({ affinity }) => affinity !== null) ? config.limits.affinities : 0,
    remember: rememberLimits(config.limits.flows, services.map((service) =>
      ({ ...service.config, tracking: trackingOf(service) }))),
    ledger: { ...claimed, slots: slotsOf(services, previous, claimed) },
    warnings,
  };
}

// Configs are immutable, and health changes far more often than they do.
const membershipsByConfig = new WeakMap<Config, readonly Membership[]>();

function membershipsOf(config: Config): readonly Membership[] {
  let memberships = membershipsByConfig.get(config);
  if (memberships === undefined) {
    memberships = config.services.map((service) => membershipOf(service, config));
    membershipsByConfig.set(config, memberships);
  }
  return memberships;
}

function membershipOf(service: ServiceConfig, config: Config): Membership {
  const warnings: string[] = [];
  const members = poolsOf(service).flatMap((name) => {
    const pool = config.pools.find((each) => each.name === name);
    if (pool !== undefined) return membersOf(pool, service, warnings);
    warnings.push(`service ${service.name}: there is no pool ${name}`);
    return [];
  });
  return { members, warnings };
}

function membersOf(pool: PoolConfig, service: ServiceConfig, warnings: string[]): Member[] {
  const nameOf = ({ position }: Member): string => `${pool.name}/${pool.backends[position]!.name}`;
  const members = pool.backends.map((backend, position): Member => {
    const port = backendPort(backend, service);
    const name = `${pool.name}/${backend.name}`;
    const identity = destinationIdentity(name, backend.address, port, wayOf(service));
    return { pool, position, port, identity, key: ringKey(backend, service) };
  });
  members.sort((a, b) => compareKeys(a.key, b.key) || compareKeys(nameOf(a), nameOf(b)));
  return members.map((member, index) => {
    const before = members[index - 1];
    if (before?.key !== member.key) return member;
    // A ring has each key once. The name makes the second one differ, on every node alike.
    warnings.push(`service ${service.name}: backend ${nameOf(member)} has the ring key ${member.key}`
      + ` of ${nameOf(before)}; give one of them a hashKey of its own`);
    return { ...member, key: `${member.key}#${nameOf(member)}` };
  });
}

function addDestination(
  destinations: Map<number, Destination>, candidate: Candidate, service: ServiceConfig, ledger: Claims,
): void {
  const { backend, pool, port, identity } = candidate;
  const { id, generation } = ledger.destinations.get(identity)!;
  if (destinations.has(id)) return;
  destinations.set(id, {
    id,
    generation,
    identity,
    name: backend.name,
    pool: pool.name,
    backend: backend.config.name,
    address: backend.config.address,
    port,
    forwarding: service.forwarding,
    gue: service.forwarding === "gue" ? service.gue : null,
    mac: backend.config.mac,
    alive: backend.alive,
    admission: backend.admission,
    resets: backend.resets,
    weight: backend.weight,
    weightProvenance: backend.weightProvenance,
    stateProvenance: backend.stateProvenance,
  });
}

function compileService(
  config: ServiceConfig, candidates: readonly Candidate[], ledger: Claims, hashSeed: bigint,
  memo: RingMemo, warnings: string[],
): Service {
  const made = config.split === null
    ? { ...compileRing(config, `service ${config.name}`, candidates, ledger, memo, warnings), split: null }
    : compileSplit(config, config.split, candidates, ledger, memo, warnings);
  return {
    index: ledger.services.get(serviceKey(config))!,
    name: config.name,
    config,
    hashSeed,
    ring: made.ring,
    split: made.split,
    regions: config.geo === null ? null : {
      prefixes: config.geo.prefixes,
      services: config.geo.regions.map(({ name }) => ledger.services.get(regionKey(config, name))!),
      before: null,
    },
    states: SETTLED,
    rememberedSinceNs: 0n,
    affinity: affinityOf(config, serviceKey(config)),
    picking: made.picking,
    destinations: candidates.map(({ identity }) => ledger.destinations.get(identity)!.id),
    failedOpen: made.failedOpen,
    quicLb: quicRouting(config, candidates.map(({ backend, identity }) =>
      [backend.config, ledger.destinations.get(identity)!.id] as const), warnings),
  };
}

/** `who`: the service, or a part of it, for warnings. */
function compileRing(
  config: ServiceConfig, who: string, candidates: readonly Candidate[], ledger: Claims, memo: RingMemo, warnings: string[],
): Pick<SplitPart, "ring" | "failedOpen" | "takesFlows"> & Pick<Service, "picking"> & { readonly sorry: string | null } {
  const why = whyAll(config, candidates);
  const failedOpen = why !== null;
  const members = candidates.map((candidate): RingMember => memberOf(candidate, ledger, failedOpen));
  const { ring, without, turns } = memo.ring(members, config.ringSize, config.algorithm);
  for (const index of without) {
    const { name, weight } = candidates[index]!.backend;
    warnings.push(`${who}: backend ${name} (weight ${weight}) gets no slot of ${config.ringSize};`
      + " raise ringSize or its weight");
  }
  const takes = members.some(takesFlows);
  const sorry = takes ? null : candidates.find((_, at) => saysSorry(members[at]!))?.backend.name ?? null;
  if (why !== null) warnings.push(`${who}: ${why}`);
  else if (!takes) warnings.push(`${who}: no backend can take flows${sorry === null ? "" : `, and ${sorry} says sorry`}`);
  const picking = pickingOf(config, turns, candidates.filter((_, at) => takesFlows(members[at]!)));
  return { ring, failedOpen, takesFlows: takes, picking, sorry };
}

/** Each part has the ring that a service with its pool alone would have; who has a slot, the percentages say. */
function compileSplit(
  config: ServiceConfig, subsets: readonly Subset[], candidates: readonly Candidate[], ledger: Claims, memo: RingMemo,
  warnings: string[],
): Pick<Service, "ring" | "split" | "picking" | "failedOpen"> {
  const made = subsets.map((subset) => {
    const own = candidates.filter(({ pool }) => pool.name === subset.pool);
    // Who is to have nothing gets nothing of a panic.
    const calm = subset.hundredths === 0 ? { ...config, failOpen: false, panicBelow: 0 } : config;
    const rings = compileRing(calm, `service ${config.name}, subset ${subset.name}`, own, ledger, memo, warnings);
    return { ...subset, ...rings, destinations: own.map(({ identity }) => ledger.destinations.get(identity)!.id) };
  });
  // Who says sorry is asked where no part has anybody else.
  const isSorry = !made.some(({ hundredths, takesFlows: takes }) => takes && hundredths > 0);
  const parts = made.map(({ picking: _, sorry, ...part }): SplitPart =>
    ({ ...part, takesFlows: part.takesFlows || (isSorry && sorry !== null) }));
  const { ring, split } = memo.joined(parts, config.ringSize);
  // Flows that are placed one by one are not split: check refuses it.
  return { ring, split, picking: null, failedOpen: parts.some((part) => part.failedOpen) };
}

function memberOf({ backend, key, identity }: Candidate, ledger: Claims, failedOpen: boolean): RingMember {
  const { id } = ledger.destinations.get(identity)!;
  const { weight, alive, admission, isSorry } = backend;
  const asIs = !failedOpen || backend.drained || backend.isHeldBack;
  return { id, key, weight, isSorry, ...(asIs ? { alive, admission } : { alive: true, admission: ADMISSION_MAX }) };
}

/** `eligible`: who may get flows. */
function pickingOf(config: ServiceConfig, turns: number, eligible: readonly Candidate[]): Picking | null {
  const { algorithm: by, loadFactorPercent } = config;
  if (!isPickAlgorithm(by)) return null;
  const weightTotal = eligible.reduce((sum, { backend }) => sum + pickWeight(backend), 0);
  return { by, turns, loadFactorPercent, weightTotal };
}

/**
 * Why all backends get flows, whatever health says of them; null: they do not. A drain or maintenance is an
 * operator's word about one backend, so it holds even then, and that backend does not count. Nor is it all whom
 * a rule of the pool holds back: as long as the others do, or the pool as a whole, it is no panic.
 */
function whyAll({ failOpen, panicBelow }: ServiceConfig, candidates: readonly Candidate[]): string | null {
  const all = candidates.map((candidate) => candidate.backend).filter(({ weight, drained }) => weight > 0 && !drained);
  const asked = all.filter(({ isHeldBack }) => !isHeldBack);
  const upOf = (backends: typeof all): number => backends.filter(({ isUp }) => isUp).length;
  const up = upOf(asked);
  if (up === asked.length) return null;
  if (up === 0 && failOpen) return "every backend is out, and failOpen sends to all of them";
  if ([asked, all].some((backends) => upOf(backends) * 100 >= panicBelow * backends.length)) return null;
  return `${up} of ${asked.length} backends are up, fewer than ${panicBelow}% (panicBelow): all of them get flows`;
}
