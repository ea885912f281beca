// The part of the schema that says how latencies steer shares. Knows keys, bounds and descriptions.

import * as z from "zod";
import { FEEDBACK_DEFAULTS as DEFAULTS } from "../model/feedback.ts";
import { formatDuration } from "./formats.ts";
import { duration, integer } from "./schema_parts.ts";

export const feedbackSchema = z.strictObject({
  interval: duration("From one step to the next.", "1s", "10m").default(formatDuration(DEFAULTS.intervalMs)),
  floor: integer("No backend has less of its share than this, in percent.", 1, 100).default(DEFAULTS.floorPercent),
  deadBand: integer("A share that is off by no more than so many percent points stays as it is.", 1, 99).default(DEFAULTS.deadBandPercent),
  moved: z.number().min(0.01).max(100).default(DEFAULTS.movedPercentPerSecond).meta({
    title: "a percentage", description: "Percent of the pool's flows that steps may move in a second.",
  }),
}).meta({ id: "Feedback", title: "a feedback" }).nullable().default(null).meta({
  description: "Backends that answer probes later than the median of their pool get fewer new flows "
    + "([docs/health.md](health.md#feedback)). null: latency steers nothing, but for services with `least-response-time` in the "
    + "XDP plane, which have the defaults. `{}` has every default.",
});

export type RawFeedback = z.output<typeof feedbackSchema>;
