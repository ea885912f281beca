// What the maps of regions should hold for a table: which prefixes are to be searched, and which service has the clients
// of each region. A pure part of the image.

import { regionsDigest } from "../../model/region_changes.ts";
import type { RegionPrefixes } from "../../model/regions.ts";
import type { ForwardingTable, Service } from "../../model/table.ts";

/** Of a service with regions, or of a region's. Tables go by their digest, which is not 0n. */
export interface RegionsImage {
  /** Index of the service whose clients they are: its own, or that of which this is a region's. */
  readonly asked: number;
  /** Null: all clients are the service's own. */
  readonly table: bigint | null;
  /** Where clients were when a window opened; null: none is open. */
  readonly before: { readonly table: bigint | null; readonly untilNs: bigint } | null;
}

/** Whoever is found in this region of the table, and asked for this service, has that one. */
export interface RegionServiceImage {
  readonly table: bigint;
  readonly asked: number;
  readonly region: number;
  readonly index: number;
}

export interface RegionImages {
  /** By digest; null: nobody here knows what is in it. */
  readonly tables: ReadonlyMap<bigint, RegionPrefixes | null>;
  readonly services: readonly RegionServiceImage[];
}

export function regionImages(services: readonly Service[]): RegionImages {
  const tables = new Map<bigint, RegionPrefixes | null>();
  const found: RegionServiceImage[] = [];
  for (const service of services) {
    const { index, regions } = service;
    if (regions === null) continue;
    const shown = [{ ...regions, digest: regionsDigest(service) }, ...regions.before === null ? [] : [regions.before]];
    for (const { digest, prefixes, services: indexes } of shown) {
      if (digest === 0n) continue;
      tables.set(digest, tables.get(digest) ?? prefixes);
      for (const [at, each] of indexes.entries()) {
        if (each !== null) found.push({ table: digest, asked: index, region: at + 1, index: each });
      }
    }
  }
  return { tables, services: found };
}

/** Of a service that has regions, or is a region's: the index of the one that is asked for. */
export function askedIndexes({ services }: ForwardingTable): (service: Service) => number | null {
  const byName = new Map(services.map(({ name, index }) => [name, index]));
  return ({ index, regions, config: { region } }) => {
    if (region !== null) return byName.get(region.service) ?? null;
    return regions === null ? null : index;
  };
}

export function regionsImage(service: Service, asked: number): RegionsImage {
  const before = service.regions?.before ?? null;
  return {
    asked, table: orNull(regionsDigest(service)),
    before: before === null ? null : { table: orNull(before.digest), untilNs: before.untilNs },
  };
}

function orNull(digest: bigint): bigint | null {
  return digest === 0n ? null : digest;
}
