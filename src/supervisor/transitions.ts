// What becomes of a change of a backend's health: an event, a line in the log and a count, each with what the probes
// found. Must never know what the change does to a table.

import type { EventKind } from "../api/schemas.ts";
import type { Log } from "../env.ts";
import type { HealthTransition } from "../health/checker.ts";
import type { HealthStatus } from "../health/judge.ts";
import { layProbe } from "../health/transcript.ts";

export class Transitions {
  readonly #record: (kind: EventKind, subject: string, message: string, fields: object) => void;
  readonly #log: Log;
  readonly #totals = new Map<string, Map<HealthStatus, number>>();

  constructor(record: (kind: EventKind, subject: string, message: string, fields: object) => void, log: Log) {
    this.#record = record;
    this.#log = log;
  }

  /** By "pool/backend", then by what it became. */
  get totals(): ReadonlyMap<string, ReadonlyMap<HealthStatus, number>> { return this.#totals; }

  tell({ name, from, to, reason, health, probes }: HealthTransition): void {
    const counts = this.#totals.get(name) ?? new Map<HealthStatus, number>();
    this.#totals.set(name, counts.set(to, (counts.get(to) ?? 0) + 1));
    const message = `is ${to}: ${reason}`;
    this.#record("health", name, message, { from, to, reason, admission: health.admission, probes });
    const level = to === "down" || health.withheld !== undefined ? "warn" : "info";
    this.#log[level]({ backend: name, from, probes: probes.map(layProbe) }, `${name} ${message}`);
  }
}
