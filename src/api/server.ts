// The control API: HTTP/1.1 and JSON under /v1/ on a Unix socket. Checks what comes in against the
// schemas, asks the supervisor, and gives failures a status. Knows HTTP; must never know how anything
// that it answers comes about.

import fastify from "fastify";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import type { Env } from "../env.ts";
import type { FailureCode } from "../errors.ts";
import { Failure, systemFailure } from "../errors.ts";
import type { EventLog, Supervisor } from "../supervisor/contract.ts";
import { configView } from "./config_view.ts";
import type { ErrorBody } from "./schemas.ts";
import * as schemas from "./schemas.ts";
import { explainRequestSchema, ringRequestSchema } from "./schemas_questions.ts";
import { encodeServerSentEvent, placeAfter, placeOf, SERVER_SENT_COMMENT } from "./sse.ts";

export interface ApiOptions {
  readonly env: Env;
  readonly supervisor: Supervisor;
  /** Somebody asked for the end. Called once the answer is on its way. */
  readonly onStop: (request: { readonly detach: boolean; readonly actor: string }) => void;
  /** Somebody wants another process to take over. Resolves when that one is about to. */
  readonly onUpgrade: OnUpgrade;
  /** While another process is taking over, nothing may change that it has read already. */
  readonly isFrozen: () => boolean;
  /** Requests that come before wait. */
  readonly opened: Promise<void>;
}

/** `proceed` is called once the answer is on its way. Rejects with Failure when all stays as it is. */
export type OnUpgrade = (request: { readonly actor: string; readonly drainMs: number | null }) =>
  Promise<{ readonly pid: number; readonly proceed: () => void }>;

/** A config of 4 MiB as a JSON string may take more than twice that. */
const BODY_BYTES_MAX = 16 * 1024 * 1024;
const COMMENT_EVERY_MS = 15_000;

const STATUSES: Readonly<Partial<Record<FailureCode, number>>> = {
  CONFIG_INVALID: 422, REQUEST_INVALID: 400, PERMISSION_DENIED: 403, INSTANCE_RUNNING: 409,
  HAND_OVER_FAILED: 409, HAND_OVER_UNDER_WAY: 409, BELOW_QUORUM: 409,
  UNKNOWN_BACKEND: 404, UNKNOWN_SERVICE: 404, UNKNOWN_REVISION: 404, FILE_UNREADABLE: 409,
};

const eventsQuerySchema = z.strictObject({
  since: z.coerce.number().int().min(0).default(0),
  follow: z.enum(["true", "false"]).default("false"),
});

const clearQuerySchema = z.strictObject({
  target: z.string().min(1).nullable().default(null),
  kind: z.enum(["drain", "maintenance", "weight"]).nullable().default(null),
  actor: z.string().min(1).max(200).default("api"),
});

const actorQuerySchema = z.strictObject({ actor: z.string().min(1).max(200).default("api") });
const idSchema = z.strictObject({ id: z.string().min(1) });

/** Not listening yet: tests inject requests, `listenOnSocket` opens the door. */
export function createApi(options: ApiOptions): FastifyInstance {
  const app = fastify({ logger: false, bodyLimit: BODY_BYTES_MAX, forceCloseConnections: true });
  app.setErrorHandler((error, _request, reply) => answerError(error, options.env, reply));
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split("?")[0] ?? "";
    const failure = new Failure("REQUEST_INVALID", { path },
      `the control API has no ${request.method} ${path}`);
    return reply.code(404).send(bodyOf(failure));
  });
  app.addHook("onRequest", () => options.opened);
  addQuestions(app, options.supervisor);
  app.register((changes, _options, done) => {
    changes.addHook("onRequest", (_request, _reply, next) => {
      next(options.isFrozen() ? underWay(options.supervisor.instance) : undefined);
    });
    addChanges(changes, options.supervisor);
    done();
  });
  addEvents(app, options);
  addEnd(app, options);
  addUpgrade(app, options);
  return app;
}

function addQuestions(app: FastifyInstance, supervisor: Supervisor): void {
  app.get("/v1/status", () => supervisor.status());
  app.get("/v1/services", () => supervisor.status().services);
  app.get("/v1/backends", () => supervisor.status().backends);
  app.get("/v1/overrides", () => supervisor.overrides());
  app.get("/v1/drains", () => supervisor.drains());
  app.get("/v1/revisions", () => supervisor.revisions());
  app.get("/v1/config", () => configView(supervisor.config()));
  app.post("/v1/check", ({ body }) => supervisor.check(checked(schemas.configRequestSchema, body, "body")));
  app.post("/v1/plan", ({ body }) => supervisor.plan(checked(schemas.configRequestSchema, body, "body")));
  app.post("/v1/explain", ({ body }) =>
    supervisor.explain(checked(explainRequestSchema, body, "body")));
  app.post("/v1/ring", ({ body }) => supervisor.ring(checked(ringRequestSchema, body, "body")));
}

function addChanges(app: FastifyInstance, supervisor: Supervisor): void {
  app.post("/v1/apply", ({ body }) => supervisor.apply(checked(schemas.configRequestSchema, body, "body")));
  app.post("/v1/reload", ({ body }) =>
    supervisor.reload(checked(schemas.reloadRequestSchema, body ?? {}, "body").actor));
  app.post("/v1/rollback", ({ body }) => {
    const { revision, actor } = checked(schemas.rollbackRequestSchema, body ?? {}, "body");
    return supervisor.rollback(revision, actor);
  });
  app.post("/v1/overrides", ({ body }) =>
    supervisor.override(checked(schemas.overrideRequestSchema, body, "body")));
  app.delete("/v1/overrides", async ({ query }) => {
    const { actor, ...filter } = checked(clearQuerySchema, query, "query");
    return { removed: await supervisor.clearOverrides(filter, actor) };
  });
  app.delete("/v1/overrides/:id", async ({ params, query }) => {
    const { id } = checked(idSchema, params, "path");
    const { actor } = checked(actorQuerySchema, query, "query");
    return { removed: await supervisor.removeOverride(id, actor) };
  });
}

function addEvents(app: FastifyInstance, { supervisor, env }: ApiOptions): void {
  const ended = new AbortController();
  app.addHook("preClose", () => {
    ended.abort();
    return Promise.resolve();
  });
  app.get("/v1/events", async (request, reply) => {
    const { since, follow } = checked(eventsQuerySchema, request.query, "query");
    const wantsStream = follow === "true" || request.headers.accept === "text/event-stream";
    if (!wantsStream) return supervisor.events.since(since);
    const from = placeAfter(request.headers["last-event-id"], supervisor.events.life) ?? since;
    reply.hijack();
    await stream(supervisor.events, from, reply, env, ended.signal);
    return reply;
  });
}

/** Until the reader goes, the log ends or the server closes. A slow reader is waited for. */
async function stream(
  events: EventLog, since: number, reply: FastifyReply, env: Env, ended: AbortSignal,
): Promise<void> {
  const { raw } = reply;
  const gone = new AbortController();
  const leave = (): void => { gone.abort(); };
  raw.on("close", leave);
  raw.on("error", leave);
  ended.addEventListener("abort", leave);
  raw.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  raw.flushHeaders();
  let cancel = (): void => undefined;
  const comment = (): void => {
    // A full buffer has news in it already.
    if (!raw.writableNeedDrain) raw.write(SERVER_SENT_COMMENT);
    cancel = env.clock.after(COMMENT_EVERY_MS, comment);
  };
  cancel = env.clock.after(COMMENT_EVERY_MS, comment);
  try {
    for await (const event of events.subscribe({ since, signal: gone.signal })) {
      const data = JSON.stringify(event);
      const text = encodeServerSentEvent({ id: placeOf(events.life, event.id), event: event.kind, data });
      if (!raw.write(text)) await drained(raw, gone.signal);
    }
  } finally {
    cancel();
    ended.removeEventListener("abort", leave);
    raw.end();
  }
}

function drained(raw: FastifyReply["raw"], gone: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (gone.aborted) {
      resolve();
      return;
    }
    const done = (): void => {
      raw.off("drain", done);
      gone.removeEventListener("abort", done);
      resolve();
    };
    raw.on("drain", done);
    gone.addEventListener("abort", done);
  });
}

function addEnd(app: FastifyInstance, { onStop }: ApiOptions): void {
  for (const verb of ["stop", "detach"] as const) {
    app.post(`/v1/${verb}`, async (request: FastifyRequest, reply) => {
      const { actor } = checked(schemas.stopRequestSchema, request.body ?? {}, "body");
      reply.raw.once("finish", () => { onStop({ detach: verb === "detach", actor }); });
      return reply.header("connection", "close").send({ done: true });
    });
  }
}

function addUpgrade(app: FastifyInstance, { onUpgrade }: ApiOptions): void {
  app.post("/v1/upgrade", async (request, reply) => {
    const { pid, proceed } = await onUpgrade(checked(schemas.upgradeRequestSchema, request.body ?? {}, "body"));
    reply.raw.once("close", proceed); // after it was sent, or where nobody waits for it any more
    return reply.header("connection", "close").send({ pid });
  });
}

export function underWay(instance: string): Failure {
  return new Failure("HAND_OVER_UNDER_WAY", { instance },
    `instance ${instance} is being handed over to another process: ask again in a moment`);
}

/** Throws REQUEST_INVALID that names the first thing wrong and where it is. */
function checked<T>(schema: z.ZodType<T>, value: unknown, place: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const path = [place, ...issue?.path ?? []].join(".");
  throw new Failure("REQUEST_INVALID", { path }, `${path}: ${issue?.message ?? "not as expected"}`);
}

function answerError(error: unknown, env: Env, reply: FastifyReply): FastifyReply {
  if (isAnyFailure(error)) return reply.code(STATUSES[error.code] ?? 500).send(bodyOf(error));
  const status = statusOf(error);
  if (status >= 400 && status < 500) {
    // Fastify's own: no JSON, too large, a wrong content type.
    const message = error instanceof Error ? error.message : String(error);
    return reply.code(status).send(bodyOf(new Failure("REQUEST_INVALID", { path: "body" }, message)));
  }
  const system = systemFailure(error);
  if (system !== null) return reply.code(500).send(bodyOf(system));
  env.log.error({ err: error }, "a request met a bug");
  const message = error instanceof Error ? error.message : String(error);
  const body: ErrorBody = { code: "BUG", message: `this is a bug: ${message}`, details: null };
  return reply.code(500).send(body);
}

function statusOf(error: unknown): number {
  if (typeof error !== "object" || error === null || !("statusCode" in error)) return 500;
  return typeof error.statusCode === "number" ? error.statusCode : 500;
}

function bodyOf({ code, message, details }: Failure): ErrorBody {
  return { code, message, details };
}

function isAnyFailure(error: unknown): error is Failure {
  return error instanceof Failure;
}
