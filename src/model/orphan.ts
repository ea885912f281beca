// Whether the supervisor's heartbeat has stopped, and what becomes of packets then. Pure; bpf/orphan.h is
// its twin.

import type { State, VerdictName } from "./decide.ts";
import type { ForwardingTable } from "./table.ts";

const NS_PER_MS = 1_000_000n;

/**
 * Times are added to and never subtracted: a flow may have been seen by a CPU whose clock is a
 * little ahead.
 */
export function orphanVerdict(table: ForwardingTable, state: State): VerdictName | null {
  const { afterMs, action } = table.orphan;
  if (action === "keep" || afterMs === 0 || state.heartbeatNs === null) return null;
  if (state.heartbeatNs + BigInt(afterMs) * NS_PER_MS >= state.nowNs) return null;
  return action === "pass" ? "PASS_ORPHANED" : "DROP_ORPHANED";
}
