// Planning changes of regions: tables before versions name them, services of regions before anybody is led to them, and
// all of it away again only when no packet that read an old version is under way. A pure part of planning a change.

import type { Image, VersionImage } from "./image.ts";
import { activeVersion, type KernelState } from "./kernel_state.ts";
import type { RegionImages, RegionsImage } from "./region_image.ts";
import { isShownWith, regionServiceText, tablesOfVersion, type HeldRegions, type HeldRegionService } from "./region_state.ts";
import type { Planner } from "./planner.ts";

/** Where clients were before is forgotten as far as nobody has the table for it. */
export function withKnownRegions({ regionTables }: KernelState, want: Image): Image {
  const held = new Set([...regionTables.values()].map(({ digest }) => digest));
  const isUnknown = (table: bigint | null): boolean => table !== null && want.regions.tables.get(table) === null && !held.has(table);
  if (![...want.regions.tables.keys()].some(isUnknown)) return want;
  const services = new Map([...want.services].map(([index, service]) => {
    const { regions } = service.version;
    if (regions?.before === undefined || regions.before === null || !isUnknown(regions.before.table)) return [index, service];
    return [index, { ...service, version: { ...service.version, regions: { ...regions, before: null } } }];
  }));
  return { ...want, services, regions: {
    tables: new Map([...want.regions.tables].filter(([table]) => !isUnknown(table))),
    services: want.regions.services.filter(({ table }) => !isUnknown(table)),
  } };
}

export function isHeldRegions(state: KernelState, held: HeldRegions | null, want: RegionsImage | null): boolean {
  if (held === null || want === null) return held === want;
  const isSame = (id: number | null, table: bigint | null): boolean =>
    (id === null ? null : state.regionTables.get(id)?.digest ?? 0n) === table;
  if (held.asked !== want.asked || !isSame(held.table, want.table)) return false;
  if (held.before === null || want.before === null) return held.before === want.before;
  return held.before.untilNs === want.before.untilNs && isSame(held.before.table, want.before.table);
}

/** Where a table is that writeRegionTables() has seen to. */
function tableId({ regionTables }: KernelState, table: bigint): number {
  const held = [...regionTables.values()].find(({ digest }) => digest === table);
  if (held === undefined) throw new RangeError(`there are no regions ${table.toString(16)}`);
  return held.id;
}

export function placedRegions(state: KernelState, want: RegionsImage | null): HeldRegions | null {
  if (want === null) return null;
  const placed = (table: bigint | null): number | null => (table === null ? null : tableId(state, table));
  const { asked, table, before } = want;
  return {
    asked, table: placed(table),
    before: before === null ? null : { table: placed(before.table), untilNs: before.untilNs },
  };
}

export function writeRegionTables({ state, take }: Planner, { tables }: RegionImages): void {
  const held = new Set([...state.regionTables.values()].map(({ digest }) => digest));
  for (const [digest, prefixes] of tables) {
    if (held.has(digest) || prefixes === null) continue;
    let id = 0;
    while (state.regionTables.has(id)) id += 1;
    take({ kind: "write-region-table", id, digest, prefixes });
  }
}

function wantedServices(state: KernelState, { services }: RegionImages): Map<string, HeldRegionService> {
  return new Map(services.map(({ table, ...each }) => {
    const of: HeldRegionService = { table: tableId(state, table), ...each, version: null };
    return [regionServiceText(of), of];
  }));
}

/** Whether the clients of the service that is asked for are looked up in another table from this change on. */
export function changesTable(state: KernelState, { regions }: VersionImage, want: Image): boolean {
  const asked = regions === null ? undefined : state.services.get(regions.asked);
  const held = asked === undefined || asked.key === null ? null : activeVersion(asked);
  return held !== null && (held.regions?.table ?? null) !== tableOf(state, want, regions!.asked);
}

/** The table in which clients of the service are to be looked up, which is there. */
function tableOf(state: KernelState, { services }: Image, asked: number): number | null {
  const table = services.get(asked)?.version.regions?.table ?? null;
  return table === null ? null : tableId(state, table);
}

/** When the services of the regions serve. `halves`: of those, by index, that come into force with their table. */
export function addRegionServices({ state, take }: Planner, want: Image, halves: ReadonlyMap<number, 0 | 1>): void {
  for (const [text, wanted] of wantedServices(state, want.regions)) {
    const { index, asked, table } = wanted;
    const version = table === tableOf(state, want, asked) ? halves.get(index) ?? null : null;
    const held = state.regionServices.get(text);
    if (held?.index !== index || held.version !== version) take({ kind: "add-region-service", of: { ...wanted, version } });
  }
}

/** What came into force with its table counts from now on, whichever way packets come to it. */
export function settleRegionServices({ state, take, settle }: Planner): void {
  const early = [...state.regionServices.values()].filter((of) => of.version !== null && isShownWith(state, of));
  // Packets in flight may go by the old table, and there by the version that counts.
  if (early.length > 0) settle(state.marks);
  for (const of of early) {
    take({ kind: "activate-version", index: of.index, version: of.version! });
    take({ kind: "add-region-service", of: { ...of, version: null } });
  }
}

/** When nobody is asked for whose clients they have. */
export function removeRegionServices({ state, take, settle }: Planner, regions: RegionImages): void {
  const wanted = wantedServices(state, regions);
  const left = [...state.regionServices].filter(([text]) => !wanted.has(text));
  // Packets in flight may have found the region in a table that no longer counts.
  if (left.length > 0) settle(state.marks);
  for (const [, of] of left) take({ kind: "remove-region-service", of });
}

/** What leads to a service whose index somebody else gets. */
export function leaveRegionServices({ state, take }: Planner, index: number): void {
  for (const of of [...state.regionServices.values()]) if (of.index === index) take({ kind: "remove-region-service", of });
}

/** Tables can be large: none is kept for later. */
export function releaseRegionTables({ state, take, settle }: Planner): void {
  const shown = new Set([...state.services.values()].flatMap((held) => {
    const version = held.key === null ? null : activeVersion(held);
    return version === null ? [] : tablesOfVersion(version);
  }));
  for (const { id, mark } of [...state.regionTables.values()]) {
    if (shown.has(id)) continue;
    settle(mark);
    take({ kind: "release-region-table", id });
  }
}
