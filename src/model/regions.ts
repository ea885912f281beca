// Where clients are: the table of their prefixes, each of which is in one region of a service, and what a
// service is for the clients of a region. One table for both planes: the proxy looks addresses up in it, and
// it can be walked, for a plane that keeps longest prefixes by itself. Knows prefixes and numbers of regions;
// must never know where they come from.

import { addressFromBytes } from "./address.ts";
import type { Prefix } from "./address.ts";
import type { ServiceConfig } from "./config.ts";

/** Regions of a service at most. Numbers count from 1; 0 is nowhere. */
export const REGIONS_MAX = 32;
export const NOWHERE = 0;
const WORDS = 4;
const WORD_BITS = 32;
const ADDRESS_BITS = 128;
/** Bits before those of IPv4 (RFC 4291, 2.5.5.2). */
const MAPPED_BITS = 96;

/** A prefix of clients, in the form of packets and maps. */
export interface RegionPrefix {
  /** 16 bytes; the bits beyond the prefix are zero. */
  readonly bytes: Uint8Array;
  /** 0…128: of IPv4 96 more than people write. */
  readonly bits: number;
  /** Number of the region, from 1. */
  readonly region: number;
}

/** The database that prefixes were taken of. */
export interface RegionSource {
  /** As it calls itself, "GeoLite2-Country". */
  readonly type: string;
  /** Wall clock, milliseconds. */
  readonly builtAtMs: number;
}

/** Prefixes that do not overlap, in the order of their addresses. Immutable. */
export class RegionPrefixes {
  /** Digest of what it was made from: equal keys mean equal prefixes. */
  readonly key: string;
  /** Null: no database, but networks alone. */
  readonly source: RegionSource | null;
  readonly columns: RegionColumns;

  constructor(key: string, source: RegionSource | null, columns: RegionColumns) {
    this.key = key;
    this.source = source;
    this.columns = columns;
  }

  /** How many prefixes there are. */
  get size(): number {
    return this.columns.bits.length;
  }

  /** The region's number of an address (16 bytes), or NOWHERE. */
  regionOf(address: Uint8Array): number {
    const at = this.#find(address);
    return at < 0 ? NOWHERE : this.columns.regions[at]!;
  }

  /** The prefix that holds the address, as people write it; null: none does. */
  prefixOf(address: Uint8Array): Prefix | null {
    const at = this.#find(address);
    return at < 0 ? null : readable(this.#at(at));
  }

  * [Symbol.iterator](): Generator<RegionPrefix> {
    for (let at = 0; at < this.size; at++) yield this.#at(at);
  }

  /** Configs are compared and shown as JSON: there the key stands for all prefixes. */
  toJSON(): string {
    return this.key;
  }

  #at(at: number): RegionPrefix {
    const bytes = new Uint8Array(16);
    const view = new DataView(bytes.buffer);
    for (let word = 0; word < WORDS; word++) view.setUint32(word * 4, this.columns.starts[at * WORDS + word]!);
    return { bytes, bits: this.columns.bits[at]!, region: this.columns.regions[at]! };
  }

  /** Since none overlap, the last prefix that begins at the address or before it holds it, or none does. */
  #find(address: Uint8Array): number {
    const words = wordsOf(address);
    let [low, high] = [0, this.size];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#compare(middle, words) <= 0) low = middle + 1;
      else high = middle;
    }
    return low > 0 && this.#holds(low - 1, words) ? low - 1 : -1;
  }

  #compare(at: number, words: Uint32Array): number {
    for (let word = 0; word < WORDS; word++) {
      const start = this.columns.starts[at * WORDS + word]!;
      if (start !== words[word]!) return start < words[word]! ? -1 : 1;
    }
    return 0;
  }

  #holds(at: number, words: Uint32Array): boolean {
    let bits = this.columns.bits[at]!;
    for (let word = 0; bits > 0; word++, bits -= WORD_BITS) {
      const differing = (this.columns.starts[at * WORDS + word]! ^ words[word]!) >>> 0;
      if (differing >>> Math.max(0, WORD_BITS - bits) !== 0) return false;
    }
    return true;
  }
}

/** The prefixes by column, as they travel between threads. */
export interface RegionColumns {
  /** Four words for each prefix, the first of the address first. */
  readonly starts: Uint32Array;
  readonly bits: Uint8Array;
  readonly regions: Uint8Array;
}

function wordsOf(address: Uint8Array): Uint32Array {
  const words = new Uint32Array(WORDS);
  for (let at = 0; at < ADDRESS_BITS / 8; at++) words[at >> 2] = (words[at >> 2]! << 8) | (address[at] ?? 0);
  return words;
}

function readable({ bytes, bits }: RegionPrefix): Prefix {
  const address = addressFromBytes(bytes);
  const length = address.family === 4 && bits >= MAPPED_BITS ? bits - MAPPED_BITS : bits;
  return { address, length, text: `${address.text}/${length}` };
}

/** What a service is called for the clients of a region: no name of the config has an "@". */
export function regionalName(service: string, region: string): string {
  return `${service}@${region}`;
}

/** The name of the service that is asked for, of one of the file or of its region's. */
export function askedName({ name, region }: Pick<ServiceConfig, "name" | "region">): string {
  return region?.service ?? name;
}

/** The service, then what it is for each of its regions: the same, with the region's pool. */
export function withRegions(service: ServiceConfig): ServiceConfig[] {
  const { name, geo } = service;
  return [service, ...(geo?.regions ?? []).map((region): ServiceConfig => ({
    ...service, name: regionalName(name, region.name), pool: region.pool, split: null, geo: null,
    region: { service: name, name: region.name },
  }))];
}

/** The services of the file alone. */
export function withoutRegions(services: readonly ServiceConfig[]): ServiceConfig[] {
  return services.filter(({ region }) => region === null);
}
