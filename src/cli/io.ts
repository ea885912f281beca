// What a CLI verb is given: the world, where to print, and how to reach an instance. Knows streams and
// exit codes; knows no verb. Tests hand in their own.

import type { Client } from "../api/client.ts";
import type { Env } from "../env.ts";
import type { Failure } from "../errors.ts";

/** 0 done · 1 failure, unreadable file · 2 usage or invalid config · 3 `plan --exit-code` · 70 bug. */
export const EXIT = { done: 0, failure: 1, usage: 2, changes: 3, bug: 70 } as const;

export interface Io {
  readonly env: Env;
  out(text: string): void;
  err(text: string): void;
  /** Colour, watching by redrawing, and questions are for terminals only. */
  readonly isTty: boolean;
  readonly columns: number;
  /** Who is asking, for the records: user@host-less login name. */
  readonly actor: string;
  /** Asks a yes-or-no question on the terminal. Never called when isTty is false. */
  confirm(question: string): Promise<boolean>;
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly interrupted: AbortSignal;
  /** Calls back on each SIGHUP; answers how to stop that. */
  onHangup(callback: () => void): () => void;
  /** Calls back on each SIGUSR2, by which another process is asked to take over; answers how to stop that. */
  onUpgradeSignal(callback: () => void): () => void;
  /** Connects to an instance's control socket. */
  connect(socketPath: string, instance: string): Client;
}

/** The exit code of a failure: an invalid config or request is the caller's to mend. */
export function exitCodeOf(failure: Failure): number {
  const { code } = failure;
  return code === "CONFIG_INVALID" || code === "REQUEST_INVALID" ? EXIT.usage : EXIT.failure;
}
