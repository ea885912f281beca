// Feedback: how much of its share each backend of a pool is to have by how long it takes to answer, compared with the
// others. A proportional controller with a dead band: what it says depends on what is measured now and on where it
// stands, and on nothing else. Pure; must never know where times come from, or what a share becomes.

export interface FeedbackRules {
  /** From one step to the next. */
  readonly intervalMs: number;
  /** No backend has less of its share than this, in percent. */
  readonly floorPercent: number;
  /** A share that is off by no more than so many percent points stays. */
  readonly deadBandPercent: number;
  /** Percent of the pool's flows that steps may move in a second. */
  readonly movedPercentPerSecond: number;
}

/** Where nobody says otherwise. */
export const FEEDBACK_DEFAULTS: FeedbackRules = { intervalMs: 5000, floorPercent: 25, deadBandPercent: 10, movedPercentPerSecond: 0.5 };

export interface FeedbackMember {
  /** What all of its share is, beside those of the others. */
  readonly weight: number;
  /** Null: nothing was measured; it has all of its share then. */
  readonly latencyMs: number | null;
  /** Of its share, 0 to 1, that it has now. */
  readonly share: number;
}

export interface FeedbackStep {
  /** In order of the members, 0 to 1. */
  readonly shares: readonly number[];
  /** Part of the pool's flows that the step moves, 0 to 1: its cost. */
  readonly moved: number;
  /** What latencies were compared with; null: with fewer than two there is nothing to compare. */
  readonly medianMs: number | null;
}

/** Times below this are alike: what differs there is noise. */
const GRAIN_MS = 5;

/** The median over the members, each as often as it is there: the lower one of two. */
export function medianOf(latencies: readonly number[]): number | null {
  if (latencies.length < 2) return null;
  return [...latencies].sort((a, b) => a - b)[Math.floor((latencies.length - 1) / 2)]!;
}

/** Inverse to the latency, where that is above the median. */
function targetOf({ latencyMs }: FeedbackMember, medianMs: number | null, floor: number): number {
  if (latencyMs === null || medianMs === null) return 1;
  return Math.min(1, Math.max(floor, Math.max(GRAIN_MS, medianMs) / Math.max(GRAIN_MS, latencyMs)));
}

/** What a share is off by, if that is worth a movement. All of it comes back whole, or a ring would never be as configured again. */
function wantedChange(target: number, share: number, { deadBandPercent }: FeedbackRules): number {
  const change = target - share;
  return target < 1 && Math.abs(change) * 100 <= deadBandPercent ? 0 : change;
}

/** The shares that follow. What would move more than the rules allow is taken in as many steps as it needs. */
export function feedbackStep(members: readonly FeedbackMember[], rules: FeedbackRules): FeedbackStep {
  const medianMs = medianOf(members.flatMap(({ latencyMs }) => latencyMs ?? []));
  const floor = rules.floorPercent / 100;
  const wanted = members.map((member) => wantedChange(targetOf(member, medianMs, floor), member.share, rules));
  const weights = members.reduce((sum, { weight }) => sum + weight, 0);
  if (weights === 0) return { shares: members.map(({ share }) => share), moved: 0, medianMs };
  const moving = wanted.reduce((sum, change, at) => sum + Math.abs(change) * members[at]!.weight, 0) / weights;
  const most = (rules.movedPercentPerSecond / 100) * (rules.intervalMs / 1000);
  const pace = moving > most ? most / moving : 1;
  return { shares: members.map(({ share }, at) => share + wanted[at]! * pace), moved: moving * pace, medianMs };
}
