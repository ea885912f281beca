// Where a service of the proxy plane listens, and what an operator can do when it cannot. Pure:
// knows the config's bind modes and errno names; must never open a socket.

import { Failure } from "../../errors.ts";
import { formatEndpoint, parseAddress } from "../../model/address.ts";
import type { Config, Protocol, ServiceConfig } from "../../model/config.ts";

export type ProxyBinding = Config["dataplane"]["proxy"];

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
}

const HOSTS = {
  loopback: { 4: "127.0.0.1", 6: "::1" },
  any: { 4: "0.0.0.0", 6: "::" },
} as const;

/** The place, or a sentence about why there is none. */
export function listeningPlace(
  service: ServiceConfig, binding: ProxyBinding,
): ListeningPlace | string {
  const { address: { family }, protocol } = service;
  const host = binding.bind === "vip" ? service.address.text : HOSTS[binding.bind][family];
  const port = service.port + binding.portOffset;
  if (port < 1 || port > 65535) {
    return `port ${service.port} with offset ${binding.portOffset} is ${port}, which is no port; `
      + "change portOffset";
  }
  const address = parseAddress(host);
  const endpoint = address === null ? `${host}:${port}` : formatEndpoint(address, port);
  return { key: `${protocol} ${endpoint}`, protocol, host, port, family, endpoint };
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
