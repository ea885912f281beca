// Tells people of certificates that end soon, which probes see anyway. Knows outcomes and the log; must
// never change what a probe has found.

import type { Env } from "../env.ts";
import type { Checker, Probe } from "./checker.ts";
import type { Certificate } from "./judge.ts";
import { describeEnd } from "./probes/certificate.ts";

const AGAIN_MS = 86_400_000;
/** Names of backends come and go with configs; what is forgotten is at worst told twice. */
const NAMES_MAX = 4096;

/** The same probe, whose outcomes are looked at. */
export function watchCertificates(probe: Probe, { clock, log }: Pick<Env, "clock" | "log">): Probe {
  const toldAtMs = new Map<string, number>();
  return async (target, signal) => {
    const outcome = await probe(target, signal);
    const { certificate } = outcome;
    if (certificate === undefined) return outcome;
    const { name } = target;
    const nowMs = clock.monotonicMs();
    if (!certificate.isDue) toldAtMs.delete(name);
    else if (nowMs - (toldAtMs.get(name) ?? -Infinity) >= AGAIN_MS) {
      if (toldAtMs.size >= NAMES_MAX) toldAtMs.clear();
      toldAtMs.set(name, nowMs);
      const endsAt = new Date(certificate.endsAtMs).toISOString();
      log.warn({ backend: name, endsAt }, `${name}: ${describeEnd(certificate.endsAtMs, clock.wallMs())}`);
    }
    return outcome;
  };
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
