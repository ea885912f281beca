// What the supervisor is to those around it (API, metrics, createPointsman), and what it needs of the
// rooms below it. Types only: knows no socket, map or file, and must never hold any logic.

import type {
  ApplyResult, CheckResult, ConfigRequest, DrainView, EventKind, OverrideKind,
  OverrideRequest, OverrideView,
  Plan, PointsmanEvent, Revision, Status,
} from "../api/schemas.ts";
import type { Explanation, ExplainRequest, RingReport, RingRequest } from "../api/schemas_questions.ts";
import type { CloseOptions, Counters, Dataplane, PlaneBequest, PlaneChoice } from "../dataplane/dataplane.ts";
import type { Checker, FlowTotals, HealthTransition } from "../health/checker.ts";
import type { ClientTimes } from "../health/feedback.ts";
import type { HealthStatus } from "../health/judge.ts";
import type { ConnectThrough } from "../health/probes/socket.ts";
import type { Config, IgnoredKeys, Problem } from "../model/config.ts";
import type { BackendHealth, ForwardingTable } from "../model/table.ts";

/** A validated config, or all that is wrong with it. */
export type ParseResult =
  | {
    readonly config: Config;
    readonly warnings: readonly Problem[];
    /** Keys that one plane or the other ignores; with a fixed mode they are among the warnings. */
    readonly ignored: IgnoredKeys;
  }
  | { readonly problems: readonly Problem[] };

/** Bytes to config; `file` is for messages. May run elsewhere (a worker thread). */
export type Parse = (file: string, bytes: Uint8Array) => ParseResult | Promise<ParseResult>;

/** A plane and how it came to be. */
export interface OpenedPlane {
  readonly plane: Dataplane;
  readonly choice: PlaneChoice;
}

export type OpenPlane = (config: Config) => Promise<OpenedPlane>;

/**
 * Makes the checker. `initial` is what an earlier supervisor knew; `onTransition` is called after each
 * change of a backend's health, `onStep` when only admissions have changed; `connectThrough` connects by the plane that
 * serves then, and `clients` says how long backends take to answer clients there, where that is known.
 */
export type StartChecker = (
  initial: ReadonlyMap<string, BackendHealth>,
  onTransition: (transition: HealthTransition) => void,
  connectThrough: ConnectThrough,
  onStep: () => void,
  clients: ClientTimes,
) => Checker;

/** Totals since the start, for the metrics. */
export interface SupervisorTotals {
  readonly compiles: number;
  readonly applies: number;
  readonly applyFailures: number;
  readonly applySeconds: number;
  readonly lastApplySeconds: number;
  /** From the judge's last verdict that changed a table to its last slot written; null before the first. */
  readonly lastVerdictSeconds: number | null;
  /** Services whose ring content changed, summed over applies. */
  readonly ringRebuilds: number;
  readonly reloads: number;
  readonly reloadsRefused: number;
  /** Health transitions by "pool/backend", then by what it became. */
  readonly transitions: ReadonlyMap<string, ReadonlyMap<HealthStatus, number>>;
  /** Of backends whose flows are judged, by "pool/backend". */
  readonly flows: ReadonlyMap<string, FlowTotals>;
  readonly events: number;
}

export interface EventLog {
  /** Events after this id that are still kept, oldest first. */
  since(id: number): readonly PointsmanEvent[];
  /** Those kept after `since`, then each new one as it happens, until the signal or the end of the log. */
  subscribe(options: { readonly since: number; readonly signal: AbortSignal | null }): AsyncIterable<PointsmanEvent>;
  readonly lastId: number;
  /** Of this log among those before and after it, whose ids begin anew: lower-case letters and digits. */
  readonly life: string;
}

/** Filter of `clearOverrides`; null matches all. `target` may be a bare name. */
export interface OverrideFilter {
  readonly target: string | null;
  readonly kind: OverrideKind | null;
}

export interface Supervisor {
  readonly instance: string;
  readonly events: EventLog;
  status(): Status;
  /** The config in force. */
  config(): Config;
  /** The table last applied, or null before the first. */
  table(): ForwardingTable | null;
  counters(): Counters;
  totals(): SupervisorTotals;
  check(request: ConfigRequest): Promise<CheckResult>;
  /** Throws CONFIG_INVALID. */
  plan(request: ConfigRequest): Promise<Plan>;
  /** Throws CONFIG_INVALID, and what the plane throws. */
  apply(request: ConfigRequest): Promise<ApplyResult>;
  /** Reads the `run` file again. Throws CONFIG_INVALID or FILE_UNREADABLE; what was in force stays. */
  reload(actor: string): Promise<ApplyResult>;
  /** null: the revision before the current. */
  rollback(revision: number | null, actor: string): Promise<ApplyResult>;
  revisions(): readonly Revision[];
  overrides(): readonly OverrideView[];
  /** How far the drains in force have come. */
  drains(): readonly DrainView[];
  /** Resolves once applied (or once the apply failed and is being retried). Throws UNKNOWN_BACKEND. */
  override(request: OverrideRequest): Promise<OverrideView>;
  /** Those removed; none is not an error. */
  clearOverrides(filter: OverrideFilter, actor: string): Promise<readonly OverrideView[]>;
  removeOverride(id: string, actor: string): Promise<readonly OverrideView[]>;
  explain(request: ExplainRequest): Explanation;
  ring(request: RingRequest): RingReport;
  /** Records something that happened outside (a signal, a metrics listener that could not bind). */
  note(kind: EventKind, subject: string, message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** Something other than the plane that keeps the instance from being ready; null clears it. */
  setCondition(name: string, reason: string | null): void;
  /** Resolves when nothing is waiting to be applied and no apply runs. */
  quiet(): Promise<void>;
  /** detach: the plane goes too. Else an xdp plane goes on alone. Safe to repeat. */
  close(options: CloseOptions): Promise<void>;
  /** Of the plane, for a process that takes over; null: it needs none. */
  bequest(): PlaneBequest | null;
}
