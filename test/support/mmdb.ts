// Writes small databases in MaxMind's format, for tests: the MaxMind DB File Format Specification 2.0
// (https://maxmind.github.io/MaxMind-DB/), as much of it as records of places need. Knows bytes; shares no code
// with what reads them.

import { parsePrefix } from "../../src/model/address.ts";

export type MmdbValue = string | number | boolean | { readonly [key: string]: MmdbValue } | readonly MmdbValue[];

export interface MmdbOptions {
  readonly recordBits?: 24 | 28 | 32;
  readonly ipVersion?: 4 | 6;
  readonly type?: string;
  readonly builtAtMs?: number;
  /** Prefixes of IPv6 that lead to IPv4, as in MaxMind's own databases. */
  readonly aliases?: boolean;
  /** More for the metadata, or instead of what is there. */
  readonly metadata?: Readonly<Record<string, MmdbValue>>;
}

/** By prefix: a record. Of two prefixes that hold an address, the longer has it. */
export type MmdbEntries = Readonly<Record<string, MmdbValue>>;

/** "DE" in "EU", as MaxMind's country databases say it. */
export function country(iso: string, continent: string): MmdbValue {
  return { continent: { code: continent, names: { en: continent } }, country: { iso_code: iso, names: { en: iso } } };
}

interface Node {
  /** A node, the number of a record, or nothing. */
  readonly children: [Child, Child];
  number: number;
}

type Child = Node | number | null;

const TYPES = { string: 2, map: 7, uint16: 5, uint32: 6, uint64: 9, array: 11, boolean: 14 } as const;
const METADATA_MARKER = Buffer.concat([Buffer.of(0xab, 0xcd, 0xef), Buffer.from("MaxMind.com")]);
const ALIASES = ["::ffff:0:0/96", "2002::/16", "2001::/32"];
/** Sizes from here on take a second byte (29 + n) or more. */
const LONG_SIZE = 29;

export function mmdb(entries: MmdbEntries, options: MmdbOptions = {}): Buffer {
  const { recordBits = 24, ipVersion = 6, type = "Test-Country", builtAtMs = Date.UTC(2026, 0, 1), aliases = false } = options;
  const root: Node = { children: [null, null], number: 0 };
  const { data, offsets } = dataOf(Object.values(entries));
  const prefixes = Object.keys(entries).map((text, index) => ({ ...bitsOf(text, ipVersion), record: index }));
  for (const { bits, record } of prefixes.toSorted((a, b) => a.bits.length - b.bits.length)) put(root, bits, record);
  if (aliases) {
    const ipv4 = reach(root, bitsOf("::/96", 6).bits);
    for (const text of ALIASES) put(root, bitsOf(text, 6).bits, ipv4);
  }
  const nodes = numbered(root);
  const tree = Buffer.concat(nodes.map(({ children }) => nodeBytes(children.map((child) => {
    if (child === null) return nodes.length;
    return typeof child === "number" ? nodes.length + 16 + offsets[child]! : child.number;
  }) as [number, number], recordBits)));
  const metadata = {
    binary_format_major_version: 2, binary_format_minor_version: 0, build_epoch: Math.floor(builtAtMs / 1000),
    database_type: type, description: { en: "made for tests" }, ip_version: ipVersion, languages: ["en"], node_count: nodes.length,
    record_size: recordBits, ...options.metadata,
  };
  return Buffer.concat([tree, Buffer.alloc(16), data, METADATA_MARKER, encode(metadata)]);
}

/** Each record once, whatever the number of its prefixes. */
function dataOf(records: readonly MmdbValue[]): { readonly data: Buffer; readonly offsets: readonly number[] } {
  const places = new Map<string, number>();
  const parts: Buffer[] = [];
  let size = 0;
  const offsets = records.map((record) => {
    const bytes = encode(record);
    const known = places.get(bytes.toString("latin1"));
    if (known !== undefined) return known;
    places.set(bytes.toString("latin1"), size);
    parts.push(bytes);
    size += bytes.length;
    return size - bytes.length;
  });
  return { data: Buffer.concat(parts), offsets };
}

/** IPv4 stands at ::/96 of an IPv6 tree. */
function bitsOf(text: string, ipVersion: 4 | 6): { readonly bits: readonly (0 | 1)[] } {
  const mapped = text === "::ffff:0:0/96";
  const prefix = parsePrefix(mapped ? "::/96" : text);
  if (prefix === null) throw new RangeError(`${text} is no prefix`);
  const { address: { bytes, family }, length } = prefix;
  const all = [...bytes].flatMap((byte) => [7, 6, 5, 4, 3, 2, 1, 0].map((shift) => ((byte >> shift) & 1) as 0 | 1));
  if (family === 6) return { bits: all.slice(0, length).map((bit, at) => (mapped && at >= 80 ? 1 : bit)) };
  const own = all.slice(96, 96 + length);
  return { bits: ipVersion === 4 ? own : [...Array<0>(96).fill(0), ...own] };
}

function put(root: Node, bits: readonly (0 | 1)[], what: Child): void {
  const last = bits.at(-1);
  if (last === undefined) root.children.fill(what);
  else reach(root, bits.slice(0, -1)).children[last] = what;
}

/** The node at these bits; what was a record becomes a node with it on both sides. */
function reach(root: Node, bits: readonly (0 | 1)[]): Node {
  let node = root;
  for (const bit of bits) {
    const child = node.children[bit];
    const next: Node = child !== null && typeof child === "object" ? child : { children: [child, child], number: 0 };
    node.children[bit] = next;
    node = next;
  }
  return node;
}

function numbered(root: Node): Node[] {
  const nodes: Node[] = [];
  const seen = new Set<Node>();
  const visit = (node: Node): void => {
    if (seen.has(node)) return;
    seen.add(node);
    node.number = nodes.length;
    nodes.push(node);
    for (const child of node.children) if (child !== null && typeof child === "object") visit(child);
  };
  visit(root);
  return nodes;
}

function nodeBytes([left, right]: readonly [number, number], recordBits: 24 | 28 | 32): Buffer {
  const bytes = Buffer.alloc(recordBits / 4);
  if (recordBits === 32) {
    bytes.writeUInt32BE(left, 0);
    bytes.writeUInt32BE(right, 4);
    return bytes;
  }
  bytes.writeUIntBE(left % 2 ** 24, 0, 3);
  bytes.writeUIntBE(right % 2 ** 24, bytes.length - 3, 3);
  if (recordBits === 28) bytes[3] = (Math.floor(left / 2 ** 24) << 4) | Math.floor(right / 2 ** 24);
  return bytes;
}

function encode(value: MmdbValue): Buffer {
  if (typeof value === "string") {
    const bytes = Buffer.from(value);
    return Buffer.concat([control(TYPES.string, bytes.length), bytes]);
  }
  if (typeof value === "boolean") return control(TYPES.boolean, value ? 1 : 0);
  if (typeof value === "number") return encodeNumber(value);
  if (Array.isArray(value)) return Buffer.concat([control(TYPES.array, value.length), ...value.map(encode)]);
  const pairs = Object.entries(value as Readonly<Record<string, MmdbValue>>);
  return Buffer.concat([control(TYPES.map, pairs.length), ...pairs.flatMap(([key, inner]) => [encode(key), encode(inner)])]);
}

function encodeNumber(value: number): Buffer {
  const digits = value === 0 ? "" : value.toString(16);
  const bytes = Buffer.from(digits.padStart(digits.length + (digits.length % 2), "0"), "hex");
  const type = bytes.length <= 2 ? TYPES.uint16 : bytes.length <= 4 ? TYPES.uint32 : TYPES.uint64;
  return Buffer.concat([control(type, bytes.length), bytes]);
}

/** Types above 7 are told by a second byte; sizes have five bits. */
function control(type: number, size: number): Buffer {
  const isLong = size >= LONG_SIZE;
  if (size >= LONG_SIZE + 256) throw new RangeError(`${size} is more than these tests need`);
  const low = isLong ? LONG_SIZE : size;
  const head = type > 7 ? [low, type - 7] : [(type << 5) | low];
  return Buffer.from(isLong ? [...head, size - LONG_SIZE] : head);
}
