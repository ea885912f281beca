// Keeps the metrics listener where observe.listen says, through reloads. One that cannot bind makes the
// instance not ready, is told once and tried again. Knows the supervisor; knows no metric.

import type { Cancel, Env } from "../env.ts";
import { formatEndpoint } from "../model/address.ts";
import type { ObserveServer } from "../observe/server.ts";
import { startObserveServer } from "../observe/server.ts";
import type { Supervisor } from "../supervisor/contract.ts";

/** Whoever has the port may be gone by then: an earlier instance that is ending, mostly. */
const RETRY_MS = 5000;

/** Answers how to end it. */
export function keepObserveServer(
  env: Pick<Env, "clock" | "log">, supervisor: Supervisor,
): () => Promise<void> {
  const abort = new AbortController();
  let server: ObserveServer | null = null;
  let served: string | null = null;
  let told: string | null = null;
  let cancel: Cancel = () => undefined;
  let turn: Promise<void> = Promise.resolve();
  const request = (): void => { turn = turn.then(follow); };
  const follow = async (): Promise<void> => {
    const { listen } = supervisor.config().observe;
    const wanted = listen === null ? "none" : formatEndpoint(listen.address, listen.port);
    if (abort.signal.aborted || wanted === served) return;
    cancel();
    served = null;
    await server?.close();
    server = null;
    try {
      if (listen !== null) server = await startObserveServer(supervisor, listen);
      served = wanted;
      told = null;
      supervisor.setCondition("observe", null);
      if (server !== null) env.log.info({ endpoint: server.endpoint }, "metrics, /healthz and /readyz");
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      supervisor.setCondition("observe", reason);
      if (reason !== told) {
        supervisor.note("supervisor", "observe", reason);
        env.log.error({ retryMs: RETRY_MS }, reason);
      }
      told = reason;
      cancel = env.clock.after(RETRY_MS, request);
    }
  };
  request();
  const following = (async () => {
    const since = supervisor.events.lastId;
    for await (const event of supervisor.events.subscribe({ since, signal: abort.signal })) {
      if (event.kind === "config") request();
    }
  })();
  return async () => {
    abort.abort();
    cancel();
    await following;
    await turn;
    await server?.close();
  };
}
