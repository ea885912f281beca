// What a backend's key says about its place in a ring: the order in which it asks for slots
// (offset and skip, Maglev §3.4, from xxHash64 as Envoy does) and 32 bits that lending draws with.
// Knows keys and ring sizes; must never know weights, health or who the backend is.

import { xxh64 } from "./xxh64.ts";

/** Slot number j that a backend asks for is (offset + j × skip) mod size. */
export interface Permutation {
  readonly offset: number;
  readonly skip: number;
}

/** The hashes of one key, in 32-bit halves so that no BigInt is touched again. */
interface KeyHashes {
  readonly offsetHigh: number;
  readonly offsetLow: number;
  readonly skipHigh: number;
  readonly skipLow: number;
}

// A rebuild asks for the same thousand keys each time, and the BigInts cost more than the ring
// itself.
const KEYS_REMEMBERED_MAX = 65536;
const remembered = new Map<string, KeyHashes>();

function hashesOf(key: string): KeyHashes {
  const known = remembered.get(key);
  if (known !== undefined) return known;
  const offset = xxh64(key, 0n);
  const skip = xxh64(key, 1n);
  const hashes: KeyHashes = {
    offsetHigh: Number(offset >> 32n),
    offsetLow: Number(offset & 0xffffffffn),
    skipHigh: Number(skip >> 32n),
    skipLow: Number(skip & 0xffffffffn),
  };
  if (remembered.size >= KEYS_REMEMBERED_MAX) remembered.clear();
  remembered.set(key, hashes);
  return hashes;
}

/** (high × 2³² + low) mod modulus. Exact: the modulus is below 2²¹, so no term reaches 2⁵³. */
function remainder(high: number, low: number, modulus: number): number {
  return ((high % modulus) * 0x1_0000_0000 + low) % modulus;
}

/** offset = xxh64(key, seed 0) mod size; skip = xxh64(key, seed 1) mod (size − 1) + 1. */
export function permutationOf(key: string, size: number): Permutation {
  const hashes = hashesOf(key);
  return {
    offset: remainder(hashes.offsetHigh, hashes.offsetLow, size),
    skip: remainder(hashes.skipHigh, hashes.skipLow, size - 1) + 1,
  };
}

/** The low 32 bits of xxh64(key, seed 0), unsigned: the key as lending's draws take it. */
export function keyWord(key: string): number {
  return hashesOf(key).offsetLow;
}

/**
 * Order of keys: by UTF-8 bytes, as Envoy sorts them. JavaScript compares UTF-16 units, which
 * differs where surrogates meet U+E000…U+FFFF, so those two ranges change places here.
 */
export function compareKeys(left: string, right: string): number {
  const length = Math.min(left.length, right.length);
  for (let at = 0; at < length; at++) {
    const a = left.charCodeAt(at);
    const b = right.charCodeAt(at);
    if (a !== b) return codePointRank(a) - codePointRank(b);
  }
  return left.length - right.length;
}

function codePointRank(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit >= 0xe000 ? unit - 0x800 : unit + 0x2000;
}
