// The rules of a pool between the file and the program, both ways. Total: every text was checked before.

import type { PoolConfig } from "../model/config.ts";
import { formatMinimum, readMinimum } from "./formats_pool.ts";
import type { RawRules } from "./schema_pool.ts";

type Rules = Pick<PoolConfig, "reserves" | "sorry" | "spillBelow">;

export function convertRules({ reserves, sorry, spillBelow }: RawRules): Rules {
  return {
    reserves: { minimum: readMinimum(reserves?.minimum ?? 1) }, sorry: sorry ?? null, spillBelow: spillBelow ?? null,
  };
}

/** What the file would say. */
export function rulesForm({ reserves, ...rest }: Rules): Record<string, unknown> {
  return { reserves: { minimum: formatMinimum(reserves.minimum) }, sorry: rest.sorry, spillBelow: rest.spillBelow };
}
