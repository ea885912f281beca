// The judge: what a sequence of probe outcomes says of a backend. A pure state machine; knows
// counts and reasons, and must never know a socket, a timer or where an outcome came from.
//
// A success may say that the backend drains: it is alive, and wants nothing new. That counts at once, and
// until a success does not say it any more: it is the backend's own word, and no symptom.
//
// As in HAProxy, a backend nobody has an answer about is taken as alive, so that a restart does not
// take a whole pool out: the first success makes it up, `fall` failures in a row make it down, and
// a backend that is down needs `rise` successes in a row.

/** What a probe over TLS was shown. */
export interface Certificate {
  /** When it, or the first of the issuers' that came with it, ends (wall clock). */
  readonly endsAtMs: number;
  /** It ends so soon that people want to hear of it. */
  readonly isDue: boolean;
}

/** What one probe found. */
export interface Outcome {
  readonly ok: boolean;
  /** Of one that is ok: the backend drains. Absent: it does not. */
  readonly drains?: boolean;
  /**
   * False when the fault was on this side (no file descriptors, say): it says nothing of the
   * backend.
   */
  readonly conclusive: boolean;
  /** For people: "status 200", "connection refused", "timeout after 1000 ms while connecting". */
  readonly reason: string;
  readonly durationMs: number;
  /** Absent where none was seen. */
  readonly certificate?: Certificate;
  /** Of an agent: its line. */
  readonly said?: string;
}

export interface JudgeRules {
  readonly rise: number;
  readonly fall: number;
}

/** ejected and damped: by outliers.ts and damping.ts, which lie over the probes; never by a judge of them. */
export type HealthStatus = "unknown" | "up" | "draining" | "down" | "ejected" | "damped";

export interface JudgeState {
  readonly status: HealthStatus;
  /** Outcomes in a row that speak against the status: failures, or successes while down. */
  readonly streak: number;
  /** Why the status is what it is. */
  readonly reason: string;
  /** When it became so (wall clock). */
  readonly sinceMs: number;
}

export interface Transition {
  readonly from: HealthStatus;
  readonly to: HealthStatus;
  readonly reason: string;
  readonly atMs: number;
}

export interface Judgement {
  readonly state: JudgeState;
  readonly transition: Transition | null;
}

/** The state before the first outcome. */
export function unjudged(nowMs: number): JudgeState {
  return { status: "unknown", streak: 0, reason: "not probed yet", sinceMs: nowMs };
}

export function judge(
  state: JudgeState, outcome: Outcome, rules: JudgeRules, nowMs: number,
): Judgement {
  if (!outcome.conclusive) return { state: stillUnsaid(state, outcome), transition: null };
  const alive = outcome.drains === true ? "draining" : "up";
  if (outcome.ok && state.status !== "down" && state.status !== alive) return become(state, alive, outcome.reason, nowMs);
  const isExpected = outcome.ok === (state.status !== "down");
  const streak = isExpected ? 0 : state.streak + 1;
  const isEnough = streak >= (outcome.ok ? rules.rise : rules.fall);
  if (isExpected || !isEnough) return { state: streak === state.streak ? state : { ...state, streak }, transition: null };
  return become(state, outcome.ok ? alive : "down", outcome.reason, nowMs);
}

/** As long as nothing is known, people want to know why. */
function stillUnsaid(state: JudgeState, { reason }: Outcome): JudgeState {
  if (state.status !== "unknown" || reason === state.reason) return state;
  return { ...state, reason };
}

function become(state: JudgeState, to: HealthStatus, reason: string, nowMs: number): Judgement {
  return {
    state: { status: to, streak: 0, reason, sinceMs: nowMs },
    transition: { from: state.status, to, reason, atMs: nowMs },
  };
}
