// Which prefixes of the address space are in which region: a walk over the tree of a database, with networks
// laid over it, that joins what belongs together. IPv4 stands where packets have it, at ::ffff:0:0/96. Pure
// but for the database's memory of records.

import { parseAddress } from "../model/address.ts";
import type { Region } from "../model/config.ts";
import { NOWHERE } from "../model/regions.ts";
import type { RegionColumns } from "../model/regions.ts";
import { GeoDatabaseError } from "./database.ts";
import type { GeoDatabase, Location } from "./database.ts";

/** What of a region says whose it is. */
export type RegionRule = Pick<Region, "countries" | "continents"> & { readonly networks: readonly string[] };

/**
 * Places of an IPv6 tree that hold IPv4 once more, or nothing that a packet has: ::/96, where the format keeps
 * IPv4, 6to4 (RFC 3056) and Teredo (RFC 4380), whose IPv6 addresses say nothing sure of where a client is.
 */
const PASSED_OVER = ["::/96", "2002::/16", "2001::/32"];
const MAPPED = "::ffff:0:0/96";

/** A prefix at which the walk goes on otherwise. */
interface Mark {
  readonly bytes: Uint8Array;
  readonly bits: number;
  readonly is: { readonly kind: "empty" } | { readonly kind: "ipv4" } | { readonly kind: "network"; readonly region: number };
}

const ADDRESS_BITS = 128;
/** Of something that is not all in one region. */
const MIXED = -1;
/** A sound tree is walked with one visit per node, and some where a mark lies below a leaf. */
const VISITS_PER_NODE = 2;

/** Prefixes that do not overlap, in order, as few as possible. Throws GeoDatabaseError. */
export function regionColumns(database: GeoDatabase | null, regions: readonly RegionRule[]): RegionColumns {
  const walk = new Walk(database, regions);
  const columns = walk.run();
  const asked = [
    ["country", "countries", regions.some(({ countries }) => countries.length > 0)],
    ["continent", "continents", regions.some(({ continents }) => continents.length > 0)],
  ] as const;
  for (const [code, codes, asks] of asked) {
    if (asks && database?.lacks(code) === true)
      throw new GeoDatabaseError(`it is called ${database.source.type}, and its records have no ${codes}`);
  }
  return columns;
}

/** The number of the first region that the location matches. */
function regionAt(regions: readonly RegionRule[], { country, continent }: Location): number {
  return 1 + regions.findIndex(({ countries, continents }) =>
    (country !== null && countries.includes(country)) || (continent !== null && continents.includes(continent)));
}

class Walk {
  readonly #database: GeoDatabase | null;
  readonly #regions: readonly RegionRule[];
  readonly #path = new Uint8Array(ADDRESS_BITS / 8);
  readonly #columns = new GrowingColumns();
  readonly #regionsOfRecords = new Map<number, number>();
  readonly #visitsMax: number;
  #visits = 0;

  constructor(database: GeoDatabase | null, regions: readonly RegionRule[]) {
    this.#database = database;
    this.#regions = regions;
    const marks = regions.reduce((sum, { networks }) => sum + networks.length, PASSED_OVER.length + 1);
    this.#visitsMax = (database?.nodeCount ?? 0) * VISITS_PER_NODE + marks * ADDRESS_BITS * 2;
  }

  run(): RegionColumns {
    const whole = this.#enter(this.#database?.root ?? 0, 0, marksOf(this.#regions), null);
    this.#emit(0, whole);
    return this.#columns.taken();
  }

  /**
   * The region of everything below this bit, or MIXED, with its prefixes emitted. `value`: what the tree has here.
   * `marks`: those that lie here or below. `network`: the region of the longest network that this is in.
   */
  #enter(value: number, depth: number, marks: readonly Mark[], network: number | null): number {
    let [at, inside] = [value, network];
    for (const { bits, is } of marks) {
      if (bits !== depth) continue;
      if (is.kind === "network") inside = is.region;
      else at = is.kind === "ipv4" ? this.#database?.ipv4Root ?? 0 : this.#nothing;
      // Networks of IPv6 hold no IPv4 address, however short they are.
      if (is.kind === "ipv4") inside = null;
    }
    const below = marks.length === 0 ? marks : marks.filter(({ bits }) => bits > depth);
    if (below.length === 0) {
      if (inside !== null) return inside;
      if (this.#database?.isNode(at) !== true) return this.#regionOf(at);
    }
    return this.#fork(at, depth, below, inside);
  }

  #fork(value: number, depth: number, marks: readonly Mark[], network: number | null): number {
    this.#visits += 1;
    if (depth === ADDRESS_BITS || this.#visits > this.#visitsMax)
      throw new GeoDatabaseError("its search tree leads round in circles");
    const before = this.#columns.size;
    const left = this.#enter(this.#next(value, 0), depth + 1, marksBeyond(marks, depth, 0), network);
    this.#emit(depth + 1, left);
    const [byte, bit] = [depth >> 3, 0x80 >> (depth & 7)];
    this.#path[byte]! |= bit;
    const right = this.#enter(this.#next(value, 1), depth + 1, marksBeyond(marks, depth, 1), network);
    const isOne = left !== MIXED && left === right;
    // Both are one prefix, which whoever is above emits: the left half has been the last so far.
    if (isOne) this.#columns.cut(before);
    else this.#emit(depth + 1, right);
    this.#path[byte]! &= ~bit;
    return isOne ? left : MIXED;
  }

  #emit(bits: number, region: number): void {
    if (region > NOWHERE) this.#columns.push(this.#path, bits, region);
  }

  #next(value: number, bit: 0 | 1): number {
    return this.#database?.next(value, bit) ?? value;
  }

  get #nothing(): number {
    return this.#database?.nodeCount ?? 0;
  }

  #regionOf(value: number): number {
    let region = this.#regionsOfRecords.get(value);
    if (region === undefined) {
      const location = this.#database?.locationOf(value, this.#path) ?? null;
      region = location === null ? NOWHERE : regionAt(this.#regions, location);
      this.#regionsOfRecords.set(value, region);
    }
    return region;
  }
}

/** In the order in which those of one prefix count: an operator's network last. */
function marksOf(regions: readonly RegionRule[]): Mark[] {
  const networks = regions.flatMap(({ networks: texts }, index) =>
    texts.map((text) => markOf(text, { kind: "network", region: index + 1 })));
  return [...PASSED_OVER.map((text) => markOf(text, { kind: "empty" })), markOf(MAPPED, { kind: "ipv4" }), ...networks];
}

function markOf(text: string, is: Mark["is"]): Mark {
  const [address = "", length] = text.split("/");
  const { bytes, family } = parseAddress(address)!;
  return { bytes, bits: Number(length) + (family === 4 && !address.includes(":") ? 96 : 0), is };
}

function marksBeyond(marks: readonly Mark[], depth: number, bit: 0 | 1): readonly Mark[] {
  if (marks.length === 0) return marks;
  return marks.filter(({ bytes }) => ((bytes[depth >> 3]! >> (7 - (depth & 7))) & 1) === bit);
}

/** Columns that grow by doubling. */
class GrowingColumns {
  #starts = new Uint32Array(4 * 64);
  #bits = new Uint8Array(64);
  #regions = new Uint8Array(64);
  size = 0;

  push(path: Uint8Array, bits: number, region: number): void {
    if (this.size === this.#bits.length) this.#grow();
    const view = new DataView(path.buffer);
    for (let word = 0; word < 4; word++) this.#starts[this.size * 4 + word] = view.getUint32(word * 4);
    this.#bits[this.size] = bits;
    this.#regions[this.size] = region;
    this.size += 1;
  }

  /** Forgets all but the first so many. */
  cut(size: number): void {
    this.size = size;
  }

  taken(): RegionColumns {
    return {
      starts: this.#starts.slice(0, this.size * 4), bits: this.#bits.slice(0, this.size), regions: this.#regions.slice(0, this.size),
    };
  }

  #grow(): void {
    const { size } = this;
    const [starts, bits, regions] = [new Uint32Array(size * 8), new Uint8Array(size * 2), new Uint8Array(size * 2)];
    starts.set(this.#starts);
    bits.set(this.#bits);
    regions.set(this.#regions);
    [this.#starts, this.#bits, this.#regions] = [starts, bits, regions];
  }
}
