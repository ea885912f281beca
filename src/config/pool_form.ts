// The rules of a pool between the file and the program, both ways. Total: every text was checked before.

import type { PoolConfig } from "../model/config.ts";
import { formatDuration, readDuration } from "./formats.ts";
import { formatMinimum, readMinimum } from "./formats_pool.ts";
import type { RawRules } from "./schema_pool.ts";

type Rules = Pick<PoolConfig, "reserves" | "sorry" | "spillBelow" | "quorum">;

export function convertRules({ reserves, sorry, spillBelow, quorum }: RawRules): Rules {
  return {
    reserves: { minimum: readMinimum(reserves?.minimum ?? 1) }, sorry: sorry ?? null, spillBelow: spillBelow ?? null,
    quorum: quorum === undefined || quorum === null ? null : {
      minimum: readMinimum(quorum.minimum), regainAfterMs: readDuration(quorum.regainAfter), up: quorum.up, down: quorum.down,
      timeoutMs: readDuration(quorum.timeout),
    },
  };
}

/** What the file would say. */
export function rulesForm({ reserves, sorry, spillBelow, quorum }: Rules): Record<string, unknown> {
  return {
    reserves: { minimum: formatMinimum(reserves.minimum) }, sorry, spillBelow,
    quorum: quorum === null ? null : {
      minimum: formatMinimum(quorum.minimum), regainAfter: formatDuration(quorum.regainAfterMs), up: quorum.up, down: quorum.down,
      timeout: formatDuration(quorum.timeoutMs),
    },
  };
}
