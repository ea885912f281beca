// The event log: what happened to this instance, newest thousand, and whoever wants to hear the next
// one. Knows order and room; must never know what an event means.

import type { EventKind, PointsmanEvent } from "../api/schemas.ts";
import type { Clock } from "../env.ts";
import type { EventLog } from "./contract.ts";

export const EVENTS_MAX = 1000;

/** The log as its owner has it. */
export interface WritableEventLog extends EventLog {
  record(
    kind: EventKind, subject: string, message: string, fields: Readonly<Record<string, unknown>>,
  ): PointsmanEvent;
  /** Ends every subscription after what it has not read yet. */
  close(): void;
}

/** Ids go up by one, so a reader that was too slow for the log sees the gap. */
export function createEventLog(clock: Clock, room: number = EVENTS_MAX): WritableEventLog {
  const kept: PointsmanEvent[] = [];
  const sleepers = new Set<() => void>();
  const life = Math.floor(clock.wallMs()).toString(36);
  let lastId = 0;
  let isClosed = false;
  const wake = (): void => {
    const woken = [...sleepers];
    sleepers.clear();
    for (const resolve of woken) resolve();
  };
  const since = (id: number): readonly PointsmanEvent[] => {
    const first = kept[0]?.id ?? lastId + 1;
    return kept.slice(Math.max(0, id + 1 - first));
  };

  async function* subscribe(options: {
    readonly since: number; readonly signal: AbortSignal | null;
  }): AsyncGenerator<PointsmanEvent> {
    const isAborted = (): boolean => options.signal?.aborted === true;
    // An id from the future is from an earlier life of this instance: start over.
    let seen = options.since > lastId ? 0 : options.since;
    options.signal?.addEventListener("abort", wake);
    try {
      while (!isAborted()) {
        const next = since(seen);
        if (next.length === 0) {
          if (isClosed) return;
          await new Promise<void>((resolve) => { sleepers.add(resolve); });
          continue;
        }
        for (const event of next) {
          if (isAborted()) return;
          seen = event.id;
          yield event;
        }
      }
    } finally {
      options.signal?.removeEventListener("abort", wake);
    }
  }

  return {
    since,
    subscribe,
    life,
    get lastId() { return lastId; },
    record: (kind, subject, message, fields) => {
      lastId += 1;
      const event = { id: lastId, atMs: clock.wallMs(), kind, subject, message, fields: { ...fields } };
      kept.push(event);
      if (kept.length > room) kept.shift();
      wake();
      return event;
    },
    close: () => {
      isClosed = true;
      wake();
    },
  };
}
