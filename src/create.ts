// createPointsman: the only constructor. Takes the lock, opens the state directory, the plane, the
// checker and the control socket in the order in which each needs the one before, and gives them back in
// the reverse. Knows how the rooms fit together; must never decide anything about traffic.

import type { FastifyInstance } from "fastify";
import { listenOnSocket } from "./api/listen.ts";
import type { ApplyResult, OverrideRequest, OverrideView, Plan, PointsmanEvent, Status } from "./api/schemas.ts";
import { createApi, underWay } from "./api/server.ts";
import type { ApiOptions, OnUpgrade } from "./api/server.ts";
import { hostFacts } from "./config/host.ts";
import { parseConfigInWorker } from "./config/load.ts";
import { parseConfig } from "./config/parse.ts";
import type { ParseResult } from "./config/parse.ts";
import type { CloseOptions } from "./dataplane/dataplane.ts";
import { openDataplane } from "./dataplane/open.ts";
import { openProxyPlane } from "./dataplane/proxy/proxy_plane.ts";
import type { Env } from "./env.ts";
import { createEnv } from "./env_real.ts";
import { Failure } from "./errors.ts";
import { watchOutcomes } from "./health/outcome_watch.ts";
import { createCheckerWithAgents } from "./health/agents.ts";
import { createDamping } from "./health/damping.ts";
import { createFeedback } from "./health/feedback.ts";
import { createOutliers } from "./health/outliers.ts";
import { createProbe } from "./health/probe.ts";
import { createSlowStart } from "./health/slow_start.ts";
import type { Config } from "./model/config.ts";
import type { OpenPlane, StartChecker, Supervisor } from "./supervisor/contract.ts";
import { parseOrThrow } from "./supervisor/accepted.ts";
import { acquireInstanceLock, inheritInstanceLock } from "./supervisor/instance_lock.ts";
import type { InstanceLock } from "./supervisor/instance_lock.ts";
import { controlSocketPath, stateDirectoryPath } from "./supervisor/places.ts";
import type { Inherited, Predecessor } from "./supervisor/predecessor.ts";
import { openStateDirectory } from "./supervisor/state.ts";
import { handOver } from "./supervisor/successor.ts";
import type { Estate, Heir } from "./supervisor/successor.ts";
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
  /** Somebody asked through the control socket for another process to take over. By default that is refused. */
  readonly onUpgrade?: OnUpgrade;
  /** The process to take over from. */
  readonly predecessor?: Predecessor | null;
  /** Whether health checks of type exec may run their commands, with the rights of this process. False by default. */
  readonly execProbes?: boolean;
  /** Whether commands that pools' quorums name may run, with the rights of this process. False by default. */
  readonly execHooks?: boolean;
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
  /**
   * Starts this program again and gives it the sockets. Throws HAND_OVER_FAILED when everything is as before;
   * else this object is to be closed, as handed over.
   */
  handOver(metrics: Restartable): Promise<Heir>;
  /** detach: an xdp plane stops forwarding too. Safe to repeat. */
  close(options?: Partial<CloseOptions>): Promise<void>;
}

/** What else listens and is to be free when the other process has everything; begun again when it fails. */
export interface Restartable {
  /** `pid` is about to take over. */
  stop(pid: number): Promise<void>;
  start(): void;
}

const FAILED_DRAIN_MS = 5_000;

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
  const predecessor = options.predecessor ?? null;
  const inherited = await predecessor?.begin(config, VERSION) ?? null;
  const undo: (() => Promise<void> | void)[] = [];
  try {
    // Who hands over keeps its lock until we serve.
    let lock = inherited === null ? await acquireInstanceLock(config.instance, env) : null;
    undo.push(() => { lock?.release(); });
    const supervisor = await createSupervisor({
      env,
      version: VERSION,
      state: openState(options.stateDirectory, config, env),
      parse: async (file, bytes) => adjusted(await parseAside(file, bytes, env), adjust),
      openPlane: options.openPlane ?? openingPlanes(predecessor, inherited, env),
      startChecker: options.startChecker ?? checkerIn(env, options.execProbes ?? false),
      file: source.file,
      first,
      execHooks: options.execHooks ?? false,
    });
    // A plane that was live before goes on as it was; a new one must not outlive a start that failed.
    // Clients that came to us meanwhile may finish, while those that come are the other process's.
    undo.push(() => supervisor.close({
      detach: !supervisor.status().adopted, handedOver: inherited !== null,
      drainMs: inherited === null ? 0 : FAILED_DRAIN_MS,
    }));
    await predecessor?.releaseControl();
    if (predecessor?.isGone === true) lock ??= await inheritInstanceLock(config.instance, env);
    const control = socket === null ? null : new ControlSocket({
      env, supervisor,
      onStop: options.onStop ?? (({ detach }) => { void pointsman.close({ detach }); }),
      onUpgrade: options.onUpgrade ?? refuseUpgrade,
    }, socket, config);
    await control?.open();
    undo.push(() => control?.close());
    if (inherited !== null) {
      await predecessor?.serve(...servedBy(supervisor));
      lock ??= await inheritInstanceLock(config.instance, env);
    }
    if (lock === null) throw new Error("nobody has the lock");
    control?.begin();
    const pointsman = assemble(supervisor, control, env, lock);
    return pointsman;
  } catch (error) {
    for (const step of undo.reverse()) await step();
    throw error;
  }
}

/** The first plane may be one that goes on with another process's sockets: a proxy, whatever could be had else. */
function openingPlanes(predecessor: Predecessor | null, inherited: Inherited | null, env: Env): OpenPlane {
  let isFirst = true;
  return async (config) => {
    const takesOver = isFirst && predecessor !== null && inherited !== null;
    isFirst = false;
    if (!takesOver) return await openDataplane(config, env);
    const forPlane = predecessor.forPlane();
    if (!forPlane.sharesSessions) {
      env.log.warn({ predecessor: predecessor.pid },
        "the old process gives no UDP sessions away: clients begin new ones, from other source ports");
    }
    const plane = await openProxyPlane({ config, env, predecessor: forPlane });
    const attempts = [{ what: "proxy", result: `taken over from process ${predecessor.pid}` }];
    return { plane, choice: { mode: "proxy", ...inherited, attempts } };
  };
}

/** What a process that is taken over from wants to know. */
function servedBy(supervisor: Supervisor): [error: string | null, unserved: Record<string, string>] {
  const { lastApply, services } = supervisor.status();
  const unserved = services.flatMap(({ name, error }) => (error === null ? [] : [[name, error] as const]));
  return [lastApply === null ? "nothing was applied" : lastApply.error, Object.fromEntries(unserved)];
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

function checkerIn(env: Env, execProbes: boolean): StartChecker {
  return (initial, onTransition, connectThrough, onStep, clients) =>
    createSlowStart({
      env, probe: watchOutcomes(createProbe(env, connectThrough, execProbes), env), initial, onTransition, onStep,
    }, (below) => createFeedback({ ...below, onStep, clients },
      (next) => createDamping(next, (last) => createOutliers(last, createCheckerWithAgents))));
}

/** Only who knows how this process was started can start another one. */
const refuseUpgrade: OnUpgrade = () => Promise.reject(new Failure("HAND_OVER_FAILED", { pid: 0 },
  "this instance is part of another program, which alone can start a new process"));

type ControlOptions = Omit<ApiOptions, "isFrozen" | "opened">;

/** The control socket, which may be closed and opened again. */
class ControlSocket {
  readonly path: string;
  /** Refuses changes. */
  isFrozen = false;
  /** Requests are answered from now on, and those that have waited. */
  begin: () => void = () => undefined;
  #refuse: (error: Failure) => void = () => undefined;
  readonly #opened = new Promise<void>((resolve, reject) => {
    this.begin = resolve;
    this.#refuse = reject;
  });
  readonly #options: ControlOptions;
  readonly #config: Config;
  #app: FastifyInstance | null = null;

  constructor(options: ControlOptions, path: string, config: Config) {
    this.#options = options;
    this.path = path;
    this.#config = config;
    this.#opened.catch(() => { /* told to whoever waits */ });
  }

  async open(): Promise<void> {
    const app = createApi({ ...this.#options, isFrozen: () => this.isFrozen, opened: this.#opened });
    await app.ready();
    const { instance, control: { group } } = this.#config;
    try {
      await listenOnSocket(app.server, { path: this.path, instance, group }, this.#options.env);
    } catch (error) {
      // It may listen already, and would keep the process alive.
      this.#refuse(underWay(instance));
      await app.close();
      throw error;
    }
    this.#app = app;
  }

  async close(): Promise<void> {
    this.#refuse(underWay(this.#config.instance));
    await this.#app?.close();
    this.#app = null;
  }
}

function assemble(
  supervisor: Supervisor, control: ControlSocket | null, env: Env, lock: InstanceLock,
): Pointsman {
  let closing: Promise<void> | null = null;
  const close = async (options: CloseOptions): Promise<void> => {
    await supervisor.close(options);
    await control?.close();
    lock.release();
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
    handOver: async (metrics) => await handOver(estateOf(supervisor, control, lock, metrics), env),
    close: (options = {}) => {
      closing ??= close({ detach: false, drainMs: 0, ...options });
      return closing;
    },
  };
}

function estateOf(
  supervisor: Supervisor, control: ControlSocket | null, lock: InstanceLock, metrics: Restartable,
): Estate {
  const { plane } = supervisor.status();
  const bequest = supervisor.bequest();
  if (bequest === null) {
    throw new Failure("HAND_OVER_FAILED", { pid: 0 },
      "the xdp plane forwards without a process: restart this one instead, which loses no packet");
  }
  return {
    instance: supervisor.instance,
    plane: { reason: plane.reason, remedy: plane.remedy },
    bequest,
    served: () => new Set(supervisor.status().services.flatMap(({ name, error }) => (error === null ? [name] : []))),
    freeze: async (isFrozen) => {
      if (control !== null) control.isFrozen = isFrozen;
      await supervisor.quiet();
    },
    closeControl: async (pid) => {
      await metrics.stop(pid);
      await control?.close();
    },
    openControl: async () => {
      metrics.start();
      await control?.open();
    },
    giveLock: (pid) => lock.giveTo(pid),
  };
}
