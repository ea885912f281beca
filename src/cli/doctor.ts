// `doctor`: what this host can do, which plane `auto` would choose, and the remedy for each thing missing.
// Changes nothing, but for the moment in which --return-path, when asked for, takes an address.

import type { HostCheck } from "../dataplane/host_check.ts";
import { probeHost } from "../dataplane/probe.ts";
import { testReturnPath, wayUntested } from "../dataplane/return_path.ts";
import { Failure, isFailure } from "../errors.ts";
import type { Config } from "../model/config.ts";
import { acquireInstanceLock, type InstanceLock } from "../supervisor/instance_lock.ts";
import type { Io } from "./io.ts";
import { geoNeeds } from "./doctor_geo.ts";
import { healthNeeds } from "./doctor_health.ts";
import { EXIT } from "./io.ts";
import { loadConfig } from "./offline.ts";

const LEVEL_WIDTH = "MISSING".length;
/** No instance can have this name. */
const LOCK_NAME = "_return-path";

export interface DoctorOptions {
  readonly config?: string;
  readonly output: "table" | "json";
  /** True: by addresses of our choice. */
  readonly returnPath?: true | readonly string[];
}

export async function doctorVerb(io: Io, options: DoctorOptions): Promise<number> {
  const config = options.config === undefined ? null : loadConfig(io, options.config);
  const report = probeHost(config, io.env);
  const needs = config === null ? [] : [...healthNeeds(io.env, config), ...await geoNeeds(io.env, config)];
  const checks = [...report.checks, ...needs, ...await waysBack(io, config, options)];
  if (options.output === "json") io.out(`${JSON.stringify({ ...report, checks }, null, 2)}\n`);
  else {
    printChecks(io, checks);
    io.out(`\nauto would choose ${report.mode}: ${report.reason}\n`);
    if (config === null) io.out("interfaces and services were not looked at; name a configuration file with -c\n");
  }
  if (options.returnPath === undefined || !io.interrupted.aborted) return EXIT.done;
  io.err("pointsman: interrupted before every way back was tested; the address is off lo again\n");
  return EXIT.failure;
}

function printChecks(io: Io, checks: readonly HostCheck[]): void {
  const width = Math.max(...checks.map(({ name }) => name.length));
  for (const { name, level, found, remedy } of checks) {
    io.out(`${(level === "ok" ? level : level.toUpperCase()).padEnd(LEVEL_WIDTH)}  ${name.padEnd(width)}  ${found}\n`);
    if (remedy !== null) io.out(`${" ".repeat(width + 11)}→ ${remedy}\n`);
  }
}

async function waysBack(io: Io, config: Config | null, { returnPath }: DoctorOptions): Promise<HostCheck[]> {
  if (returnPath === undefined) return config === null ? [] : wayUntested(config);
  if (config === null) {
    throw new Failure("REQUEST_INVALID", { path: "return-path" }, "--return-path needs the backends: name a configuration file with -c");
  }
  const lock = await takeTurn(io);
  try {
    return await testReturnPath(io.env, config, returnPath === true ? [] : returnPath, io.interrupted);
  } finally {
    lock.release();
  }
}

/** Two at once would take each other's addresses away. */
async function takeTurn(io: Io): Promise<InstanceLock> {
  try {
    return await acquireInstanceLock(LOCK_NAME, io.env);
  } catch (error) {
    if (!isFailure(error, "INSTANCE_RUNNING")) throw error;
    throw new Failure("INSTANCE_RUNNING", error.details,
      `another doctor --return-path is under way (process ${error.details.pid}): wait for its end`, error);
  }
}
