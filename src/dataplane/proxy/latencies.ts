// How long backends take to answer, as the proxy sees it at layer 4: to accept a connection, and from the client's first
// bytes to the backend's first ones. Knows names and times; must never know a socket.

import type { Clock } from "../../env.ts";
import { DECAY_MS, decayed, withSample, withWait, type PeakEwma } from "../../model/peak_ewma.ts";

type Book = Map<string, PeakEwma>;

export class Latencies {
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #connects: Book = new Map();
  readonly #answers: Book = new Map();

  constructor(clock: Pick<Clock, "monotonicMs">) {
    this.#clock = clock;
  }

  /** A backend ("pool/backend") has accepted. */
  connected(backend: string, ms: number): void { this.#sample(this.#connects, backend, ms); }
  /** It has sent its first bytes. */
  answered(backend: string, ms: number): void { this.#sample(this.#answers, backend, ms); }

  /** It has sent nothing yet: the answer will have taken longer than this. */
  waits(backend: string, ms: number): void {
    const waited = withWait(this.#answers.get(backend) ?? null, ms, this.#clock.monotonicMs());
    if (waited !== null) this.#answers.set(backend, waited);
  }

  /** Both together; null: nothing was measured yet. */
  of(backend: string): number | null {
    const nowMs = this.#clock.monotonicMs();
    const known = this.#known(backend);
    return known.length === 0 ? null : known.reduce((sum, each) => sum + decayed(each, nowMs), 0);
  }

  /** The same as it was measured last; null: that is so long ago that it says nothing any more. */
  lately(backend: string): number | null {
    const sinceMs = this.#clock.monotonicMs() - DECAY_MS;
    const known = this.#known(backend);
    return known.some(({ atMs }) => atMs >= sinceMs) ? known.reduce((sum, { ms }) => sum + ms, 0) : null;
  }

  all(): ReadonlyMap<string, number> {
    const names = new Set([...this.#connects.keys(), ...this.#answers.keys()]);
    return new Map([...names].map((name) => [name, this.of(name)!]));
  }

  /** Lets the names go that are not in the table. */
  keep(backends: ReadonlySet<string>): void {
    for (const book of [this.#connects, this.#answers]) {
      for (const name of book.keys()) if (!backends.has(name)) book.delete(name);
    }
  }

  #known(backend: string): readonly PeakEwma[] {
    return [this.#connects.get(backend), this.#answers.get(backend)].filter((each) => each !== undefined);
  }

  #sample(book: Book, backend: string, ms: number): void {
    book.set(backend, withSample(book.get(backend) ?? null, ms, this.#clock.monotonicMs()));
  }
}
