// What each plane makes of each config key: one table, feature x plane x forwarding, that drives
// check, doctor and the docs. Knows the names of keys and of ways of forwarding; must never know
// how a plane works.

import type { Config, Forwarding } from "./config.ts";
import { isSteered } from "./pick.ts";
import { usesPool } from "./split.ts";

export type Plane = "xdp" | "proxy";

/**
 * Honoured; honoured for some values, while services with others stay unserved beside the rest;
 * ignored, which is announced; or refused: a config that asks for it is no config for the plane.
 */
export type Support =
  | "honoured" | { readonly partly: string } | { readonly ignored: string }
  | { readonly refused: string };

/** Sockets that the proxy opens for one service at most. */
export const PROXY_PORTS_MAX = 256;
export const PREFIX_WITHOUT_SOCKETS =
  "a prefix is not served by the proxy plane, whose sockets have one address each";
export const PORTS_WITHOUT_SOCKETS = "the proxy plane has a socket for each port, and serves "
  + `ranges of at most ${PROXY_PORTS_MAX} ports`;

/** Why the XDP plane cannot serve a config, whose other services are then not served by it either. */
export const KEEPS_FAMILY = "the XDP plane's fullnat keeps the IP version";

export const STEERS_BY_PROBES = "the XDP plane goes by how long probes take, and with nat and fullnat clients' handshakes: "
  + "least-response-time needs probes there";

/** A service, with what it asks for: "web (fullnat)". */
export interface Refused {
  readonly service: string;
  readonly why: string;
}

/** Services that the XDP plane cannot serve, or not as they are meant. */
export function refusedByXdp({ services, pools }: Pick<Config, "services" | "pools">): Refused[] {
  return services.flatMap((service): Refused[] => {
    const { name, forwarding, algorithm, network } = service;
    const used = pools.filter((pool) => usesPool(service, pool.name));
    const isUnprobed = used.some(({ health }) => health.type === "none");
    if (isSteered(algorithm, "xdp") && isUnprobed) return [{ service: `${name} (${algorithm})`, why: STEERS_BY_PROBES }];
    const isMixed = used.some(({ backends }) => backends.some(({ address }) => address.family !== network.address.family));
    return forwarding === "fullnat" && isMixed
      ? [{ service: `${name} (${forwarding})`, why: `${KEEPS_FAMILY}, and a backend has the other one` }] : [];
  });
}

/** The same for every way of forwarding, or an answer for each. */
type Row = Support | Readonly<Record<Forwarding, Support>>;

interface Feature {
  readonly xdp: Row;
  readonly proxy: Row;
}

const PROXY_ONLY: Support = { ignored: "packets pass through the kernel; no connection ends here" };
const TERMINATED: Support = {
  ignored: "the proxy ends connections itself; backends see its address, and need no VIP",
};
const NO_PACKETS: Support = {
  ignored: "the proxy has sockets, no packets; proxy.idleTimeout counts there",
};
const ROUTED_BY_HOST: Support = { ignored: "the host's own routes lead to the backends" };
const NO_TUNNEL: Support = { ignored: "only tunnels have an outer header" };
const NO_GUE: Support = { ignored: "only gue has a port and a variant" };
const NO_NAT: Support = { ignored: "only nat and fullnat translate" };
const OWN_SOURCES: Support = { ignored: "the proxy connects from sockets of the host" };
const ALWAYS_TRACKED: Support = {
  ignored: "translated flows are always remembered, for as long as dataplane.nat.timeouts says",
};
const NO_NAMES: Support = { refused: "its packets have no room for the names of other backends" };
const NO_VIP_THERE: Support = {
  refused: "its packets reach backends at their own address, as direct probes do",
};
const ONE_DIRECTION: Support = {
  ignored: "answers go past this host (direct server return), and nobody sees which flows fail",
};
const IN_PROCESS: Support = { ignored: "the proxy ends with its process" };

/**
 * By config key; `[]` stands for every item of a list or mapping. Keys without a row are honoured
 * by both.
 */
export const FEATURES = {
  "services[].address": { xdp: "honoured", proxy: { partly: PREFIX_WITHOUT_SOCKETS } },
  "services[].port": { xdp: "honoured", proxy: { partly: PORTS_WITHOUT_SOCKETS } },
  "services[].forwarding": {
    xdp: {
      l2: "honoured", ipip: "honoured", gue: "honoured", gre: "honoured",
      nat: "honoured", fullnat: { partly: KEEPS_FAMILY },
    },
    proxy: {
      l2: TERMINATED, ipip: TERMINATED, gue: TERMINATED, gre: TERMINATED,
      nat: { ignored: "the proxy connects from its own address, as fullnat does" },
      fullnat: "honoured",
    },
  },
  "services[].algorithm": { xdp: { partly: STEERS_BY_PROBES }, proxy: "honoured" },
  "services[].split": { xdp: "honoured", proxy: "honoured" },
  "services[].geo": { xdp: "honoured", proxy: "honoured" },
  "services[].gue": {
    xdp: {
      l2: NO_GUE, ipip: NO_GUE, gue: "honoured", gre: NO_GUE, nat: NO_GUE, fullnat: NO_GUE,
    },
    proxy: { ignored: "the proxy builds no tunnel" },
  },
  "services[].vip.assign": { xdp: "honoured", proxy: "honoured" },
  "services[].policy": { xdp: "honoured", proxy: "honoured" },
  "services[].quicLb": { xdp: "honoured", proxy: "honoured" },
  "services[].mssMax": {
    xdp: "honoured", proxy: { ignored: "the host's own stack says what fits its connections" },
  },
  "services[].failOpen": { xdp: "honoured", proxy: "honoured" },
  "services[].panicBelow": { xdp: "honoured", proxy: "honoured" },
  "services[].tracking": {
    xdp: {
      l2: "honoured", ipip: "honoured", gue: "honoured", gre: "honoured",
      nat: ALWAYS_TRACKED, fullnat: ALWAYS_TRACKED,
    },
    proxy: NO_PACKETS,
  },
  "services[].flowIdle": {
    xdp: {
      l2: "honoured", ipip: "honoured", gue: "honoured", gre: "honoured",
      nat: ALWAYS_TRACKED, fullnat: ALWAYS_TRACKED,
    },
    proxy: NO_PACKETS,
  },
  "services[].changeWindow": {
    xdp: {
      l2: "honoured", ipip: "honoured", gue: "honoured", gre: "honoured",
      nat: ALWAYS_TRACKED, fullnat: ALWAYS_TRACKED,
    },
    proxy: NO_PACKETS,
  },
  "services[].secondChance": {
    xdp: {
      l2: NO_NAMES, ipip: NO_NAMES, gue: "honoured", gre: "honoured", nat: NO_NAMES, fullnat: NO_NAMES,
    },
    proxy: { ignored: "connections end in the proxy, and none changes its backend" },
  },
  "services[].proxy.connectTimeout": { xdp: PROXY_ONLY, proxy: "honoured" },
  "services[].proxy.connectRetries": { xdp: PROXY_ONLY, proxy: "honoured" },
  "services[].proxy.idleTimeout": { xdp: PROXY_ONLY, proxy: "honoured" },
  "services[].proxy.udpIdleTimeout": { xdp: PROXY_ONLY, proxy: "honoured" },
  "services[].proxy.connectionsMax": { xdp: PROXY_ONLY, proxy: "honoured" },
  "services[].proxy.sessionsMax": { xdp: PROXY_ONLY, proxy: "honoured" },
  "services[].proxy.proxyProtocol": { xdp: PROXY_ONLY, proxy: "honoured" },
  "pools[].reserves": { xdp: "honoured", proxy: "honoured" },
  "pools[].sorry": { xdp: "honoured", proxy: "honoured" },
  "pools[].quorum": { xdp: "honoured", proxy: "honoured" },
  "pools[].spillBelow": { xdp: "honoured", proxy: "honoured" },
  "pools[].backends[].priority": { xdp: "honoured", proxy: "honoured" },
  "pools[].backends[].mac": { xdp: "honoured", proxy: ROUTED_BY_HOST },
  "pools[].health.via": {
    xdp: {
      l2: "honoured", ipip: "honoured", gue: "honoured", gre: "honoured",
      nat: NO_VIP_THERE, fullnat: NO_VIP_THERE,
    },
    proxy: { ignored: "the proxy connects to backends' own addresses, and so do its probes" },
  },
  "pools[].health.outlier": {
    xdp: {
      l2: ONE_DIRECTION, ipip: ONE_DIRECTION, gue: ONE_DIRECTION, gre: ONE_DIRECTION, nat: "honoured", fullnat: "honoured",
    },
    proxy: "honoured",
  },
  "pools[].health.damping": { xdp: "honoured", proxy: "honoured" },
  "dataplane.interfaces": {
    xdp: "honoured", proxy: { ignored: "the proxy attaches to none" },
  },
  "dataplane.macs": {
    xdp: "honoured", proxy: { ignored: "the host's own stack knows its addresses" },
  },
  "dataplane.xdp": { xdp: "honoured", proxy: { ignored: "the proxy uses no XDP" } },
  "dataplane.proxy.bind": { xdp: PROXY_ONLY, proxy: "honoured" },
  "dataplane.proxy.portOffset": { xdp: PROXY_ONLY, proxy: "honoured" },
  "dataplane.proxy.drainTimeout": { xdp: PROXY_ONLY, proxy: "honoured" },
  "dataplane.orphan": { xdp: "honoured", proxy: IN_PROCESS },
  "dataplane.tunnelSource": {
    xdp: {
      l2: NO_TUNNEL, ipip: "honoured", gue: "honoured", gre: "honoured",
      nat: NO_TUNNEL, fullnat: NO_TUNNEL,
    },
    proxy: { ignored: "the proxy builds no tunnel" },
  },
  "dataplane.probes": {
    xdp: "honoured", proxy: { ignored: "its probes are ordinary connections" },
  },
  "dataplane.pathMtuAge": {
    xdp: {
      l2: NO_TUNNEL, ipip: "honoured", gue: "honoured", gre: "honoured",
      nat: NO_TUNNEL, fullnat: NO_TUNNEL,
    },
    proxy: { ignored: "the host's own stack learns it for its sockets" },
  },
  "dataplane.nat": {
    xdp: {
      l2: NO_NAT, ipip: NO_NAT, gue: NO_NAT, gre: NO_NAT, nat: "honoured", fullnat: "honoured",
    },
    proxy: OWN_SOURCES,
  },
  "limits.natFlows": {
    xdp: {
      l2: NO_NAT, ipip: NO_NAT, gue: NO_NAT, gre: NO_NAT, nat: "honoured", fullnat: "honoured",
    },
    proxy: OWN_SOURCES,
  },
  "limits.fragments": {
    xdp: "honoured", proxy: { ignored: "the kernel reassembles what the proxy's sockets get" },
  },
  "limits.flows": {
    xdp: "honoured",
    proxy: { ignored: "the proxy counts connections; proxy.connectionsMax and proxy.sessionsMax "
      + "limit them" },
  },
  "limits.icmpErrors": {
    xdp: "honoured", proxy: { ignored: "the host's own stack sends what its sockets need" },
  },
} as const satisfies Readonly<Record<string, Feature>>;

export type FeatureKey = keyof typeof FEATURES;

/** In the order of the table. */
export const FEATURE_KEYS: readonly FeatureKey[] = Object.keys(FEATURES) as FeatureKey[];

export function supportOf(key: FeatureKey, plane: Plane, forwarding: Forwarding): Support {
  const row: Row = FEATURES[key][plane];
  return typeof row === "object" && "l2" in row ? row[forwarding] : row;
}

/** Whether the answer depends on the way of forwarding. */
export function dependsOnForwarding(key: FeatureKey, plane: Plane): boolean {
  const row: Row = FEATURES[key][plane];
  return typeof row === "object" && "l2" in row;
}
