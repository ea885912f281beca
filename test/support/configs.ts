// Configs for tests without the YAML parser: a sketch of what matters, everything else at its default.
// Knows the shape of Config; must never grow rules of its own.

import type { NatConfig } from "../../src/model/nat.ts";
import { parseAddress, parsePrefix } from "../../src/model/address.ts";
import type { Address } from "../../src/model/address.ts";
import type {
  Algorithm, BackendConfig, Config, DataplaneMode, Forwarding, Gue, HashInput, HashSeed, IgnoredKeys,
  PoolConfig, Problem, Region, ServiceConfig, ServiceGeo, Subset, Tracking,
} from "../../src/model/config.ts";
import type { FeedbackRules } from "../../src/model/feedback.ts";
import type { DampingRules, OutlierRules, PoolHealth } from "../../src/model/health_check.ts";
import { makeRegions } from "../../src/geo/load.ts";
import { RegionPrefixes, withRegions } from "../../src/model/regions.ts";
import { serviceAt } from "./service_at.ts";
import type { ParseResult } from "../../src/supervisor/contract.ts";

/** As the schema has it by default. */
export const NAT: NatConfig = {
  sources: [], ports: { from: 10_000, to: 32_767 }, node: 0, nodes: 1,
  timeouts: { synMs: 30_000, establishedMs: 7_440_000, finMs: 120_000, rstMs: 10_000, udpMs: 120_000 },
};

export interface BackendSketch {
  readonly name: string;
  readonly address?: string;
  readonly port?: number;
  readonly weight?: number;
  readonly hashKey?: string;
  readonly priority?: number;
  readonly zone?: string;
}

export interface ServiceSketch {
  readonly name: string;
  /** Or a prefix. */
  readonly address?: string;
  /** Or a range, or "any". */
  readonly port?: number | string;
  readonly protocol?: "tcp" | "udp";
  readonly forwarding?: Forwarding;
  readonly gue?: Partial<Gue>;
  readonly policy?: ServiceConfig["policy"];
  readonly pool?: string;
  /** Instead of a pool. */
  readonly split?: readonly Subset[];
  readonly geo?: GeoSketch;
  readonly ringSize?: number;
  readonly hash?: HashInput;
  readonly failOpen?: boolean;
  readonly panicBelow?: number;
  readonly affinityGroup?: string;
  readonly affinityTimeoutMs?: number | null;
  readonly tracking?: Tracking;
  readonly algorithm?: Algorithm;
  readonly flowIdleMs?: number;
  readonly changeWindowMs?: number;
  readonly secondChance?: boolean;
}

export interface GeoSketch {
  readonly database?: string;
  readonly regions: readonly (Pick<Region, "name" | "pool"> & Partial<Record<"countries" | "continents" | "networks", readonly string[]>>)[];
}

export type PoolRules = Pick<PoolConfig, "reserves" | "sorry" | "spillBelow" | "quorum">;

export interface ConfigSketch {
  readonly instance?: string;
  readonly zone?: string;
  readonly mode?: DataplaneMode;
  readonly interfaces?: readonly string[];
  readonly seed?: string;
  readonly seedFile?: string;
  readonly portOffset?: number;
  readonly limits?: { readonly services?: number; readonly backends?: number };
  readonly probes?: boolean | "tunnel";
  readonly slowStartMs?: number;
  readonly outlier?: OutlierRules;
  readonly damping?: DampingRules;
  readonly feedback?: FeedbackRules;
  /** By pool: backends, or names that get 10.0.0.1, 10.0.0.2, … */
  readonly pools: Readonly<Record<string, readonly (BackendSketch | string)[]>>;
  /** By pool. */
  readonly rules?: Readonly<Record<string, Partial<PoolRules>>>;
  readonly services: readonly ServiceSketch[];
  /** Makes the sketch an invalid config with this reason. */
  readonly invalid?: string;
  /** Paths of keys that the proxy plane ignores. */
  readonly ignoredByProxy?: readonly string[];
}

export function address(text: string): Address {
  const parsed = parseAddress(text);
  if (parsed === null) throw new RangeError(`${text} is no address`);
  return parsed;
}

const PROBES: Exclude<PoolHealth, { type: "none" }> = {
  type: "tcp", intervalMs: 1000, timeoutMs: 500, rise: 2, fall: 3, jitter: 0, port: null,
  via: "direct", source: null,
};

function healthOf({ probes = false, slowStartMs, outlier, damping, feedback }: ConfigSketch): PoolHealth {
  const passive = { ...(outlier === undefined ? {} : { outlier }), ...(damping === undefined ? {} : { damping }) };
  if (probes === false) return { type: "none", ...passive };
  const slow = { ...(slowStartMs === undefined ? {} : { slowStartMs }), ...(feedback === undefined ? {} : { feedback }) };
  return { ...PROBES, ...slow, ...passive, via: probes === "tunnel" ? "tunnel" : "direct" };
}

export function configOf(sketch: ConfigSketch): Config {
  const pools = Object.entries(sketch.pools).map(([name, backends]): PoolConfig => ({
    name,
    inline: false,
    health: healthOf(sketch),
    reserves: { minimum: { count: 1 }, ...sketch.rules?.[name]?.reserves },
    sorry: sketch.rules?.[name]?.sorry ?? null, spillBelow: sketch.rules?.[name]?.spillBelow ?? null,
    quorum: sketch.rules?.[name]?.quorum ?? null,
    backends: backends.map((each, index) =>
      backendOf(typeof each === "string" ? { name: each } : each, index)),
  }));
  return {
    version: 1,
    instance: sketch.instance ?? "main", zone: sketch.zone ?? null,
    dataplane: {
      mode: sketch.mode ?? "auto",
      interfaces: sketch.interfaces ?? [],
      macs: [],
      xdp: "auto",
      hashSeed: seedOf(sketch),
      proxy: { bind: "vip", portOffset: sketch.portOffset ?? 0, drainTimeoutMs: 600_000 },
      orphan: { afterMs: 30_000, action: "keep" },
      probes: { mark: null, table: null },
      tunnelSource: { ipv4: null, ipv6: null }, pathMtuAgeMs: 600_000,
      nat: NAT,
    },
    limits: {
      services: sketch.limits?.services ?? 256, backends: sketch.limits?.backends ?? 4096, flows: 65_536,
      fragments: 1024, natFlows: 1024, affinities: 1024, icmpErrors: 1000,
    },
    control: { socket: null, group: null },
    observe: { listen: null },
    log: { level: "info" },
    stateDirectory: null,
    pools,
    services: sketch.services.map(serviceOf).flatMap(withRegions),
  };
}

/** The sketch as JSON text, for `parseSketch`. */
export function sketchText(sketch: ConfigSketch): string {
  return JSON.stringify(sketch);
}

/** A parser that the supervisor can be given: text of `sketchText` to Config. */
export function parseSketch(file: string, bytes: Uint8Array): ParseResult {
  const problem = (reason: string): ParseResult => ({
    problems: [{ severity: "error", file, line: 1, column: 1, path: "", reason, hint: null }],
  });
  let sketch: ConfigSketch;
  try {
    sketch = JSON.parse(new TextDecoder().decode(bytes)) as ConfigSketch;
  } catch (error) {
    return problem(String(error));
  }
  if (sketch.invalid !== undefined) return problem(sketch.invalid);
  return { config: configOf(sketch), warnings: [], ignored: ignoredIn(file, sketch) };
}

function ignoredIn(file: string, { ignoredByProxy = [] }: ConfigSketch): IgnoredKeys {
  const proxy = ignoredByProxy.map((path): Problem => (
    { severity: "warning", file, line: 1, column: 1, path, reason: "ignored by the proxy plane", hint: null }));
  return { xdp: [], proxy };
}

function seedOf({ seed, seedFile }: ConfigSketch): HashSeed {
  if (seed !== undefined) return { from: "inline", seed: BigInt(`0x${seed}`) };
  return seedFile === undefined ? { from: "state" } : { from: "file", path: seedFile };
}

function backendOf(sketch: BackendSketch, index: number): BackendConfig {
  return {
    name: sketch.name,
    address: address(sketch.address ?? `10.0.${Math.floor(index / 250)}.${(index % 250) + 1}`),
    port: sketch.port ?? null,
    weight: sketch.weight ?? 100,
    hashKey: sketch.hashKey ?? null,
    mac: null,
    serverIds: [],
    priority: sketch.priority ?? 0, zone: sketch.zone ?? null,
  };
}

/** Without prefixes, as a config that was parsed. */
export function geoOf({ database, regions }: GeoSketch): ServiceGeo {
  return {
    database: database ?? null, prefixes: null,
    regions: regions.map(({ name, pool, countries = [], continents = [], networks = [] }) =>
      ({ name, pool, countries, continents, networks: networks.map((text) => parsePrefix(text)!) })),
  };
}

/** With prefixes, of regions that are networks alone. */
export function locatedByNetworks(sketch: GeoSketch): ServiceGeo {
  const geo = geoOf(sketch);
  const made = makeRegions(null, [geo.regions.map((each) => ({ ...each, networks: each.networks.map(({ text }) => text) }))]);
  if ("reason" in made) throw new Error(made.reason);
  return { ...geo, prefixes: new RegionPrefixes(JSON.stringify(sketch), null, made.columns[0]!) };
}

function serviceOf(sketch: ServiceSketch, index: number): ServiceConfig {
  return {
    name: sketch.name,
    ...serviceAt(sketch.address ?? "203.0.113.10", sketch.port ?? 80 + index),
    protocol: sketch.protocol ?? "tcp",
    forwarding: sketch.forwarding ?? "l2", gue: { port: 6080, variant: 0, ...sketch.gue },
    algorithm: sketch.algorithm ?? "maglev", loadFactorPercent: 125, panicBelow: sketch.panicBelow ?? 0,
    hash: sketch.hash ?? "5-tuple",
    sourcePrefix: { ipv4: 32, ipv6: 64 },
    ringSize: sketch.ringSize ?? 251,
    tracking: sketch.tracking ?? "full",
    flowIdleMs: sketch.flowIdleMs ?? 60_000, changeWindowMs: sketch.changeWindowMs ?? 300_000, secondChance: sketch.secondChance ?? false,
    affinityGroup: sketch.affinityGroup ?? null, affinityTimeoutMs: sketch.affinityTimeoutMs ?? null, mssMax: null,
    quicLb: null,
    failOpen: sketch.failOpen ?? false,
    vip: { assign: "none" },
    pool: sketch.split === undefined ? sketch.pool ?? "web" : null,
    split: sketch.split ?? null,
    geo: sketch.geo === undefined ? null : geoOf(sketch.geo), region: null,
    policy: sketch.policy ?? { allow: [], deny: [] },
    proxy: {
      connectTimeoutMs: 1000, connectRetries: 1, idleTimeoutMs: 0, udpIdleTimeoutMs: 60_000,
      connectionsMax: 1000, sessionsMax: 1000, proxyProtocol: "none",
    },
  };
}
