// Flows that are looked at to tell how many there are of a service that does not remember all of its own: one in
// SAMPLE_ONE_IN, by the hash of its 5-tuple, so that a flow is always looked at or never. Pure;
// bpf/flow_sample.h is its twin.

import { opensConnection, type FlowEntry, type Packet } from "./decide.ts";
import { trackingOf } from "./flow_decide.ts";
import { flowHash } from "./flow_hash.ts";
import { isNatService, TOUCH_INTERVAL_NS } from "./nat_decide.ts";
import type { FlowTuple } from "./packet.ts";
import type { Destination, Service } from "./table.ts";

/** A power of two. Of n flows, the estimate is off by the square root of SAMPLE_ONE_IN × n, most of the time. */
export const SAMPLE_ONE_IN = 64;

/** Whether a flow of this service is one of those. */
export function isInSample(service: Service, flow: FlowTuple): boolean {
  if (trackingOf(service) === "full" || isNatService(service)) return false;
  const { source, sourcePort, destination, destinationPort, protocol } = flow;
  const hash = flowHash(service.hashSeed, source, sourcePort, destination, destinationPort, protocol);
  return (hash & (SAMPLE_ONE_IN - 1)) === 0;
}

/** Whether a packet that has reached its backend says that its flow is under way: a SYN alone does not. */
export function isSeen(service: Service, packet: Packet): boolean {
  return packet.kind !== "icmp-error" && !opensConnection(packet) && isInSample(service, packet);
}

/** The flow's entry after such a packet. */
export function afterSampling(held: FlowEntry | null, { id, generation }: Destination, nowNs: bigint): FlowEntry {
  const isSame = held !== null && held.destination === id && held.generation === generation;
  return isSame && held.lastSeenNs + TOUCH_INTERVAL_NS >= nowNs ? held : { destination: id, generation, lastSeenNs: nowNs };
}
