// Cross-field rules about what is made of flows that nobody asked about. Each is a function of the draft. Which plane
// sees them is the feature table's business.

import { NAT_KEPT_MS, translates } from "../model/nat.ts";
import type { Draft } from "./draft.ts";
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

export const PASSIVE_RULES: readonly Rule[] = [outliers, forgottenFlows];
