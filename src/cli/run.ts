// `run`: the supervisor in the foreground. Wires what only a process has to one instance: signals, the
// metrics listener, the file watcher. Decides nothing about traffic.

import { createPointsman } from "../create.ts";
import type { Pointsman } from "../create.ts";
import type { Log } from "../env.ts";
import { Failure } from "../errors.ts";
import type { Config } from "../model/config.ts";
import type { Io } from "./io.ts";
import { EXIT } from "./io.ts";
import { Predecessor } from "../supervisor/predecessor.ts";
import { keepObserveServer } from "./observing.ts";
import type { RunOptions } from "./program.ts";
import { leave } from "./leaving.ts";
import { tellReady } from "./systemd.ts";
import { Upgrader } from "./upgrading.ts";
import type { HandedOver } from "./upgrading.ts";
import { watchConfig } from "./watch_config.ts";

/** Connections of the proxy plane have so long to end by themselves. */
const DRAIN_MS = 10_000;

type Ending = { readonly detach: boolean; readonly by: string } | HandedOver;

export async function runVerb(io: Io, options: RunOptions): Promise<number> {
  const { env } = io;
  const predecessor = env.predecessor === null ? null : new Predecessor(env.predecessor);
  try {
    return await runInstance(io, options, predecessor);
  } catch (error) {
    await predecessor?.fail(error instanceof Error ? error.message : String(error));
    throw error;
  } finally {
    predecessor?.close();
  }
}

async function runInstance(io: Io, options: RunOptions, predecessor: Predecessor | null): Promise<number> {
  const { env } = io;
  let end: (ending: Ending) => void = () => undefined;
  const ended = new Promise<Ending>((resolve) => { end = resolve; });
  const bySignal = (): void => { end({ detach: options.detachOnExit, by: String(io.interrupted.reason) }); };
  io.interrupted.addEventListener("abort", bySignal, { once: true });
  const reloader = createReloader(env.log);
  const upgrader = new Upgrader(env, (handedOver) => { end(handedOver); });
  // A signal that nobody listens to would end the process, also while it starts.
  const cleanUp: (() => Promise<void> | void)[] = [
    io.onHangup(() => { reloader.request("SIGHUP"); }),
    io.onUpgradeSignal(() => { upgrader.requestBySignal(); }),
  ];
  const pointsman = await createPointsman({
    config: options.config, env, predecessor, execProbes: options.execProbes, execHooks: options.execHooks,
    adjust: (config) => adjusted(config, options),
    ...(options.stateDirectory === undefined ? {} : { stateDirectory: options.stateDirectory }),
    onStop: ({ detach, actor }) => { end({ detach, by: actor }); },
    onUpgrade: (request) => upgrader.request(request),
  });
  try {
    let closeObserve = keepObserveServer(env, pointsman.supervisor);
    cleanUp.push(() => closeObserve());
    if (options.watchConfig) {
      const changed = (): void => { reloader.request("file watch"); };
      cleanUp.push(await watchConfig(env, options.config, changed));
      // It may have changed between its reading and now.
      if (pointsman.status().config.fileDiffers === true) changed();
    }
    reloader.open(pointsman);
    upgrader.open(pointsman, reloader, {
      stop: () => closeObserve(),
      start: () => { closeObserve = keepObserveServer(env, pointsman.supervisor); },
    });
    const { mode, plane } = pointsman.status();
    env.log.info({ instance: pointsman.supervisor.instance, mode, reason: plane.reason, socket: pointsman.socket }, "running");
    void tellReady(env);
    if (io.interrupted.aborted) bySignal();
    const ending = await ended;
    if ("heir" in ending) return await leave({ io, pointsman, predecessor, handedOver: ending, reloader, graceMs: DRAIN_MS });
    const { detach, by } = ending;
    env.log.info({ detach, by }, detach ? "ending, and taking the data plane along" : "ending");
    predecessor?.end(DRAIN_MS);
    await pointsman.close({ detach, drainMs: DRAIN_MS });
  } finally {
    for (const step of cleanUp.reverse()) await step();
    await pointsman.close({ detach: false, drainMs: 0 });
  }
  return EXIT.done;
}

function adjusted(config: Config, options: RunOptions): Config {
  const { proxy } = config.dataplane;
  return {
    ...config,
    dataplane: {
      ...config.dataplane,
      proxy: { ...proxy, bind: options.proxyBind ?? proxy.bind, portOffset: options.portOffset ?? proxy.portOffset },
    },
  };
}

export interface Reloader {
  request(actor: string): void;
  /** From now on there is something to reload; what was asked for meanwhile follows. */
  open(pointsman: Pointsman): void;
  /** Requests wait. */
  hold(): void;
  /** Those that have waited follow. */
  resume(): void;
  /** It is somebody else's from now on, those that have waited included. */
  passOn(request: () => void): void;
}

/** Reloads one at a time. Of those asked for while one is under way, one follows: it reads what is there then. */
export function createReloader(log: Log): Reloader {
  let pointsman: Pointsman | null = null;
  let waiting: string | null = null;
  let isRunning = false;
  let isHeld = false;
  let other: (() => void) | null = null;
  const run = async (supervisor: Pointsman["supervisor"]): Promise<void> => {
    isRunning = true;
    for (let actor = waiting; actor !== null; actor = waiting) {
      waiting = null;
      try {
        const { revision, changed } = await supervisor.reload(actor);
        log.info({ actor, revision }, changed ? "reloaded" : "reloaded: nothing to change");
      } catch (error) {
        // A refusal was told by the supervisor, and what was in force stays.
        if (!(error instanceof Failure)) throw error;
      }
    }
    isRunning = false;
  };
  const next = (): void => {
    if (other !== null && waiting !== null) {
      waiting = null;
      other();
    } else if (!isHeld && pointsman !== null && waiting !== null && !isRunning) void run(pointsman.supervisor);
  };
  return {
    request: (actor) => { waiting = actor; next(); },
    open: (opened) => { pointsman = opened; next(); },
    hold: () => { isHeld = true; },
    resume: () => { isHeld = false; next(); },
    passOn: (request) => { other = request; next(); },
  };
}
