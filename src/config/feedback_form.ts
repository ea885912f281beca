// Feedback between the file and the program, both ways. Total: every text was checked before.

import type { FeedbackRules } from "../model/feedback.ts";
import { formatDuration, readDuration } from "./formats.ts";
import type { RawFeedback } from "./schema_feedback.ts";

export function convertFeedback(raw: RawFeedback): { readonly feedback?: FeedbackRules } {
  if (raw === null) return {};
  const { interval, floor, deadBand, moved } = raw;
  return {
    feedback: { intervalMs: readDuration(interval), floorPercent: floor, deadBandPercent: deadBand, movedPercentPerSecond: moved },
  };
}

export function feedbackForm(rules: FeedbackRules | undefined): Readonly<Record<string, unknown>> | null {
  if (rules === undefined) return null;
  const { intervalMs, floorPercent, deadBandPercent, movedPercentPerSecond } = rules;
  return { interval: formatDuration(intervalMs), floor: floorPercent, deadBand: deadBandPercent, moved: movedPercentPerSecond };
}
