// What status shows of pools: who of them is up, and what their rules make of it. Pure; knows values only.

import type { PoolView } from "../api/schemas_pools.ts";
import { neededOf, ruledPools } from "../model/pool_rules.ts";
import type { Intent } from "../model/table.ts";

export interface PoolsInput {
  readonly intent: Intent;
  /** By pool; null: not known yet. */
  readonly quorums?: ReadonlyMap<string, boolean | null>;
}

/** `ruled`: what ruledPools() makes of the intent. */
export function poolViews({ intent, quorums = new Map() }: PoolsInput, ruled = ruledPools(intent)): PoolView[] {
  return intent.config.pools.map((pool): PoolView => {
    const { backends, groups, spill } = ruled.get(pool.name)!;
    const size = groups.reduce((sum, each) => sum + each.size, 0);
    const sorry = backends.find(({ isSorry }) => isSorry);
    return {
      name: pool.name,
      backends: size,
      backendsUp: groups.reduce((sum, { up }) => sum + up, 0),
      priorities: groups.map(({ priority, size, up, isActive }) => ({ priority, backends: size, backendsUp: up, active: isActive })),
      sorry: sorry === undefined ? null : sorry.alive && sorry.admission > 0,
      quorum: pool.quorum === null ? null
        : { needed: neededOf(pool.quorum.minimum, size), met: quorums.get(pool.name) ?? null },
      zone: spill === null ? null : { name: spill.zone, weight: spill.weight, weightUp: spill.weightUp, spill: spill.share },
    };
  });
}

export function quorumWarnings(pools: readonly PoolView[]): string[] {
  return pools.flatMap(({ name, backends, backendsUp, quorum }) => quorum?.met !== false ? []
    : [`pool ${name} has lost its quorum: ${backendsUp} of ${backends} backends are up, and ${quorum.needed} are to be`]);
}
