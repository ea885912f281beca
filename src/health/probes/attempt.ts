// What every kind of probe shares: one attempt with one deadline and one end, and the words for what
// befell it. Knows time through Env, and errors; must never know a socket or what a probe asks.

import type { Env } from "../../env.ts";
import { LOCAL_FAULTS } from "../../model/flows_seen.ts";
import type { Certificate, Outcome } from "../judge.ts";
import type { StopSignal } from "../schedule.ts";

export type Verdict = Omit<Outcome, "durationMs">;

export interface Attempt {
  /** What the probe is doing, for the reason of a timeout. */
  stage: string;
  /** What it waits for is on this side: a timeout then says nothing of the backend. */
  isOurs: boolean;
  /** What was seen of one, whatever becomes of the probe. */
  certificate: Certificate | null;
  /** The first call counts. */
  end(verdict: Verdict): void;
  /** Called once, when the attempt is over. */
  release: () => void;
}

/** The fault is on this side: it says nothing of the backend. */
export class OwnFault extends Error {}

const FAULTS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  EPIPE: "connection closed",
  EHOSTUNREACH: "no route to host",
  ENETUNREACH: "network unreachable",
  ETIMEDOUT: "connection timed out",
};

export const CANCELLED: Verdict = { ok: false, conclusive: false, reason: "cancelled" };

export function createAttempt(
  env: Pick<Env, "clock">, timeoutMs: number, signal: StopSignal,
  resolve: (outcome: Outcome) => void,
): Attempt {
  const startMs = env.clock.monotonicMs();
  let hasEnded = false;
  const attempt: Attempt = {
    stage: "connecting",
    isOurs: false,
    certificate: null,
    release: () => { /* nothing opened yet */ },
    end: (verdict) => {
      if (hasEnded) return;
      hasEnded = true;
      cancelTimer();
      signal.removeEventListener("abort", onAbort);
      attempt.release();
      const { certificate } = attempt;
      const outcome = { durationMs: env.clock.monotonicMs() - startMs, ...verdict };
      resolve(certificate === null ? outcome : { ...outcome, certificate });
    },
  };
  const onAbort = (): void => { attempt.end(CANCELLED); };
  // After a stall of this process timers run before sockets are read: an answer that is already
  // here gets one more turn of the event loop.
  let cancelTimer = env.clock.after(timeoutMs, () => {
    cancelTimer = env.clock.after(0, () => {
      attempt.end({ ok: false, conclusive: !attempt.isOurs, reason: `timeout after ${timeoutMs} ms while ${attempt.stage}` });
    });
  });
  signal.addEventListener("abort", onAbort);
  return attempt;
}

/** What is thrown ends the attempt: in an event nobody else would catch it. */
export function attempted(attempt: Attempt, action: () => void): void {
  try {
    action();
  } catch (error) {
    attempt.end(verdictOf(error));
  }
}

export function failure(reason: string): Verdict {
  return { ok: false, conclusive: true, reason };
}

export function success(reason: string): Verdict {
  return { ok: true, conclusive: true, reason };
}

export function verdictOf(error: unknown): Verdict {
  if (!(error instanceof Error)) return failure(String(error));
  if (error instanceof OwnFault) return { ok: false, conclusive: false, reason: error.message };
  const { message } = error;
  const code = codeOf(error);
  const local = sourceFault(error, code) ?? LOCAL_FAULTS[code];
  if (local !== undefined) return { ok: false, conclusive: false, reason: `${local} (${code})` };
  const known = FAULTS[code];
  if (known !== undefined) return failure(known);
  return failure(code === "" ? message : `${message} (${code})`);
}

/** Of an address that the configuration wants probes to come from. */
function sourceFault(error: Error, code: string): string | undefined {
  if (code !== "EADDRNOTAVAIL" || !("syscall" in error) || error.syscall !== "bind") return undefined;
  const source = "address" in error ? String(error.address) : "that is configured";
  return `this host does not have the address ${source}, or no port of it is left`;
}

/** Of Node's and OpenSSL's errors; "" where there is none. */
export function codeOf(error: Error): string {
  return "code" in error && typeof error.code === "string" ? error.code : "";
}
