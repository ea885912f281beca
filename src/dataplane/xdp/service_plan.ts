// Planning changes of services: versions and rings before they count, and what counts before keys lead there. A pure part
// of planning a change.

import { serviceKeyText, type Image, type ServiceImage } from "./image.ts";
import type { Planner } from "./planner.ts";
import { addRegionServices, changesTable, settleRegionServices, writeRegionTables } from "./region_plan.ts";
import { createRingPlaces, type RingPlaces } from "./ring_places.ts";
import { isServed, placedVersion } from "./version_diff.ts";

/**
 * Writes every version that changes, then makes them count, then lets keys lead to the new ones; the services of regions
 * first, to which the others lead their clients. Where those find them by another table, all come into force with it.
 */
export function planServices(planner: Planner, want: Image): void {
  const { state, take, settle } = planner;
  settleRegionServices(planner);
  const changed = [...want.services.values()].filter((service) => !isServed(state, service));
  for (const { index } of changed) settle(state.services.get(index)?.mark ?? 0);
  const places = createRingPlaces(planner);
  writeRegionTables(planner, want.regions);
  const isRegions = ({ key }: ServiceImage): boolean => key.region !== null;
  const [regional, others] = [changed.filter(isRegions), changed.filter((service) => !isRegions(service))];
  const isTogether = ({ version }: ServiceImage): boolean => changesTable(state, version, want);
  const halves = writeVersions(planner, want, regional.filter(isTogether), places);
  makeCount(planner, writeVersions(planner, want, regional.filter((service) => !isTogether(service)), places));
  addKeys(planner, [...want.services.values()].filter(isRegions));
  addRegionServices(planner, want, halves);
  makeCount(planner, writeVersions(planner, want, others, places));
  settleRegionServices(planner);
  for (const address of want.virtualAddresses.values()) {
    if (!state.virtualAddresses.has(address.text)) take({ kind: "add-virtual-address", address });
  }
  addKeys(planner, [...want.services.values()].filter((service) => !isRegions(service)));
  for (const [text, assigned] of want.assigned) {
    if (!state.assigned.has(text)) take({ kind: "assign-address", assigned });
  }
}

/** Into the halves that do not count: which, by index. */
function writeVersions({ state, take }: Planner, want: Image, changed: readonly ServiceImage[], places: RingPlaces): Map<number, 0 | 1> {
  return new Map(changed.map((service) => {
    const value = placedVersion(state, want, service, places);
    const version = state.services.get(service.index)?.active === 0 ? 1 : 0;
    take({ kind: "write-version", index: service.index, version, value });
    return [service.index, version];
  }));
}

function makeCount({ take }: Planner, halves: ReadonlyMap<number, 0 | 1>): void {
  for (const [index, version] of halves) take({ kind: "activate-version", index, version });
}

function addKeys({ state, take }: Planner, services: readonly ServiceImage[]): void {
  for (const { index, key } of services) {
    const held = state.services.get(index)?.key ?? null;
    if (held !== null && serviceKeyText(held) === serviceKeyText(key)) continue;
    take({ kind: "zero-service-traffic", index });
    take({ kind: "add-service", index, key });
  }
}
