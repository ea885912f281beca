// The continuum of consistent hashing with virtual nodes, as libketama lays it out (Richard Jones and
// Christian Muehlhaeuser, Last.fm, 2007), and the lookup table that is compiled from it. Knows keys and
// configured weights; must never know health, which is lending's business.

import { createHash } from "node:crypto";
import { compareKeys } from "./permutation.ts";
import type { RingBackend } from "./ring.ts";
import { EMPTY_SLOT } from "./ring_fill.ts";

/** Of a backend with the mean weight. Each digest is good for four points. */
const DIGESTS_EACH = 40;
const POINTS_PER_DIGEST = 4;
const HASHES = 2 ** 32;

export interface Continuum {
  /** In ascending order; equal ones in the order of their backends' keys. */
  readonly points: Uint32Array;
  /** Whose each point is: an index into the backends. */
  readonly owners: Uint16Array;
}

/**
 * Four points for each of the MD5 digests of "KEY-0", "KEY-1", …, of which a backend gets 40 × weight ÷ mean
 * weight, rounded down, in libketama's mixture of single and double precision. A hash belongs to the first
 * point that is not below it, and beyond the last to the first of all.
 */
export function layContinuum(backends: readonly RingBackend[]): Continuum {
  const members = backends.flatMap(({ key, weight }, index) => (weight > 0 ? [{ key, weight, index }] : []));
  members.sort((a, b) => compareKeys(a.key, b.key));
  const total = members.reduce((sum, { weight }) => sum + weight, 0);
  const placed: { readonly point: number; readonly index: number }[] = [];
  for (const { key, weight, index } of members) {
    const share = Math.fround(Math.fround(weight) / Math.fround(total));
    const digests = Math.floor(share * DIGESTS_EACH * members.length);
    for (let k = 0; k < digests; k++) {
      const digest = createHash("md5").update(`${key}-${k}`).digest();
      for (let at = 0; at < POINTS_PER_DIGEST; at++) placed.push({ point: digest.readUInt32LE(at * 4), index });
    }
  }
  placed.sort((a, b) => a.point - b.point); // stable
  return {
    points: Uint32Array.from(placed, ({ point }) => point),
    owners: Uint16Array.from(placed, ({ index }) => index),
  };
}

/** Where in the continuum a hash falls; 0 where there is nothing but the first point left. */
export function placeIn({ points }: Continuum, hash: number): number {
  let low = 0;
  let high = points.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (points[middle]! < hash) low = middle + 1;
    else high = middle;
  }
  return low === points.length ? 0 : low;
}

/**
 * Slot → index into `backends`: whose the first hash of each slot is. A slot is the least that a
 * backend can have, so shares are those of the continuum but for one slot at each of its borders.
 */
export function compileContinuum(backends: readonly RingBackend[], size: number): Uint16Array {
  const continuum = layContinuum(backends);
  const ring = new Uint16Array(size).fill(EMPTY_SLOT);
  if (continuum.points.length === 0) return ring;
  for (let slot = 0; slot < size; slot++) {
    // The smallest hash h with ⌊h × size ÷ 2³²⌋ = slot.
    ring[slot] = continuum.owners[placeIn(continuum, Math.ceil((slot * HASHES) / size))]!;
  }
  return ring;
}
