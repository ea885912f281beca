// The shapes of everything the control API takes and answers, as zod schemas; `-o json` prints the same
// values. One home for these facts: the server validates with them, the client and the CLI take their
// types from here. Knows values only; must never know a socket, a table or a plane.
//
// Times are wall-clock milliseconds (…AtMs, sinceMs), addresses text, shares fractions of 1.

import { z } from "zod";
import { FLOW_KINDS } from "../model/held_flows.ts";
import { ADMISSION_MAX } from "../model/table.ts";
import { poolSchema } from "./schemas_pools.ts";
import { geoViewSchema } from "./schemas_geo.ts";
import { splitViewSchema } from "./schemas_split.ts";

export const WEIGHT_MAX = 65535;

const text = z.string();
const counting = z.number().int().min(0);

export const provenanceSchema = z.discriminatedUnion("source", [
  z.strictObject({ source: z.literal("config") }),
  z.strictObject({ source: z.literal("membership"), name: text, stale: z.boolean() }),
  z.strictObject({
    source: z.literal("override"), actor: text, atMs: z.number(), expiresAtMs: z.number().nullable(),
    reason: text.nullable(),
  }),
  z.strictObject({ source: z.literal("health"), reason: text, sinceMs: z.number() }),
  z.strictObject({ source: z.literal("pool"), reason: text }),
]);

export const problemSchema = z.strictObject({
  severity: z.enum(["error", "warning"]), file: text, line: counting, column: counting, path: text,
  reason: text, hint: text.nullable(),
});

export const stepSchema = z.strictObject({ action: text, object: text, detail: text });

/** A number of flows and what sort of number it is; null: nobody can tell, and then alone the kind is unknown. */
const flowsSchema = z.strictObject({ count: counting.nullable(), kind: z.enum(FLOW_KINDS) });

const trafficSchema = z.strictObject({ packets: counting, bytes: counting, flows: counting });

/** Per second, over the last sampling interval. */
const ratesSchema = z.strictObject({
  packetsPerSecond: z.number(), bytesPerSecond: z.number(), flowsPerSecond: z.number(),
});

/** How even a ring is: slots over ideal slots (1 is perfect) and the largest distance in slots. */
const evennessSchema = z.strictObject({ busiest: z.number(), idlest: z.number(), slotsOff: z.number() });

export const serviceSchema = z.strictObject({
  name: text,
  /** The virtual address as configured: "address:port", "203.0.113.0/28:8000-8099", "[2001:db8::1]:any". */
  endpoint: text,
  protocol: z.enum(["tcp", "udp"]),
  forwarding: z.enum(["l2", "ipip", "gue", "gre", "nat", "fullnat"]),
  /** Null: the service is split. */
  pool: text.nullable(),
  split: splitViewSchema,
  geo: geoViewSchema,
  /** Whose clients it has, of the service that its name begins with; null: it stands in the file itself. */
  region: text.nullable(),
  hash: z.enum(["5-tuple", "source-ip"]),
  /** Where the plane listens; null when it does not (yet). */
  listening: text.nullable(),
  ringSize: counting,
  /** Digest of the ring's content; equal on every node that computes the same ring. */
  ringKey: text,
  evenness: evennessSchema,
  backends: counting,
  backendsUp: counting,
  failedOpen: z.boolean(),
  traffic: trafficSchema,
  rates: ratesSchema,
  /** Flows now. */
  flows: flowsSchema,
  /** Clients that it remembers; null: it remembers none (no affinityTimeout), or nobody has counted yet. */
  affinities: counting.nullable(),
  /** Why the plane cannot serve it, or null. */
  error: text.nullable(),
});

export const backendStateSchema = z.enum(
  ["active", "unknown", "standby", "draining", "drained", "ejected", "damped", "maintenance", "down"]);

export const backendSchema = z.strictObject({
  /** "pool/backend". */
  name: text,
  pool: text,
  backend: text,
  address: text,
  /** What the services that use it connect to, in service order. */
  destinations: z.array(z.strictObject({
    id: counting, generation: counting, endpoint: text, forwarding: text,
    services: z.array(text),
    /** Next hop text of an xdp plane, or null. */
    neighbour: text.nullable(),
    /** What a router told of the way that its tunnel takes, or null. */
    pathMtu: counting.nullable(),
  })),
  state: backendStateSchema,
  /** May keep flows. */
  alive: z.boolean(),
  reason: text,
  /** Who wants it so; null: nobody, it is what the probes say, or the config. */
  actor: text.nullable(),
  sinceMs: z.number().nullable(),
  /** Of the certificate that the last probe over TLS was shown; null: none was. */
  certificateEndsAtMs: z.number().nullable(),
  weight: counting,
  weightProvenance: provenanceSchema,
  /** Why it is in this state: probes, an operator's drain, or the config alone. */
  stateProvenance: provenanceSchema,
  /** 0…65536: how much of its share may take new flows. */
  admission: z.number().int().min(0).max(ADMISSION_MAX),
  /** Slots over all services that use it, after lending. */
  slots: counting,
  /** slots over the slots of these services' rings. */
  share: z.number(),
  traffic: trafficSchema,
  rates: ratesSchema,
  /** Flows now; of several services, with the worst kind among them. */
  flows: flowsSchema,
});

export const overrideChangeSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("weight"), weight: z.number().int().min(0).max(WEIGHT_MAX) }),
  z.strictObject({ kind: z.literal("drain"), timeoutMs: z.number().int().positive().optional() }),
  z.strictObject({ kind: z.literal("maintenance") }),
]);

export const overrideSchema = z.strictObject({
  /**
   * "drain:pool:backend", "maintenance:pool:backend" or "weight:pool:backend". A later one of the same id replaces
   * it, and drain and maintenance replace each other.
   */
  id: text,
  target: text,
  change: overrideChangeSchema,
  actor: text,
  reason: text.nullable(),
  atMs: z.number(),
  expiresAtMs: z.number().nullable(),
  /** False while no pool of the config has this backend: kept, without effect. */
  matches: z.boolean(),
});

export const overrideRequestSchema = z.strictObject({
  /** "pool/backend", or a bare name that is unique. */
  target: text.min(1).max(127),
  change: overrideChangeSchema,
  actor: text.min(1).max(200),
  reason: text.max(500).nullable().default(null),
  expiresInMs: z.number().int().positive().nullable().default(null),
  /** Also where the pool then has fewer backends up than its quorum asks for. */
  force: z.boolean().optional(),
});

/** How far a drain has come. */
export const drainSchema = z.strictObject({
  target: text,
  actor: text,
  reason: text.nullable(),
  startedAtMs: z.number(),
  /** When the flows that are left are ended; null: never. */
  deadlineAtMs: z.number().nullable(),
  /** Left now, or at the end; estimated: those that were learned since the drain began. */
  flows: flowsSchema,
  /** Non-null: before this time a count of none does not say that there are none. */
  certainAtMs: z.number().nullable(),
  /** Services whose flows are reset at the deadline, and those whose flows are sent to other backends. */
  resets: z.array(text),
  moves: z.array(text),
  /** Null while it goes on. */
  end: z.enum(["empty", "deadline"]).nullable(),
  endedAtMs: z.number().nullable(),
});

export const overrideClearSchema = z.strictObject({ removed: z.array(overrideSchema) });

export const eventKindSchema = z.enum([
  "health", "config", "override", "plane", "apply", "fallback", "supervisor",
]);

export const eventSchema = z.strictObject({
  /** +1 for each event of this supervisor, from 1. */
  id: counting,
  atMs: z.number(),
  kind: eventKindSchema,
  /** What it happened to: "web/web-1", a service, a file, the instance. */
  subject: text,
  message: text,
  /** Of kind health: from, to, reason, admission and probes (schemas_events.ts). */
  fields: z.record(text, z.unknown()),
});

export const planeChoiceSchema = z.strictObject({
  mode: z.enum(["xdp", "proxy"]),
  reason: text,
  remedy: text.nullable(),
  attempts: z.array(z.strictObject({ what: text, result: text })),
});

const applyStateSchema = z.strictObject({
  atMs: z.number(),
  durationMs: z.number(),
  steps: counting,
  /** Generation of the table that was applied, or that failed. */
  generation: counting,
  error: text.nullable(),
  /** When a failed apply is tried again, or null. */
  retryAtMs: z.number().nullable(),
});

export const configStateSchema = z.strictObject({
  /** The `run` file; null when the config came as a value. */
  file: text.nullable(),
  /** Of the config in force; 0 before the first is recorded. */
  revision: counting,
  loadedAtMs: z.number(),
  /** Whether the file differs from what is in force: null when there is no file to compare with. */
  fileDiffers: z.boolean().nullable(),
  /** Problems of the last reload or apply that was refused; empty after a good one. */
  problems: z.array(problemSchema),
});

export const statusSchema = z.strictObject({
  instance: text,
  version: text,
  pid: counting,
  startedAtMs: z.number(),
  uptimeMs: z.number(),
  mode: z.enum(["xdp", "proxy"]),
  /** Why this plane, and what was tried. */
  plane: planeChoiceSchema,
  /** True when live pinned state was found and kept. */
  adopted: z.boolean(),
  interfaces: z.array(z.strictObject({
    name: text, ifindex: counting, mode: z.enum(["native", "generic"]), adopted: z.boolean(),
  })),
  /** Interfaces of the config that packets are not forwarded on, and why; they are tried again. */
  refusedInterfaces: z.array(z.strictObject({ name: text, reason: text })),
  hashSeed: z.enum(["inline", "file", "state", "adopted"]),
  config: configStateSchema,
  ready: z.boolean(),
  /** Why not ready. */
  reasons: z.array(text),
  warnings: z.array(text),
  generation: counting,
  lastApply: applyStateSchema.nullable(),
  /** Flows now of all services, one number for each kind that occurs. */
  flows: z.array(flowsSchema),
  /** What the flow table holds (null: not counted yet) and can (xdp), or connections and sessions (proxy). */
  flowTable: z.strictObject({ count: counting.nullable(), max: counting }),
  /** How often something was refused or given up because a table or limit was full, by cause. */
  pressure: z.array(z.strictObject({ cause: text, count: counting })),
  /** Translated flows, which `flows` counts as exact; null: nothing is translated. */
  nat: z.strictObject({ count: counting, max: counting }).nullable(),
  /** Clients that are remembered (a count of null: nobody has counted yet); null: no service has affinityTimeout. */
  affinities: z.strictObject({ count: counting.nullable(), max: counting }).nullable(),
  services: z.array(serviceSchema), pools: z.array(poolSchema), backends: z.array(backendSchema),
  overrides: z.array(overrideSchema),
});

/** A config as the client has it: the name is for messages, the text is what counts. */
export const configRequestSchema = z.strictObject({
  name: text.min(1).max(4096),
  text,
  actor: text.min(1).max(200).default("api"),
});

export const movementSchema = z.strictObject({
  service: text,
  change: z.enum(["added", "removed", "changed", "unchanged"]),
  /** Slots that would name another backend: their new flows, and old ones that nobody remembers, would go there. */
  slotsMoved: counting,
  /** Of those, the ones whose old flows would lose their connection. */
  slotsBroken: counting,
  ringSize: counting,
  share: z.number(),
  brokenShare: z.number(),
});

export const planSchema = z.strictObject({
  changed: z.boolean(),
  /** Steps of the plane, in order. */
  steps: z.array(stepSchema),
  services: z.array(movementSchema),
  /** Of the flows held now: how many would meet another backend, and how many of these would break by it. */
  flows: z.strictObject({ moved: flowsSchema, broken: flowsSchema, total: flowsSchema }),
  /** Non-null: the plane itself would be replaced, with the reason. */
  replacesPlane: text.nullable(),
  warnings: z.array(text),
});

export const applyResultSchema = z.strictObject({
  revision: counting,
  changed: z.boolean(),
  plan: planSchema,
  steps: counting,
  durationMs: z.number(),
  /** Services that cannot be served, with the reason. */
  failed: z.array(z.strictObject({ service: text, reason: text })),
  warnings: z.array(text),
});

export const revisionSchema = z.strictObject({
  revision: counting,
  atMs: z.number(),
  actor: text,
  /** "start", "reload", "apply" or "rollback to N". */
  origin: text,
  file: text,
  bytes: counting,
  sha256: text,
  current: z.boolean(),
});

export const rollbackRequestSchema = z.strictObject({
  /** null: the one before the current. */
  revision: z.number().int().min(1).nullable().default(null),
  actor: text.min(1).max(200).default("api"),
});

export const reloadRequestSchema = z.strictObject({ actor: text.min(1).max(200).default("api") });

export const checkResultSchema = z.strictObject({
  valid: z.boolean(), problems: z.array(problemSchema),
});

export const stopRequestSchema = z.strictObject({ actor: text.min(1).max(200).default("api") });
/** What every version of `status` has. */
export const identitySchema = z.object({ instance: text, version: text, pid: counting });
export const upgradeRequestSchema = z.strictObject({
  ...stopRequestSchema.shape,
  drainMs: z.number().int().min(0).max(7 * 24 * 3_600_000).nullable().default(null),
});
export const upgradeSchema = z.strictObject({ pid: counting });
export const acknowledgedSchema = z.strictObject({ done: z.literal(true) });

/** Every answer that is not 2xx. */
export const errorSchema = z.strictObject({ code: text, message: text, details: z.unknown() });

export type ProblemView = z.infer<typeof problemSchema>;
export type StepView = z.infer<typeof stepSchema>;
export type ServiceView = z.infer<typeof serviceSchema>;
export type BackendView = z.infer<typeof backendSchema>;
export type BackendState = z.infer<typeof backendStateSchema>;
export type OverrideView = z.infer<typeof overrideSchema>;
export type OverrideKind = OverrideView["change"]["kind"];
export type DrainView = z.infer<typeof drainSchema>;
export type OverrideRequest = z.infer<typeof overrideRequestSchema>;
export type EventKind = z.infer<typeof eventKindSchema>;
export type PointsmanEvent = z.infer<typeof eventSchema>;
export type Status = z.infer<typeof statusSchema>;
export type ApplyState = z.infer<typeof applyStateSchema>;
export type ConfigState = z.infer<typeof configStateSchema>;
export type ConfigRequest = z.infer<typeof configRequestSchema>;
export type Movement = z.infer<typeof movementSchema>;
export type Plan = z.infer<typeof planSchema>;
export type ApplyResult = z.infer<typeof applyResultSchema>;
export type Revision = z.infer<typeof revisionSchema>;
export type CheckResult = z.infer<typeof checkResultSchema>;
export type ErrorBody = z.infer<typeof errorSchema>;
