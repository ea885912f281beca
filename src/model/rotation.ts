// Turns in rotation: the order in which a smooth weighted round robin asks backends, as a table that is
// walked from its beginning again and again. Knows weights and positions; must never know keys or health.

import { EMPTY_SLOT, quotasOf } from "./ring_fill.ts";

export interface Rotation {
  /** Slot → index of the backend. Slots behind the turns repeat them from the first on. */
  readonly slots: Uint16Array;
  /** How many slots are walked: whole rounds. 0: nobody has a weight. */
  readonly turns: number;
}

/** Steps of one round that may be worth their time; longer ones get weights that are rounded. */
const STEPS_MAX = 2 ** 25;
const ROUND_MIN = 4096;

/**
 * Whose turn each slot is. In every round each backend with a weight comes as often as its weight says,
 * spread out: all gain their weight, whoever has most takes the turn and pays what all have gained (the
 * order of nginx's ngx_http_upstream_round_robin.c; of weights 5, 1, 1: a a b a c a a). A round has as
 * many turns as the weights add up to, without their common divisor; where `size` slots do not hold it,
 * or it would take long to make, each backend comes as often as the largest remainders of the division
 * say, at least once.
 */
export function rotationOf(weights: readonly number[], size: number): Rotation {
  const members = weights.flatMap((weight, index) => (weight > 0 ? [{ weight, index }] : []));
  if (members.length === 0) return { slots: new Uint16Array(size).fill(EMPTY_SLOT), turns: 0 };
  const round = roundOf(shortened(members.map(({ weight }) => weight), size));
  const turns = Math.min(size, round.length * Math.max(1, Math.floor(size / round.length)));
  const slots = new Uint16Array(size);
  for (let slot = 0; slot < size; slot++) slots[slot] = members[round[(slot % turns) % round.length]!]!.index;
  return { slots, turns };
}

/** Smaller weights with the same ratios, or nearly the same where a round would be too long. */
function shortened(weights: readonly number[], size: number): Float64Array {
  const divisor = weights.reduce(commonDivisor);
  const whole = Float64Array.from(weights, (weight) => weight / divisor);
  const length = whole.reduce((sum, weight) => sum + weight, 0);
  const longest = Math.max(weights.length, Math.min(size, Math.max(ROUND_MIN, Math.floor(STEPS_MAX / weights.length))));
  if (length <= longest) return whole;
  return Float64Array.from(quotasOf(whole, longest), (quota) => Math.max(1, quota));
}

function commonDivisor(a: number, b: number): number {
  return b === 0 ? a : commonDivisor(b, a % b);
}

/** Indexes into `weights`, which are whole. */
function roundOf(weights: Float64Array): Uint16Array {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const round = new Uint16Array(total);
  if (weights.every((weight) => weight === 1)) return round.map((_, turn) => turn);
  const gained = new Float64Array(weights.length);
  for (let turn = 0; turn < total; turn++) {
    let best = 0;
    for (let at = 0; at < weights.length; at++) {
      gained[at]! += weights[at]!;
      if (gained[at]! > gained[best]!) best = at;
    }
    gained[best]! -= total;
    round[turn] = best;
  }
  return round;
}
