// The part of the schema that says what is made of flows and changes that nobody asked about. Knows keys, bounds and
// descriptions; must never know how anything is judged.

import * as z from "zod";
import { CHANGES_MAX } from "../model/health_check.ts";
import { duration, integer } from "./schema_parts.ts";

export const outlierSchema = z.strictObject({
  consecutive: integer("Flows in a row that failed, after which a backend is ejected; null: their number does not matter.", 1, 100_000)
    .nullable().default(5),
  failuresAbove: integer("A larger share of the flows of an `interval` that failed, in percent, has a backend ejected; null: their "
    + "share does not matter.", 1, 99).nullable().default(50),
  interval: duration("For how long flows are counted together for `failuresAbove`.", "1s", "1h").default("10s"),
  flowsMin: integer("With fewer flows in an interval a share says nothing.", 1, 1_000_000).default(50),
  ejection: duration("How long the first ejection lasts; the next one lasts twice as long, then three times. Each such time without an "
    + "ejection takes one off again.", "1s", "24h").default("30s"),
  ejectionMax: duration("No ejection lasts longer.", "1s", "24h").default("5m"),
  ejectedMax: integer("Share of the backends of a pool, in percent, that may be ejected at once: one at least, and never the last "
    + "that takes new flows.", 1, 100).default(10),
  silence: z.boolean().default(false).meta({
    description: "Whether flows that end without an answer have failed too: of UDP, whose clients need not wait for one, and TCP "
      + "connections that ran into `proxy.idleTimeout`.",
  }),
}).meta({ id: "Outlier-detection", title: "an outlier detection" }).nullable().default(null).meta({
  description: "Backends whose flows fail get no new ones for a while, whatever probes find ([docs/health.md](health.md"
    + "#outlier-detection)); null: flows say nothing. `{}` has every default.",
});

export const dampingSchema = z.strictObject({
  changesMax: integer("A backend that changes more often than this between down and not down is held.", 1, CHANGES_MAX).default(4),
  within: duration("The time in which its changes are counted.", "1s", "24h").default("10m"),
  hold: duration("It gets new flows again when it has not changed for so long.", "1s", "24h").default("5m"),
}).meta({ id: "Flap-damping", title: "a flap damping" }).nullable().default(null).meta({
  description: "A backend that goes down and comes back too often gets no new flows until it is quiet "
    + "([docs/health.md](health.md#flap-damping)); null: it may. `{}` has every default.",
});

export type RawDamping = z.output<typeof dampingSchema>;
export type RawOutlier = z.output<typeof outlierSchema>;
