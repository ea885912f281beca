// The control API as functions: what each CLI verb calls. Knows HTTP over the instance's Unix socket
// and the schemas; must never know how the supervisor does what it is asked.
//
// Every call throws Failure: the server's own (code and details as it sent them), or
// INSTANCE_NOT_RUNNING when nothing listens on the socket.

import { Pool } from "undici";
import type { Dispatcher } from "undici";
import { z } from "zod";
import type { FailureCode } from "../errors.ts";
import { Failure } from "../errors.ts";
import type {
  ApplyResult, BackendView, CheckResult, ConfigRequest, DrainView, OverrideKind, OverrideRequest,
  OverrideView, Plan, PointsmanEvent, Revision, ServiceView, Status,
} from "./schemas.ts";
import { explanationSchema, ringReportSchema } from "./schemas_questions.ts";
import type { ExplainRequest, Explanation, RingReport, RingRequest } from "./schemas_questions.ts";
import * as schemas from "./schemas.ts";
import { decodeServerSentEvents } from "./sse.ts";

export type Identity = z.infer<typeof schemas.identitySchema>;

export interface Client {
  status(): Promise<Status>;
  /** Of a server of whatever version. */
  identity(): Promise<Identity>;
  services(): Promise<readonly ServiceView[]>;
  backends(): Promise<readonly BackendView[]>;
  overrides(): Promise<readonly OverrideView[]>;
  /** Of the drains in force. */
  drains(): Promise<readonly DrainView[]>;
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
  clearOverrides(filter: {
    readonly target: string | null; readonly kind: OverrideKind | null; readonly actor: string;
  }): Promise<readonly OverrideView[]>;
  removeOverride(id: string, actor: string): Promise<readonly OverrideView[]>;
  explain(request: ExplainRequest): Promise<Explanation>;
  ring(request: RingRequest): Promise<RingReport>;
  /** The kept events after `since`, oldest first. */
  recentEvents(since: number): Promise<readonly PointsmanEvent[]>;
  /** Those, then each new one as it happens, until the signal aborts or the connection ends. */
  events(options: FollowOptions): AsyncIterable<FollowedEvent>;
  /** The supervisor ends; an xdp plane goes on forwarding. */
  stop(actor: string): Promise<void>;
  /** The supervisor ends and the plane goes, with every pin. */
  detach(actor: string): Promise<void>;
  /** Another process takes over. Resolves when it is about to; throws HAND_OVER_FAILED when it will not. */
  upgrade(request: { readonly actor: string; readonly drainMs: number | null }): Promise<{ readonly pid: number }>;
  close(): Promise<void>;
}

export interface FollowOptions {
  readonly since: number;
  /** The `place` of the event heard last: goes before `since`. */
  readonly after?: string | null;
  readonly signal: AbortSignal | null;
  /** The instance has answered. */
  readonly onOpen?: () => void;
}

export interface FollowedEvent {
  /** What to go on after, also where the instance has begun anew meanwhile. */
  readonly place: string;
  readonly event: PointsmanEvent;
}

/** How connections end when the other side does. */
const ENDS: readonly unknown[] = ["UND_ERR_SOCKET", "ECONNRESET", "EPIPE"];

/** An apply may wait for grace periods and for a plane to be replaced. */
const ANSWER_TIMEOUT_MS = 120_000;

type Method = "GET" | "POST" | "DELETE";

/** Does not connect yet: the first call does. `instance` is for messages. */
export function connectClient(socket: string, instance: string): Client {
  // A pool: a stream of events must not keep other calls waiting.
  const http = new Pool("http://pointsman", {
    socketPath: socket, headersTimeout: ANSWER_TIMEOUT_MS, bodyTimeout: 0,
  });
  const call = async <T>(
    method: Method, path: string, schema: z.ZodType<T>, body: unknown = null,
  ): Promise<T> => {
    const answer = await send(http, { socket, instance }, method, path, body, null);
    return schema.parse(await answer.body.json());
  };
  const post = <T>(path: string, body: unknown, schema: z.ZodType<T>): Promise<T> =>
    call("POST", path, schema, body);
  return {
    status: () => call("GET", "/v1/status", schemas.statusSchema),
    identity: () => call("GET", "/v1/status", schemas.identitySchema),
    services: () => call("GET", "/v1/services", z.array(schemas.serviceSchema)),
    backends: () => call("GET", "/v1/backends", z.array(schemas.backendSchema)),
    overrides: () => call("GET", "/v1/overrides", z.array(schemas.overrideSchema)),
    drains: () => call("GET", "/v1/drains", z.array(schemas.drainSchema)),
    config: () => call("GET", "/v1/config", z.unknown()),
    revisions: () => call("GET", "/v1/revisions", z.array(schemas.revisionSchema)),
    check: (request) => post("/v1/check", request, schemas.checkResultSchema),
    plan: (request) => post("/v1/plan", request, schemas.planSchema),
    apply: (request) => post("/v1/apply", request, schemas.applyResultSchema),
    reload: (actor) => post("/v1/reload", { actor }, schemas.applyResultSchema),
    rollback: (revision, actor) => post("/v1/rollback", { revision, actor }, schemas.applyResultSchema),
    override: (request) => post("/v1/overrides", request, schemas.overrideSchema),
    clearOverrides: async (filter) => {
      const path = `/v1/overrides?${query(filter)}`;
      return (await call("DELETE", path, schemas.overrideClearSchema)).removed;
    },
    removeOverride: async (id, actor) => {
      const path = `/v1/overrides/${encodeURIComponent(id)}?${query({ actor })}`;
      return (await call("DELETE", path, schemas.overrideClearSchema)).removed;
    },
    explain: (request) => post("/v1/explain", request, explanationSchema),
    ring: (request) => post("/v1/ring", request, ringReportSchema),
    recentEvents: (since) =>
      call("GET", `/v1/events?${query({ since })}`, z.array(schemas.eventSchema)),
    events: (options) => follow(http, { socket, instance }, options),
    stop: async (actor) => { await post("/v1/stop", { actor }, schemas.acknowledgedSchema); },
    detach: async (actor) => { await post("/v1/detach", { actor }, schemas.acknowledgedSchema); },
    upgrade: (request) => post("/v1/upgrade", request, schemas.upgradeSchema),
    close: () => http.destroy(),
  };
}

interface Where {
  readonly socket: string;
  readonly instance: string;
}

async function* follow(
  http: Pool, where: Where, { since, after = null, signal, onOpen }: FollowOptions,
): AsyncGenerator<FollowedEvent> {
  const path = `/v1/events?${query({ since, follow: "true" })}`;
  try {
    const answer = await send(http, where, "GET", path, null, signal, after === null ? {} : { "last-event-id": after });
    onOpen?.();
    for await (const { id, data } of decodeServerSentEvents(answer.body)) {
      yield { place: id, event: schemas.eventSchema.parse(JSON.parse(data)) };
    }
  } catch (error) {
    // The end of the instance, and ours, are ends of the stream and no failures.
    if (signal?.aborted === true || ENDS.includes(codeOf(error))) return;
    throw error;
  }
}

async function send(
  http: Pool, where: Where, method: Method, path: string, body: unknown,
  signal: AbortSignal | null, more: Readonly<Record<string, string>> = {},
): Promise<Dispatcher.ResponseData> {
  const headers = body === null ? more : { ...more, "content-type": "application/json" };
  let answer: Dispatcher.ResponseData;
  try {
    const text = body === null ? null : JSON.stringify(body);
    answer = await http.request({ method, path, headers, body: text, signal });
  } catch (error) {
    throw unreachable(where, error) ?? error;
  }
  if (answer.statusCode >= 200 && answer.statusCode < 300) return answer;
  throw failureOf(answer.statusCode, await answer.body.text());
}

function unreachable({ socket, instance }: Where, error: unknown): Failure | null {
  const code = codeOf(error);
  if (code === "EACCES" || code === "EPERM") {
    return new Failure("PERMISSION_DENIED", { operation: `connect to ${socket}`, capability: "" },
      `no permission to use ${socket}: be root, or in the group that control.group names`, error);
  }
  if (code !== "ENOENT" && code !== "ECONNREFUSED" && code !== "ENOTSOCK") return null;
  return new Failure("INSTANCE_NOT_RUNNING", { instance, socket },
    `no pointsman runs as instance ${instance}: nothing listens on ${socket}`
    + " (start it with pointsman run, or name another one with --instance or --socket)", error);
}

/** The failure that the server met. Its text was checked there; a stranger's answer is shown as it is. */
function failureOf(status: number, text: string): Error {
  let parsed: unknown = null;
  try {
    parsed = JSON.parse(text);
  } catch { /* told below */ }
  const body = schemas.errorSchema.safeParse(parsed);
  if (!body.success || body.data.code === "BUG") {
    const said = body.success ? body.data.message : text.slice(0, 200);
    return new Failure("SYSTEM", { operation: "use the control API" },
      `the control API answered with status ${status}: ${said}`);
  }
  // Details come from a Failure of the same code on the other side.
  const { code, message, details } = body.data;
  return new Failure(code as FailureCode, details as Failure["details"], message);
}

function query(values: Readonly<Record<string, string | number | null>>): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== null) search.set(name, String(value));
  }
  return search.toString();
}

function codeOf(error: unknown): string | null {
  if (!(error instanceof Error) || !("code" in error)) return null;
  return typeof error.code === "string" ? error.code : null;
}
