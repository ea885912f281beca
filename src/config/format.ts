// The effective config as people read it: YAML that parses back to the same Config. Must never judge a config.

import { Document, isMap, isSeq } from "yaml";
import { formatEndpoint } from "../model/address.ts";
import type {
  BackendConfig, Config, PoolConfig, ServiceConfig, ServiceGeo, Subset,
} from "../model/config.ts";
import type { NatConfig } from "../model/nat.ts";
import { withoutRegions } from "../model/regions.ts";
import { formatNetwork, formatPorts, singlePort } from "../model/service_address.ts";
import { formatTunnelSource } from "../model/tunnel_source.ts";
import { formatDuration, formatHashSeed } from "./formats.ts";
import { formatQuicKey } from "./formats_quic.ts";
import { healthForm } from "./health_form.ts";
import { rulesForm } from "./pool_form.ts";

/** The config with every default written out, as YAML; keys are not shown. */
export function effectiveConfigText(config: Config): string {
  const document = new Document(fileForm(config), { aliasDuplicateObjects: false });
  // One backend per line reads like a table.
  for (const list of ["pools", "services"]) {
    const items = document.get(list);
    const owners = isSeq(items) ? items.items : isMap(items) ? items.items.map(
      (pair) => pair.value,
    ) : [];
    for (const owner of owners) {
      const backends = isMap(owner) ? owner.get("backends") : null;
      for (const backend of isSeq(backends) ? backends.items : []) {
        if (isMap(backend)) backend.flow = true;
      }
    }
  }
  return document.toString({ lineWidth: 0 });
}

/** The value that the file would hold. */
function fileForm(config: Config): Record<string, unknown> {
  const { dataplane, observe } = config;
  const inline = new Map(
    config.pools.filter((pool) => pool.inline).map((pool) => [pool.name, pool]),
  );
  const shared = config.pools.filter((pool) => !pool.inline);
  return {
    version: config.version,
    instance: config.instance,
    zone: config.zone,
    dataplane: {
      mode: dataplane.mode,
      interfaces: dataplane.interfaces,
      macs: dataplane.macs,
      xdp: dataplane.xdp,
      hashSeed: formatHashSeed(dataplane.hashSeed),
      proxy: {
        bind: dataplane.proxy.bind, portOffset: dataplane.proxy.portOffset,
        drainTimeout: formatDuration(dataplane.proxy.drainTimeoutMs),
      },
      orphan: { after: formatDuration(dataplane.orphan.afterMs), action: dataplane.orphan.action },
      probes: dataplane.probes,
      tunnelSource: {
        ipv4: optional(dataplane.tunnelSource.ipv4, formatTunnelSource),
        ipv6: optional(dataplane.tunnelSource.ipv6, formatTunnelSource),
      },
      pathMtuAge: formatDuration(dataplane.pathMtuAgeMs),
      nat: effectiveNat(dataplane.nat),
    },
    limits: config.limits,
    control: config.control,
    observe: { listen: observe.listen === null ? "none" : formatEndpoint(
      observe.listen.address, observe.listen.port,
    ) },
    log: config.log,
    stateDirectory: config.stateDirectory,
    pools: Object.fromEntries(shared.map((pool) => [pool.name, poolForm(pool)])),
    services: withoutRegions(config.services).map((service) => serviceForm(service, inline.get(service.pool ?? ""))),
  };
}

function effectiveNat({ sources, ports, nodes, node, timeouts }: NatConfig): unknown {
  return {
    sources: sources.map(({ text }) => text), ports: formatPorts(ports), nodes, node,
    timeouts: {
      syn: formatDuration(timeouts.synMs), established: formatDuration(timeouts.establishedMs),
      fin: formatDuration(timeouts.finMs), rst: formatDuration(timeouts.rstMs),
      udp: formatDuration(timeouts.udpMs),
    },
  };
}

function optional<T, Form>(value: T | null, form: (value: T) => Form): Form | null {
  return value === null ? null : form(value);
}

function poolForm(pool: PoolConfig): Record<string, unknown> {
  return { health: healthForm(pool.health), ...rulesForm(pool), backends: pool.backends.map(backendForm) };
}

function backendForm(backend: BackendConfig): Record<string, unknown> {
  return { ...backend, address: backend.address.text };
}

function subsetForm({ name, pool, hundredths }: Subset): Record<string, unknown> {
  return { name, pool, percent: hundredths / 100 };
}

function geoForm({ database, regions }: ServiceGeo): Record<string, unknown> {
  return { database, regions: regions.map((region) => ({ ...region, networks: region.networks.map(({ text }) => text) })) };
}

function serviceForm(
  service: ServiceConfig, inline: PoolConfig | undefined,
): Record<string, unknown> {
  const {
    name, network, ports, loadFactorPercent, flowIdleMs, changeWindowMs, affinityTimeoutMs,
    pool, split, geo, region: _, policy, proxy, quicLb, ...rest
  } = service;
  const { connectTimeoutMs, idleTimeoutMs, udpIdleTimeoutMs, ...limits } = proxy;
  return {
    name,
    address: formatNetwork(network),
    port: singlePort(ports) ?? formatPorts(ports),
    ...rest,
    quicLb: optional(quicLb, ({ configs }) => ({
      configs: configs.map((each) => ({ ...each, key: optional(each.key, formatQuicKey) })),
    })),
    loadFactor: loadFactorPercent / 100,
    flowIdle: formatDuration(flowIdleMs),
    changeWindow: formatDuration(changeWindowMs),
    ...(affinityTimeoutMs === null ? {} : { affinityTimeout: formatDuration(affinityTimeoutMs) }),
    ...(split !== null ? { split: split.map(subsetForm) } : inline === undefined ? { pool } : poolForm(inline)),
    ...(geo === null ? {} : { geo: geoForm(geo) }),
    policy: {
      allow: policy.allow.map(
        (prefix) => prefix.text,
      ), deny: policy.deny.map((prefix) => prefix.text),
    },
    proxy: {
      connectTimeout: formatDuration(connectTimeoutMs),
      idleTimeout: formatDuration(idleTimeoutMs),
      udpIdleTimeout: formatDuration(udpIdleTimeoutMs),
      ...limits,
    },
  };
}
