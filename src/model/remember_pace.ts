// How many flows may be remembered with `tracking: minimal`: no flood, of packets that open flows or of
// others, fills the table, or pushes out what is in it. Pure. The generic cell rate algorithm (ITU-T
// I.371), one for each CPU and kind; may_remember() in bpf/choice.h is its twin.

/** A table without anybody who needs it. */
export const NO_PACE: RememberPace = { intervalNs: 0n, burstNs: 0n };

export interface RememberPace {
  /** Between two flows of one kind that one CPU remembers, on average; 0: no limit. */
  readonly intervalNs: bigint;
  /** So much may be taken in advance. */
  readonly burstNs: bigint;
}

const KINDS = 2;

/**
 * Each of the two kinds may fill a quarter of the table at once, and as much again while its entries
 * live: together the table at most.
 */
export function rememberPace(flowsMax: number, idleMs: number, cpus: number): RememberPace {
  const share = Math.max(1, Math.floor(flowsMax / (2 * KINDS * cpus)));
  const intervalNs = BigInt(Math.ceil(idleMs * 1e6 / share));
  return { intervalNs, burstNs: intervalNs * BigInt(share) };
}

/** Whether one more may be remembered at `nowNs`, when the next one is due at `nextNs`. */
export function isInPace({ intervalNs, burstNs }: RememberPace, nextNs: bigint, nowNs: bigint): boolean {
  // What is due later than any burst allows is a debt of other settings, and counts for nothing.
  return nextNs <= nowNs + burstNs || nextNs > nowNs + burstNs + intervalNs;
}

/** When the next one is due after that. */
export function afterRemembering({ intervalNs, burstNs }: RememberPace, nextNs: bigint, nowNs: bigint): bigint {
  const isOwed = nextNs >= nowNs && nextNs <= nowNs + burstNs;
  return (isOwed ? nextNs : nowNs) + intervalNs;
}
