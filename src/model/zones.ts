// Zones: who of a pool is near, and how much the others take when too little of what is near is up. Pure; knows
// weights and admissions, must never know what keeps a backend from being up.

import type { EffectiveBackend } from "./effective.ts";
import { ADMISSION_MAX } from "./table.ts";

/** What a pool makes of the zones of its backends. Weights are sums, of which half an admission is half a weight. */
export interface Spill {
  /** The instance's own zone. */
  readonly zone: string;
  /** What the local zone's backends weigh, up or not. */
  readonly weight: number;
  /** Of that, what is up. */
  readonly weightUp: number;
  /** Which part of what takes flows, by weight, is in other zones; 0: none. */
  readonly share: number;
  /** What becomes of the admissions of backends in other zones: 0…1. */
  readonly factor: number;
}

/**
 * Local backends take everything while `below` percent of their weight are up. With less, the others admit as much
 * weight as is missing: together they have `below` percent of the local zone's weight as long as there is so much.
 * As Envoy's overprovisioning, which is 100 ÷ below. Null: zones do not matter here.
 */
export function spillOf(backends: readonly EffectiveBackend[], zone: string | null, below: number | null): Spill | null {
  if (zone === null || below === null) return null;
  let [weight, weightUp, elsewhere] = [0, 0, 0];
  for (const backend of backends) {
    const up = (backend.weight * backend.admission) / ADMISSION_MAX;
    if (!isLocal(backend, zone)) elsewhere += up;
    else {
      weight += backend.weight;
      weightUp += up;
    }
  }
  if (weight === 0) return null;
  const missing = (below * weight) / 100 - weightUp;
  let factor = missing > 0 ? 1 : 0;
  if (missing > 0 && elsewhere > 0 && weightUp > 0) factor = Math.min(1, missing / elsewhere);
  const spilt = factor * elsewhere;
  return { zone, weight, weightUp, factor, share: spilt === 0 ? 0 : spilt / (spilt + weightUp) };
}

/** One that says no zone is in none. */
export function isLocal({ config }: EffectiveBackend, zone: string): boolean {
  return config.zone === zone;
}
