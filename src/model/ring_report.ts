// What `pointsman ring` shows: who has how many slots of a service, also with some backends taken as
// unhealthy or gone. Pure; asks compile, so it shows what would really happen.

import { compile } from "./compile.ts";
import { ringStats } from "./ring.ts";
import { groupsOf, idealShares } from "./split.ts";
import type { Config } from "./config.ts";
import type { BackendHealth, ForwardingTable, Intent, Service } from "./table.ts";
import { EMPTY_LEDGER } from "./table.ts";

export interface ReportedRing {
  readonly service: string;
  readonly size: number;
  /** `ideal` in slots: weight ÷ sum of weights × size; of a split service within each part, by its percentage. */
  readonly backends: { name: string; weight: number; slots: number; share: number; ideal: number }[];
  readonly slots: (string | null)[];
}

/** The intent with backends ("pool/backend") taken as unhealthy, and others as gone from the config. */
export function alterIntent(
  intent: Intent, down: readonly string[], remove: readonly string[],
): Intent {
  const health = new Map(intent.health);
  const dead: BackendHealth = {
    alive: false, known: true, admission: 0, reason: "taken as down", sinceMs: intent.nowMs,
  };
  for (const name of down) health.set(name, dead);
  const gone = new Set(remove);
  const config: Config = {
    ...intent.config,
    pools: intent.config.pools.map((pool) => ({
      ...pool, backends: pool.backends.filter((each) => !gone.has(`${pool.name}/${each.name}`)),
    })),
  };
  return { ...intent, health, config };
}

/** Null when no service has this name. */
export function ringReport(
  intent: Intent, serviceName: string, down: readonly string[], remove: readonly string[],
): ReportedRing | null {
  const config = intent.config.services.find((each) => each.name === serviceName);
  if (config === undefined) return null;
  const altered = alterIntent(intent, down, remove);
  // The other services, those of its regions among them, are of no interest, and their rings would cost time.
  const alone = { ...altered, config: { ...altered.config, services: [{ ...config, geo: null }] } };
  const table = compile(alone, { ledger: EMPTY_LEDGER, generation: 0 });
  return describeRing(table, table.services[0]!);
}

/** In the order of the backends' keys. */
export function describeRing(table: ForwardingTable, service: Service): ReportedRing {
  const destinations = service.destinations.map((id) => table.destinations.get(id)!);
  const places = new Map(service.destinations.map((id, index) => [id, index]));
  const indexes = Uint16Array.from(service.ring.slots, (id) => places.get(id) ?? 0xffff);
  const ideals = idealShares(groupsOf(service), (id) => table.destinations.get(id)!.weight);
  // Two pools may have a backend of one name.
  const names = destinations.map((each) => (service.split === null ? each.backend : each.name));
  const members = destinations.map(({ name, weight }) => ({ key: name, weight }));
  return {
    service: service.name,
    size: service.ring.size,
    backends: ringStats(indexes, members).map(({ weight, slots, share }, index) => (
      { name: names[index]!, weight, slots, share, ideal: ideals.get(destinations[index]!.id)! * service.ring.size }
    )),
    slots: Array.from(indexes, (index) => (index === 0xffff ? null : names[index]!)),
  };
}
