// What is made of flows and of changes, between the file and the program, both ways. Total: every text was checked before. Must
// never judge a config.

import type { DampingRules, OutlierRules } from "../model/health_check.ts";
import { formatDuration, readDuration } from "./formats.ts";
import type { RawDamping, RawOutlier } from "./schema_passive.ts";

/** What a health check says beside its probes. */
export interface PassiveRules {
  readonly outlier?: OutlierRules;
  readonly damping?: DampingRules;
}

export function convertPassive({ outlier, damping }: { readonly outlier: RawOutlier; readonly damping: RawDamping }): PassiveRules {
  return {
    ...(outlier === null ? {} : { outlier: convertOutlier(outlier) }),
    ...(damping === null ? {} : { damping: convertDamping(damping) }),
  };
}

export function passiveForm({ outlier, damping }: PassiveRules): Readonly<Record<string, unknown>> {
  return {
    outlier: outlier === undefined ? null : outlierForm(outlier),
    damping: damping === undefined ? null : dampingForm(damping),
  };
}

function convertDamping({ changesMax, within, hold }: NonNullable<RawDamping>): DampingRules {
  return { changesMax, withinMs: readDuration(within), holdMs: readDuration(hold) };
}

function dampingForm({ changesMax, withinMs, holdMs }: DampingRules): Readonly<Record<string, unknown>> {
  return { changesMax, within: formatDuration(withinMs), hold: formatDuration(holdMs) };
}

function convertOutlier(raw: NonNullable<RawOutlier>): OutlierRules {
  const { consecutive, failuresAbove, flowsMin, ejectedMax, silence } = raw;
  return {
    consecutive, failuresAbove, intervalMs: readDuration(raw.interval), flowsMin,
    ejectionMs: readDuration(raw.ejection), ejectionMaxMs: readDuration(raw.ejectionMax), ejectedMax, silence,
  };
}

function outlierForm(rules: OutlierRules): Readonly<Record<string, unknown>> {
  const { consecutive, failuresAbove, flowsMin, ejectedMax, silence } = rules;
  return {
    consecutive, failuresAbove, interval: formatDuration(rules.intervalMs), flowsMin,
    ejection: formatDuration(rules.ejectionMs), ejectionMax: formatDuration(rules.ejectionMaxMs), ejectedMax, silence,
  };
}
