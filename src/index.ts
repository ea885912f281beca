// The public API, and the only file that re-exports: what an application gets from `import "pointsman"`.

export { createPointsman } from "./create.ts";
export type { ConfigSource, Pointsman, PointsmanOptions } from "./create.ts";
export { Failure, isFailure } from "./errors.ts";
export type { FailureCode, Failures } from "./errors.ts";
export type { Env } from "./env.ts";
export { createEnv } from "./env_real.ts";
export { connectClient } from "./api/client.ts";
export type { Client } from "./api/client.ts";
export type {
  ApplyResult, BackendView, OverrideRequest, OverrideView, Plan, PointsmanEvent, Revision, ServiceView, Status,
} from "./api/schemas.ts";
export type { Config, Problem } from "./model/config.ts";
export type { ForwardingTable } from "./model/table.ts";
