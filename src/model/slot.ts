// The flow hash and the ring slot of a packet, by what its service hashes. Pure; knows no backend.
// bpf/slot.h is its twin.

import type { HashInput } from "./config.ts";
import type { Packet } from "./decide.ts";
import { flowHash, slotOf, sourceHash } from "./flow_hash.ts";
import type { SourcePrefix } from "./flow_hash.ts";
import type { Service } from "./table.ts";

/** How a packet finds its slot. */
export interface SlotScheme {
  readonly hashSeed: bigint;
  readonly hash: HashInput;
  readonly sourcePrefix: SourcePrefix;
  readonly ringSize: number;
}

export type SlotInput =
  Pick<Packet, "source" | "sourcePort" | "destination" | "destinationPort" | "protocol">;

export function schemeOf({ hashSeed, config: { hash, sourcePrefix }, ring }: Service): SlotScheme {
  return { hashSeed, hash, sourcePrefix, ringSize: ring.size };
}

/** Whether both lead every packet to the same slot. */
export function isSameScheme(a: SlotScheme, b: SlotScheme): boolean {
  if (a.hashSeed !== b.hashSeed || a.hash !== b.hash || a.ringSize !== b.ringSize) return false;
  return a.hash === "5-tuple" || (a.sourcePrefix.ipv4 === b.sourcePrefix.ipv4
    && a.sourcePrefix.ipv6 === b.sourcePrefix.ipv6);
}

export function slotBy(
  { hashSeed, hash: input, sourcePrefix, ringSize }: SlotScheme, packet: SlotInput,
): { readonly hash: number; readonly slot: number } {
  const hash = input === "source-ip"
    ? sourceHash(hashSeed, packet.source, sourcePrefix)
    : flowHash(hashSeed, packet.source, packet.sourcePort, packet.destination,
      packet.destinationPort, packet.protocol);
  return { hash, slot: slotOf(hash, ringSize) };
}

/** The flow hash and the ring slot of a packet. */
export function slotFor(
  service: Service, packet: SlotInput,
): { readonly hash: number; readonly slot: number } {
  return slotBy(schemeOf(service), packet);
}
