// How many flows may be remembered with `tracking: minimal`: no flood, of whatever packets, fills the table
// or pushes out what is in it, and a flood at one service leaves the others their share. Pure. The generic
// cell rate algorithm (ITU-T I.371) for each kind of flow, shared by all CPUs and all services, and a
// second one for each service; may_remember() in bpf/choice.h is its twin.
//
// With room for F flows, each of the three kinds may have C = F / 6 remembered at once and C more while
// entries of its protocol live (the longest `flowIdle` of these services): 3 × 2 × C is F at most, whoever asks,
// and however many services there are, so none that comes, goes or changes can add to it. The first half
// of C is anybody's. The other half is a reserve, of which each of n services has C / 2n, and as much again
// in that time: together no more than the reserve, so a service that keeps to its share is never refused
// because of others.

import type { Tracking } from "./config.ts";

/** TCP that opens, TCP that does not, UDP: in the order of the enum. */
export const REMEMBER_KINDS = ["tcp-opened", "tcp-other", "udp"] as const;
export type RememberKind = (typeof REMEMBER_KINDS)[number];

/** Of one kind. */
export interface RememberPace {
  /** Between two flows, on average; 0: no limit. */
  readonly intervalNs: bigint;
  /** So much may be taken in advance, the latter half of it by those alone that have not had their share. */
  readonly burstNs: bigint;
  /** Between two flows of one service out of the reserve, on average; as much may be taken in advance. */
  readonly ownIntervalNs: bigint;
}

/** Where nobody needs one. */
export const NO_PACE: RememberPace = { intervalNs: 0n, burstNs: 0n, ownIntervalNs: 0n };

/** Services with `minimal` of one protocol. */
interface Remembering {
  readonly services: number;
  /** The longest of them. */
  readonly idleMs: number;
}

/** What the pace follows from. */
export interface RememberLimits extends Readonly<Record<"tcp" | "udp", Remembering>> {
  readonly flowsMax: number;
}

const NOBODY: Remembering = { services: 0, idleMs: 0 };
export const NOTHING_REMEMBERED: RememberLimits = { flowsMax: 0, tcp: NOBODY, udp: NOBODY };

interface RememberingService {
  readonly tracking: Tracking;
  readonly protocol: "tcp" | "udp";
  readonly flowIdleMs: number;
}

export function rememberLimits(flowsMax: number, services: readonly RememberingService[]): RememberLimits {
  const of = (wanted: "tcp" | "udp"): Remembering => {
    const found = services.filter(({ tracking, protocol }) => tracking === "minimal" && protocol === wanted);
    return { services: found.length, idleMs: Math.max(0, ...found.map(({ flowIdleMs }) => flowIdleMs)) };
  };
  return { flowsMax, tcp: of("tcp"), udp: of("udp") };
}

/** Of each kind, in the order of REMEMBER_KINDS. */
export function rememberPaces({ flowsMax, tcp, udp }: RememberLimits): readonly RememberPace[] {
  return [tcp, tcp, udp].map((of) => paceOf(flowsMax, of));
}

function paceOf(flowsMax: number, { services, idleMs }: Remembering): RememberPace {
  if (services === 0 || idleMs === 0) return NO_PACE;
  const flows = Math.max(1, Math.floor(flowsMax / (2 * REMEMBER_KINDS.length)));
  const own = Math.max(1, Math.floor(flows / 2 / services));
  const intervalNs = BigInt(Math.ceil(idleMs * 1e6 / flows));
  const burstNs = intervalNs * BigInt(flows);
  return { intervalNs, burstNs, ownIntervalNs: (burstNs + BigInt(own) - 1n) / BigInt(own) };
}

/** When the next flow would be due, of all services and of one, if nothing were taken in advance. */
export interface PaceTimes {
  readonly nextNs: bigint;
  readonly ownNextNs: bigint;
}

/** Whether one more may be remembered. */
export function isInPace(pace: RememberPace, times: PaceTimes, nowNs: bigint): boolean {
  const { intervalNs, burstNs, ownIntervalNs } = pace;
  if (isOpenToAll(pace, times, nowNs)) return true;
  return times.nextNs + intervalNs <= nowNs + burstNs && times.ownNextNs + ownIntervalNs <= nowNs + burstNs;
}

function isOpenToAll({ intervalNs, burstNs }: RememberPace, { nextNs }: PaceTimes, nowNs: bigint): boolean {
  return nextNs + intervalNs <= nowNs + burstNs / 2n;
}

/** The times after one was. What comes out of the reserve counts for its service, too. */
export function afterRemembering(pace: RememberPace, times: PaceTimes, nowNs: bigint): PaceTimes {
  return {
    nextNs: later(times.nextNs, nowNs) + pace.intervalNs,
    ownNextNs: isOpenToAll(pace, times, nowNs) ? times.ownNextNs : later(times.ownNextNs, nowNs) + pace.ownIntervalNs,
  };
}

function later(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

/**
 * When the next one is due once another pace is in force: as large a part of what may be taken in advance is
 * taken as before.
 */
export function underPace(nextNs: bigint, beforeNs: bigint, burstNs: bigint, nowNs: bigint): bigint {
  if (nextNs <= nowNs || beforeNs === 0n) return nextNs;
  const taken = nextNs - nowNs < beforeNs ? nextNs - nowNs : beforeNs;
  return nowNs + taken * burstNs / beforeNs;
}
