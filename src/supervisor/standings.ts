// Whom the checker hears of, as operators leave backends: nobody probes those in maintenance, and layers over probes
// have to know who takes no new flows however well it is. Pure; must never know health.

import { probeTargets, type ProbeTarget } from "../health/target.ts";
import type { Config } from "../model/config.ts";
import { inMaintenance, keptOut } from "../model/effective.ts";
import type { Plane } from "../model/features.ts";
import type { Override } from "../model/table.ts";

/** What weights and overrides say of backends, by "pool/backend". */
export interface Standings {
  /** In order. */
  readonly maintained: readonly string[];
  /** Those included. */
  readonly out: ReadonlySet<string>;
}

export const NO_STANDINGS: Standings = { maintained: [], out: new Set() };

export function standingsOf({ pools }: Config, overrides: readonly Override[], nowMs: number): Standings {
  return { maintained: inMaintenance(overrides, nowMs), out: keptOut(pools, overrides, nowMs) };
}

/** `before`: as they were when the checker was told last. */
export function standingTargets(config: Config, plane: Plane, { maintained, out }: Standings, before: Standings): readonly ProbeTarget[] {
  return probeTargets(config, plane).filter(({ name }) => !maintained.includes(name)).map((target) => ({
    ...target, ...(out.has(target.name) ? { isOut: true } : {}), ...(before.maintained.includes(target.name) ? { isBack: true } : {}),
  }));
}
