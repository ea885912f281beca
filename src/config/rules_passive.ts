// Cross-field rules about what is made of flows that nobody asked about. Each is a function of the draft. Which plane
// sees them is the feature table's business.

import type { Draft } from "./draft.ts";
import { readDuration } from "./formats.ts";
import type { Finding } from "./problem.ts";
import { error } from "./rules_names.ts";
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

export const PASSIVE_RULES: readonly Rule[] = [outliers];
