// From the config of a service to what its QUIC connection IDs mean: configs made ready for use, and
// whose each server ID is. Pure; knows configs and ids of destinations, and no packet.

import type { BackendConfig, ServiceConfig, ServiceQuicConfig } from "./config.ts";
import { quicLbConfig, quicLbFault } from "./quic_lb.ts";
import type { QuicLbConfig, QuicLbParameters } from "./quic_lb.ts";
import type { QuicRouting } from "./quic_route.ts";

/**
 * Null where the service has no quicLb. A config whose key nobody has read, or that the draft does
 * not allow, is left out with a warning: its packets go by flow and ring.
 */
export function quicRouting(
  service: ServiceConfig,
  backends: readonly (readonly [BackendConfig, number])[],
  warnings: string[],
): QuicRouting | null {
  if (service.quicLb === null) return null;
  const { ready, faults } = readyConfigs(service.quicLb);
  for (const fault of faults) warnings.push(`service ${service.name}: ${fault}`);
  const lengths = new Set([...ready.values()].map(({ serverIdBytes }) => serverIdBytes * 2));
  const servers = new Map<string, number>();
  for (const [{ serverIds }, id] of backends) {
    for (const serverId of serverIds) if (lengths.has(serverId.length)) servers.set(serverId, id);
  }
  return { configs: ready, servers };
}

interface Ready {
  readonly ready: ReadonlyMap<number, QuicLbConfig>;
  readonly faults: readonly string[];
}

// Keys are expanded once: configs are immutable, and health changes far more often than they do.
const readyByConfig = new WeakMap<NonNullable<ServiceConfig["quicLb"]>, Ready>();

function readyConfigs(quicLb: NonNullable<ServiceConfig["quicLb"]>): Ready {
  let known = readyByConfig.get(quicLb);
  if (known === undefined) {
    known = makeReady(quicLb.configs);
    readyByConfig.set(quicLb, known);
  }
  return known;
}

function makeReady(configs: readonly ServiceQuicConfig[]): Ready {
  const ready = new Map<number, QuicLbConfig>();
  const faults: string[] = [];
  for (const config of configs) {
    const parameters = quicParameters(config);
    const fault = parameters === null ? "its key file was not read" : quicLbFault(parameters);
    if (parameters === null || fault !== null) faults.push(`quicLb config ${config.id}: ${fault ?? ""}`);
    else ready.set(config.id, quicLbConfig(parameters));
  }
  return { ready, faults };
}

/** Null while the key is in a file that nobody has read. */
export function quicParameters(config: ServiceQuicConfig): QuicLbParameters | null {
  const key = config.key === null ? null : config.key.bytes;
  return config.key !== null && key === null ? null : { ...config, key };
}
