// The ring: a Maglev lookup table from slot to backend, built over the configured backends so that
// every node computes the same one (docs/ring.md has the definition). Knows keys and configured
// weights; must never know health, which is lending's business.

import { compareKeys, permutationOf, type Permutation } from "./permutation.ts";
import { EMPTY_SLOT, fillSlots, quotasOf, turnsOf } from "./ring_fill.ts";

/** The value of a slot that belongs to nobody. */
export const NO_BACKEND = EMPTY_SLOT;
export const RING_SIZE_MIN = 7;
export const RING_SIZE_MAX = 2_097_143;
/** Backends in one ring: the slot word has 15 bits for an id, and id 0 is nobody. */
export const RING_BACKENDS_MAX = 32767;
/** Weights are integers, so that quotas are exact. */
export const RING_WEIGHT_MAX = 0xffff_ffff;

export interface RingBackend {
  /** Unique in the ring; what the permutation is made of. */
  readonly key: string;
  /** Relative share; 0 takes no slots. */
  readonly weight: number;
}

export interface RingShare {
  readonly key: string;
  readonly weight: number;
  /** Slots in the ring. */
  readonly slots: number;
  /** slots ÷ size of the ring. */
  readonly share: number;
  /** weight ÷ sum of weights × size of the ring: what exact division would give. */
  readonly ideal: number;
}

/** True for primes; false for everything else, fractions and negatives included. */
export function isPrime(value: number): boolean {
  if (!Number.isSafeInteger(value) || value < 2) return false;
  if (value % 2 === 0) return value === 2;
  for (let divisor = 3; divisor * divisor <= value; divisor += 2) {
    if (value % divisor === 0) return false;
  }
  return true;
}

/**
 * Slot → index into `backends`, or NO_BACKEND everywhere when no weight is positive. The order of
 * `backends` decides the indexes and nothing else. Throws RangeError for what no config can say: a
 * size that is not a prime in range, a key twice, a weight that is no integer in range, too many
 * backends.
 */
export function buildRing(backends: readonly RingBackend[], size: number): Uint16Array {
  assertRingInput(backends, size);
  const order: number[] = [];
  for (let index = 0; index < backends.length; index++) {
    if (backends[index]!.weight > 0) order.push(index);
  }
  if (order.length === 0) return new Uint16Array(size).fill(NO_BACKEND);
  order.sort((a, b) => compareKeys(backends[a]!.key, backends[b]!.key));
  const weights = Float64Array.from(order, (index) => backends[index]!.weight);
  const permutations = order.map((index): Permutation => permutationOf(backends[index]!.key, size));
  const turns = turnsOf(weights, quotasOf(weights, size), size);
  return fillSlots(turns, permutations, Uint16Array.from(order), size);
}

/**
 * Slots, share and ideal of each backend, in the order of `backends`. Also right for a lent ring.
 */
export function ringStats(ring: Uint16Array, backends: readonly RingBackend[]): RingShare[] {
  const slots = new Uint32Array(backends.length);
  for (const index of ring) {
    if (index < slots.length) slots[index]! += 1;
  }
  let total = 0;
  for (const backend of backends) total += backend.weight;
  return backends.map((backend, index): RingShare => ({
    key: backend.key,
    weight: backend.weight,
    slots: slots[index]!,
    share: ring.length === 0 ? 0 : slots[index]! / ring.length,
    ideal: total === 0 ? 0 : (backend.weight * ring.length) / total,
  }));
}

function assertRingInput(backends: readonly RingBackend[], size: number): void {
  if (!isPrime(size) || size < RING_SIZE_MIN || size > RING_SIZE_MAX) {
    const range = `${RING_SIZE_MIN} to ${RING_SIZE_MAX}`;
    throw new RangeError(`a ring has a prime size from ${range}, not ${size}`);
  }
  if (backends.length > RING_BACKENDS_MAX) {
    const found = backends.length;
    throw new RangeError(`a ring has at most ${RING_BACKENDS_MAX} backends, not ${found}`);
  }
  const keys = new Set<string>();
  for (const { key, weight } of backends) {
    if (!Number.isInteger(weight) || weight < 0 || weight > RING_WEIGHT_MAX) {
      const range = `0 to ${RING_WEIGHT_MAX}`;
      throw new RangeError(`weight of ${key}: an integer from ${range}, not ${weight}`);
    }
    if (keys.has(key)) throw new RangeError(`the key ${key} is there twice`);
    keys.add(key);
  }
}
