// How long backends took lately to answer what begins flows, from counters that only ever grow. Read when somebody asks,
// and no more often than it makes a difference. Knows readings, names and time; must never know a map.

import type { Env } from "../../env.ts";
import type { AnswerCount } from "../dataplane.ts";

/** What was counted since the counters began, by backend ("pool/backend") and then by place ("id/generation"). */
export type AnswerCounts = ReadonlyMap<string, ReadonlyMap<string, AnswerCount>>;

/** What is asked for in between is answered from the last reading. */
const READ_EVERY_MS = 2_000;
/** What a time is the mean of: the answers of so long, if they are as many. */
const WINDOW_MS = 10_000;
const ANSWERS_MIN = 10;
/**
 * Else of as long as they take, up to this: a backend that has less than its share, because it is slow, has few, and
 * would be taken for one of which nobody knows.
 */
const WINDOW_MAX_MS = 60_000;

interface Reading {
  readonly atMs: number;
  /** By backend: what was counted since the first reading. */
  readonly totals: ReadonlyMap<string, AnswerCount>;
}

const NONE: AnswerCount = { answers: 0, waitedMs: 0 };

export class Handshakes {
  readonly #env: () => Pick<Env, "clock" | "log">;
  readonly #count: () => AnswerCounts;
  #askedMs = -Infinity;
  /** Of the last reading. */
  #counted: AnswerCounts = new Map();
  /** The newest one last. */
  #readings: readonly Reading[] = [];

  constructor(env: () => Pick<Env, "clock" | "log">, count: () => AnswerCounts) {
    this.#env = env;
    this.#count = count;
  }

  /** The mean of lately, in milliseconds; null: there were too few to tell. */
  of(backend: string): number | null {
    const { clock, log } = this.#env();
    const nowMs = clock.monotonicMs();
    if (nowMs - this.#askedMs >= READ_EVERY_MS) {
      this.#askedMs = nowMs;
      try {
        this.#read(nowMs);
      } catch (error) {
        log.warn({ error: String(error) }, "backends' first answers could not be counted: probes alone tell what they take");
        this.#readings = [];
      }
    }
    return this.#meanOf(backend);
  }

  #meanOf(backend: string): number | null {
    const last = this.#readings.at(-1);
    const end = last?.totals.get(backend);
    if (last === undefined || end === undefined) return null;
    for (const { atMs, totals } of this.#readings.slice(0, -1).reverse()) {
      const begin = totals.get(backend);
      if (last.atMs - atMs < WINDOW_MS && begin !== undefined) continue;
      const answers = end.answers - (begin ?? NONE).answers;
      if (answers >= ANSWERS_MIN) return (end.waitedMs - (begin ?? NONE).waitedMs) / answers;
      // Before a reading without it, it was another one.
      if (begin === undefined) return null;
    }
    return null;
  }

  #read(nowMs: number): void {
    const counted = this.#count();
    const before = this.#readings.at(-1)?.totals;
    const totals = new Map([...counted].map(([name, places]) => {
      const known = this.#counted.get(name);
      const news = [...places].map(([place, count]) => since(known?.get(place), count));
      return [name, news.reduce(sumOfAnswers, before?.get(name) ?? NONE)];
    }));
    this.#counted = counted;
    const kept = this.#readings.filter(({ atMs }) => nowMs - atMs <= WINDOW_MAX_MS);
    // Whoever asks less often than that is told of all the time since.
    this.#readings = [...kept.length === 0 ? this.#readings.slice(-1) : kept, { atMs: nowMs, totals }];
  }
}

/** What a counter is first seen with is older than that, and one that fell has begun anew: neither is news. */
function since(before: AnswerCount | undefined, now: AnswerCount): AnswerCount {
  if (before === undefined || now.answers < before.answers) return NONE;
  return { answers: now.answers - before.answers, waitedMs: Math.max(0, now.waitedMs - before.waitedMs) };
}

export function sumOfAnswers(a: AnswerCount, b: AnswerCount): AnswerCount {
  return { answers: a.answers + b.answers, waitedMs: a.waitedMs + b.waitedMs };
}
