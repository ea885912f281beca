// The rules of a pool about its backends as a whole: who takes flows by who else is up. They act on admission,
// so no slot of a backend whose admission stays moves but those that are lent. Pure; knows the backends of one
// pool, must never know a service, a ring or an id.

import type { Minimum, PoolConfig } from "./config.ts";
import type { ActiveOverrides, EffectiveBackend } from "./effective.ts";
import { activeOverrides, effectiveBackends } from "./effective.ts";
import type { Destination, Intent } from "./table.ts";
import type { Spill } from "./zones.ts";
import { isLocal, spillOf } from "./zones.ts";

/** The backends of one priority. */
export interface PriorityGroup {
  readonly priority: number;
  /** Backends with a positive weight, those that are drained included: what they would do is missing. */
  readonly size: number;
  /** Of those, the ones that are up. */
  readonly up: number;
  /** It takes flows. */
  readonly isActive: boolean;
  /** Of all groups before it together. */
  readonly before: { readonly size: number; readonly up: number };
}

/** A pool as its rules make it. */
export interface RuledPool {
  /** In the order of the file, as they may take flows. */
  readonly backends: readonly EffectiveBackend[];
  readonly groups: readonly PriorityGroup[];
  /** Null: zones do not matter. */
  readonly spill: Spill | null;
}

/** By name, in the order of the file. */
export function ruledPools({ config, overrides, health, nowMs }: Intent): ReadonlyMap<string, RuledPool> {
  const active = activeOverrides(overrides, nowMs);
  return new Map(config.pools.map((pool) => [pool.name, ruledPool(pool, active, health, config.zone)]));
}

/** `zone`: the instance's. */
export function ruledPool(
  pool: PoolConfig, overrides: ReadonlyMap<string, ActiveOverrides>, health: Intent["health"], zone: string | null,
): RuledPool {
  const backends = effectiveBackends(pool, overrides, health).map((each) => (each.config.name === pool.sorry ? sorryOf(each) : each));
  const groups = priorityGroups(pool, backends);
  const asked = holdBackReserves(groups, backends);
  const spill = spillOf(asked.filter(({ isHeldBack, isSorry }) => !isHeldBack && !isSorry), zone, pool.spillBelow);
  return { groups, spill, backends: holdBackSorry(spill === null ? asked : asked.map((each) => limitForeign(each, spill))) };
}

/** Of no weight, and up for nobody's count. */
function sorryOf(backend: EffectiveBackend): EffectiveBackend {
  return { ...backend, weight: 0, weightProvenance: { source: "config" }, isUp: false, isSorry: true };
}

/** Whether it takes flows as far as its pool is concerned. */
function takesFlows({ admission, weight }: EffectiveBackend): boolean {
  return admission > 0 && weight > 0;
}

function holdBackSorry(backends: EffectiveBackend[]): EffectiveBackend[] {
  if (!backends.some(takesFlows)) return backends;
  return backends.map((backend) => {
    if (!backend.isSorry) return backend;
    const held = { ...backend, admission: 0, isHeldBack: true };
    // What an operator wants of it says more.
    return backend.admission === 0 ? held : { ...held, stateProvenance: { source: "pool", reason: "not needed, others take flows" } };
  });
}

/** How many of `size` backends a minimum asks for: at least one, whatever the share. */
export function neededOf(minimum: Minimum, size: number): number {
  return "count" in minimum ? minimum.count : Math.max(1, Math.ceil((minimum.percent * size) / 100));
}

/**
 * In order. A group is active while each one before it is, and fewer than the minimum of all their backends are up:
 * so the group that suffices keeps all behind it back. The first is always active.
 */
function priorityGroups({ reserves }: PoolConfig, backends: readonly EffectiveBackend[]): PriorityGroup[] {
  const priorities = [...new Set(backends.filter(({ isSorry }) => !isSorry).map(({ config }) => config.priority))].sort((a, b) => a - b);
  const groups: PriorityGroup[] = [];
  let before: PriorityGroup["before"] = { size: 0, up: 0 };
  let isActive = true;
  for (const priority of priorities) {
    const members = backends.filter(({ config, weight }) => config.priority === priority && weight > 0);
    const up = members.filter((each) => each.isUp).length;
    isActive &&= groups.length === 0 || before.up < neededOf(reserves.minimum, before.size);
    groups.push({ priority, size: members.length, up, isActive, before });
    before = { size: before.size + members.length, up: before.up + up };
  }
  return groups;
}

function holdBackReserves(groups: readonly PriorityGroup[], backends: EffectiveBackend[]): EffectiveBackend[] {
  const held = groups.filter(({ isActive }) => !isActive);
  if (held.length === 0) return backends;
  return backends.map((backend) => {
    const group = held.find(({ priority }) => priority === backend.config.priority);
    if (group === undefined || backend.isSorry) return backend;
    const { before, priority } = group;
    return holdBack(backend, `in reserve, ${before.up} of ${before.size} backends before priority ${priority} are up`);
  });
}

/** Another zone's backends have the part that is missing here. */
function limitForeign(backend: EffectiveBackend, spill: Spill): EffectiveBackend {
  const { zone, weight, weightUp, factor } = spill;
  if (isLocal(backend, zone) || backend.isHeldBack || backend.isSorry || factor === 1) return backend;
  const found = `${percentOf(weightUp / weight)} of zone ${zone} is up`;
  if (factor === 0) return holdBack(backend, `in another zone, ${found}`);
  if (!backend.isUp) return backend;
  const admission = Math.max(1, Math.floor(backend.admission * factor));
  return { ...backend, admission, stateProvenance: { source: "pool", reason: `takes ${percentOf(factor)} of its share, ${found}` } };
}

function percentOf(share: number): string {
  return `${Math.floor(share * 100)}%`;
}

/** Keeps its flows and gets no new ones. Of one that is not up, what is wrong with it says more. */
function holdBack(backend: EffectiveBackend, reason: string): EffectiveBackend {
  const held = { ...backend, admission: 0, isHeldBack: true };
  return backend.isUp ? { ...held, stateProvenance: { source: "pool", reason } } : held;
}

/** What an operator should hear of: reserves and other zones that take flows. Of a sorry backend each service tells. */
export function ruleWarnings(name: string, { groups, spill }: RuledPool): string[] {
  const warnings = groups.slice(1).filter(({ isActive }) => isActive).map(({ priority, before }) =>
    `pool ${name}: ${before.up} of ${before.size} backends before priority ${priority} are up, and those with it take flows too`);
  if (spill !== null && spill.share > 0) {
    const { weightUp, weight, zone, share } = spill;
    warnings.push(`pool ${name}: ${percentOf(weightUp / weight)} of zone ${zone} is up, `
      + `and ${percentOf(share)} of new flows go to other zones`);
  }
  return warnings;
}

/** Whether a destination could take flows, needed or not. */
export function isUpIn({ alive, admission, weight, stateProvenance }: Destination): boolean {
  return alive && weight > 0 && (admission > 0 || stateProvenance.source === "pool");
}
