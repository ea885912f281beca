// What the API says of a service whose traffic is split, as a zod schema. Knows values only.

import { z } from "zod";

const counting = z.number().int().min(0);

/** In the order of the file; null: the service has one pool. */
export const splitViewSchema = z.array(z.strictObject({
  name: z.string(),
  pool: z.string(),
  /** As configured, with two decimals at most. */
  percent: z.number(),
  /** Slots that it has now: its own, and those of parts with nobody up. */
  slots: counting,
  /** slots over the slots of the ring. */
  share: z.number(),
  backends: counting,
  backendsUp: counting,
  failedOpen: z.boolean(),
})).nullable();

export type SplitView = z.infer<typeof splitViewSchema>;
