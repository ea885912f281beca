// Where the clients of a service have been of late, and so go again. Pure; the memory is somebody else's.
// bpf/affinity.h is its twin.

import type { ServiceConfig } from "./config.ts";
import type { Decision, Effect, FlowEntry, Packet } from "./decide.ts";
import { opensConnection } from "./decide.ts";
import { maskAddress } from "./flow_hash.ts";
import { PROTOCOL_NUMBERS } from "./service_address.ts";
import { isAllFailedOpen } from "./split.ts";
import type { Destination, ForwardingTable, Service } from "./table.ts";
import { xxh64 } from "./xxh64.ts";

/** How a service remembers clients. */
export interface Affinity {
  /** Of the service, its pools and its way of forwarding: what may lead to other destinations is another affinity. */
  readonly id: bigint;
  /** A client that has sent nothing for so long is forgotten. */
  readonly timeoutMs: number;
}

/** Under what a client is remembered. */
export interface AffinityKey {
  readonly id: bigint;
  /** Its address of sixteen bytes, without the bits that do not count. */
  readonly client: Uint8Array;
}

const MAPPED_BITS = 96;

/** `key`: what the service's index belongs to. */
export function affinityOf({ affinityTimeoutMs, pool, split, forwarding, gue }: ServiceConfig, key: string): Affinity | null {
  if (affinityTimeoutMs === null) return null;
  const pools = split === null ? [pool] : split.map((subset) => subset.pool).sort();
  const way = forwarding === "gue" ? [forwarding, gue.port, gue.variant] : [forwarding];
  return { id: xxh64(`affinity|${key}|${JSON.stringify([pools, way])}`, 0), timeoutMs: affinityTimeoutMs };
}

export function affinityKey(
  affinity: Affinity, { sourcePrefix }: Pick<ServiceConfig, "sourcePrefix">, { family, source }: Pick<Packet, "family" | "source">,
): AffinityKey {
  const bits = family === 4 ? MAPPED_BITS + sourcePrefix.ipv4 : sourcePrefix.ipv6;
  return { id: affinity.id, client: maskAddress(source, bits) };
}

/** Where the client has been, if its packet may go there; else null. */
export function affineDestination(
  table: ForwardingTable, service: Service, packet: Packet, held: FlowEntry | null, nowNs: bigint,
): Destination | null {
  if (service.affinity === null || held === null) return null;
  if (held.lastSeenNs + BigInt(service.affinity.timeoutMs) * 1_000_000n < nowNs) return null;
  const destination = table.destinations.get(held.destination);
  if (destination?.generation !== held.generation) return null;
  return mayReturn(service, destination, packet) ? destination : null;
}

/**
 * What begins has to be admitted; what is of a connection that nobody remembers has most likely been there, and so
 * has what an error is about. Where all backends get flows because too few are up, those that are not alive do too.
 */
function mayReturn(service: Service, { alive, admission, resets }: Destination, packet: Packet): boolean {
  const isOld = packet.kind === "icmp-error" || (packet.protocol === PROTOCOL_NUMBERS.tcp && !opensConnection(packet));
  return alive ? isOld || admission > 0 : isAllFailedOpen(service) && !resets;
}

/**
 * The decision with what it means for the client: a flow of it `begins` or `goesOn`. One from before the client went
 * elsewhere does not bring it back.
 */
export function keepingAffinity(decision: Decision, held: FlowEntry | null, flow: "begins" | "goesOn"): Decision {
  const { service, destination, verdict, effects } = decision;
  if (service === null || service.affinity === null || destination === null) return decision;
  if (verdict !== "TX_FORWARDED" && verdict !== "PASS_LOCAL") return decision;
  const { id, generation } = destination;
  if (flow === "goesOn" && (held?.destination !== id || held.generation !== generation)) return decision;
  const effect: Effect = { kind: "keep-affinity", destination: id, generation };
  return { ...decision, effects: [...effects, effect] };
}
