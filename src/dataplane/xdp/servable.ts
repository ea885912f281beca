// What of a table the XDP plane can serve, and why not the rest. Pure.

import { translates } from "../../model/nat.ts";
import { askedName } from "../../model/regions.ts";
import type { ForwardingTable, Service } from "../../model/table.ts";

/** Why this plane cannot serve the service, or null. */
function obstacle({ config: { forwarding, network }, destinations }: Service, table: ForwardingTable): string | null {
  const { family } = network.address;
  const other = destinations.map((id) => table.destinations.get(id)).find((one) => one?.address.family !== family);
  if (!translates(forwarding) || other === undefined) return null;
  return `${forwarding} keeps the IP version in the XDP plane, and ${other.name} has the other one`;
}

/** The table without the services that this plane cannot serve, and why not. A service goes with those of its regions. */
export function servable(table: ForwardingTable): { served: ForwardingTable; failed: Map<string, string> } {
  const reasons = new Map<string, string>();
  for (const service of table.services) {
    const reason = obstacle(service, table);
    const asked = askedName(service.config);
    if (reason !== null && !reasons.has(asked)) reasons.set(asked, reason);
  }
  const failed = new Map(table.services.flatMap((service) => {
    const reason = reasons.get(askedName(service.config));
    return reason === undefined ? [] : [[service.name, reason] as const];
  }));
  if (failed.size === 0) return { served: table, failed };
  const services = table.services.filter(({ name }) => !failed.has(name));
  const used = new Set(services.flatMap(({ destinations }) => destinations));
  const destinations = new Map([...table.destinations].filter(([id]) => used.has(id)));
  return { served: { ...table, services, destinations }, failed };
}

