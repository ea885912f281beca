// What the API says of a service whose clients' region chooses the pool, as a zod schema. Knows values only.

import { z } from "zod";

/** Null: all clients are the service's own. */
export const geoViewSchema = z.strictObject({
  /** Path; null: regions are networks alone. */
  database: z.string().nullable(),
  /** As it calls itself, "GeoLite2-Country". */
  databaseType: z.string().nullable(),
  /** Wall clock, milliseconds. */
  builtAtMs: z.number().nullable(),
  /** Prefixes of clients in regions. */
  prefixes: z.number().int().min(0),
  /** In the order of the file. */
  regions: z.array(z.string()),
}).nullable();

export type GeoView = z.infer<typeof geoViewSchema>;
