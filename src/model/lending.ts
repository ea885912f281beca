// Lending: who answers for a slot while its owner may not. Everything temporary (a failure, a
// drain, a ramp) happens here, on top of a ring that stays as configured, so that only slots of the
// backend concerned move. Knows admissions; must never know probes, time or why a backend is out.
//
// Each slot has one fixed order of backends, a function of the configured ring alone, and the first
// eligible one gets the slot. That is all the law needs: when one backend's state changes, the
// first eligible one of any slot can only change from or to that backend. docs/ring.md defines the
// order.

import { compareKeys, keyWord } from "./permutation.ts";
import { NO_BACKEND, type RingBackend } from "./ring.ts";
import { ADMISSION_MAX } from "./table.ts";

export interface LendingBackend extends RingBackend {
  /** May keep flows. */
  readonly alive: boolean;
  /** 0…ADMISSION_MAX: how much of its share may take new flows. */
  readonly admission: number;
}

/**
 * Draws from the ring before all backends are looked at: with half out, one slot in 2³² gets that
 * far.
 */
export const LENDING_DRAWS_MAX = 32;
/** After so many draws in vain, a pool of few candidates is looked at as a whole. */
const SHORTCUT_DRAWS = 4;
const SHORTCUT_CANDIDATES_MAX = 16;
/**
 * 2³² ÷ golden ratio, odd: the step of the draws (Knuth, TAOCP 3, §6.4; Steele et al., SplitMix).
 */
const GOLDEN = 0x9e3779b9;

/** What lending needs of the backends, index by index. */
interface Lenders {
  readonly ring: Uint16Array;
  readonly backends: readonly LendingBackend[];
  /** 0 for those that are not alive or have no weight. */
  readonly admissions: Int32Array;
  /** Each key's word times GOLDEN, the form in which draws take it. */
  readonly steps: Int32Array;
  /** Those with an admission above 0. */
  readonly candidates: number[];
}

/**
 * The finaliser of MurmurHash3 (Appleby): every bit of the input reaches every bit of the result.
 */
function mix(word: number): number {
  let h = word | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** Where the draws of a slot start; as good as any word for a word. */
export function drawBase(slot: number): number {
  return mix(slot + GOLDEN);
}

/** h(s, x) as a signed integer, from drawBase(s) and x × GOLDEN. */
function draw(base: number, step: number): number {
  return mix(base + step);
}

/**
 * h(s, x), the draw of slot s for x (a number of the sequence, or a key's word): 32 bits, unsigned.
 * Part of the ring's definition: every node draws the same.
 */
export function lendingDraw(slot: number, word: number): number {
  return draw(drawBase(slot), Math.imul(word, GOLDEN)) >>> 0;
}

/**
 * Slot → index into `backends` after lending, or NO_BACKEND everywhere when nobody is alive with an
 * admission above 0. `ring` is what buildRing gave for the same backends. The slots of a backend
 * that is out go to others; where nobody's draw is below their admission, whoever has any admission
 * takes it, since half a backend is better than none.
 */
export function lend(ring: Uint16Array, backends: readonly LendingBackend[]): Uint16Array {
  const lenders = lendersOf(ring, backends);
  const { admissions, candidates } = lenders;
  if (candidates.length === 0) return new Uint16Array(ring.length).fill(NO_BACKEND);
  if (candidates.length === 1) return new Uint16Array(ring.length).fill(candidates[0]!);
  const lent = Uint16Array.from(ring);
  for (let slot = 0; slot < lent.length; slot++) {
    if (admissions[lent[slot]!] !== ADMISSION_MAX) lent[slot] = choose(lenders, slot);
  }
  return lent;
}

/**
 * The first `count` backends that would answer for a slot, each as if those before it had failed:
 * the first is what `lend` gives, the others are where a refused connection may go next. Fewer when
 * fewer are there.
 */
export function lendingOrder(
  ring: Uint16Array, backends: readonly LendingBackend[], slot: number, count: number,
): number[] {
  let lenders = lendersOf(ring, backends);
  const order: number[] = [];
  while (order.length < count && lenders.candidates.length > 0) {
    const chosen = choose(lenders, slot);
    order.push(chosen);
    lenders.admissions[chosen] = 0;
    lenders = { ...lenders, candidates: lenders.candidates.filter((index) => index !== chosen) };
  }
  return order;
}

function lendersOf(ring: Uint16Array, backends: readonly LendingBackend[]): Lenders {
  const admissions = new Int32Array(backends.length);
  const steps = new Int32Array(backends.length);
  const candidates: number[] = [];
  for (let index = 0; index < backends.length; index++) {
    const { key, weight, alive, admission } = backends[index]!;
    if (!Number.isInteger(admission) || admission < 0 || admission > ADMISSION_MAX) {
      const range = `0 to ${ADMISSION_MAX}`;
      throw new RangeError(`admission of ${key}: an integer from ${range}, not ${admission}`);
    }
    if (!alive || admission === 0 || !(weight > 0)) continue;
    admissions[index] = admission;
    steps[index] = Math.imul(keyWord(key), GOLDEN);
    candidates.push(index);
  }
  return { ring, backends, admissions, steps, candidates };
}

/** The low 16 bits of the slot's draw for the backend's key are below its admission. */
function isEligible(base: number, step: number, admission: number): boolean {
  return (draw(base, step) & 0xffff) < admission;
}

/** The first eligible backend in the slot's order. There is at least one candidate. */
function choose(lenders: Lenders, slot: number): number {
  const { ring, admissions, steps, candidates } = lenders;
  const base = drawBase(slot);
  const owner = ring[slot]!;
  let index = owner;
  for (let number = 1; ; number++) {
    const admission = admissions[index];
    if (admission === ADMISSION_MAX) return index;
    // Undefined is the admission of nobody.
    if (admission !== undefined && isEligible(base, steps[index]!, admission)) return index;
    if (number > LENDING_DRAWS_MAX) break;
    // A shortcut and no rule: where at most one is eligible, more draws would only find the same.
    const few = number === SHORTCUT_DRAWS && candidates.length <= SHORTCUT_CANDIDATES_MAX;
    if (few && !areSeveralEligible(lenders, base)) break;
    index = ring[(draw(base, Math.imul(number, GOLDEN)) >>> 0) % ring.length]!;
  }
  return scan(lenders, base, owner);
}

/**
 * The end of the order, where nearly everybody is out: a race among all that are eligible. If
 * nobody is, the owner if it has any admission; else a race among those that have.
 */
function scan(lenders: Lenders, base: number, owner: number): number {
  const { admissions, steps, candidates } = lenders;
  const eligible: number[] = [];
  for (let at = 0; at < candidates.length; at++) {
    const index = candidates[at]!;
    if (isEligible(base, steps[index]!, admissions[index]!)) eligible.push(index);
  }
  if (eligible.length > 0) return race(lenders, base, eligible);
  return (admissions[owner] ?? 0) > 0 ? owner : race(lenders, base, candidates);
}

function areSeveralEligible(lenders: Lenders, base: number): boolean {
  const { admissions, steps, candidates } = lenders;
  let count = 0;
  for (const index of candidates) {
    if (isEligible(base, steps[index]!, admissions[index]!)) count += 1;
  }
  return count > 1;
}

/**
 * One of the runners, each with as much chance as its weight, in an order that is the slot's own
 * (rendezvous hashing; the exponential race of Efraimidis and Spirakis, "Weighted random sampling
 * with a reservoir", 2006).
 */
function race(lenders: Lenders, base: number, runners: readonly number[]): number {
  const { backends, steps } = lenders;
  let best = runners[0]!;
  let bestTime = raceTime(base, steps[best]!);
  for (let at = 1; at < runners.length; at++) {
    const index = runners[at]!;
    const time = raceTime(base, steps[index]!);
    if (wins(backends[index]!, time, backends[best]!, bestTime)) {
      best = index;
      bestTime = time;
    }
  }
  return best;
}

/**
 * time ÷ weight decides; a tie goes to the smaller key. Products are exact for weights up to 65535.
 */
function wins(backend: RingBackend, time: number, best: RingBackend, bestTime: number): boolean {
  const here = time * best.weight;
  const there = bestTime * backend.weight;
  return here < there || (here === there && compareKeys(backend.key, best.key) < 0);
}

/**
 * Round(−ln(1 − i ÷ 128) × 2³¹) for i = 0…64, by its series: sums and quotients that are the same
 * everywhere.
 */
const RACE_TABLE = Float64Array.from({ length: 65 }, (_, i) => {
  const x = i / 128;
  let sum = 0;
  for (let n = 60; n >= 1; n--) sum = sum * x + 1 / n;
  return Math.round(sum * x * 0x8000_0000);
});

/**
 * −ln(1 − u) × 2³¹ as an integer, within 1 %, for the uniform u that a slot and a key draw: each
 * leading one bit of u halves what is left and adds ln 2; the rest is read between two entries of
 * the table.
 */
function raceTime(base: number, step: number): number {
  // Mixed once more: the plain draw's low bits have already decided who is eligible.
  const drawn = mix(draw(base, step) + GOLDEN) >>> 0;
  const halvings = Math.clz32(~drawn);
  const left = halvings === 32 ? 0 : (drawn << halvings) >>> 0;
  const at = left >>> 25;
  const from = RACE_TABLE[at]!;
  const rise = RACE_TABLE[at + 1]! - from;
  return halvings * RACE_TABLE[64]! + from + Math.floor((rise * (left & 0x1ff_ffff)) / 0x200_0000);
}
