// `run`: the supervisor in the foreground. Wires what only a process has to one instance: signals, the
// metrics listener, the file watcher. Decides nothing about traffic.

import { createPointsman } from "../create.ts";
import type { Pointsman } from "../create.ts";
import { Failure } from "../errors.ts";
import type { Address } from "../model/address.ts";
import { formatEndpoint } from "../model/address.ts";
import type { Config } from "../model/config.ts";
import type { ObserveServer } from "../observe/server.ts";
import { startObserveServer } from "../observe/server.ts";
import type { Io } from "./io.ts";
import { EXIT } from "./io.ts";
import type { RunOptions } from "./program.ts";
import { watchConfig } from "./watch_config.ts";

/** Connections of the proxy plane have so long to end by themselves. */
const DRAIN_MS = 10_000;

interface Ending { readonly detach: boolean; readonly by: string }

export async function runVerb(io: Io, options: RunOptions): Promise<number> {
  const { env } = io;
  let end: (ending: Ending) => void = () => undefined;
  const ended = new Promise<Ending>((resolve) => { end = resolve; });
  const bySignal = (): void => { end({ detach: options.detachOnExit, by: String(io.interrupted.reason) }); };
  io.interrupted.addEventListener("abort", bySignal, { once: true });
  const pointsman = await createPointsman({
    config: options.config, env, adjust: (config) => adjusted(config, options),
    ...(options.stateDirectory === undefined ? {} : { stateDirectory: options.stateDirectory }),
    onStop: ({ detach, actor }) => { end({ detach, by: actor }); },
  });
  const cleanUp: (() => Promise<void> | void)[] = [];
  try {
    cleanUp.push(keepObserveServer(io, pointsman));
    cleanUp.push(io.onHangup(() => { reload(io, pointsman, "SIGHUP"); }));
    if (options.watchConfig) {
      cleanUp.push(await watchConfig(env, options.config, () => { reload(io, pointsman, "file watch"); }));
    }
    const { mode, plane } = pointsman.status();
    env.log.info({ instance: pointsman.supervisor.instance, mode, reason: plane.reason, socket: pointsman.socket }, "running");
    if (io.interrupted.aborted) bySignal();
    const { detach, by } = await ended;
    env.log.info({ detach, by }, detach ? "ending, and taking the data plane along" : "ending");
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
      proxy: { bind: options.proxyBind ?? proxy.bind, portOffset: options.portOffset ?? proxy.portOffset },
    },
  };
}

/** A refused reload is logged and shown by status; what was in force stays. */
function reload(io: Io, pointsman: Pointsman, actor: string): void {
  pointsman.supervisor.reload(actor).catch((error: unknown) => {
    if (!(error instanceof Failure)) throw error;
    io.env.log.error({ code: (error as Failure).code, actor }, `reload refused: ${error.message}`);
  });
}

type Listen = { readonly address: Address; readonly port: number } | null;

/** Follows observe.listen through reloads. A listener that cannot bind makes the instance not ready, and no more. */
function keepObserveServer(io: Io, pointsman: Pointsman): () => Promise<void> {
  const { supervisor } = pointsman;
  const abort = new AbortController();
  let server: ObserveServer | null = null;
  let current: string | null = null;
  const textOf = (listen: Listen): string => (listen === null ? "none" : formatEndpoint(listen.address, listen.port));
  const follow = async (): Promise<void> => {
    const { listen } = supervisor.config().observe;
    if (textOf(listen) === current) return;
    current = textOf(listen);
    await server?.close();
    server = null;
    try {
      if (listen !== null) server = await startObserveServer(supervisor, listen);
      supervisor.setCondition("observe", null);
      if (server !== null) io.env.log.info({ endpoint: server.endpoint }, "metrics, /healthz and /readyz");
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      supervisor.setCondition("observe", reason);
      supervisor.note("supervisor", "observe", reason);
    }
  };
  const following = (async () => {
    await follow();
    for await (const event of supervisor.events.subscribe({ since: supervisor.events.lastId, signal: abort.signal })) {
      if (event.kind === "config") await follow();
    }
  })();
  return async () => {
    abort.abort();
    await following;
    await server?.close();
  };
}
