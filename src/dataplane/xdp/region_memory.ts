// The maps of regions of one plane, opened: tables, each a map of its own, and which services they lead to. Knows bytes;
// knows no order: diff.ts has that.

import { digestIn, inSlices, regionBlocks } from "./region_blocks.ts";
import type { RegionPrefixes } from "../../model/regions.ts";
import { RegionBlock, RegionKey, RegionName, RegionService } from "./abi.gen.ts";
import { decodeU32, encodeU32 } from "./map_values.ts";
import { entriesOf, type MapSet } from "./maps.ts";
import type { BpfMap, Native } from "./native.ts";
import type { HeldRegionService } from "./region_state.ts";

const BPF_MAP_TYPE_ARRAY = 2;
const BPF_F_MMAPABLE = 1024;
/** Maps of other sizes may take its place in the outer one. */
const BPF_F_INNER_MAP = 4096;
const ANY = 0;

/** A service of a region, as adoption finds it. */
export interface NamedRegion {
  readonly index: number;
  /** Index of the service that is asked for. */
  readonly asked: number;
  readonly name: string;
}

export class RegionMemory {
  readonly #native: Native;
  readonly #maps: MapSet;
  readonly #tables = new Map<number, BpfMap>();

  constructor(native: Native, maps: MapSet) {
    this.#native = native;
    this.#maps = maps;
  }

  /** A new table with these prefixes, not yet in its place. */
  async create(digest: bigint, prefixes: RegionPrefixes): Promise<BpfMap> {
    const blocks = await inSlices(regionBlocks(prefixes));
    const map = this.#native.BpfMap.create({
      name: "region_table", type: BPF_MAP_TYPE_ARRAY, keySize: 4, valueSize: RegionBlock.size, maxEntries: blocks.count,
      flags: BPF_F_MMAPABLE | BPF_F_INNER_MAP, innerMap: null,
    });
    try {
      await inSlices(blocks.write(map.mmap(), digest));
    } catch (error) {
      map.close();
      throw error;
    }
    return map;
  }

  /** Puts a table in its place, where it may be already, and takes over its handle. */
  place(id: number, map: BpfMap): void {
    this.#maps.region_tables.updateInner(encodeU32(id), map);
    this.#tables.set(id, map);
  }

  release(id: number): void {
    this.#maps.region_tables.delete(encodeU32(id));
    this.#tables.get(id)?.close();
    this.#tables.delete(id);
  }

  /** What the tables were made of, by number; null: one that is not whole. */
  digests(): Map<number, bigint | null> {
    return new Map([...this.#tables].map(([id, map]) => [id, digestIn(map.mmap())]));
  }

  /** One element takes the place of another at once. */
  lead(of: HeldRegionService): void {
    const value = { service: of.index, version: of.version === null ? 0 : of.version + 1 };
    this.#maps.region_services.update(keyOf(of), RegionService.encode(value), ANY);
  }

  unlead(of: HeldRegionService): void {
    this.#maps.region_services.delete(keyOf(of));
  }

  leads(): HeldRegionService[] {
    return entriesOf(this.#maps.region_services).map(({ key, value }) => {
      const { regions, service: asked, region } = RegionKey.decode(key);
      const { service: index, version } = RegionService.decode(value);
      return { table: regions - 1, asked, region, index, version: version === 0 ? null : version === 1 ? 0 : 1 };
    });
  }

  /** Notes that the service is there. */
  setName({ index, asked, name }: NamedRegion): void {
    const bytes = new Uint8Array(RegionName.size - RegionName.offsets.name);
    bytes.set(new TextEncoder().encode(name));
    this.#maps.region_names.update(encodeU32(index), RegionName.encode({ asked, name: bytes }), ANY);
  }

  removeName(index: number): void {
    this.#maps.region_names.delete(encodeU32(index));
  }

  names(): NamedRegion[] {
    return entriesOf(this.#maps.region_names).map(({ key, value }) => {
      const { asked, name } = RegionName.decode(value);
      const end = name.indexOf(0);
      return { index: decodeU32(key), asked, name: new TextDecoder().decode(end < 0 ? name : name.subarray(0, end)) };
    });
  }

  /** Has the same tables as another set of maps, which may then be dropped. `isFresh`: its outer map is a new one. */
  share(from: RegionMemory, isFresh: boolean): void {
    for (const [id, map] of from.#tables) {
      if (isFresh) this.#maps.region_tables.updateInner(encodeU32(id), map);
      this.#tables.set(id, map);
    }
  }

  close(): void {
    for (const map of this.#tables.values()) map.close();
    this.#tables.clear();
  }
}

function keyOf({ table, asked, region }: HeldRegionService): Uint8Array {
  return RegionKey.encode({ regions: table + 1, service: asked, region });
}
