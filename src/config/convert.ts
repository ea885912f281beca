// A file that the schema accepts, as the Config that the program works with: durations in
// milliseconds, addresses as values, pools that were inline under their own name. Total: every text
// was checked before. Must never refuse anything.

import type {
  BackendConfig, Config, PoolConfig, ServiceConfig, ServiceGeo, ServiceProxyConfig,
} from "../model/config.ts";
import { parseEndpoint } from "../model/address.ts";
import type { NatConfig } from "../model/nat.ts";
import { isPickAlgorithm } from "../model/pick.ts";
import { withRegions } from "../model/regions.ts";
import {
  readAddress, readDuration, readHashSeed, readPorts, readPrefix, readTunnelSource,
  readVirtualAddress,
} from "./formats.ts";
import { readQuicKey } from "./formats_quic.ts";
import { convertHealth } from "./health_form.ts";
import { convertRules } from "./pool_form.ts";
import type { RawBackend, RawConfig, RawService } from "./schema.ts";
import type { RawGeo } from "./schema_geo.ts";
import { healthSchema } from "./schema_health.ts";
import type { RawRules } from "./schema_pool.ts";
import type { RawHealth } from "./schema_health.ts";

const CHANGE_WINDOW_DEFAULT_MS = 5 * 60_000;
const FLOW_IDLE_DEFAULT_MS = { tcp: 15 * 60_000, udp: 60_000 } as const;

export function convertConfig(raw: RawConfig): Config {
  const { dataplane } = raw;
  const pools = Object.entries(raw.pools).map(([name, pool]) =>
    convertPool(name, false, pool, pool.backends));
  for (const service of raw.services) {
    if (service.backends === undefined) continue;
    pools.push(convertPool(service.name, true, service, service.backends));
  }
  return {
    version: raw.version,
    instance: raw.instance,
    zone: raw.zone,
    dataplane: {
      mode: dataplane.mode,
      interfaces: dataplane.interfaces,
      macs: dataplane.macs.map((mac) => mac.toLowerCase()),
      xdp: dataplane.xdp,
      hashSeed: readHashSeed(dataplane.hashSeed),
      proxy: {
        bind: dataplane.proxy.bind, portOffset: dataplane.proxy.portOffset,
        drainTimeoutMs: readDuration(dataplane.proxy.drainTimeout),
      },
      orphan: { afterMs: readDuration(dataplane.orphan.after), action: dataplane.orphan.action },
      probes: dataplane.probes,
      tunnelSource: {
        ipv4: optional(dataplane.tunnelSource.ipv4, readTunnelSource),
        ipv6: optional(dataplane.tunnelSource.ipv6, readTunnelSource),
      },
      pathMtuAgeMs: readDuration(dataplane.pathMtuAge),
      nat: convertNat(dataplane.nat),
    },
    limits: raw.limits,
    control: raw.control,
    observe: { listen: raw.observe.listen === "none" ? null : parseEndpoint(raw.observe.listen) },
    log: raw.log,
    stateDirectory: raw.stateDirectory,
    pools,
    services: raw.services.map(convertService).flatMap(withRegions),
  };
}

function convertNat(raw: RawConfig["dataplane"]["nat"]): NatConfig {
  const { syn, established, fin, rst, udp } = raw.timeouts;
  return {
    sources: raw.sources.map(readAddress), ports: readPorts(raw.ports), node: raw.node,
    nodes: raw.nodes,
    timeouts: {
      synMs: readDuration(syn), establishedMs: readDuration(established), finMs: readDuration(fin),
      rstMs: readDuration(rst), udpMs: readDuration(udp),
    },
  };
}

function optional<Raw, T>(raw: Raw | null, read: (raw: Raw) => T): T | null {
  return raw === null ? null : read(raw);
}

function convertPool(
  name: string, inline: boolean, raw: RawRules & { readonly health?: RawHealth | undefined },
  backends: readonly RawBackend[],
): PoolConfig {
  return {
    name, inline,
    health: convertHealth(raw.health ?? healthSchema.parse({ type: "tcp" })),
    backends: backends.map(convertBackend),
    ...convertRules(raw),
  };
}

function convertBackend(raw: RawBackend): BackendConfig {
  return {
    ...raw, address: readAddress(raw.address), mac: raw.mac?.toLowerCase() ?? null,
    serverIds: raw.serverIds.map((each) => each.toLowerCase()),
  };
}

/**
 * Nothing tells a datagram of an old flow from one of a new: it must have been silent for flowIdle. A flow
 * of TCP that began in the window must not be forgotten within it.
 */
function changeWindowMs({ changeWindow, protocol }: RawService, flowIdleMs: number): number {
  if (protocol === "udp") return Math.max(changeWindow === undefined ? 0 : readDuration(changeWindow), flowIdleMs);
  return Math.min(changeWindow === undefined ? CHANGE_WINDOW_DEFAULT_MS : readDuration(changeWindow), flowIdleMs);
}

function convertService(raw: RawService): ServiceConfig {
  const {
    name, port, protocol, forwarding, gue, algorithm, hash, sourcePrefix, ringSize,
  } = raw;
  const remembersAll = isPickAlgorithm(algorithm) || raw.affinityTimeout !== undefined;
  const tracking = raw.tracking ?? (remembersAll ? "full" : "minimal");
  const flowIdleMs = raw.flowIdle === undefined ? FLOW_IDLE_DEFAULT_MS[protocol] : readDuration(
    raw.flowIdle,
  );
  return {
    name, network: readVirtualAddress(raw.address), ports: readPorts(port), protocol, forwarding,
    gue, algorithm, loadFactorPercent: Math.round(raw.loadFactor * 100), hash,
    sourcePrefix, ringSize, tracking, flowIdleMs,
    changeWindowMs: changeWindowMs(raw, flowIdleMs),
    secondChance: raw.secondChance,
    affinityGroup: raw.affinityGroup,
    affinityTimeoutMs: optional(raw.affinityTimeout ?? null, readDuration),
    mssMax: raw.mssMax,
    quicLb: optional(raw.quicLb, ({ configs }) => ({
      configs: configs.map((each) => ({ ...each, key: optional(each.key, readQuicKey) })),
    })),
    failOpen: raw.failOpen,
    panicBelow: raw.panicBelow,
    vip: raw.vip,
    pool: raw.split === undefined ? raw.pool ?? name : null,
    split: raw.split?.map(({ name: subset, pool, percent }) =>
      ({ name: subset ?? pool, pool, hundredths: Math.round(percent * 100) })) ?? null,
    geo: raw.geo === undefined ? null : convertGeo(raw.geo),
    region: null,
    policy: { allow: raw.policy.allow.map(readPrefix), deny: raw.policy.deny.map(readPrefix) },
    proxy: convertProxy(raw.proxy),
  };
}

function convertGeo({ database, regions }: RawGeo): ServiceGeo {
  return {
    database, regions: regions.map((region) => ({ ...region, networks: region.networks.map(readPrefix) })), prefixes: null,
  };
}

function convertProxy(raw: RawService["proxy"]): ServiceProxyConfig {
  const { connectRetries, connectionsMax, sessionsMax, proxyProtocol } = raw;
  return {
    connectTimeoutMs: readDuration(raw.connectTimeout),
    connectRetries,
    idleTimeoutMs: readDuration(raw.idleTimeout),
    udpIdleTimeoutMs: readDuration(raw.udpIdleTimeout),
    connectionsMax, sessionsMax, proxyProtocol,
  };
}
