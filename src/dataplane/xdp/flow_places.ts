// Where the flows of all backends of a service are counted. Pure; knows services, must never know a map.

import type { Service } from "../../model/table.ts";

/**
 * An index of `service_flows`: the lowest of the services that pick and have the same backends, so that a backend with
 * flows of two addresses is not compared with a total of one; where none picks, 0.
 */
export function flowPlaces(services: readonly Service[]): (service: Service) => number {
  const places = new Map<string, number>();
  for (const { picking, destinations, index } of services) {
    if (picking === null) continue;
    const key = destinations.join();
    places.set(key, Math.min(index, places.get(key) ?? index));
  }
  if (places.size === 0) return () => 0;
  return ({ destinations, index }) => places.get(destinations.join()) ?? index;
}
