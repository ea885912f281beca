// The effective weight and state of each backend: override over config for weights, health and drains
// for admission, each with who said so. Pure; knows an Intent, must never know a ring or an id.

import type { BackendConfig, PoolConfig } from "./config.ts";
import type { BackendHealth, Intent, Override, Provenance } from "./table.ts";
import { ADMISSION_MAX } from "./table.ts";

/** One backend of a pool as everything that is known about it makes it. */
export interface EffectiveBackend {
  /** "pool/backend". */
  readonly name: string;
  readonly config: BackendConfig;
  readonly weight: number;
  readonly weightProvenance: Provenance;
  /** May keep flows. */
  readonly alive: boolean;
  /** 0…ADMISSION_MAX. */
  readonly admission: number;
  readonly drained: boolean;
  readonly stateProvenance: Provenance;
}

/** The overrides in force for one backend. */
export interface ActiveOverrides {
  readonly weight: Override | null;
  readonly drain: Override | null;
}

export type BackendState = "up" | "down" | "draining" | "unknown";

const NO_OVERRIDES: ActiveOverrides = { weight: null, drain: null };
const FROM_CONFIG: Provenance = { source: "config" };

export function isExpired(override: Override, nowMs: number): boolean {
  return override.expiresAtMs !== null && override.expiresAtMs <= nowMs;
}

/** By "pool/backend". Expired ones have no say; of two of a kind the later one has. */
export function activeOverrides(overrides: readonly Override[], nowMs: number): ReadonlyMap<string, ActiveOverrides> {
  const active = new Map<string, ActiveOverrides>();
  for (const override of overrides) {
    if (isExpired(override, nowMs)) continue;
    const before = active.get(override.target) ?? NO_OVERRIDES;
    const kind = override.change.kind;
    const rival = before[kind];
    if (rival !== null && rival.atMs > override.atMs) continue;
    active.set(override.target, { ...before, [kind]: override });
  }
  return active;
}

/** The backends of a pool, in the order of the file. */
export function effectiveBackends(
  pool: PoolConfig, overrides: ReadonlyMap<string, ActiveOverrides>, health: Intent["health"],
): EffectiveBackend[] {
  return pool.backends.map((config) => {
    const name = `${pool.name}/${config.name}`;
    return effectiveBackend(name, config, overrides.get(name) ?? NO_OVERRIDES, health.get(name) ?? null);
  });
}

function effectiveBackend(
  name: string, config: BackendConfig, { weight, drain }: ActiveOverrides, health: BackendHealth | null,
): EffectiveBackend {
  const alive = health?.alive ?? true;
  const admitted = alive ? health?.admission ?? ADMISSION_MAX : 0;
  return {
    name,
    config,
    weight: weight?.change.kind === "weight" ? weight.change.weight : config.weight,
    weightProvenance: weight === null ? FROM_CONFIG : provenanceOf(weight),
    alive,
    admission: drain === null ? admitted : 0,
    drained: drain !== null,
    stateProvenance: stateProvenance(alive, drain, health),
  };
}

/** What says most about the state: death, then the operator, then the probes, then nobody. */
function stateProvenance(alive: boolean, drain: Override | null, health: BackendHealth | null): Provenance {
  if (drain !== null && alive) return provenanceOf(drain);
  if (health === null) return FROM_CONFIG;
  return { source: "health", reason: health.reason, sinceMs: health.sinceMs };
}

function provenanceOf(override: Override): Provenance {
  const { actor, atMs, expiresAtMs, reason } = override;
  return { source: "override", actor, atMs, expiresAtMs, reason };
}

/** The word for people. A backend that is down and drained is down: that is what has to be mended. */
export function backendState(backend: EffectiveBackend, health: BackendHealth | null): BackendState {
  if (!backend.alive) return "down";
  if (backend.drained) return "draining";
  return health === null || !health.known ? "unknown" : "up";
}
