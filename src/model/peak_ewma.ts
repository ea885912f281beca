// What a backend's answers cost in time: an average that decays exponentially and jumps up to peaks at once, after
// the "Peak EWMA" balancer of Finagle (Twitter): who gets slow is left at once, and tried again as the peak wears off.
// Pure; knows numbers, must never know where they were measured.

/** An average, and when it was brought up to date. */
export interface PeakEwma {
  readonly ms: number;
  /** Monotonic. */
  readonly atMs: number;
}

/** An average wears off to 37 % in so long, whether or not there are samples (Finagle's default). */
export const DECAY_MS = 10_000;
/** More than any latency: of a backend that has a flow and has shown nothing yet. */
const UNKNOWN_MS = 2 ** 32;

/** The average now, if nothing was measured since. */
export function decayed({ ms, atMs }: PeakEwma, nowMs: number): number {
  return ms * Math.exp(-Math.max(0, nowMs - atMs) / DECAY_MS);
}

/** `before` null: the first sample. */
export function withSample(before: PeakEwma | null, sampleMs: number, nowMs: number): PeakEwma {
  if (before === null || sampleMs >= before.ms) return { ms: sampleMs, atMs: nowMs };
  const kept = Math.exp(-Math.max(0, nowMs - before.atMs) / DECAY_MS);
  return { ms: before.ms * kept + sampleMs * (1 - kept), atMs: nowMs };
}

/** With something that takes this long already, and goes on. */
export function withWait(before: PeakEwma | null, waitedMs: number, nowMs: number): PeakEwma | null {
  return before !== null && decayed(before, nowMs) >= waitedMs ? before : { ms: waitedMs, atMs: nowMs };
}

/**
 * What one flow more costs where `load` flows are. Nobody knows of a backend without a sample (`ms` null): it gets one flow,
 * before all others, and until that has shown something no other, unless all are like it.
 */
export function costOf(ms: number | null, load: number): number {
  if (ms === null) return load === 0 ? 0 : UNKNOWN_MS * (load + 1);
  return ms * (load + 1);
}
