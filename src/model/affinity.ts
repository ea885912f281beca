// Where the clients of a service have been of late, and so go again. Pure; the memory is somebody else's.
// bpf/affinity.h is its twin.

import type { ServiceConfig } from "./config.ts";
import type { Decision, FlowEntry, Packet } from "./decide.ts";
import { opensConnection } from "./decide.ts";
import { mayHave } from "./flow_decide.ts";
import { maskSource } from "./flow_hash.ts";
import { PROTOCOL_NUMBERS } from "./service_address.ts";
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

/** `key`: what the service's index belongs to. */
export function affinityOf({ affinityTimeoutMs, pool, split, forwarding, gue }: ServiceConfig, key: string): Affinity | null {
  if (affinityTimeoutMs === null) return null;
  const pools = split === null ? [pool] : split.map((subset) => subset.pool).sort();
  const way = forwarding === "gue" ? [forwarding, gue.port, gue.variant] : [forwarding];
  return { id: xxh64(`affinity|${key}|${JSON.stringify([pools, way])}`, 0), timeoutMs: affinityTimeoutMs };
}

export function affinityKey(
  affinity: Affinity, { sourcePrefix }: Pick<ServiceConfig, "sourcePrefix">, { source }: Pick<Packet, "source">,
): AffinityKey {
  return { id: affinity.id, client: maskSource(source, sourcePrefix) };
}

/** Where the client has been, if its packet may go there; else null. */
export function affineDestination(
  table: ForwardingTable, service: Service, packet: Packet, held: FlowEntry | null, nowNs: bigint,
): Destination | null {
  if (service.affinity === null || held === null) return null;
  if (held.lastSeenNs + BigInt(service.affinity.timeoutMs) * 1_000_000n < nowNs) return null;
  const destination = table.destinations.get(held.destination);
  if (destination?.generation !== held.generation) return null;
  return mayHave(service, destination, begins(packet)) ? destination : null;
}

/**
 * Whether the packet begins a flow, as far as its client's place is concerned: what is of a connection that nobody
 * remembers has most likely been there, and so has what an error is about.
 */
function begins(packet: Packet): boolean {
  return packet.kind !== "icmp-error" && (packet.protocol !== PROTOCOL_NUMBERS.tcp || opensConnection(packet));
}

/** The decision with what it means for the client, where a flow of it begins. */
export function beginAffinity(decision: Decision): Decision {
  const { service, destination, verdict, effects } = decision;
  if (service === null || service.affinity === null || destination === null) return decision;
  if (verdict !== "TX_FORWARDED" && verdict !== "PASS_LOCAL") return decision;
  const { id, generation } = destination;
  return { ...decision, effects: [...effects, { kind: "keep-affinity", destination: id, generation }] };
}

/** The same where a flow goes on. One from before the client went elsewhere does not bring it back. */
export function renewAffinity(decision: Decision, held: FlowEntry | null): Decision {
  const { destination } = decision;
  const isStill = held !== null && held.destination === destination?.id && held.generation === destination.generation;
  return isStill ? beginAffinity(decision) : decision;
}
