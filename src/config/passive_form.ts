// What is made of flows, between the file and the program, both ways. Total: every text was checked before. Must
// never judge a config.

import type { OutlierRules } from "../model/health_check.ts";
import { formatDuration, readDuration } from "./formats.ts";
import type { RawOutlier } from "./schema_passive.ts";

/** What a health check says beside its probes. */
export interface PassiveRules {
  readonly outlier?: OutlierRules;
}

export function convertPassive(raw: { readonly outlier: RawOutlier }): PassiveRules {
  return raw.outlier === null ? {} : { outlier: convertOutlier(raw.outlier) };
}

export function passiveForm({ outlier }: PassiveRules): Readonly<Record<string, unknown>> {
  return { outlier: outlier === undefined ? null : outlierForm(outlier) };
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
