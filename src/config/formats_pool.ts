// The small language of minimums: a number of backends, or a share of them. Knows texts and numbers only.

import type { Minimum } from "../model/config.ts";
import type { Complaint } from "./formats.ts";
import { quoted } from "./problem.ts";

export const MINIMUM_PATTERN = "^([1-9][0-9]?|100)%$";
const COUNT_MAX = 65_535;

export function checkMinimum(value: number | string): Complaint | null {
  if (typeof value === "number") {
    if (value >= 1 && value <= COUNT_MAX) return null;
    return { reason: `${value} is no number of backends from 1 to ${COUNT_MAX}`, hint: "a share is a text: 50%" };
  }
  if (new RegExp(MINIMUM_PATTERN).test(value)) return null;
  const hint = /^[0-9]+$/.test(value) ? "remove the quotes for a number of backends, or add % for a share" : "such as 1, or 50%";
  return { reason: `${quoted(value)} is no share from 1% to 100%`, hint };
}

/** Of a value that checkMinimum() has nothing against. */
export function readMinimum(value: number | string): Minimum {
  return typeof value === "number" ? { count: value } : { percent: Number.parseInt(value, 10) };
}

export function formatMinimum(minimum: Minimum): number | string {
  return "count" in minimum ? minimum.count : `${minimum.percent}%`;
}
