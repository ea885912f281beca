// The effective weight and state of each backend: override over config for weights, health and drains
// for admission, each with who said so. Pure; knows an Intent, must never know a ring or an id.

import type { BackendConfig, PoolConfig } from "./config.ts";
import type { BackendHealth, Intent, Override, OverrideChange, Provenance } from "./table.ts";
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
  /** An operator wants it to have no new flows: that holds also where everybody else is out. */
  readonly drained: boolean;
  /** Its flows are to be ended: it is in maintenance, or its drain has taken as long as it may. */
  readonly resets: boolean;
  readonly stateProvenance: Provenance;
  /** What an operator wants it to be, if anything. */
  readonly standing: Standing | null;
  /** It could take flows, whatever the rules of its pool make of that. */
  readonly isUp: boolean;
  /** A rule of its pool gives it no new flows, whether it is up or not. */
  readonly isHeldBack: boolean;
  /** It takes flows only when no other may, and counts nowhere. */
  readonly isSorry: boolean;
}

/** Of an override: in maintenance, or drained; the later word counts. */
export type Standing = "drain" | "maintenance";

/** The overrides in force for one backend. */
export interface ActiveOverrides {
  readonly weight: Override | null;
  readonly standing: Override | null;
  /** The standing is a drain whose time is over. */
  readonly isOverdue: boolean;
}

/**
 * active: gets flows. unknown: the same, though nobody has probed it yet. standby: could, and its pool does not
 * need it. draining: keeps those that it has. drained: has none any more. ejected: gets none for a while, since its
 * flows failed. damped: the same, since it changes too often. maintenance: is to have none. down: its probes fail.
 */
export type BackendState = "active" | "unknown" | "standby" | "draining" | "drained" | "ejected" | "damped"
  | "maintenance" | "down";

const NO_OVERRIDES: ActiveOverrides = { weight: null, standing: null, isOverdue: false };
const FROM_CONFIG: Provenance = { source: "config" };

export function isExpired(override: Override, nowMs: number): boolean {
  return override.expiresAtMs !== null && override.expiresAtMs <= nowMs;
}

/** When what a drain has left is ended; null: it is no drain, or may take for ever. */
export function deadlineOf({ change, atMs }: Override): number | null {
  return change.kind === "drain" && change.timeoutMs !== undefined ? atMs + change.timeoutMs : null;
}

/** Which of a backend's overrides a change takes the place of: drain and maintenance exclude each other. */
export function roleOf({ kind }: OverrideChange): "weight" | "standing" {
  return kind === "weight" ? "weight" : "standing";
}

/** By "pool/backend". Expired ones have no say; of two with one role the later one has. */
export function activeOverrides(overrides: readonly Override[], nowMs: number): ReadonlyMap<string, ActiveOverrides> {
  const active = new Map<string, ActiveOverrides>();
  for (const override of overrides) {
    if (isExpired(override, nowMs)) continue;
    const before = active.get(override.target) ?? NO_OVERRIDES;
    const role = roleOf(override.change);
    const rival = before[role];
    if (rival !== null && rival.atMs > override.atMs) continue;
    const deadlineMs = deadlineOf(override);
    const isOverdue = role === "standing" ? deadlineMs !== null && deadlineMs <= nowMs : before.isOverdue;
    active.set(override.target, { ...before, [role]: override, isOverdue });
  }
  return active;
}

/** "pool/backend" of those that are to have no new flows by their weight, or by an operator's word. */
export function keptOut(pools: readonly PoolConfig[], overrides: readonly Override[], nowMs: number): ReadonlySet<string> {
  const active = activeOverrides(overrides, nowMs);
  const all = pools.flatMap((pool) => effectiveBackends(pool, active, new Map()));
  return new Set(all.filter(({ standing, weight }) => standing !== null || weight === 0).map(({ name }) => name));
}

/** In order. */
export function inMaintenance(overrides: readonly Override[], nowMs: number): string[] {
  return [...activeOverrides(overrides, nowMs)]
    .flatMap(([name, { standing }]) => (standing?.change.kind === "maintenance" ? [name] : [])).sort();
}

/** The backends of a pool, in the order of the file, before its rules have their say (pool_rules.ts). */
export function effectiveBackends(
  pool: PoolConfig, overrides: ReadonlyMap<string, ActiveOverrides>, health: Intent["health"],
): EffectiveBackend[] {
  return pool.backends.map((config) => {
    const name = `${pool.name}/${config.name}`;
    return effectiveBackend(name, config, overrides.get(name) ?? NO_OVERRIDES, health.get(name) ?? null);
  });
}

function effectiveBackend(
  name: string, config: BackendConfig, { weight, standing, isOverdue }: ActiveOverrides,
  health: BackendHealth | null,
): EffectiveBackend {
  const resets = isOverdue || standing?.change.kind === "maintenance";
  const alive = !resets && (health?.alive ?? true);
  const admission = alive && standing === null ? health?.admission ?? ADMISSION_MAX : 0;
  const weightNow = weight?.change.kind === "weight" ? weight.change.weight : config.weight;
  return {
    name,
    config,
    weight: weightNow,
    weightProvenance: weight === null ? FROM_CONFIG : provenanceOf(weight),
    alive,
    admission,
    drained: standing !== null,
    resets,
    stateProvenance: stateProvenance(alive || resets, standing, health),
    standing: standing === null ? null : standing.change.kind === "drain" ? "drain" : "maintenance",
    isUp: admission > 0 && weightNow > 0,
    isHeldBack: false,
    isSorry: false,
  };
}

/** What says most about the state: death that nobody ordered, then the operator, then the probes, then nobody. */
function stateProvenance(isAsOrdered: boolean, standing: Override | null, health: BackendHealth | null): Provenance {
  if (standing !== null && isAsOrdered) return provenanceOf(standing);
  if (health === null) return FROM_CONFIG;
  return { source: "health", reason: health.reason, sinceMs: health.sinceMs };
}

function provenanceOf(override: Override): Provenance {
  const { actor, atMs, expiresAtMs, reason } = override;
  return { source: "override", actor, atMs, expiresAtMs, reason };
}

/**
 * The word for people. A backend that is down while it is drained is down: that is what has to be mended.
 * `isEmpty`: its last flow has ended.
 */
export function backendState(
  backend: EffectiveBackend, health: BackendHealth | null, isEmpty: boolean,
): BackendState {
  const { alive, standing, resets } = backend;
  if (standing === "maintenance") return "maintenance";
  if (resets) return "drained";
  if (!alive) return "down";
  if (standing === "drain") return isEmpty ? "drained" : "draining";
  if (health !== null && health.admission === 0) return health.withheld ?? "draining";
  if (backend.isHeldBack) return "standby";
  // Nobody probes it.
  if (backend.isSorry) return "active";
  return health === null || !health.known ? "unknown" : "active";
}
