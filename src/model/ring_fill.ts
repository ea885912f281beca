// The two halves of filling a Maglev ring: whose turn is next (Envoy's weighted order, cut off at
// exact quotas), and which slot that turn takes (Maglev §3.4, listing 1). Knows positions, weights
// and permutations; must never know keys, names or health.

import type { Permutation } from "./permutation.ts";

/** A slot that nobody has. */
export const EMPTY_SLOT = 0xffff;

/**
 * How many slots each weight gets: the whole part of size × weight ÷ total, and one more for the
 * largest remainders, ties to the earlier. The quotas add up to `size` and each is within one slot
 * of its ideal. Weights are positive integers below 2³², the size below 2²¹: every product is
 * exact.
 */
export function quotasOf(weights: Float64Array, size: number): Uint32Array {
  let total = 0;
  for (const weight of weights) total += weight;
  const quotas = new Uint32Array(weights.length);
  const remainders = new Float64Array(weights.length);
  let left = size;
  for (let at = 0; at < weights.length; at++) {
    const product = size * weights[at]!;
    const remainder = product % total;
    const whole = (product - remainder) / total;
    quotas[at] = whole;
    remainders[at] = remainder;
    left -= whole;
  }
  if (left === 0) return quotas;
  const order = Array.from(weights.keys());
  // Array.sort is stable, so equal remainders stay in order.
  order.sort((a, b) => remainders[b]! - remainders[a]!);
  for (let at = 0; at < left; at++) quotas[order[at]!]! += 1;
  return quotas;
}

/**
 * Who takes each turn, `size` turns in all. In iteration i = 1, 2, … the backends are asked in
 * order, and one takes a turn if i × weight has reached its target; its target then grows by the
 * largest weight. A backend whose quota is used up takes no more. The products and sums are made in
 * the same double arithmetic on weight ÷ total as in Envoy (maglev_lb.cc, thread_aware_lb_impl.cc),
 * whose rounding shows in ties.
 */
export function turnsOf(weights: Float64Array, quotas: Uint32Array, size: number): Uint16Array {
  const turns = new Uint16Array(size);
  const first = weights[0]!;
  if (weights.every((weight) => weight === first)) {
    // Everybody's turn comes in every iteration, and only the first few get one turn more.
    for (let turn = 0, at = 0; turn < size; turn++) {
      turns[turn] = at;
      if (++at === weights.length) at = 0;
    }
    return turns;
  }
  const iterations = iterationsOf(weights, quotas, size);
  // A counting sort by iteration; it is stable, so turns of one iteration stay in order of
  // backends.
  let last = 0;
  for (let turn = 0; turn < size; turn++) last = Math.max(last, iterations[turn]!);
  const starts = new Uint32Array(last + 2);
  for (let turn = 0; turn < size; turn++) starts[iterations[turn]! + 1]! += 1;
  for (let iteration = 1; iteration < starts.length; iteration++) {
    starts[iteration]! += starts[iteration - 1]!;
  }
  let turn = 0;
  for (let at = 0; at < quotas.length; at++) {
    for (let left = quotas[at]!; left > 0; left--) {
      const iteration = iterations[turn++]!;
      turns[starts[iteration]!++] = at;
    }
  }
  return turns;
}

/**
 * The iteration of each turn: all turns of the first backend, then all of the second, and so on.
 */
function iterationsOf(weights: Float64Array, quotas: Uint32Array, size: number): Uint32Array {
  let total = 0;
  let weightMax = 0;
  let quotaMax = 0;
  for (let at = 0; at < weights.length; at++) {
    total += weights[at]!;
    weightMax = Math.max(weightMax, weights[at]!);
    quotaMax = Math.max(quotaMax, quotas[at]!);
  }
  // After j turns everybody's target is the largest weight added j times.
  const step = weightMax / total;
  const targets = new Float64Array(quotaMax);
  for (let taken = 1; taken < quotaMax; taken++) targets[taken] = targets[taken - 1]! + step;
  const iterations = new Uint32Array(size);
  let turn = 0;
  for (let at = 0; at < weights.length; at++) {
    const weight = weights[at]! / total;
    const reciprocal = 1 / weight;
    const quota = quotas[at]!;
    let iteration = 0;
    for (let taken = 0; taken < quota; taken++) {
      const target = targets[taken]!;
      const earliest = iteration + 1;
      // A guess that rounding may put one off; the products below are what counts.
      let next = Math.max(earliest, Math.ceil(target * reciprocal));
      while (next > earliest && (next - 1) * weight >= target) next -= 1;
      while (next * weight < target) next += 1;
      iterations[turn++] = next;
      iteration = next;
    }
  }
  return iterations;
}

/**
 * Gives slots away: each turn takes the first free slot of its backend's permutation. `values[b]`
 * is what is written for backend b. The size is prime, so every permutation visits every slot.
 */
export function fillSlots(
  turns: Uint16Array, permutations: readonly Permutation[], values: Uint16Array, size: number,
): Uint16Array {
  const ring = new Uint16Array(size).fill(EMPTY_SLOT);
  // Modulo by a mask: a branch on the wrap-around would be mispredicted every other time, which
  // costs more than all the rest. `back` is skip − size, so a sum below zero is one that has not
  // yet wrapped.
  const backs = Int32Array.from(permutations, (permutation) => permutation.skip - size);
  const next = Int32Array.from(permutations, (permutation) => permutation.offset);
  for (let turn = 0; turn < size; turn++) {
    const at = turns[turn]!;
    const back = backs[at]!;
    let slot = next[at]!;
    while (ring[slot] !== EMPTY_SLOT) {
      slot += back;
      slot += size & (slot >> 31);
    }
    ring[slot] = values[at]!;
    slot += back;
    next[at] = slot + (size & (slot >> 31));
  }
  return ring;
}
