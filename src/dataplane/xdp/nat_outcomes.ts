// What became of translated flows, by destination: begun, never answered, refused. Told after each walk over the
// table, for whoever judges backends by it. Knows entries' flags and times, and the counters of flows begun; must
// never judge.
//
// An entry does not say when its flow began. But as long as a backend says nothing, nothing else touches the entry of
// its answers, and what it says within a second does not either (TOUCH_INTERVAL_NS). So each walk looks at those that
// were last touched between two earlier walks, when an answer has been due since: each flow that fails is found once.
// How many began between these walks is in the traffic counters of the destinations, and those that did not fail
// were answered.

import { NAT_KEPT_MS, type NatTable } from "../../model/nat.ts";
import { PROTOCOL_NUMBERS } from "../../model/service_address.ts";
import { NatFlags, NatFlow as NatFlowBytes } from "./abi.gen.ts";
import type { FlowsSeen } from "../../model/flows_seen.ts";

/** After so long without an answer, a flow has none. */
export const UNANSWERED_NS = 3_000_000_000n;
const { flags: FLAGS_AT, lastSeenNs: LAST_SEEN_AT } = NatFlowBytes.offsets;

/** By destination, "id/generation". */
type Counts = ReadonlyMap<string, number>;

export interface NatOutcomesParts {
  /** Flows begun with each destination that is translated to, since its counter began. */
  readonly begun: () => Counts;
  /** Called after each walk, for each destination of which there is something to say. */
  readonly tell: (place: string, seen: FlowsSeen) => void;
}

/** One direction's entry, that of the backend's answers. */
export interface AnswerEntry {
  readonly place: () => string;
  readonly protocol: number;
  readonly value: Uint8Array;
  /** The entry of the client's packets, if there is one still. */
  readonly forward: () => Uint8Array | null;
}

interface Tally {
  failed: number;
  silent: number;
  reason: string;
}

/** What a walk found in the counters. */
interface Reading {
  readonly atNs: bigint;
  /** Flows begun since the reading before; of those without one nobody knows. */
  readonly begun: Counts;
  readonly unknown: ReadonlySet<string>;
}

export class NatOutcomes {
  readonly #parts: NatOutcomesParts;
  /** This walk is about the flows that began after the one and not after the other. Null before the first walk. */
  #fromNs: bigint | null = null;
  #toNs: bigint | null = null;
  /** Readings of walks whose flows need not be answered yet, and of those that this one is about. */
  #pending: readonly Reading[] = [];
  #due: readonly Reading[] = [];
  /** Entries may be gone before they were looked at. */
  #isBlind = false;
  #tallies = new Map<string, Tally>();
  /** The counters at the last walk. */
  #counted: Counts = new Map();

  constructor(parts: NatOutcomesParts) {
    this.#parts = parts;
  }

  /** A walk begins. */
  begin({ timeouts }: NatTable, nowNs: bigint): void {
    this.#isBlind = !areKept(timeouts);
    const counted = this.#parts.begun();
    // A counter that is new, or that went back, has begun anew: what it counted until now is nobody's news, nor are the
    // flows that failed meanwhile, or they would look like all there were.
    const begunAt = ([place, count]: readonly [string, number]): number => count - (this.#counted.get(place) ?? Infinity);
    const begun = new Map([...counted].map((each) => [each[0], Math.max(0, begunAt(each))]));
    const unknown = new Set([...counted].flatMap((each) => (begunAt(each) < 0 ? [each[0]] : [])));
    this.#counted = counted;
    const readings = this.#toNs === null ? [] : [...this.#pending, { atNs: nowNs, begun, unknown }];
    const dueNs = nowNs - UNANSWERED_NS;
    this.#due = readings.filter(({ atNs }) => atNs <= dueNs);
    this.#pending = readings.filter(({ atNs }) => atNs > dueNs);
    this.#fromNs = this.#toNs ?? nowNs;
    this.#toNs = this.#due.at(-1)?.atNs ?? this.#fromNs;
    this.#tallies = new Map();
  }

  /** Before the sweep ends it, if it is over. */
  see({ place, protocol, value, forward }: AnswerEntry): void {
    const [fromNs, toNs] = [this.#fromNs, this.#toNs];
    const flags = value[FLAGS_AT]!;
    const isAnswered = (flags & NatFlags.NAT_ANSWERED) !== 0;
    if (fromNs === null || toNs === null || (isAnswered && (flags & NatFlags.NAT_RST) === 0)) return;
    const seenNs = new DataView(value.buffer, value.byteOffset, value.byteLength).getBigUint64(LAST_SEEN_AT, true);
    if (seenNs <= fromNs || seenNs > toNs) return;
    const tally = this.#tallyOf(place());
    if (protocol !== PROTOCOL_NUMBERS.tcp) {
      tally.silent += 1;
      tally.reason = "no answer";
    } else if (!isAnswered) {
      tally.failed += 1;
      tally.reason = "no answer to a SYN";
    } else if (((forward()?.[FLAGS_AT] ?? 0) & NatFlags.NAT_ANSWERED) === 0) {
      // Whose client has sent nothing but SYNs; a connection that was established may have been reset for any reason.
      tally.failed += 1;
      tally.reason = "connection reset in place of an answer to a SYN";
    }
  }

  /** The walk has come to its end. */
  finish(): void {
    for (const place of new Set([...this.#tallies.keys(), ...this.#due.flatMap(({ begun }) => [...begun.keys()])])) {
      if (this.#due.some(({ unknown }) => unknown.has(place))) continue;
      const { failed, silent, reason } = this.#tallies.get(place) ?? { failed: 0, silent: 0, reason: "" };
      const begun = this.#due.reduce((sum, each) => sum + (each.begun.get(place) ?? 0), 0);
      // A connection that is opened again under its old ports may fail without having begun.
      const ok = Math.max(0, begun - failed - silent);
      if (!this.#isBlind && ok + failed + silent > 0) this.#parts.tell(place, { ok, failed, silent, reason });
    }
    this.#due = [];
  }

  #tallyOf(place: string): Tally {
    let tally = this.#tallies.get(place);
    if (tally === undefined) {
      tally = { failed: 0, silent: 0, reason: "" };
      this.#tallies.set(place, tally);
    }
    return tally;
  }
}

/** Whether entries without an answer, or with a reset, are still there when they are to be looked at. */
function areKept({ synMs, rstMs, udpMs }: NatTable["timeouts"]): boolean {
  return Math.min(synMs, rstMs, udpMs) >= NAT_KEPT_MS;
}
