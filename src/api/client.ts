// The control API as functions: what each CLI verb calls. Knows HTTP over the instance's Unix socket
// and the schemas; must never know how the supervisor does what it is asked.
//
// Every call throws Failure: the server's own (code and details as it sent them), or
// INSTANCE_NOT_RUNNING when nothing listens on the socket.

import type {
  ApplyResult, BackendView, CheckResult, ConfigRequest, ExplainRequest, Explanation, OverrideRequest, OverrideView,
  Plan, PointsmanEvent, Revision, RingReport, RingRequest, ServiceView, Status,
} from "./schemas.ts";

export interface Client {
  status(): Promise<Status>;
  services(): Promise<readonly ServiceView[]>;
  backends(): Promise<readonly BackendView[]>;
  overrides(): Promise<readonly OverrideView[]>;
  /** The effective config as JSON: addresses as text. */
  config(): Promise<unknown>;
  revisions(): Promise<readonly Revision[]>;
  check(request: ConfigRequest): Promise<CheckResult>;
  plan(request: ConfigRequest): Promise<Plan>;
  apply(request: ConfigRequest): Promise<ApplyResult>;
  reload(actor: string): Promise<ApplyResult>;
  rollback(revision: number | null, actor: string): Promise<ApplyResult>;
  override(request: OverrideRequest): Promise<OverrideView>;
  /** By target and kind; null matches all. Answers what was removed. */
  clearOverrides(
    filter: { readonly target: string | null; readonly kind: "drain" | "weight" | null; readonly actor: string },
  ): Promise<readonly OverrideView[]>;
  removeOverride(id: string, actor: string): Promise<readonly OverrideView[]>;
  explain(request: ExplainRequest): Promise<Explanation>;
  ring(request: RingRequest): Promise<RingReport>;
  /** The kept events after `since`, oldest first. */
  recentEvents(since: number): Promise<readonly PointsmanEvent[]>;
  /** Those, then each new one as it happens, until the signal aborts or the instance ends. */
  events(options: { readonly since: number; readonly signal: AbortSignal | null }): AsyncIterable<PointsmanEvent>;
  /** The supervisor ends; an xdp plane goes on forwarding. */
  stop(actor: string): Promise<void>;
  /** The supervisor ends and the plane goes, with every pin. */
  detach(actor: string): Promise<void>;
  close(): Promise<void>;
}
