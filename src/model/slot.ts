// The flow hash and the ring slot of a packet, by what its service hashes. Pure; knows no backend.

import type { Packet } from "./decide.ts";
import { flowHash, slotOf, sourceHash } from "./flow_hash.ts";
import type { Service } from "./table.ts";

/** The flow hash and the ring slot of a packet. */
export function slotFor(
  service: Service,
  packet: Pick<Packet, "source" | "sourcePort" | "destination" | "destinationPort" | "protocol">,
): { readonly hash: number; readonly slot: number } {
  const { hashSeed, config, ring } = service;
  const hash =
    config.hash === "source-ip"
      ? sourceHash(hashSeed, packet.source, config.sourcePrefix)
      : flowHash(
          hashSeed,
          packet.source,
          packet.sourcePort,
          packet.destination,
          packet.destinationPort,
          packet.protocol,
        );
  return { hash, slot: slotOf(hash, ring.size) };
}
