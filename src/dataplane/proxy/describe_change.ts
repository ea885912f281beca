// What a table changes for a service of the proxy plane that goes on listening, in words for `plan` and the
// log. Pure; knows tables only.

import type { ForwardingTable, Service } from "../../model/table.ts";

/** Null: nothing. */
export function describeChange(
  before: ForwardingTable, old: Service, after: ForwardingTable, fresh: Service,
): string | null {
  const details: string[] = [];
  if (old.name !== fresh.name) details.push(`was called ${old.name}`);
  if (old.ring.key !== fresh.ring.key) {
    details.push(`ring ${old.ring.key.slice(0, 8)} → ${fresh.ring.key.slice(0, 8)}`);
  }
  const names = (table: ForwardingTable, service: Service): string[] =>
    service.destinations.flatMap((id) => table.destinations.get(id) ?? [])
      .map(({ name, address, port, alive }) => `${name} ${address.text} ${port} ${alive}`);
  const [was, is] = [names(before, old), names(after, fresh)];
  if (was.join() !== is.join()) details.push("backends change");
  if (JSON.stringify(old.config) !== JSON.stringify(fresh.config)) details.push("settings change");
  return details.length === 0 ? null : details.join(", ");
}
