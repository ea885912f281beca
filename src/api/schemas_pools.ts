// The shape of what a pool's own rules make of it. Knows values only.

import { z } from "zod";

const text = z.string();
const counting = z.number().int().min(0);

export const poolSchema = z.strictObject({
  name: text,
  /** With a positive weight. */
  backends: counting,
  /** Of those, the ones that could take flows, needed or not. */
  backendsUp: counting,
  /** The groups, first to last. */
  priorities: z.array(z.strictObject({
    priority: counting, backends: counting, backendsUp: counting,
    /** It takes flows, as far as it is up. */
    active: z.boolean(),
  })),
  /** Whether its sorry backend takes flows; null: it has none. */
  sorry: z.boolean().nullable(),
  /** Null: it has none. `met` null: not known yet. */
  quorum: z.strictObject({ needed: counting, met: z.boolean().nullable() }).nullable(),
  /** The local one: weights of its backends, and the part of new flows that goes elsewhere. Null: zones do not matter. */
  zone: z.strictObject({ name: text, weight: counting, weightUp: z.number(), spill: z.number() }).nullable(),
});

export type PoolView = z.infer<typeof poolSchema>;
