// Pearson's chi-squared test of how well counts fit shares that they should have. Knows numbers.

/** Σ (observed − expected)² ÷ expected (Pearson, 1900). Counts where nothing is expected are Infinity. */
export function chiSquared(counts: readonly number[], shares: readonly number[]): number {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const whole = shares.reduce((sum, share) => sum + share, 0);
  return counts.reduce((sum, count, at) => {
    const expected = total * shares[at]! / whole;
    return expected === 0 && count === 0 ? sum : sum + (count - expected) ** 2 / expected;
  }, 0);
}

/**
 * How likely χ² is to be so large or larger by chance. For an even number of degrees of freedom alone,
 * where it is that of a Poisson process: e^(−x÷2) × Σ (x÷2)^k ÷ k!, k < degrees ÷ 2.
 */
export function chiSquaredTail(statistic: number, degrees: number): number {
  if (degrees < 2 || degrees % 2 !== 0) throw new RangeError(`${degrees} degrees of freedom: an even number, at least 2`);
  if (statistic === Infinity) return 0;
  let term = Math.exp(-statistic / 2);
  let sum = term;
  for (let k = 1; k < degrees / 2; k++) {
    term *= statistic / 2 / k;
    sum += term;
  }
  return sum;
}
