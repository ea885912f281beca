// createPointsman: the only constructor. Takes the lock, opens the state directory, the plane, the
// checker and the control socket in the order in which each needs the one before, and gives them back in
// the reverse. Knows how the rooms fit together; must never decide anything about traffic.

import type { FastifyInstance } from "fastify";
import { listenOnSocket } from "./api/listen.ts";
import type { ApplyResult, OverrideRequest, OverrideView, Plan, PointsmanEvent, Status } from "./api/schemas.ts";
import { createApi } from "./api/server.ts";
import { hostFacts } from "./config/host.ts";
import { parseConfigInWorker } from "./config/load.ts";
import { parseConfig } from "./config/parse.ts";
import type { ParseResult } from "./config/parse.ts";
import { openDataplane } from "./dataplane/open.ts";
import type { Env } from "./env.ts";
import { createEnv } from "./env_real.ts";
import { Failure } from "./errors.ts";
import { createChecker } from "./health/checker.ts";
import { createProbe } from "./health/probe.ts";
import type { Config } from "./model/config.ts";
import type { OpenPlane, StartChecker, Supervisor } from "./supervisor/contract.ts";
import { parseOrThrow } from "./supervisor/accepted.ts";
import { acquireInstanceLock } from "./supervisor/instance_lock.ts";
import { controlSocketPath, stateDirectoryPath } from "./supervisor/places.ts";
import { openStateDirectory } from "./supervisor/state.ts";
import { createSupervisor } from "./supervisor/supervisor.ts";
import { VERSION } from "./version.ts";

/** A path; or YAML or JSON text, which has a line break or begins with a brace; or a value as in JSON. */
export type ConfigSource = string | object;

export interface PointsmanOptions {
  readonly config: ConfigSource;
  /** The real world by default. */
  readonly env?: Env;
  /** Overrides stateDirectory of the config. Null: nothing outlives this object. */
  readonly stateDirectory?: string | null;
  /** False: no control socket, so no CLI. */
  readonly control?: boolean;
  /** What the command line changes in each config, before it counts. */
  readonly adjust?: (config: Config) => Config;
  /** Somebody asked for the end through the control socket. By default the object closes itself. */
  readonly onStop?: (request: { readonly detach: boolean; readonly actor: string }) => void;
  /** Stand-ins for tests. */
  readonly openPlane?: OpenPlane;
  readonly startChecker?: StartChecker;
}

export interface Pointsman {
  /** Validates, plans, applies and records a revision. Throws CONFIG_INVALID; what was in force stays. */
  apply(config: ConfigSource): Promise<ApplyResult>;
  /** What apply would do. */
  plan(config: ConfigSource): Promise<Plan>;
  override(request: Omit<OverrideRequest, "reason" | "expiresInMs"> & Partial<OverrideRequest>): Promise<OverrideView>;
  status(): Status;
  /** Those kept, then each new one as it happens. */
  readonly events: AsyncIterable<PointsmanEvent>;
  /** Everything else. */
  readonly supervisor: Supervisor;
  /** The control socket, or null. */
  readonly socket: string | null;
  /** detach: an xdp plane stops forwarding too. Safe to repeat. */
  close(options?: { readonly detach?: boolean; readonly drainMs?: number }): Promise<void>;
}

export async function createPointsman(options: PointsmanOptions): Promise<Pointsman> {
  const env = options.env ?? createEnv();
  const adjust = options.adjust ?? ((config) => config);
  const source = readSource(options.config, env);
  // Nothing runs yet that a slow parser could hold up.
  const first = await parseOrThrow(source.name, source.bytes, (file, bytes) =>
    adjusted(parseConfig(file, bytes, hostFacts(env.files)), adjust));
  const { config } = first;
  const socket = options.control === false
    ? null : controlSocketPath(config.instance, env, config.control.socket);
  const undo: (() => Promise<void> | void)[] = [];
  try {
    const lock = await acquireInstanceLock(config.instance, env);
    undo.push(() => { lock.release(); });
    const supervisor = await createSupervisor({
      env,
      version: VERSION,
      state: openState(options.stateDirectory, config, env),
      parse: async (file, bytes) => adjusted(await parseAside(file, bytes, env), adjust),
      openPlane: options.openPlane ?? ((wanted) => openDataplane(wanted, env)),
      startChecker: options.startChecker ?? checkerIn(env),
      file: source.file,
      first,
    });
    // A plane that was live before goes on as it was; a new one must not outlive a start that failed.
    undo.push(() => supervisor.close({ detach: !supervisor.status().adopted, drainMs: 0 }));
    const stop = options.onStop ?? (({ detach }) => { void pointsman.close({ detach }); });
    const api = socket === null ? null : await openControl(supervisor, socket, config, env, stop);
    const pointsman = assemble(supervisor, api, env, () => { lock.release(); });
    return pointsman;
  } catch (error) {
    for (const step of undo.reverse()) await step();
    throw error;
  }
}

interface Source {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Null when it was no file. */
  readonly file: string | null;
}

function readSource(source: ConfigSource, env: Env): Source {
  if (typeof source !== "string") {
    return { name: "(value)", bytes: new TextEncoder().encode(JSON.stringify(source)), file: null };
  }
  if (source.includes("\n") || source.trimStart().startsWith("{")) {
    return { name: "(text)", bytes: new TextEncoder().encode(source), file: null };
  }
  let bytes: Uint8Array | null;
  try {
    bytes = env.files.read(source);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Failure("FILE_UNREADABLE", { path: source }, `${source} cannot be read: ${why}`, error);
  }
  if (bytes !== null) return { name: source, bytes, file: source };
  throw new Failure("FILE_UNREADABLE", { path: source }, `${source} cannot be read: there is no such file`);
}

/** Up to here parsing takes milliseconds, less than a worker takes to start. */
const SMALL_CONFIG_BYTES = 32 * 1024;

/** Heartbeats and probes go on while a large file is read. */
async function parseAside(file: string, bytes: Uint8Array, env: Env): Promise<ParseResult> {
  const host = hostFacts(env.files);
  return bytes.length <= SMALL_CONFIG_BYTES ? parseConfig(file, bytes, host)
    : await parseConfigInWorker(file, bytes, env.clock, undefined, host);
}

function adjusted(parsed: ParseResult, adjust: (config: Config) => Config): ParseResult {
  return "config" in parsed ? { ...parsed, config: adjust(parsed.config) } : parsed;
}

function openState(
  chosen: string | null | undefined, config: Config, env: Env,
): ReturnType<typeof openStateDirectory> | null {
  if (chosen === null) return null;
  const path = chosen ?? stateDirectoryPath(config.instance, env, config.stateDirectory);
  return openStateDirectory(path, env, (message) => { env.log.warn({}, message); });
}

function checkerIn(env: Env): StartChecker {
  return (initial, onTransition, connectThrough) =>
    createChecker({ env, probe: createProbe(env, connectThrough), initial, onTransition });
}

interface Control {
  readonly app: FastifyInstance;
  readonly path: string;
}

async function openControl(
  supervisor: Supervisor, path: string, { instance, control }: Config, env: Env,
  onStop: (request: { readonly detach: boolean; readonly actor: string }) => void,
): Promise<Control> {
  const app = createApi({ env, supervisor, onStop });
  await app.ready();
  try {
    await listenOnSocket(app.server, { path, instance, group: control.group }, env);
  } catch (error) {
    // It may listen already, and would keep the process alive.
    await app.close();
    throw error;
  }
  return { app, path };
}

function assemble(
  supervisor: Supervisor, control: Control | null, env: Env, release: () => void,
): Pointsman {
  let closing: Promise<void> | null = null;
  const close = async (detach: boolean, drainMs: number): Promise<void> => {
    await supervisor.close({ detach, drainMs });
    if (control !== null) await control.app.close();
    release();
  };
  const request = (source: ConfigSource): { name: string; text: string; actor: string } => {
    const { name, bytes } = readSource(source, env);
    return { name, text: new TextDecoder().decode(bytes), actor: "library" };
  };
  return {
    apply: async (source) => supervisor.apply(request(source)),
    plan: async (source) => supervisor.plan(request(source)),
    override: (wanted) => supervisor.override({ reason: null, expiresInMs: null, ...wanted }),
    status: () => supervisor.status(),
    events: {
      [Symbol.asyncIterator]: () =>
        supervisor.events.subscribe({ since: 0, signal: null })[Symbol.asyncIterator](),
    },
    supervisor,
    socket: control?.path ?? null,
    close: ({ detach = false, drainMs = 0 } = {}) => {
      closing ??= close(detach, drainMs);
      return closing;
    },
  };
}
