// Where a service of the proxy plane listens, and what an operator can do when it cannot. Pure:
// knows the config's bind modes and errno names; must never open a socket.

import { Failure } from "../../errors.ts";
import { formatEndpoint, parseAddress } from "../../model/address.ts";
import type { Config, Protocol, ServiceConfig } from "../../model/config.ts";
import {
  PORTS_WITHOUT_SOCKETS, PREFIX_WITHOUT_SOCKETS, PROXY_PORTS_MAX,
} from "../../model/features.ts";
import { formatPorts, PORT_MAX, portCount, singleAddress } from "../../model/service_address.ts";
import type { VirtualPlace } from "./context.ts";

export type ProxyBinding = Pick<Config["dataplane"]["proxy"], "bind" | "portOffset">;

/** A socket to listen on. Two services with the same `key` cannot both have it. */
export interface ListeningPlace {
  /** "tcp 127.0.0.1:8080". */
  readonly key: string;
  readonly protocol: Protocol;
  readonly host: string;
  readonly port: number;
  readonly family: 4 | 6;
  /** "127.0.0.1:8080", for people. */
  readonly endpoint: string;
  /** What it stands for. */
  readonly virtual: VirtualPlace;
}

const HOSTS = {
  loopback: { 4: "127.0.0.1", 6: "::1" },
  any: { 4: "0.0.0.0", 6: "::" },
} as const;

/** A place for each port of the service, or a sentence about why there is none. */
export function listeningPlaces(
  service: ServiceConfig, binding: ProxyBinding,
): readonly ListeningPlace[] | string {
  const { network, ports } = service;
  const address = singleAddress(network);
  if (address === null) return `${network.text}: ${PREFIX_WITHOUT_SOCKETS}`;
  if (portCount(ports) > PROXY_PORTS_MAX) return `${formatPorts(ports)}: ${PORTS_WITHOUT_SOCKETS}`;
  const places: ListeningPlace[] = [];
  for (let port = ports.from; port <= ports.to; port += 1) {
    const place = listeningPlace({ address, port }, service.protocol, binding);
    if (typeof place === "string") return place;
    places.push(place);
  }
  return places;
}

function listeningPlace(
  virtual: VirtualPlace, protocol: Protocol, binding: ProxyBinding,
): ListeningPlace | string {
  const { family, text } = virtual.address;
  const host = binding.bind === "vip" ? text : HOSTS[binding.bind][family];
  const port = virtual.port + binding.portOffset;
  if (port < 1 || port > PORT_MAX) {
    return `port ${virtual.port} with offset ${binding.portOffset} is ${port}, which is no port; `
      + "change portOffset";
  }
  const address = parseAddress(host);
  const endpoint = address === null ? `${host}:${port}` : formatEndpoint(address, port);
  return { key: `${protocol} ${endpoint}`, protocol, host, port, family, endpoint, virtual };
}

/** What `status` shows of the sockets that a service has: "127.0.0.1:8000-8099 (3 ports)". */
export function listeningText(places: readonly ListeningPlace[]): string {
  const [first, ...more] = places.toSorted((a, b) => a.port - b.port);
  const last = more.at(-1);
  if (first === undefined) return "";
  if (last === undefined) return first.endpoint;
  const isWhole = last.port - first.port === more.length;
  return `${first.endpoint}-${last.port}${isWhole ? "" : ` (${places.length} ports)`}`;
}

/**
 * What a failed bind means and what to do about it. `problem`: why vip.assign could not put the
 * address there.
 */
export function bindFailure(
  place: ListeningPlace, binding: ProxyBinding, cause: unknown, problem?: string,
): Failure {
  const code = errnoName(cause);
  const { endpoint, host, protocol, family } = place;
  if (code === "EADDRNOTAVAIL" || code === "EAFNOSUPPORT") {
    const bits = family === 4 ? 32 : 128;
    return new Failure("ADDRESS_NOT_LOCAL", { address: host }, binding.bind === "vip"
      ? `${host} is not an address of this host. `
        + (problem === undefined ? "" : `vip.assign could not put it there: ${problem}. `)
        + `Put it on lo (ip addr add ${host}/${bits} dev lo), allow it `
        + `(sysctl net.ipv${family}.ip_nonlocal_bind=1), or listen elsewhere `
        + "(--proxy-bind loopback or any)"
      : `${host} cannot be bound: IPv${family} is switched off on this host`, cause);
  }
  if (code === "EADDRINUSE") {
    return new Failure("PORT_IN_USE", { address: endpoint },
      `another process listens on ${protocol} ${endpoint}. Stop it (ss -lnp shows it) `
        + "or use --port-offset", cause);
  }
  if (code === "EACCES" || code === "EPERM") {
    const details = { operation: `bind ${endpoint}`, capability: "CAP_NET_BIND_SERVICE" };
    return new Failure("PERMISSION_DENIED", details,
      `this user may not bind port ${place.port}. Run as root, give node CAP_NET_BIND_SERVICE, `
      + "lower net.ipv4.ip_unprivileged_port_start, or use --port-offset 8000", cause);
  }
  return new Failure("SYSTEM", { operation: `bind ${endpoint}` },
    `cannot listen on ${protocol} ${endpoint}: ${reasonOf(cause)}`, cause);
}

/** "EMFILE" and the like, or "" when the error has none. */
export function errnoName(error: unknown): string {
  if (!(error instanceof Error) || !("code" in error)) return "";
  return typeof error.code === "string" ? error.code : "";
}

/** The shortest text that says what went wrong. */
export function reasonOf(error: unknown): string {
  return errnoName(error) || (error instanceof Error ? error.message : String(error));
}
