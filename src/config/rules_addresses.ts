// Cross-field rules about the addresses and ports that services answer to: who has which, and what
// cannot be done with several. Each rule is a function of the draft. Must never know which plane
// will run.

import { isLoopback } from "../model/address.ts";
import { needsPort } from "../model/health_check.ts";
import {
  formatNetwork, formatPorts, formatServiceAddress, holdsAddress, singleAddress, singlePort,
} from "../model/service_address.ts";
import type { PortRange } from "../model/service_address.ts";
import type { Draft, DraftPool, DraftService } from "./draft.ts";
import type { Finding } from "./problem.ts";
import { error, repeats, serviceName } from "./rules_names.ts";
import type { Rule } from "./rules_names.ts";

function* duplicateAddresses(draft: Draft): Iterable<Finding> {
  for (const [service, before] of repeats(draft.services, listeningPoint)) {
    const reason =
      `${listeningPoint(service) ?? ""} is already the address of ${serviceName(before)}`;
    yield error([
      ...service.path, "address",
    ], reason, "address, port and protocol together belong to one service");
  }
}

/** `tcp 203.0.113.10:443`. */
function listeningPoint({ network, ports, fields }: DraftService): string | undefined {
  if (network === null || ports === null || fields.protocol === undefined) return undefined;
  return `${fields.protocol} ${formatServiceAddress({ network, ports })}`;
}

/** Of two ranges with one address, neither of which is part of the other, none is more specific. */
function* crossingRanges(draft: Draft): Iterable<Finding> {
  const groups = new Map<string, { readonly service: DraftService; readonly ports: PortRange }[]>();
  for (const service of draft.services) {
    const { network, ports, fields: { protocol } } = service;
    if (network === null || ports === null || protocol === undefined) continue;
    const key = `${protocol} ${network.text}`;
    const rivals = groups.get(key) ?? [];
    for (const rival of rivals) {
      if (!cross(ports, rival.ports)) continue;
      yield error([...service.path, "port"],
        `${formatPorts(ports)} crosses ${formatPorts(rival.ports)} of ${serviceName(rival.service)}`
        + ` at ${formatNetwork(network)}`,
        "of two ranges that overlap, one has to be part of the other");
    }
    groups.set(key, [...rivals, { service, ports }]);
  }
}

function cross(a: PortRange, b: PortRange): boolean {
  const [first, second] = a.from < b.from ? [a, b] : [b, a];
  return first.from < second.from && second.from <= first.to && first.to < second.to;
}

/**
 * A backend that is a VIP would send packets round in circles. On loopback, where everything has one
 * address, it is another program as long as no service has its port.
 */
function* backendsThatAreVips(draft: Draft): Iterable<Finding> {
  const taken = new Set(draft.services.map(({ network, fields }) =>
    `${network === null ? "" : formatNetwork(network)} ${fields.port}`));
  for (const pool of draft.pools) {
    for (const { path, address, fields } of pool.backends ?? []) {
      if (address === null) continue;
      const service = draft.services.find(({ network }) =>
        network !== null && holdsAddress(network, address.bytes));
      if (service === undefined || service.network === null) continue;
      const isAlone = singleAddress(service.network) !== null;
      const ownPort =
        typeof fields.port === "number" && !taken.has(`${address.text} ${fields.port}`);
      if (isAlone && ownPort && isLoopback(address) && isExactPort(service)) continue;
      const what = isAlone ? "is the virtual address"
        : `lies in ${formatNetwork(service.network)}, the virtual addresses`;
      yield error([
        ...path, "address",
      ], `${address.text} ${what} of ${serviceName(service)}`,
        "a backend needs an address of its own");
    }
  }
}

function isExactPort({ ports }: DraftService): boolean {
  return ports === null || singlePort(ports) !== null;
}

function* assignedPrefixes(draft: Draft): Iterable<Finding> {
  for (const { path, network, fields } of draft.services) {
    const assign = fields.vip?.assign ?? "none";
    if (network === null || assign === "none" || singleAddress(network) !== null) continue;
    yield error([...path, "vip", "assign"],
      `${formatNetwork(network)} is a prefix, and ${assign} puts single addresses on this host`,
      "route the prefix to this host, and say none");
  }
}

/** Where a pool's services have no single port, a probe needs to be told which one to try. */
function* unknownProbePorts(draft: Draft): Iterable<Finding> {
  for (const [pool, services] of servicesByPool(draft)) {
    const { type, timing } = pool.health ?? { type: "tcp", timing: { port: null } };
    const [first] = services;
    if (type === "none" || !needsPort(type) || timing.port !== null || first === undefined) continue;
    if (services.some(isExactPort)) continue;
    if (pool.backends?.every(({ fields }) => fields.port !== null) !== false) continue;
    const ports = first.ports === null ? "" : formatPorts(first.ports);
    const place = pool.health === undefined ? pool.path : [...pool.path, "health"];
    yield error(place,
      `the health check needs a port: ${serviceName(first)} has port ${ports}, and a probe tries one`,
      "such as health: { type: tcp, port: 8000 }");
  }
}

function servicesByPool(draft: Draft): ReadonlyMap<DraftPool, readonly DraftService[]> {
  const pools = new Map<DraftPool, DraftService[]>();
  for (const service of draft.services) {
    for (const pool of service.pools) pools.set(pool, [...pools.get(pool) ?? [], service]);
  }
  return pools;
}

export const ADDRESS_RULES: readonly Rule[] = [
  duplicateAddresses, crossingRanges, backendsThatAreVips, assignedPrefixes, unknownProbePorts,
];
