// What the slots of a ring remember of changes, so that no flow is moved whose owner lives: whose the
// flows are that nobody remembers, until when those that send a packet are remembered, and in which
// slots some may be remembered elsewhere. Pure. After JET (Mendelson, Vargaftik, Barabash, Lorenz,
// Keslassy, Orda: "Load Balancing with JET", CoNEXT 2021), which tracks the flows that a change would
// move, and Beamer (Olteanu, Agache, Voinescu, Raiciu, NSDI 2018), which keeps a slot's previous owner.
//
// A slot is settled, changing, or settled with exceptions. A window opens when its owner changes, and
// closes `changeWindow` after the last change. What is opened in it is remembered with the owner of the
// moment, everything else with the owner at the start: so at any time an untracked flow of a changing
// slot is the untracked owner's, and of any other slot the owner's.

import type { Tracking } from "./config.ts";
import type { PublishedRegions } from "./region_changes.ts";
import { contentKey } from "./ring_content.ts";
import { isSameScheme } from "./slot.ts";
import type { SlotScheme } from "./slot.ts";

/** A ring as it was at the start of the window. */
export interface Predecessor {
  readonly scheme: SlotScheme;
  /**
   * Destination id per slot of that scheme: the untracked owners. Of the service's own scheme, 0 says
   * that the slot is not changing; of another one all slots are, and 0 is nobody.
   */
  readonly owners: Uint16Array;
  /** Equal for equal owners, as Ring.key is. */
  readonly key: string;
}

export interface SlotStates {
  /** 1 per slot whose flows may be remembered elsewhere. Null: none is, or all are looked for anyhow. */
  readonly exceptional: Uint8Array | null;
  /** Null: no slot is changing. */
  readonly predecessor: Predecessor | null;
  /** When the program stops by itself to treat slots as changing (CLOCK_MONOTONIC); 0n: none is. */
  readonly changingUntilNs: bigint;
  /** Per slot: when its window closes (milliseconds of the same clock); 0: it is not changing. */
  readonly deadlinesMs: Float64Array | null;
  /** Per slot: the first table in which its window was closed. */
  readonly closedIn: Uint32Array | null;
  /** The next time that a window closes; null: none is open. */
  readonly nextDeadlineMs: number | null;
  /** Slots that a sweep may find to be settled. */
  readonly sweepable: number;
}

export const SETTLED: SlotStates = {
  exceptional: null, predecessor: null, changingUntilNs: 0n, deadlinesMs: null, closedIn: null,
  nextDeadlineMs: null, sweepable: 0,
};

/**
 * The program goes on for so long after a window's end, because a table that still counts on it may
 * be on its way there: one that is applied later than this must be compiled anew.
 */
export const WINDOW_SLACK_MS = 60_000;

/** What packets are sent by, of a service's slots. */
export interface PublishedSlots {
  readonly scheme: SlotScheme;
  /** Destination id per slot. */
  readonly owners: Uint16Array;
  readonly tracking: Tracking;
  /** What is remembered of a flow counts for so long after its last packet. */
  readonly flowIdleMs: number;
  /** As of the service. */
  readonly rememberedSinceNs: bigint;
  readonly states: SlotStates;
  /** Who has which of its clients. Absent: all are its own. */
  readonly regions?: PublishedRegions;
}

/** The same of the table that is being made. */
export interface NextSlots {
  readonly scheme: SlotScheme;
  readonly owners: Uint16Array;
  readonly tracking: Tracking;
  readonly flowIdleMs: number;
  /** The service was there before, and was taken out: there may be flows that are remembered. */
  readonly isBack: boolean;
  /** TCP: packets that open flows say so. */
  readonly tellsOpening: boolean;
  readonly windowMs: number;
}

/** What a walk over the flow table found in one service. */
export interface SlotSweep {
  /** Of the table that packets were sent by when the walk began. */
  readonly generation: number;
  /** 1 per slot with a flow that is remembered elsewhere than with the slot's owner. */
  readonly exceptional: Uint8Array;
}

export interface SlotTimes {
  /** CLOCK_MONOTONIC, milliseconds. */
  readonly nowMs: number;
  /** Of the table that is being made. */
  readonly generation: number;
  /** Ids that are somebody else's from now on. */
  readonly reused: ReadonlySet<number>;
}

/** Whether packets find the slot changing; `owner` is the predecessor's for them. */
export function isChanging(states: SlotStates, isRehashed: boolean, owner: number, nowNs: bigint): boolean {
  return states.predecessor !== null && nowNs < states.changingUntilNs && (isRehashed || owner !== 0);
}

/** Whether every slot is changing, because packets find their slots in another way than before. */
export function isRehashed({ predecessor }: SlotStates, scheme: SlotScheme): boolean {
  return predecessor !== null && !isSameScheme(predecessor.scheme, scheme);
}

/** The states that follow. The same object as before when nothing changes. */
export function nextStates(
  previous: PublishedSlots | null, next: NextSlots, times: SlotTimes, sweep: SlotSweep | null,
): SlotStates {
  // Nobody's flows move, or all may.
  if (next.tracking === "none") return SETTLED;
  if (previous === null) return next.isBack && next.tracking === "minimal" ? exceptionalAnywhere(next, times) : SETTLED;
  const isKept = isSameScheme(previous.scheme, next.scheme);
  const origin = originOf(previous, times);
  if (isKept && origin === null) return withinScheme(previous, next, times, sweep);
  const { states } = previous;
  const wasComplete = isComplete(next) && previous.tracking === "full" && states.predecessor === null;
  if (wasComplete) return SETTLED;
  const isUnchanged = isKept && previous.tracking === next.tracking
    && isSameOwners(previous.owners, next.owners) && origin === states.predecessor;
  if (isUnchanged) return states;
  return acrossSchemes(origin ?? predecessorOf(previous.scheme, untrackedOwners(previous, times)), next, times);
}

/**
 * From when on entries of the flow table count. Where flows were not remembered for a while, or count for longer
 * than they did, an old entry may have become another connection's, which nobody noted with it.
 */
export function rememberedSinceNs(previous: PublishedSlots | null, next: NextSlots, { nowMs }: Pick<SlotTimes, "nowMs">): bigint {
  if (previous === null || next.tracking === "none") return 0n;
  const before = previous.rememberedSinceNs;
  if (previous.tracking === "none") return nanoseconds(nowMs);
  if (next.flowIdleMs <= previous.flowIdleMs) return before;
  const counted = nanoseconds(nowMs - previous.flowIdleMs);
  return counted > before ? counted : before;
}

/** No slot is changing, and flows may be remembered anywhere. */
function exceptionalAnywhere({ owners: { length } }: NextSlots, { generation }: SlotTimes): SlotStates {
  return {
    ...SETTLED, exceptional: new Uint8Array(length).fill(1), closedIn: new Uint32Array(length).fill(generation), sweepable: length,
  };
}

/** What a map holds of it. */
interface HeldStates {
  readonly exceptional: Uint8Array | null;
  readonly predecessor: Omit<Predecessor, "key"> | null;
  readonly isRehashed: boolean;
  readonly changingUntilNs: bigint;
}

/**
 * The states of `size` slots as far as they outlive who made them: every window closes with the last
 * one, and no walk that began before table `generation` has seen all of what was remembered.
 */
export function recoveredStates(held: HeldStates, size: number, generation: number): SlotStates {
  const { exceptional, predecessor, isRehashed: rehashed, changingUntilNs } = held;
  if (exceptional === null && predecessor === null) return SETTLED;
  const deadlineMs = deadlineOf(changingUntilNs);
  const isOpen = (slot: number): boolean => rehashed || (predecessor?.owners[slot] ?? 0) !== 0;
  const deadlinesMs = Float64Array.from({ length: size }, (_, slot) => (isOpen(slot) ? deadlineMs : 0));
  return {
    exceptional, changingUntilNs,
    predecessor: predecessor === null ? null : predecessorOf(predecessor.scheme, predecessor.owners),
    deadlinesMs: predecessor === null ? null : deadlinesMs,
    closedIn: exceptional === null ? null : new Uint32Array(size).fill(generation),
    nextDeadlineMs: predecessor === null ? null : deadlineMs,
    sweepable: exceptional?.reduce((sum, mark, slot) => sum + (isOpen(slot) ? 0 : mark), 0) ?? 0,
  };
}

/**
 * Whether every flow is remembered and nothing tells a new one otherwise: what is not in the table goes to
 * the owner. Of TCP, what should be there and is not goes to the untracked owner all the same.
 */
function isComplete({ tracking, tellsOpening }: NextSlots): boolean {
  return tracking === "full" && !tellsOpening;
}

function isOpen(deadlineMs: number, { nowMs }: SlotTimes): boolean {
  return deadlineMs > nowMs;
}

/** The ring of another scheme by which untracked flows are placed still, or null. */
function originOf({ scheme, states }: PublishedSlots, times: SlotTimes): Predecessor | null {
  const { predecessor, nextDeadlineMs } = states;
  if (predecessor === null || !isRehashed(states, scheme) || !isOpen(nextDeadlineMs ?? 0, times)) return null;
  return without(predecessor, times.reused);
}

/** Slots of a stranger are nobody's. */
function without(predecessor: Predecessor, reused: ReadonlySet<number>): Predecessor {
  if (reused.size === 0 || !predecessor.owners.some((id) => reused.has(id))) return predecessor;
  return predecessorOf(predecessor.scheme, predecessor.owners.map((id) => (reused.has(id) ? 0 : id)));
}

function predecessorOf(scheme: SlotScheme, owners: Uint16Array): Predecessor {
  return { scheme, owners, key: contentKey(owners) };
}

/** Whose the untracked flows of each slot are. */
function untrackedOwners({ owners, states }: PublishedSlots, times: SlotTimes): Uint16Array {
  const { predecessor, deadlinesMs } = states;
  return owners.map((owner, slot) => {
    const before = predecessor !== null && isOpen(deadlinesMs?.[slot] ?? 0, times)
      ? predecessor.owners[slot]! : 0;
    const id = before === 0 ? owner : before;
    return times.reused.has(id) ? 0 : id;
  });
}

/** Packets find their slots in another way: every flow may be an exception. */
function acrossSchemes(origin: Predecessor, next: NextSlots, times: SlotTimes): SlotStates {
  if (isSameScheme(origin.scheme, next.scheme)) {
    // The scheme of before is back. Flows of a slot that has its owner back are no exceptions but for
    // those that were opened meanwhile.
    const before: PublishedSlots = {
      scheme: origin.scheme, owners: origin.owners, tracking: next.tracking, flowIdleMs: next.flowIdleMs, rememberedSinceNs: 0n,
      states: exceptionalAnywhere({ ...next, owners: origin.owners }, times),
    };
    return slotBySlot(before, next, times, new Draft(before, next, times, null, true));
  }
  const size = next.owners.length;
  const deadlineMs = times.nowMs + next.windowMs;
  return {
    exceptional: next.tracking === "full" ? null : new Uint8Array(size).fill(1),
    predecessor: origin, changingUntilNs: untilNs(deadlineMs),
    deadlinesMs: new Float64Array(size).fill(deadlineMs),
    closedIn: new Uint32Array(size).fill(times.generation),
    nextDeadlineMs: deadlineMs, sweepable: 0,
  };
}

function withinScheme(
  previous: PublishedSlots, next: NextSlots, times: SlotTimes, sweep: SlotSweep | null,
): SlotStates {
  if (isQuiet(previous, next, times, sweep)) return previous.states;
  return slotBySlot(previous, next, times, new Draft(previous, next, times, sweep, false));
}

function slotBySlot(previous: PublishedSlots, next: NextSlots, times: SlotTimes, draft: Draft): SlotStates {
  const { states } = previous;
  const known = (id: number): number => (times.reused.has(id) ? 0 : id);
  for (let slot = 0; slot < next.owners.length; slot += 1) {
    const owner = next.owners[slot]!;
    const was = known(previous.owners[slot]!);
    const untracked = known(states.predecessor?.owners[slot] ?? 0);
    const deadlineMs = states.deadlinesMs?.[slot] ?? 0;
    const open = untracked !== 0 && isOpen(deadlineMs, times);
    if (isComplete(next)) draft.complete(slot, open ? untracked : was, open ? deadlineMs : 0);
    else if (owner === was && open) draft.keep(slot, untracked, deadlineMs);
    else if (owner === was) draft.close(slot, deadlineMs !== 0);
    // Whoever owned the slot has it back: what is untracked is the owner's again.
    else if (open && owner === untracked) draft.close(slot, true);
    else if (open) draft.keep(slot, untracked, null);
    // There was nobody, so there are no flows.
    else if (was === 0) draft.close(slot, deadlineMs !== 0);
    else draft.keep(slot, was, null);
  }
  return draft.finish();
}

/** Whether there is nothing to look at, slot by slot. */
function isQuiet(
  { states, tracking, owners }: PublishedSlots, next: NextSlots, times: SlotTimes, sweep: SlotSweep | null,
): boolean {
  const { nextDeadlineMs, sweepable } = states;
  const isDue = nextDeadlineMs !== null && nextDeadlineMs <= times.nowMs;
  return !isDue && tracking === next.tracking && times.reused.size === 0
    && (sweep === null || sweepable === 0) && isSameOwners(owners, next.owners);
}

function isSameOwners(a: Uint16Array, b: Uint16Array): boolean {
  return a === b || (a.length === b.length && a.every((id, slot) => id === b[slot]));
}

/** States in the making, slot by slot. */
class Draft {
  readonly #before: SlotStates;
  readonly #next: NextSlots;
  readonly #times: SlotTimes;
  readonly #sweep: SlotSweep | null;
  readonly #exceptional: Uint8Array;
  readonly #owners: Uint16Array;
  readonly #deadlinesMs: Float64Array;
  readonly #closedIn: Uint32Array;
  readonly #wasComplete: boolean;
  #isChanged: boolean;

  constructor(
    { states, tracking }: PublishedSlots, next: NextSlots, times: SlotTimes, sweep: SlotSweep | null,
    isChanged: boolean,
  ) {
    const size = next.owners.length;
    this.#before = states;
    this.#next = next;
    this.#times = times;
    this.#sweep = sweep;
    this.#exceptional = states.exceptional?.slice() ?? new Uint8Array(size);
    this.#owners = new Uint16Array(size);
    this.#deadlinesMs = new Float64Array(size);
    this.#closedIn = states.closedIn?.slice() ?? new Uint32Array(size);
    this.#isChanged = isChanged || tracking !== next.tracking;
    this.#wasComplete = tracking === "full";
    // Flows may be remembered anywhere.
    if (tracking !== "full" || next.tracking === "full") return;
    this.#exceptional.fill(1);
    this.#closedIn.fill(times.generation);
  }

  /** Changing; null: for a whole window from now on. */
  keep(slot: number, untracked: number, deadlineMs: number | null): void {
    this.#isChanged ||= deadlineMs === null || this.#before.predecessor?.owners[slot] !== untracked;
    this.#exceptional[slot] = 1;
    this.#owners[slot] = untracked;
    this.#deadlinesMs[slot] = deadlineMs ?? this.#times.nowMs + this.#next.windowMs;
  }

  /** Every flow is remembered from now on: one window for those that are not yet. */
  complete(slot: number, untracked: number, deadlineMs: number): void {
    if (this.#wasComplete) {
      if (deadlineMs === 0) this.close(slot, (this.#before.deadlinesMs?.[slot] ?? 0) !== 0);
      else this.keep(slot, untracked, deadlineMs);
    } else if (untracked !== 0) this.keep(slot, untracked, null);
  }

  /** Not changing, and until now it was or was not. */
  close(slot: number, wasChanging: boolean): void {
    if (wasChanging) {
      this.#isChanged = true;
      this.#closedIn[slot] = this.#times.generation;
    } else if (this.#exceptional[slot] === 1 && this.#isSwept(slot)) {
      this.#isChanged = true;
      this.#exceptional[slot] = 0;
    }
  }

  /** Only a walk that began after the last flow was remembered here has seen all of them. */
  #isSwept(slot: number): boolean {
    return this.#sweep?.exceptional[slot] === 0 && this.#sweep.generation >= this.#closedIn[slot]!;
  }

  finish(): SlotStates {
    if (!this.#isChanged) return this.#before;
    let nextMs = Infinity, lastMs = 0, sweepable = 0, marked = 0;
    this.#deadlinesMs.forEach((deadlineMs, slot) => {
      marked += this.#exceptional[slot]!;
      if (deadlineMs === 0) sweepable += this.#exceptional[slot]!;
      else {
        nextMs = Math.min(nextMs, deadlineMs);
        lastMs = Math.max(lastMs, deadlineMs);
      }
    });
    const looksAlways = this.#next.tracking === "full";
    const hasMarks = marked > 0 && !looksAlways;
    if (lastMs === 0 && !hasMarks) return SETTLED;
    const isOpen = lastMs > 0;
    return {
      exceptional: hasMarks ? this.#exceptional : null,
      predecessor: isOpen ? predecessorOf(this.#next.scheme, this.#owners) : null,
      changingUntilNs: isOpen ? untilNs(lastMs) : 0n,
      deadlinesMs: isOpen ? this.#deadlinesMs : null,
      closedIn: hasMarks ? this.#closedIn : null,
      nextDeadlineMs: isOpen ? nextMs : null,
      sweepable: looksAlways ? 0 : sweepable,
    };
  }
}

/** Until when the program has a window open that closes then. */
export function untilNs(deadlineMs: number): bigint {
  return nanoseconds(deadlineMs + WINDOW_SLACK_MS);
}

/** When the window closes that the program has open until then. */
export function deadlineOf(until: bigint): number {
  return Math.max(1, Number(until / 1_000_000n) - WINDOW_SLACK_MS);
}

function nanoseconds(ms: number): bigint {
  return BigInt(Math.max(0, Math.ceil(ms))) * 1_000_000n;
}
