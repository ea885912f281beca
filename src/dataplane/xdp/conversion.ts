// Entries of maps from one ABI to another: fields by their names, counters by what they count. What the other ABI has
// and this one lacks is left out, and what it lacks begins at zero, which therefore means "as before". Pure; knows
// layouts, and of the maps only which of them an enum numbers.

import type { MapName } from "./maps.ts";
import {
  isPadding, sizeOf, typeText, type Abi, type Field, type FieldType, type MapLayout,
} from "./layout.ts";

export interface Entry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

export type MapConversion =
  /** Byte for byte the same. */
  | { readonly kind: "same" }
  /** Null: an entry that has no counterpart, because of its key; a RangeError: what does not fit. */
  | { readonly kind: "converted"; entry(entry: Entry): Entry | null }
  /** The other ABI has no map of this name. */
  | { readonly kind: "absent" }
  /** What the program puts aside while it has a packet in hand. */
  | { readonly kind: "scratch" }
  | { readonly kind: "impossible"; readonly reason: string };

/** Maps whose elements have the numbers of an enum: what is called the same is the same. */
const NUMBERED_BY: Partial<Record<MapName, string>> = {
  verdict_counts: "verdict", tracking_counts: "tracking_outcome", nat_counts: "nat_outcome",
  quic_counts: "quic_outcome", flow_counts: "flow_event", remember_pace: "remember_kind",
};
/**
 * Enums that number nothing that is kept, and values that merely count others. Whether a flow belongs to the sample is
 * asked again when it is counted.
 */
const UNKEPT_ENUMS: ReadonlySet<string> = new Set([
  ...Object.values(NUMBERED_BY), "decap_verdict", "link_places", "ring_slots", "sample", "region_fanout",
]);
const UNKEPT_VALUES: ReadonlySet<string> = new Set(["RING_CLASSES", "NAT_SOURCES_MAX", "REGIONS_MAX"]);
/** BPF_MAP_TYPE_PERCPU_HASH, PERCPU_ARRAY and LRU_PERCPU_HASH. */
const PER_CPU: ReadonlySet<number> = new Set([5, 6, 10]);

/**
 * Why the numbers in the other ABI's records mean something else here, or null. Most of them stand in plain integers,
 * so they are never changed and never given to another name; renaming one looks the same.
 */
export function numbersThatMoved(from: Abi, to: Abi): string | null {
  for (const { name, values } of to.enums.filter((each) => !UNKEPT_ENUMS.has(each.name))) {
    const others = from.enums.find((each) => each.name === name)?.values ?? [];
    for (const { name: text, value } of values.filter((each) => !UNKEPT_VALUES.has(each.name))) {
      const other = others.find((each) => !UNKEPT_VALUES.has(each.name) && (each.name === text) !== (each.value === value));
      if (other !== undefined) return `${other.name} is ${other.value} there, and ${text} is ${value} here`;
    }
  }
  return null;
}

/** How the entries of a map are converted. */
export function conversionOf(name: MapName, from: Abi, to: Abi): MapConversion {
  const [old, wanted] = [from, to].map(({ maps }) => maps.find((each) => each.name === name));
  if (wanted === undefined) throw new RangeError(`there is no map ${name}`);
  if (old === undefined) return { kind: "absent" };
  if (old.key === null || old.value === null || wanted.key === null || wanted.value === null) {
    return { kind: "impossible", reason: "the types of its entries are not known" };
  }
  if (old.value.kind === "bytes" || wanted.value.kind === "bytes") return { kind: "scratch" };
  if (PER_CPU.has(old.type) !== PER_CPU.has(wanted.type)) return { kind: "impossible", reason: "only one of both is per CPU" };
  const numbers = NUMBERED_BY[name];
  const renumber = numbers === undefined ? null : renumbering(numbers, from, to);
  if (renumber === null && isSame(old, wanted, from, to)) return { kind: "same" };
  try {
    const key = recordConversion([from, old.key], [to, wanted.key]);
    const one = recordConversion([from, old.value], [to, wanted.value]);
    const value = PER_CPU.has(old.type) ? forEachCpu(one, sizeOf(old.value), sizeOf(wanted.value)) : one;
    return {
      kind: "converted",
      entry: (entry) => {
        const place = key(entry.key);
        if (renumber !== null && !renumber(place)) return null;
        return { key: place, value: value(entry.value) };
      },
    };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return { kind: "impossible", reason: error.message };
  }
}

/** Null: the numbers are the same. False: nobody has this name any more. */
function renumbering(name: string, from: Abi, to: Abi): ((key: Uint8Array) => boolean) | null {
  const [olds, news] = [from, to].map(({ enums }) => enums.find((each) => each.name === name)?.values ?? []);
  if (JSON.stringify(olds) === JSON.stringify(news)) return null;
  const numbers = new Map(olds!.flatMap(({ name: text, value }) => {
    const found = news!.find((each) => each.name === text);
    return found === undefined ? [] : [[value, found.value] as const];
  }));
  return (key) => {
    const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
    const number = numbers.get(view.getUint32(0, true));
    if (number === undefined) return false;
    view.setUint32(0, number, true);
    return true;
  };
}

function isSame(a: MapLayout, b: MapLayout, from: Abi, to: Abi): boolean {
  return deepText(a.key!, from) === deepText(b.key!, to) && deepText(a.value!, from) === deepText(b.value!, to);
}

function deepText(type: FieldType, abi: Abi): string {
  if (type.kind === "array") return `${deepText(type.of, abi)}[${type.length}]`;
  if (type.kind !== "struct") return typeText(type);
  const fields = fieldsOf(type.name, abi).map(({ name, offset, type: each }) => `${name} ${offset} ${deepText(each, abi)}`);
  return `{${type.size} ${fields.join()}}`;
}

function fieldsOf(struct: string, { structs }: Abi): readonly Field[] {
  const found = structs.find(({ name }) => name === struct);
  if (found === undefined) throw new RangeError(`struct ${struct} is not described`);
  return found.fields;
}

function forEachCpu(convert: Convert, fromSize: number, toSize: number): Convert {
  const [fromStride, toStride] = [fromSize, toSize].map((size) => Math.ceil(size / 8) * 8) as [number, number];
  return (bytes) => {
    const cpus = bytes.length / fromStride;
    const result = new Uint8Array(cpus * toStride);
    for (let cpu = 0; cpu < cpus; cpu += 1) {
      result.set(convert(bytes.subarray(cpu * fromStride, cpu * fromStride + fromSize)), cpu * toStride);
    }
    return result;
  };
}

// ---- one record

type Convert = (bytes: Uint8Array) => Uint8Array;
type Typed = readonly [abi: Abi, type: FieldType];
type Int = Extract<FieldType, { kind: "int" }>;
type Move =
  | { readonly kind: "copy"; readonly from: number; readonly to: number; readonly length: number }
  | { readonly kind: "int"; readonly from: number; readonly to: number; readonly types: readonly [Int, Int]; readonly what: string }
  | { readonly kind: "zero"; readonly from: number; readonly length: number; readonly what: string };

/** A RangeError when there is none. */
export function recordConversion(from: Typed, to: Typed): Convert {
  const moves: Move[] = [];
  addMoves(moves, { from, to, fromAt: 0, toAt: 0, what: typeText(to[1]) });
  const size = sizeOf(to[1]);
  const merged = mergeCopies(moves);
  return (bytes) => {
    const result = new Uint8Array(size);
    for (const move of merged) make(move, bytes, result);
    return result;
  };
}

interface Pair {
  readonly from: Typed;
  readonly to: Typed;
  readonly fromAt: number;
  readonly toAt: number;
  readonly what: string;
}

function addMoves(moves: Move[], { from: [fromAbi, old], to: [toAbi, wanted], fromAt, toAt, what }: Pair): void {
  if (old.kind === "struct" && wanted.kind === "struct") {
    const olds = fieldsOf(old.name, fromAbi);
    for (const field of fieldsOf(wanted.name, toAbi)) {
      const other = olds.find(({ name }) => name === field.name);
      if (other === undefined || isPadding(field)) continue;
      addMoves(moves, {
        from: [fromAbi, other.type], to: [toAbi, field.type], fromAt: fromAt + other.offset, toAt: toAt + field.offset,
        what: `${what}.${field.name}`,
      });
    }
    return;
  }
  if (old.kind === "array" && wanted.kind === "array") {
    const [step, toStep] = [sizeOf(old.of), sizeOf(wanted.of)];
    for (let at = 0; at < Math.min(old.length, wanted.length); at += 1) {
      addMoves(moves, { from: [fromAbi, old.of], to: [toAbi, wanted.of], fromAt: fromAt + at * step, toAt: toAt + at * toStep, what });
    }
    if (old.length > wanted.length) {
      moves.push({ kind: "zero", from: fromAt + wanted.length * step, length: (old.length - wanted.length) * step, what });
    }
    return;
  }
  if (old.kind === "bytes" && wanted.kind === "bytes") {
    moves.push({ kind: "copy", from: fromAt, to: toAt, length: Math.min(old.length, wanted.length) });
    const rest = old.length - wanted.length;
    if (rest > 0) moves.push({ kind: "zero", from: fromAt + wanted.length, length: rest, what });
    return;
  }
  const types = [intOf(old), intOf(wanted)] as const;
  if (types[0] === null || types[1] === null) throw new RangeError(`${what} was ${typeText(old)} and is ${typeText(wanted)}`);
  if (typeText(types[0]) === typeText(types[1])) moves.push({ kind: "copy", from: fromAt, to: toAt, length: types[0].size });
  else moves.push({ kind: "int", from: fromAt, to: toAt, types: [types[0], types[1]], what });
}

function intOf(type: FieldType): Int | null {
  switch (type.kind) {
    case "int": return type;
    case "bool": return { kind: "int", size: 1, signed: false, bigEndian: false };
    case "enum": return { kind: "int", size: type.size as Int["size"], signed: false, bigEndian: false };
    default: return null;
  }
}

/** What lies side by side in both is copied at once. */
function mergeCopies(moves: readonly Move[]): Move[] {
  const merged: Move[] = [];
  for (const move of moves) {
    const last = merged.at(-1);
    if (last?.kind === "copy" && move.kind === "copy" && last.from + last.length === move.from && last.to + last.length === move.to) {
      merged[merged.length - 1] = { ...last, length: last.length + move.length };
    } else {
      merged.push(move);
    }
  }
  return merged;
}

function make(move: Move, from: Uint8Array, to: Uint8Array): void {
  switch (move.kind) {
    case "copy":
      // Of so few bytes, each for itself is several times faster than set().
      for (let at = 0; at < move.length; at += 1) to[move.to + at] = from[move.from + at]!;
      return;
    case "zero":
      if (from.subarray(move.from, move.from + move.length).some((byte) => byte !== 0)) {
        throw new RangeError(`${move.what} has more bytes than there is room for`);
      }
      return;
    case "int": {
      const value = readInt(from, move.from, move.types[0]);
      const { signed, size } = move.types[1];
      if ((signed ? BigInt.asIntN(size * 8, value) : BigInt.asUintN(size * 8, value)) !== value) {
        throw new RangeError(`${move.what} is ${value}, which does not fit ${typeText(move.types[1])}`);
      }
      writeInt(to, move.to, move.types[1], value);
    }
  }
}

/** In the order of rising weight. */
function bytesOf({ size, bigEndian }: Int, at: number): number[] {
  const places = Array.from({ length: size }, (_, index) => at + index);
  return bigEndian ? places.reverse() : places;
}

function readInt(bytes: Uint8Array, at: number, type: Int): bigint {
  const value = bytesOf(type, at).reduceRight((sum, place) => sum << 8n | BigInt(bytes[place]!), 0n);
  return type.signed ? BigInt.asIntN(type.size * 8, value) : value;
}

function writeInt(bytes: Uint8Array, at: number, type: Int, value: bigint): void {
  let rest = BigInt.asUintN(type.size * 8, value);
  for (const place of bytesOf(type, at)) {
    bytes[place] = Number(rest & 0xffn);
    rest >>= 8n;
  }
}
