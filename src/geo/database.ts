// A database in MaxMind's format (MaxMind DB File Format Specification 2.0, maxmind.github.io/MaxMind-DB) as
// a tree that can be walked, and what its records say of places. `maxmind` reads the metadata and decodes
// records; the nodes are read here, for it looks up one address at a time. Knows bytes; must never know a
// region or a file's path.

import { Reader } from "maxmind";
import type { CountryResponse } from "maxmind";
import { addressFromBytes } from "../model/address.ts";
import type { RegionSource } from "../model/regions.ts";

/** What a record says of where its addresses are. */
export interface Location {
  /** ISO 3166-1 alpha-2. */
  readonly country: string | null;
  /** MaxMind's code. */
  readonly continent: string | null;
}

/** What records of other publishers have in place of MaxMind's nested ones. */
interface FlatRecord {
  readonly country_code: string;
  readonly continent_code: string;
}

/** Why bytes are no such database, in words for people. */
export class GeoDatabaseError extends Error {
  constructor(reason: string, cause?: unknown) {
    super(reason, { cause });
    this.name = "GeoDatabaseError";
  }
}

/** Zeros between the tree and the data. */
const SEPARATOR_BYTES = 16;
const RECORD_BITS = [24, 28, 32];
const IPV4_DEPTH = 96;

/**
 * A binary tree over the bits of addresses. What a bit leads to is a node (less than `nodeCount`), nothing
 * (`nodeCount`), or a record (more).
 */
export class GeoDatabase {
  readonly nodeCount: number;
  readonly source: RegionSource;
  /** Where IPv6 begins; nodeCount: there is none. */
  readonly root: number;
  /** Where IPv4 begins, which has its place at ::/96 of an IPv6 tree; nodeCount or a record: it is one thing. */
  readonly ipv4Root: number;
  readonly #bytes: Buffer;
  readonly #reader: Reader<CountryResponse>;
  readonly #recordBits: number;
  readonly #locations = new Map<number, Location>();
  readonly #seen = new Set<keyof Location>();

  /** Throws GeoDatabaseError. */
  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#reader = readerOf(this.#bytes);
    const { nodeCount, recordSize, ipVersion, databaseType, buildEpoch } = this.#reader.metadata;
    this.nodeCount = nodeCount;
    this.#recordBits = recordSize;
    this.source = { type: databaseType, builtAtMs: buildEpoch.getTime() };
    this.root = ipVersion === 6 ? 0 : nodeCount;
    this.ipv4Root = ipVersion === 6 ? this.#leftmost(IPV4_DEPTH) : 0;
  }

  isNode(value: number): boolean {
    return value < this.nodeCount;
  }

  /** What the bit leads to from here; where there is no node any more, it is the same whatever the bit. */
  next(value: number, bit: 0 | 1): number {
    if (!this.isNode(value)) return value;
    const at = value * (this.#recordBits / 4);
    const bytes = this.#bytes;
    switch (this.#recordBits) {
      case 24: return bytes.readUIntBE(at + 3 * bit, 3);
      case 32: return bytes.readUInt32BE(at + 4 * bit);
      default: { // the middle byte has the highest four bits of either
        const middle = bytes[at + 3]!;
        return (bit === 0 ? middle >> 4 : middle & 0x0f) * 2 ** 24 + bytes.readUIntBE(at + 4 * bit, 3);
      }
    }
  }

  /**
   * What the record says that the tree has for this address (16 bytes); null: there is none. The country is
   * where the addresses are used (`country`), or where that is not known, where they are registered
   * (`registered_country`), in MaxMind's records; else `country_code`. Who is represented there
   * (`represented_country`: an embassy, a base) does not count.
   */
  locationOf(value: number, address: Uint8Array): Location | null {
    if (value <= this.nodeCount) return null;
    let location = this.#locations.get(value);
    if (location === undefined) {
      location = this.#decode(address);
      this.#locations.set(value, location);
    }
    return location;
  }

  /** Whether records were asked for, and none of them has such a code: it is a database of something else. */
  lacks(code: keyof Location): boolean {
    return this.#locations.size > 0 && !this.#seen.has(code);
  }

  #decode(address: Uint8Array): Location {
    const { text } = addressFromBytes(address);
    let record: Partial<CountryResponse & FlatRecord> | null;
    try {
      record = this.#reader.get(text);
    } catch (error) {
      throw new GeoDatabaseError(`its record for ${text} cannot be read`, error);
    }
    const country = codeOf(record?.country?.iso_code) ?? codeOf(record?.registered_country?.iso_code) ?? codeOf(record?.country_code);
    const continent = codeOf(record?.continent?.code) ?? codeOf(record?.continent_code);
    if (country !== null) this.#seen.add("country");
    if (continent !== null) this.#seen.add("continent");
    return { country, continent };
  }

  #leftmost(depth: number): number {
    let value = 0;
    for (let at = 0; at < depth; at++) value = this.next(value, 0);
    return value;
  }
}

/** Data of strangers: it may be anything. */
function codeOf(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function readerOf(bytes: Buffer): Reader<CountryResponse> {
  let reader: Reader<CountryResponse>;
  try {
    reader = new Reader<CountryResponse>(bytes);
  } catch (error) {
    throw new GeoDatabaseError("it is no database in MaxMind's format, or was cut off", error);
  }
  const { binaryFormatMajorVersion: version, ipVersion, nodeCount, recordSize, searchTreeSize, buildEpoch } = reader.metadata;
  if (version !== 2) throw new GeoDatabaseError(`its format has version ${version}, not 2`);
  const isSound = (ipVersion === 4 || ipVersion === 6) && RECORD_BITS.includes(recordSize)
    && Number.isInteger(nodeCount) && nodeCount > 0 && Number.isFinite(buildEpoch.getTime());
  if (!isSound) throw new GeoDatabaseError("its metadata make no sense");
  const end = searchTreeSize + SEPARATOR_BYTES;
  if (end > bytes.length || bytes.subarray(searchTreeSize, end).some((byte) => byte !== 0))
    throw new GeoDatabaseError("its search tree is not as long as its metadata say: it was cut off or mixed up");
  return reader;
}
