// How much a packet grows on its way to a backend: tunnel_bytes() in bpf/tunnel.h is
// its twin.

import { alternatesBytesMax } from "./alternates.ts";
import type { ServiceConfig } from "./config.ts";

const IP_BYTES = { 4: 20, 6: 40 } as const;
const UDP_BYTES = 8;
const GUE_BYTES = 4;
const GRE_BYTES = 4;

/**
 * Bytes of all outer headers, and of what may be named in them; `family` is that of the backend's address. 0: the packet
 * stays as it is.
 */
export function tunnelOverhead(
  service: Pick<ServiceConfig, "forwarding" | "gue" | "secondChance">, family: 4 | 6,
): number {
  return headerBytes(service, family) + alternatesBytesMax(service, family);
}

function headerBytes({ forwarding, gue }: Pick<ServiceConfig, "forwarding" | "gue">, family: 4 | 6): number {
  switch (forwarding) {
    case "ipip": return IP_BYTES[family];
    case "gre": return IP_BYTES[family] + GRE_BYTES;
    case "gue": return IP_BYTES[family] + UDP_BYTES + (gue.variant === 1 ? 0 : GUE_BYTES);
    default: return 0;
  }
}
