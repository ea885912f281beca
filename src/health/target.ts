// What there is to probe: one target for each backend of each pool, shared by the services that use
// the pool, and which targets are the same. Pure functions of the config; knows no schedule and no socket.

import type { Address } from "../model/address.ts";
import type { Config, PoolConfig, ServiceConfig } from "../model/config.ts";
import { FEEDBACK_DEFAULTS } from "../model/feedback.ts";
import type { Plane } from "../model/features.ts";
import type { Health, ProbedHealth } from "../model/health_check.ts";
import { needsPort } from "../model/health_check.ts";
import { isSteered } from "../model/pick.ts";
import { singleAddress, singlePort } from "../model/service_address.ts";
import { poolsOf, usesPool } from "../model/split.ts";

/** A virtual address, as a service's packets reach it on a backend. */
export interface ProbePlace {
  /** The service, by name. */
  readonly service: string;
  /** "pool/backend". */
  readonly backend: string;
  readonly address: Address;
  readonly port: number;
}

export interface ProbeTarget {
  /** "pool/backend". */
  readonly name: string;
  readonly pool: string;
  readonly backend: string;
  readonly address: Address;
  readonly port: number;
  readonly health: Health;
  /** As configured. Absent: as much as any other. */
  readonly weight?: number;
  /** An operator, or its weight, keeps it from new flows, whatever probes find. Absent: nobody does. */
  readonly isOut?: boolean;
  /** It was there before, though nobody probed it. Absent: it was not, or was probed. */
  readonly isBack?: boolean;
  /** All of these have to answer, instead of the backend's own address; none: that one. */
  readonly through: readonly ProbePlace[];
}

/** One that somebody is asked about. */
export interface ActiveTarget extends ProbeTarget {
  readonly health: ProbedHealth;
}

/**
 * The port is that of the health check, else the backend's, else the service's. Services with
 * different ports may share a pool: the first in the file that has a single one counts, and
 * `health.port` settles it otherwise. A backend for which no port is named is left out, unless nothing
 * is asked of it that needs one: then it is 0.
 *
 * Nobody asks a backend that only says sorry: there is none to take its place.
 *
 * The proxy plane has no ways for probes `via: tunnel`: every probe is direct there. In the XDP plane probes steer the
 * shares of services with least-response-time, and with nat and fullnat clients' handshakes as well.
 */
export function probeTargets(config: Config, plane: Plane): readonly ProbeTarget[] {
  const servicePorts = new Map<string, number>();
  for (const service of config.services) {
    const port = singlePort(service.ports);
    for (const pool of poolsOf(service)) if (port !== null && !servicePorts.has(pool)) servicePorts.set(pool, port);
  }
  return config.pools.flatMap((pool) => {
    const isProbed = pool.health.type !== "none" && needsPort(pool.health.type);
    const places = plane === "xdp" ? placesOf(pool, config.services) : [];
    const health = healthOf(pool, config.services, plane);
    return pool.backends.filter((backend) => backend.name !== pool.sorry).flatMap((backend) => {
      const ownPort = pool.health.type === "none" ? null : pool.health.port;
      const port = ownPort ?? backend.port ?? servicePorts.get(pool.name) ?? (isProbed ? undefined : 0);
      if (port === undefined) return [];
      const name = `${pool.name}/${backend.name}`;
      const { address } = backend;
      return [{
        name, pool: pool.name, backend: backend.name, address, port, health, weight: backend.weight,
        through: places.map((place) => ({ ...place, backend: name })),
      }];
    });
  });
}

/** Shares are a pool's: all services that use it have them. */
function healthOf({ name, health }: PoolConfig, services: readonly ServiceConfig[], plane: Plane): Health {
  const steers = services.some((service) => isSteered(service.algorithm, plane) && usesPool(service, name));
  return health.type === "none" || !steers ? health : { feedback: FEEDBACK_DEFAULTS, ...health };
}

/**
 * Each virtual address once for each way of forwarding. Without `health.port`, at the port of its
 * first service in the file, one for TCP if there is one: a server for UDP alone would not answer.
 */
function placesOf(
  pool: PoolConfig, services: readonly ServiceConfig[],
): readonly Omit<ProbePlace, "backend">[] {
  if (pool.health.type === "none" || pool.health.via === "direct") return [];
  const { port: ownPort } = pool.health;
  const places = new Map<string, Omit<ProbePlace, "backend">>();
  const users = services.filter((service) => usesPool(service, pool.name));
  for (const protocol of ["tcp", "udp"] as const) {
    for (const service of users) {
      const address = singleAddress(service.network);
      const port = ownPort ?? singlePort(service.ports);
      if (service.protocol !== protocol || address === null || port === null) continue;
      const way = service.forwarding === "gue" ? JSON.stringify(service.gue) : "";
      const key = `${address.text} ${service.forwarding} ${way}`;
      if (!places.has(key)) places.set(key, { service: service.name, address, port });
    }
  }
  return [...places.values()];
}

/** Whether they are probed at the same place: what was found of one holds for the other. */
export function isSamePlace(a: ProbeTarget, b: ProbeTarget): boolean {
  return a.address.text === b.address.text && a.port === b.port;
}

/**
 * What is asked of whom, from where, when, and how answers are counted, as a text: of targets with the same one, one
 * probe is enough. What is made of a verdict afterwards is not in it, nor are the address of an agent and a source of
 * the other family.
 *
 * Two kinds of targets are nobody else's: commands hear the name of their backend, and what travels through the plane
 * goes by the plane's entry for that very backend, which is a part of what it tries.
 */
export function probeKey(target: ActiveTarget): string {
  const { name, address, port, through } = target;
  const {
    slowStartMs: _slowStart, damping: _damping, feedback: _feedback, outlier: _outlier, agent: _agent,
    port: _port, via: _via, source, ...asked
  } = target.health;
  const from = source?.family === address.family ? source.text : null;
  const ways = through.map((place) => `${place.service} ${place.address.text} ${place.port}`);
  const owner = asked.type === "exec" || ways.length > 0 ? name : null;
  // Configs are plain values built by the same code, so equal ones have equal texts.
  return JSON.stringify([address.text, port, from, owner, ways, asked]);
}

export function isActive(target: ProbeTarget): target is ActiveTarget {
  return target.health.type !== "none";
}
