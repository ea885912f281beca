// Whether flows, in the order in which they were placed, went where an algorithm and its backends' weights
// say: the definitions again, in as few words as possible. Every rule answers with what contradicts it. Knows
// names and weights; must never know the code that picks.

import { chiSquared, chiSquaredTail } from "./chi_squared.ts";

/** By name. */
export type Weights = Readonly<Record<string, number>>;
export type Rule = (placed: readonly string[], weights: Weights) => readonly string[];

/** A right balancer fails so rarely by chance, for each time that it is asked. */
export const ALPHA = 1e-6;

function countsOf(placed: readonly string[], weights: Weights): number[] {
  return Object.keys(weights).map((name) => placed.filter((each) => each === name).length);
}

/** Nobody else got flows, and shares differ from the weights by no more than chance. Two degrees of freedom: three names. */
export const byChance: Rule = (placed, weights) => {
  const strangers = placed.filter((name) => !(name in weights));
  const counts = countsOf(placed, weights);
  const shares = Object.values(weights);
  const tail = chiSquaredTail(chiSquared(counts, shares), shares.length - 1);
  return [
    ...strangers.length === 0 ? [] : [`${strangers.length} went to "${strangers[0]!}"`],
    ...tail >= ALPHA ? [] : [`${counts.join(":")} for ${shares.join(":")}, which chance does with ${tail.toExponential(1)}`],
  ];
};

/** The rule holds after each flow, for the flows that are open then: all up to it. */
function always(holds: (loads: ReadonlyMap<string, number>, all: number, weights: Weights) => string | null): Rule {
  return (placed, weights) => {
    const loads = new Map(Object.keys(weights).map((name) => [name, 0]));
    for (const [at, name] of placed.entries()) {
      loads.set(name, (loads.get(name) ?? 0) + 1);
      const contradiction = holds(loads, at + 1, weights);
      if (contradiction !== null) return [`after ${at + 1}: ${contradiction}`];
    }
    return [];
  };
}

function told(loads: ReadonlyMap<string, number>): string {
  return [...loads].map(([name, load]) => `${name} ${load}`).join(", ");
}

/** Nobody got the flow who with it has more for his weight than somebody else would have had. */
export const leastLoaded: Rule = always((loads, _, weights) => {
  const least = Math.min(...Object.keys(weights).map((name) => (loads.get(name)! + 1) / weights[name]!));
  return [...loads].some(([name, load]) => load / weights[name]! > least) ? told(loads) : null;
});

/** Nobody has more than `factor` times his share, rounded up (Mirrokni, Thorup, Zadimoghaddam, 2018). */
export const bounded = (factor: number): Rule => always((loads, all, weights) => {
  const whole = Object.values(weights).reduce((sum, weight) => sum + weight, 0);
  return [...loads].some(([name, load]) => load > Math.ceil(factor * all * weights[name]! / whole)) ? told(loads) : null;
});

/** Nobody is further from his share than so many flows. */
export const within = (flows: number): Rule => always((loads, all, weights) => {
  const whole = Object.values(weights).reduce((sum, weight) => sum + weight, 0);
  return [...loads].some(([name, load]) => Math.abs(load - all * weights[name]! / whole) > flows) ? told(loads) : null;
});

/** In each round, wherever it begins, everybody has as many turns as his weight says. Weights have no common divisor. */
export const inTurn: Rule = (placed, weights) => {
  const round = Object.values(weights).reduce((sum, weight) => sum + weight, 0);
  for (let from = 0; from + round <= placed.length; from++) {
    const counts = countsOf(placed.slice(from, from + round), weights);
    if (counts.join() !== Object.values(weights).join()) return [`turns from ${from} on: ${counts.join(":")}`];
  }
  return [];
};
