// What status shows of pools: who of them is up, and what their rules make of it. Pure; knows values only.

import type { PoolView } from "../api/schemas_pools.ts";
import { activeOverrides } from "../model/effective.ts";
import { ruledPool } from "../model/pool_rules.ts";
import type { Intent } from "../model/table.ts";

export function poolViews({ intent }: { readonly intent: Intent }): PoolView[] {
  const overrides = activeOverrides(intent.overrides, intent.nowMs);
  return intent.config.pools.map((pool): PoolView => {
    const { backends, groups, spill } = ruledPool(pool, overrides, intent.health, intent.config.zone);
    const sorry = backends.find(({ isSorry }) => isSorry);
    return {
      name: pool.name,
      backends: groups.reduce((sum, { size }) => sum + size, 0),
      backendsUp: groups.reduce((sum, { up }) => sum + up, 0),
      priorities: groups.map(({ priority, size, up, isActive }) => ({ priority, backends: size, backendsUp: up, active: isActive })),
      sorry: sorry === undefined ? null : sorry.alive && sorry.admission > 0,
      zone: spill === null ? null : { name: spill.zone, weight: spill.weight, weightUp: spill.weightUp, spill: spill.share },
    };
  });
}
