// explain, of a service whose clients' region chooses the pool: whose region the client is in, and why. Words
// for what regions.ts looks up.

import type { Address } from "./address.ts";
import type { ExplainStep } from "./explain.ts";
import type { Service } from "./table.ts";

/** `chosen`: what the service is for this client. None for a service without regions. */
export function regionSteps(service: Service, chosen: Service, client: Address): ExplainStep[] {
  const { regions, config: { geo, pool } } = service;
  if (regions === null || geo === null) return [];
  const { prefixes } = regions;
  if (prefixes === null)
    return [{ step: "region", detail: `nobody has read ${geo.database}: all clients are taken for the service's own` }];
  const prefix = prefixes.prefixOf(client.bytes);
  const { region, pool: regional } = chosen.config;
  const detail = region === null || prefix === null
    ? `${client.text} is in no region: ${service.name} itself is for it, whose pool is ${pool}`
    : `${client.text} is in ${prefix.text} of region ${region.name}: ${chosen.name} is for it, whose pool is ${regional}`;
  return [{ step: "region", detail }];
}
