// The events of an instance as they come, for benchmarks that wait for a verdict. Knows the API's client; must
// never know what made a backend ill.

import { waitFor } from "../scripts/lab_services.ts";
import type { Client } from "../src/api/client.ts";
import type { PointsmanEvent } from "../src/api/schemas.ts";

const PATIENCE_MS = 30_000;

export interface Written {
  readonly totalMs: number;
  /** How much of it came after the verdict. */
  readonly verdictMs: number;
}

export class Events {
  readonly #heard: PointsmanEvent[] = [];
  readonly #end = new AbortController();
  readonly #listening: Promise<void>;

  constructor(client: Client) {
    this.#listening = (async () => {
      for await (const { event } of client.events({ since: 0, signal: this.#end.signal })) {
        this.#heard.push(event);
      }
    })().catch(() => undefined);
  }

  /** Waits for a verdict after `sinceMs`; resolves to how long it took. */
  async verdict(name: string, to: "up" | "down", sinceMs: number): Promise<number> {
    await waitFor(`${name} to be ${to}`, PATIENCE_MS, () => Promise.resolve(this.#verdictAt(name, to, sinceMs) >= 0));
    return this.#heard[this.#verdictAt(name, to, sinceMs)]!.atMs - sinceMs;
  }

  /** Names of those that were said to be so after `sinceMs`. */
  verdicts(to: "up" | "down", sinceMs: number): ReadonlySet<string> {
    const since = this.#heard.filter(({ atMs, kind, fields }) => atMs >= sinceMs && kind === "health" && fields["to"] === to);
    return new Set(since.map(({ subject }) => subject));
  }

  /** Waits for a verdict after `sinceMs` and for the apply that follows from it. */
  async written(name: string, to: "up" | "down", sinceMs: number): Promise<Written> {
    await waitFor(`${name} to be ${to}`, PATIENCE_MS, () =>
      Promise.resolve(this.#find(name, to, sinceMs) !== null));
    const found = this.#find(name, to, sinceMs);
    if (found === null) throw new Error(`${name} is not ${to} after all`);
    return found;
  }

  async close(): Promise<void> {
    this.#end.abort();
    await this.#listening;
  }

  #verdictAt(name: string, to: string, sinceMs: number): number {
    return this.#heard.findIndex(({ atMs, kind, subject, fields }) =>
      atMs >= sinceMs && kind === "health" && subject === name && fields["to"] === to);
  }

  #find(name: string, to: string, sinceMs: number): Written | null {
    const at = this.#verdictAt(name, to, sinceMs);
    const verdict = this.#heard[at];
    const applied = this.#heard.slice(at + 1).find(({ kind }) => kind === "apply");
    const verdictMs = applied?.fields["sinceVerdictMs"];
    if (verdict === undefined || typeof verdictMs !== "number") return null;
    return { totalMs: verdict.atMs + verdictMs - sinceMs, verdictMs };
  }
}
