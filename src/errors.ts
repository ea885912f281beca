// The closed registry of failures: every code an operator can meet, with its typed details. Bugs are
// not here: they fail an assert and end the process with exit code 70.

import type { Problem } from "./model/config.ts";

export interface Failures {
  CONFIG_INVALID: { problems: readonly Problem[] };
  FILE_UNREADABLE: { path: string };
  PERMISSION_DENIED: { operation: string; capability: string };
  DEVICE_MISSING: { name: string };
  ABI_MISMATCH: { expected: string; found: string };
  VERIFIER_REJECTED: { program: string; lastLine: string; log: string };
  MAP_FULL: { map: string; entriesMax: number };
  PORT_IN_USE: { address: string };
  ADDRESS_NOT_LOCAL: { address: string };
  ADDON_UNAVAILABLE: { path: string };
  XDP_UNAVAILABLE: { interface: string };
  INSTANCE_RUNNING: { instance: string; pid: number };
  INSTANCE_NOT_RUNNING: { instance: string; socket: string };
  HAND_OVER_FAILED: { pid: number };
  HAND_OVER_UNDER_WAY: { instance: string };
  PLANE_IN_USE: { interface: string };
  /** An override would leave a pool with fewer backends up than its quorum asks for. */
  BELOW_QUORUM: { pool: string; up: number; needed: number };
  UNKNOWN_BACKEND: { name: string; candidates: readonly string[] };
  UNKNOWN_SERVICE: { name: string };
  UNKNOWN_REVISION: { revision: number };
  CAPTURE_INVALID: { path: string; offset: number };
  REQUEST_INVALID: { path: string };
  SYSTEM: { operation: string };
}

export type FailureCode = keyof Failures;

/** A failure an operator can act on: the message says what failed, with which values, and what to do next. */
export class Failure<C extends FailureCode = FailureCode> extends Error {
  readonly code: C;
  readonly details: Failures[C];
  constructor(code: C, details: Failures[C], message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "Failure";
    this.code = code;
    this.details = details;
  }
}

/** A refused system call (a full disk, say) is an operator's matter and no bug; null for anything else. */
export function systemFailure(error: unknown): Failure<"SYSTEM"> | null {
  if (!(error instanceof Error) || !("syscall" in error)) return null;
  return new Failure("SYSTEM", { operation: String(error.syscall) }, error.message, error);
}

export function isFailure<C extends FailureCode>(value: unknown, code: C): value is Failure<C> {
  return value instanceof Failure && value.code === code;
}
