// The ring and lending once more, as slowly and literally as docs/ring.md states them, to hold the
// fast ones against. Shares with them the hashes alone (xxh64, lendingDraw), which have vectors of
// their own.

import { lendingDraw, type LendingBackend, LENDING_DRAWS_MAX } from "../../src/model/lending.ts";
import type { RingBackend } from "../../src/model/ring.ts";
import { xxh64 } from "../../src/model/xxh64.ts";

interface Entry {
  readonly index: number;
  readonly key: string;
  readonly weight: number;
  readonly offset: bigint;
  readonly skip: bigint;
  next: bigint;
}

function entriesOf(backends: readonly RingBackend[], size: number): Entry[] {
  const modulus = BigInt(size);
  return backends
    .map((backend, index): Entry => ({
      index, key: backend.key, weight: backend.weight,
      offset: xxh64(backend.key, 0n) % modulus,
      skip: (xxh64(backend.key, 1n) % (modulus - 1n)) + 1n,
      next: 0n,
    }))
    .filter((entry) => entry.weight > 0)
    .sort((a, b) => Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)));
}

/**
 * Envoy's turns (source/extensions/load_balancing_policies/maglev/maglev_lb.cc, described there):
 * everybody is asked in each iteration. `quotas` end a backend's turns; Envoy has none.
 */
export function envoyTurns(
  weights: readonly number[], size: number, quotas: readonly number[] | null,
): number[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const entries = weights.map((weight) => ({ weight: weight / total, target: 0, count: 0 }));
  const weightMax = Math.max(...entries.map((entry) => entry.weight));
  const turns: number[] = [];
  for (let iteration = 1; entries.length > 0 && turns.length < size; iteration++) {
    for (const [at, entry] of entries.entries()) {
      if (turns.length === size) break;
      if (quotas !== null && entry.count === quotas[at]) continue;
      if (iteration * entry.weight < entry.target) continue;
      entry.target += weightMax;
      entry.count += 1;
      turns.push(at);
    }
  }
  return turns;
}

/** Envoy's table: those turns, each taking the first free slot of its permutation. */
export function envoyRing(
  backends: readonly RingBackend[], size: number, quotas: readonly number[] | null,
): Uint16Array {
  const ring = new Uint16Array(size).fill(0xffff);
  const entries = entriesOf(backends, size);
  const ends = quotas === null ? null : entries.map((entry) => quotas[entry.index]!);
  for (const at of envoyTurns(entries.map((entry) => entry.weight), size, ends)) {
    const entry = entries[at]!;
    let slot: number;
    do {
      slot = Number((entry.offset + entry.skip * entry.next) % BigInt(size));
      entry.next += 1n;
    } while (ring[slot] !== 0xffff);
    ring[slot] = entry.index;
  }
  return ring;
}

/** Largest remainder in exact integers, ties in key order. By index of `backends`. */
export function largestRemainder(backends: readonly RingBackend[], size: number): number[] {
  const total = backends.reduce((sum, backend) => sum + BigInt(backend.weight), 0n);
  const parts = backends.map((backend, index) => {
    const product = BigInt(size) * BigInt(backend.weight);
    return { index, key: backend.key, whole: Number(product / total), rest: product % total };
  });
  const quotas = parts.map((part) => part.whole);
  const left = size - quotas.reduce((sum, quota) => sum + quota, 0);
  const order = [...parts].sort((a, b) => {
    if (a.rest !== b.rest) return a.rest > b.rest ? -1 : 1;
    return Buffer.compare(Buffer.from(a.key), Buffer.from(b.key));
  });
  for (const part of order.slice(0, left)) quotas[part.index]! += 1;
  return quotas;
}

/** −ln(1 − drawn ÷ 2³²) × 2³¹, read off a table of 64 straight pieces per halving. */
function raceTime(drawn: number): number {
  let rest = drawn;
  let halvings = 0;
  while (rest >= 2 ** 31 && halvings < 32) {
    rest = (rest - 2 ** 31) * 2;
    halvings += 1;
  }
  const at = Math.floor(rest / 2 ** 25);
  const knot = (i: number): number => Math.round(-Math.log1p(-i / 128) * 2 ** 31);
  const part = rest - at * 2 ** 25;
  return halvings * knot(64) + knot(at) + Math.floor(((knot(at + 1) - knot(at)) * part) / 2 ** 25);
}

/** The finaliser of MurmurHash3 in BigInt. */
function mix(word: number): number {
  let h = BigInt(word) & 0xffff_ffffn;
  h = ((h ^ (h >> 16n)) * 0x85ebca6bn) & 0xffff_ffffn;
  h = ((h ^ (h >> 13n)) * 0xc2b2ae35n) & 0xffff_ffffn;
  return Number(h ^ (h >> 16n));
}

/** h(s, x) in BigInt, from its definition. */
export function drawReference(slot: number, word: number): number {
  const golden = 0x9e3779b9;
  const step = Number((BigInt(word) * BigInt(golden)) & 0xffff_ffffn);
  return mix((mix(slot + golden) + step) % 2 ** 32);
}

/**
 * All backends that could ever take the slot, best first, each with what it takes to be chosen
 * there.
 */
export function lentTo(
  ring: Uint16Array, backends: readonly LendingBackend[], slot: number,
): number {
  const word = (index: number): number => Number(xxh64(backends[index]!.key, 0n) & 0xffff_ffffn);
  const admitted = (index: number): boolean => {
    const { alive, admission, weight } = backends[index]!;
    return alive && admission > 0 && weight > 0;
  };
  const eligible = (index: number): boolean =>
    admitted(index) && lendingDraw(slot, word(index)) % 65536 < backends[index]!.admission;
  const owner = ring[slot]!;
  if (owner === 0xffff) return 0xffff;
  const order = [owner];
  for (let k = 1; k <= LENDING_DRAWS_MAX; k++) {
    order.push(ring[lendingDraw(slot, k) % ring.length]!);
  }
  const byRace = [...backends.keys()].filter((index) => backends[index]!.weight > 0)
    .map((index) => {
      const drawn = lendingDraw(slot, word(index));
      return { index, time: raceTime(mix((drawn + 0x9e3779b9) % 2 ** 32)) };
    })
    .sort((a, b) => {
      const left = a.time * backends[b.index]!.weight;
      const right = b.time * backends[a.index]!.weight;
      if (left !== right) return left - right;
      return backends[a.index]!.key < backends[b.index]!.key ? -1 : 1;
    })
    .map(({ index }) => index);
  return [...order, ...byRace].find(eligible) ?? [owner, ...byRace].find(admitted) ?? 0xffff;
}
