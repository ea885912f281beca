// Regions as the maps hold them, as far as we know: tables by number, and which services they lead to. A part of the
// kernel state; must never touch a map itself.

import { NO_REGIONS, type PublishedRegions } from "../../model/region_changes.ts";
import { deadlineOf, type PublishedSlots } from "../../model/slot_states.ts";
import { serviceKeyText } from "./image.ts";
import { activeVersion, type HeldVersion, type KernelState } from "./kernel_state.ts";
import type { Step } from "./steps.ts";

/** As it stands in a version: a table is a place, not a content. */
export interface HeldRegions {
  readonly asked: number;
  readonly table: number | null;
  readonly before: { readonly table: number | null; readonly untilNs: bigint } | null;
}

export interface HeldRegionTable {
  readonly id: number;
  /** Null: not whole, not to be published. */
  readonly digest: bigint | null;
  mark: number;
}

export interface HeldRegionService {
  readonly table: number;
  readonly asked: number;
  readonly region: number;
  readonly index: number;
  /** Null: the version that counts; else one that is to count with the table. */
  readonly version: 0 | 1 | null;
}

export function regionServiceText({ table, asked, region }: Omit<HeldRegionService, "index" | "version">): string {
  return `${table}/${asked}/${region}`;
}

/** Tables of a version, by number. */
export function tablesOfVersion({ regions }: HeldVersion): number[] {
  return [regions?.table ?? null, regions?.before?.table ?? null].filter((id) => id !== null);
}

/** Whether packets find it in the table that the service asked for has now. */
export function isShownWith(state: KernelState, { asked, table }: HeldRegionService): boolean {
  const held = state.services.get(asked);
  return held !== undefined && held.key !== null && activeVersion(held)?.regions?.table === table;
}

type RegionStep = Extract<Step, { kind:
  "write-region-table" | "release-region-table" | "add-region-service" | "remove-region-service" }>;

export function recordRegions(state: KernelState, step: RegionStep): void {
  switch (step.kind) {
    case "write-region-table":
      state.regionTables.set(step.id, { id: step.id, digest: step.digest, mark: 0 });
      return;
    case "release-region-table": state.regionTables.delete(step.id); return;
    case "add-region-service": state.regionServices.set(regionServiceText(step.of), step.of); return;
    case "remove-region-service": state.regionServices.delete(regionServiceText(step.of)); return;
  }
}

/** Who has which clients of a service, by this version of it: nothing, where all are its own. */
export function publishedRegions(state: KernelState, { regions }: HeldVersion): Pick<PublishedSlots, "regions"> {
  if (regions === null || (regions.table === null && regions.before === null)) return {};
  const shown = (table: number | null): Pick<PublishedRegions, "digest" | "services" | "prefixes"> => ({
    digest: table === null ? 0n : state.regionTables.get(table)?.digest ?? 0n, services: servicesIn(state, table, regions.asked),
    prefixes: null,
  });
  const { before } = regions;
  return { regions: {
    ...NO_REGIONS, ...shown(regions.table),
    before: before === null ? null : {
      ...shown(before.table), untilNs: before.untilNs,
      deadlineMs: deadlineOf(before.untilNs),
    },
  } };
}

/** Their keys by number of the region, less one; of those that are gone "". */
function servicesIn(state: KernelState, table: number | null, asked: number): string[] {
  const found: (string | undefined)[] = [];
  for (const each of state.regionServices.values()) {
    if (each.table !== table || each.asked !== asked) continue;
    const key = state.services.get(each.index)?.key ?? null;
    found[each.region - 1] = key === null ? "" : serviceKeyText(key);
  }
  return Array.from(found, (key) => key ?? "");
}
