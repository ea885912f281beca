// Whom a datagram of a service names by its connection ID, if that one may be sent to. The one
// answer that decide() and the proxy's sessions share. Pure; knows a table, and no packet.

import { readCid } from "./quic_route.ts";
import type { QuicOutcome } from "./quic_route.ts";
import type { Destination, ForwardingTable, Service } from "./table.ts";

export interface Named {
  readonly outcome: QuicOutcome;
  /** Alive; null: flow and ring decide. */
  readonly destination: Destination | null;
}

/** Null where the service does not look at connection IDs. */
export function namedByCid(
  table: ForwardingTable, service: Service, datagram: Uint8Array,
): Named | null {
  if (service.quicLb === null) return null;
  const { outcome, destination: id } = readCid(service.quicLb, datagram);
  const destination = table.destinations.get(id ?? 0);
  if (destination?.alive === true) return { outcome, destination };
  return { outcome: outcome === "routed" ? "server_down" : outcome, destination: null };
}
