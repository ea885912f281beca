// The keys of a service whose traffic is split over pools.

import * as z from "zod";
import { SUBSETS_MAX } from "../model/split.ts";
import { name } from "./schema_parts.ts";

export const splitSchema = z.array(z.strictObject({
  name: name("Unique in its service; without it, the pool's name.").optional(),
  pool: name("Name of the pool that this part goes to, one that no other part of the service has."),
  // Not multipleOf: validators that divide refuse 0.29.
  percent: z.number().min(0).max(100).superRefine((value, context) => {
    if (Math.round(value * 100) / 100 === value) return;
    context.addIssue({ code: "custom", message: `${value} has more than two decimals`, params: { hint: "such as 0.25" } });
  }).meta({
    title: "a percentage", description: "Part of the service's traffic, with two decimals at most; all parts together are 100.",
    examples: [95, 5, 0.25],
  }),
})).min(1).max(SUBSETS_MAX).meta({
  title: "a list of subsets", description: "Parts of the traffic, each with a pool of its own, such as a canary's; instead of "
    + "`pool`. A flow stays with its part. A percentage that changes moves as much of the traffic, from or to the "
    + "neighbours in this list ([docs/algorithms.md](algorithms.md#split)).",
});
