// Cross-field rules about what is made of flows and changes that nobody asked about. Each is a function of the draft. Which plane
// sees them is the feature table's business.

import { NAT_KEPT_MS, translates } from "../model/nat.ts";
import type { Draft, DraftHealth } from "./draft.ts";
import { readDuration } from "./formats.ts";
import type { Finding } from "./problem.ts";
import { error, warning } from "./rules_names.ts";
import type { Rule } from "./rules_names.ts";

function* outliers(draft: Draft): Iterable<Finding> {
  for (const { path, health } of draft.pools) {
    const outlier = health?.timing.outlier ?? null;
    if (outlier === null) continue;
    const place = [...path, "health", "outlier"];
    if (outlier.consecutive === null && outlier.failuresAbove === null) {
      yield error(place, "neither a number of failures nor a share of them has anybody ejected",
        "give consecutive or failuresAbove, or say outlier: null");
    }
    if (readDuration(outlier.ejectionMax) < readDuration(outlier.ejection)) {
      yield error([...place, "ejectionMax"], `no ejection lasts longer than ${outlier.ejectionMax}, and the first one ${outlier.ejection}`,
        "raise ejectionMax, or lower ejection");
    }
  }
}

/** What is forgotten at once cannot be counted. */
function* forgottenFlows(draft: Draft): Iterable<Finding> {
  const timeouts = draft.dataplane.nat?.timeouts;
  const isAsked = draft.services.some(({ fields, pools }) =>
    translates(fields.forwarding) && pools.some(({ health }) => (health?.timing.outlier ?? null) !== null));
  if (draft.dataplane.mode === "proxy" || timeouts === undefined || !isAsked) return;
  for (const key of ["syn", "rst", "udp"] as const) {
    if (readDuration(timeouts[key]) >= NAT_KEPT_MS) continue;
    yield warning(["dataplane", "nat", "timeouts", key],
      `with less than ${NAT_KEPT_MS / 1000}s, translated flows that fail are forgotten before outlier detection counts them`,
      "raise it, or no backend is ejected for them");
  }
}

/** Damping that can never hold anybody. */
function* idleDamping(draft: Draft): Iterable<Finding> {
  for (const { path, health, backends } of draft.pools) {
    const damping = health?.timing.damping ?? null;
    if (health === undefined || damping === null) continue;
    const place = [...path, "health", "damping"];
    if (backends?.length === 1) {
      yield warning(place, "the pool has one backend, and the last one that takes flows is never held", "remove damping");
    }
    if ((health.timing.agent ?? null) !== null) continue;
    if (health.type === "none") {
      yield warning(place, "nobody asks these backends, so none of them changes", "choose a type of probe, or remove damping");
      continue;
    }
    const changes = damping.changesMax + 1;
    if (shortestMs(damping.changesMax, health.timing) <= readDuration(damping.within)) continue;
    yield warning([...place, "within"], `probes cannot find ${changes} changes within ${damping.within}, so nobody is ever held`,
      "raise within, or lower changesMax or the probes' interval");
  }
}

/** How long it takes at least until a change is followed by so many others. */
function shortestMs(count: number, timing: DraftHealth["timing"]): number {
  const { interval = null, fastInterval = null, downInterval = null, rise = 1, fall = 1 } = timing;
  const intervals = [interval, fastInterval, downInterval].flatMap((each) => (each === null ? [] : [readDuration(each)]));
  const probes = Math.floor(count / 2) * (rise + fall) + (count % 2) * Math.min(rise, fall);
  return intervals.length === 0 ? 0 : probes * Math.min(...intervals);
}

export const PASSIVE_RULES: readonly Rule[] = [outliers, forgottenFlows, idleDamping];
