// What `run` does when another process is to take over: one hand-over at a time, whoever asks for it, and
// the word to systemd. Knows the instance and how it is asked; must never know what is handed over.

import type { Pointsman, Restartable } from "../create.ts";
import { underWay } from "../api/server.ts";
import type { Env } from "../env.ts";
import { Failure } from "../errors.ts";
import type { Heir } from "../supervisor/successor.ts";
import type { Reloader } from "./run.ts";

export interface HandedOver {
  readonly heir: Heir;
  /** For the connections that are left. */
  readonly drainMs: number;
}

interface Request {
  readonly actor: string;
  /** Null: as the config says. */
  readonly drainMs: number | null;
}

interface Parts {
  readonly pointsman: Pointsman;
  readonly reloader: Reloader;
  readonly metrics: { stop(): Promise<void>; start(): void };
}

export class Upgrader {
  readonly #env: Env;
  readonly #onHandedOver: (handedOver: HandedOver) => void;
  #parts: Parts | null = null;
  #isUnderWay = false;
  #heir: Heir | null = null;

  constructor(env: Env, onHandedOver: (handedOver: HandedOver) => void) {
    this.#env = env;
    this.#onHandedOver = onHandedOver;
  }

  /** From now on there is something to hand over. */
  open(pointsman: Pointsman, reloader: Reloader, metrics: Parts["metrics"]): void {
    this.#parts = { pointsman, reloader, metrics };
  }

  /** Once handed over, it is the other one's to do. */
  requestBySignal(): void {
    if (this.#heir !== null) {
      this.#heir.process.signal("SIGUSR2");
      return;
    }
    this.request({ actor: "SIGUSR2", drainMs: null }).then(({ proceed }) => { proceed(); }, (error: unknown) => {
      // A hand-over that failed was told.
      if (!(error instanceof Failure)) throw error;
    });
  }

  /** Resolves when the other process has all it needs; it gets on with it once `proceed` is called. */
  async request({ actor, drainMs }: Request): Promise<{ readonly pid: number; readonly proceed: () => void }> {
    const parts = this.#parts;
    if (parts === null) {
      throw new Failure("HAND_OVER_FAILED", { pid: 0 }, "this process is only starting: ask again when it runs");
    }
    const { supervisor } = parts.pointsman;
    if (this.#isUnderWay) throw underWay(supervisor.instance);
    this.#isUnderWay = true;
    return await new Promise((resolve, reject) => {
      const metrics: Restartable = {
        stop: async (pid) => {
          await new Promise<void>((proceed) => { resolve({ pid, proceed }); });
          await parts.metrics.stop();
        },
        start: () => { parts.metrics.start(); },
      };
      this.#handOver(parts, metrics, actor, drainMs).catch(reject);
    });
  }

  async #handOver(parts: Parts, metrics: Restartable, actor: string, drainMs: number | null): Promise<void> {
    const { pointsman: { supervisor }, reloader } = parts;
    const { instance } = supervisor;
    this.#env.log.info({ instance, actor }, "another process is to take over");
    reloader.hold();
    try {
      const heir = await parts.pointsman.handOver(metrics);
      this.#heir = heir;
      this.#onHandedOver({ heir, drainMs: drainMs ?? supervisor.config().dataplane.proxy.drainTimeoutMs });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      supervisor.note("supervisor", instance, message, { actor });
      this.#isUnderWay = false;
      reloader.resume();
      throw error;
    }
  }
}
