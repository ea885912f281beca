// Cross-field rules about what is made of flows and changes that nobody asked about. Each is a function of the draft. Which plane
// sees them is the feature table's business.

import { STEERS_BY_PROBES } from "../model/features.ts";
import { NAT_KEPT_MS, translates } from "../model/nat.ts";
import { isSteered } from "../model/pick.ts";
import type { Draft, DraftHealth, DraftPool, DraftService } from "./draft.ts";
import { readDuration } from "./formats.ts";
import type { Finding } from "./problem.ts";
import { error, serviceName, warning } from "./rules_names.ts";
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

/** Feedback that can never move a flow. */
function* idleFeedback(draft: Draft): Iterable<Finding> {
  for (const { path, health, backends } of draft.pools) {
    if ((health?.timing.feedback ?? null) === null) continue;
    const place = [...path, "health", "feedback"];
    if (health?.type === "none")
      yield warning(place, "nobody asks these backends, so nothing is known of them", "choose a type of probe, or remove feedback");
    else if (backends?.length === 1)
      yield warning(place, "the pool has one backend, and there is nobody to compare it with", "remove feedback");
  }
}

/** What least-response-time is in the XDP plane. */
function* steeredServices(draft: Draft): Iterable<Finding> {
  const { mode, interfaces } = draft.dataplane;
  if (mode === "proxy" || (mode === "auto" && interfaces?.length === 0)) return;
  const isLed = ({ fields }: DraftService): boolean => fields.algorithm !== undefined && isSteered(fields.algorithm, "xdp");
  for (const service of draft.services.filter(isLed)) {
    const place = [...service.path, "algorithm"];
    if (service.pools.some(({ health }) => health?.type === "none")) {
      yield mode === "xdp" ? error(place, STEERS_BY_PROBES, "choose a type of probe for its pool, or say mode: proxy")
        : warning(place, STEERS_BY_PROBES, "choose a type of probe for its pool; as it is, the proxy plane serves all services");
      continue;
    }
    yield warning(place, "in the XDP plane how long probes take, and with nat and fullnat clients' handshakes, steers the shares of the "
      + "ring (feedback)",
      "say mode: proxy where the answers to clients have to be measured");
    for (const pool of service.pools) yield* sharedShares(draft, service, pool, isLed);
  }
}

/** Where the file does not say that the pool is to be steered. */
function* sharedShares(
  draft: Draft, service: DraftService, pool: DraftPool, isLed: (service: DraftService) => boolean,
): Iterable<Finding> {
  const others = draft.services.filter((each) => each.pools.includes(pool) && !isLed(each)).map(serviceName);
  if (others.length === 0 || (pool.health?.timing.feedback ?? null) !== null) return;
  yield warning([...service.path, "algorithm"],
    `in the XDP plane shares are those of the pool, and steer ${others.join(", ")}, too`,
    `give it a pool of its own, or pool ${pool.name} feedback: {} to say that it is meant`);
}

export const PASSIVE_RULES: readonly Rule[] = [outliers, forgottenFlows, idleDamping, idleFeedback, steeredServices];
