// What status shows of pools: who of them is up, and what their rules make of it. Pure; knows values only.

import type { PoolView } from "../api/schemas_pools.ts";
import { activeOverrides } from "../model/effective.ts";
import { backendsOf, priorityGroups } from "../model/pool_rules.ts";
import type { Intent } from "../model/table.ts";

export function poolViews({ intent }: { readonly intent: Intent }): PoolView[] {
  const overrides = activeOverrides(intent.overrides, intent.nowMs);
  return intent.config.pools.map((pool): PoolView => {
    const backends = backendsOf(pool, overrides, intent.health);
    const groups = priorityGroups(pool, backends);
    const sorry = backends.find(({ isSorry }) => isSorry);
    return {
      name: pool.name,
      backends: groups.reduce((sum, { size }) => sum + size, 0),
      backendsUp: groups.reduce((sum, { up }) => sum + up, 0),
      priorities: groups.map(({ priority, size, up, isActive }) => ({ priority, backends: size, backendsUp: up, active: isActive })),
      sorry: sorry === undefined ? null : sorry.alive && sorry.admission > 0,
    };
  });
}
