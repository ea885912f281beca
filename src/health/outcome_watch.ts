// Tells people what probes come upon beside a backend's health: certificates that end soon, and probes that say
// nothing, because something is wrong on this host. Knows outcomes and the log; must never change what a probe has
// found.

import type { Env } from "../env.ts";
import type { Checker } from "./checker.ts";
import type { Certificate } from "./judge.ts";
import { describeEnd } from "./probes/certificate.ts";
import type { Probe } from "./schedule.ts";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
/** Names of backends come and go with configs; what is forgotten is at worst told twice. */
const TOLD_MAX = 4096;

/** The same probe, whose outcomes are looked at. */
export function watchOutcomes(probe: Probe, { clock, log }: Pick<Env, "clock" | "log">): Probe {
  const certificates = new Told(DAY_MS);
  const faults = new Told(HOUR_MS);
  return async (target, signal) => {
    const outcome = await probe(target, signal);
    const { certificate, conclusive, reason } = outcome;
    const { name } = target;
    const nowMs = clock.monotonicMs();
    if (certificate?.isDue === false) certificates.forget(name);
    if (certificate?.isDue === true && certificates.isNews(name, nowMs)) {
      const endsAt = new Date(certificate.endsAtMs).toISOString();
      log.warn({ backend: name, endsAt }, `${name}: ${describeEnd(certificate.endsAtMs, clock.wallMs())}`);
    }
    // Of a way through the plane the plane tells itself; one reason mostly holds for many backends.
    if (!conclusive && !signal.aborted && target.through.length === 0 && faults.isNews(reason, nowMs)) {
      log.warn({ backend: name }, `${name}: its health probe says nothing, and perhaps not those of others either: ${reason}`);
    }
    return outcome;
  };
}

/** What was told, and is not told again for a while. */
class Told {
  readonly #atMs = new Map<string, number>();
  readonly #againMs: number;

  constructor(againMs: number) {
    this.#againMs = againMs;
  }

  isNews(what: string, nowMs: number): boolean {
    if (nowMs - (this.#atMs.get(what) ?? -Infinity) < this.#againMs) return false;
    if (this.#atMs.size >= TOLD_MAX) this.#atMs.clear();
    this.#atMs.set(what, nowMs);
    return true;
  }

  forget(what: string): void {
    this.#atMs.delete(what);
  }
}

/** By "pool/backend", what each was shown last. */
export function certificatesSeen(checker: Pick<Checker, "records" | "states">): ReadonlyMap<string, Certificate> {
  const seen = new Map<string, Certificate>();
  for (const name of checker.states().keys()) {
    const last = checker.records(name).findLast(({ certificate }) => certificate !== undefined);
    if (last?.certificate !== undefined) seen.set(name, last.certificate);
  }
  return seen;
}
