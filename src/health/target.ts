// What there is to probe: one target for each backend of each pool, shared by the services that use
// the pool. A pure function of the config; knows no schedule and no socket.

import type { Address } from "../model/address.ts";
import type { Config, Health } from "../model/config.ts";
import { singlePort } from "../model/service_address.ts";

export interface ProbeTarget {
  /** "pool/backend". */
  readonly name: string;
  readonly pool: string;
  readonly backend: string;
  readonly address: Address;
  readonly port: number;
  readonly health: Health;
}

/**
 * The port is that of the health check, else the backend's, else the service's. Services with
 * different ports may share a pool: the first in the file that has a single one counts, and
 * `health.port` settles it otherwise. A backend for which no port is named is left out.
 */
export function probeTargets(config: Config): readonly ProbeTarget[] {
  const servicePorts = new Map<string, number>();
  for (const service of config.services) {
    const port = singlePort(service.ports);
    if (port !== null && !servicePorts.has(service.pool)) servicePorts.set(service.pool, port);
  }
  return config.pools.flatMap((pool) => pool.backends.flatMap((backend) => {
    const ownPort = pool.health.type === "none" ? null : pool.health.port;
    const port = ownPort ?? backend.port ?? servicePorts.get(pool.name);
    if (port === undefined) return [];
    const name = `${pool.name}/${backend.name}`;
    const { address } = backend;
    return [{ name, pool: pool.name, backend: backend.name, address, port, health: pool.health }];
  }));
}
