// The overrides of an instance: kept in the state directory before they count, dropped when they expire.
// Knows the clock and the directory; must never know what a drain does to a ring.

import type { OverrideRequest } from "../api/schemas.ts";
import type { Cancel, Clock } from "../env.ts";
import { isFailure } from "../errors.ts";
import { deadlineOf, isExpired, roleOf } from "../model/effective.ts";
import type { Override } from "../model/table.ts";
import type { OverrideFilter } from "./contract.ts";
import type { StateDirectory } from "./state.ts";
import { overrideId } from "./view.ts";

/** The wall clock can be set: look again at least so often. */
const LOOK_AGAIN_MS = 60_000;

export interface OverrideBookOptions {
  readonly clock: Clock;
  readonly state: Pick<StateDirectory, "overrides" | "saveOverrides"> | null;
  readonly onExpired: (expired: readonly Override[]) => void;
  /** Drains have taken as long as they may; each is told once. */
  readonly onOverdue: () => void;
}

/** As it would stand in the book. */
export function overrideOf({ target, change, actor, reason, expiresInMs }: OverrideRequest, atMs: number): Override {
  return { target, change, actor, reason, atMs, expiresAtMs: expiresInMs === null ? null : atMs + expiresInMs };
}

export class OverrideBook {
  readonly #options: OverrideBookOptions;
  #all: readonly Override[];
  readonly #overdue = new WeakSet<Override>();
  #cancel: Cancel | null = null;
  #isClosed = false;

  constructor(options: OverrideBookOptions) {
    this.#options = options;
    this.#all = options.state?.overrides() ?? [];
  }

  /** Drops what has expired and tells what is overdue, now and from now on. */
  start(): void {
    this.#expire();
  }

  /** Those in force, in the order in which they were made. */
  list(): readonly Override[] {
    return this.#all;
  }

  /** `request.target` is a full name by now. Replaces what says another thing of the same. */
  add(request: OverrideRequest): Override {
    const { target, change } = request;
    const override = overrideOf(request, this.#options.clock.wallMs());
    const role = roleOf(change);
    const isReplaced = (each: Override): boolean => each.target === target && roleOf(each.change) === role;
    this.#keep([...this.#all.filter((each) => !isReplaced(each)), override]);
    return override;
  }

  clear(filter: OverrideFilter): readonly Override[] {
    return this.#drop((each) => (filter.target === null || each.target === filter.target)
      && (filter.kind === null || each.change.kind === filter.kind));
  }

  remove(id: string): readonly Override[] {
    return this.#drop((each) => overrideId(each) === id);
  }

  close(): void {
    this.#isClosed = true;
    this.#cancel?.();
  }

  #drop(matches: (override: Override) => boolean): readonly Override[] {
    const dropped = this.#all.filter(matches);
    if (dropped.length > 0) this.#keep(this.#all.filter((each) => !matches(each)));
    return dropped;
  }

  /** Written first: an override that a restart would forget has never been accepted. */
  #keep(overrides: readonly Override[]): void {
    this.#options.state?.saveOverrides(overrides);
    this.#all = overrides;
    this.#schedule();
  }

  #expire(): void {
    const nowMs = this.#options.clock.wallMs();
    const expired = this.#all.filter((each) => isExpired(each, nowMs));
    if (expired.length > 0) {
      this.#all = this.#all.filter((each) => !isExpired(each, nowMs));
      // They have no effect whether or not the file says so; the next change writes it again.
      try {
        this.#options.state?.saveOverrides(this.#all);
      } catch (error) {
        if (!isFailure(error, "SYSTEM")) throw error; // the directory has told it
      }
      this.#options.onExpired(expired);
    }
    const overdue = this.#all.filter((each) => (deadlineOf(each) ?? Infinity) <= nowMs && !this.#overdue.has(each));
    for (const each of overdue) this.#overdue.add(each);
    if (overdue.length > 0) this.#options.onOverdue();
    this.#schedule();
  }

  #schedule(): void {
    this.#cancel?.();
    this.#cancel = null;
    if (this.#isClosed) return;
    const nextMs = Math.min(...this.#all.flatMap((each) =>
      [each.expiresAtMs ?? Infinity, this.#overdue.has(each) ? Infinity : deadlineOf(each) ?? Infinity]));
    if (nextMs === Infinity) return;
    const delayMs = Math.max(0, nextMs - this.#options.clock.wallMs());
    this.#cancel = this.#options.clock.after(Math.min(delayMs, LOOK_AGAIN_MS), () => {
      this.#cancel = null;
      this.#expire();
    });
  }
}
