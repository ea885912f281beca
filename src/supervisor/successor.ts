// Handing an instance over to another process: starts it, gives it what it asks for, and leaves when it
// serves; or, when anything goes wrong before, sees it dead and goes on as if nothing had been. Knows the
// messages and the order of things; must never know what a plane does with its sockets.

import type { Env, SharedSocket, SuccessorProcess } from "../env.ts";
import { Failure } from "../errors.ts";
import { fromSuccessorSchema, HAND_OVER_FORMAT } from "./hand_over.ts";
import type { FromPredecessor, FromSuccessor } from "./hand_over.ts";

/** What is handed over, and how. */
export interface Estate {
  readonly instance: string;
  /** Why this plane; what to do to get the better one. */
  readonly plane: { readonly reason: string; readonly remedy: string | null };
  sharedSocket(key: string): SharedSocket | null;
  /** Names of the services that are served here. */
  served(): ReadonlySet<string>;
  /** No changes from now on, until true. Resolves when none is under way. */
  freeze(isFrozen: boolean): Promise<void>;
  /** The successor has all the sockets: control socket and metrics are to be closed. */
  closeControl(pid: number): Promise<void>;
  openControl(): Promise<void>;
  /** The lock goes to this process; null: back to this one. */
  giveLock(pid: number | null): Promise<void>;
}

/** The process that has taken over. */
export interface Heir {
  readonly process: SuccessorProcess;
  /** Resolves when it was told to end: in how many milliseconds its connections are to be over. */
  readonly ending: Promise<number>;
}

/** A new process that does not serve within this time is given up. */
const PATIENCE_MS = 60_000;
/** One that has failed may take so long to end. */
const ENDING_PATIENCE_MS = 10_000;

/** Resolves when the other process serves. Throws HAND_OVER_FAILED when all is as before. */
export async function handOver(estate: Estate, env: Pick<Env, "clock" | "exec" | "log">): Promise<Heir> {
  const successor = env.exec.startSuccessor();
  const pact = new Pact(estate, successor);
  const cancel = env.clock.after(PATIENCE_MS, () => {
    pact.fail(`it did not serve within ${PATIENCE_MS / 1000} s`);
    successor.signal("SIGKILL");
  }, true);
  try {
    await pact.kept;
    return { process: successor, ending: pact.ending };
  } catch (error) {
    await seeEnded(successor, env.clock); // nobody but us acts from then on
    successor.close();
    await pact.undo(env.log);
    const reason = error instanceof Error ? error.message : String(error);
    const { pid } = successor;
    env.log.error({ successor: pid, reason }, "the new process did not take over; this one goes on");
    throw new Failure("HAND_OVER_FAILED", { pid },
      `the new process ${pid} did not take over, the old one goes on: ${reason}`, error);
  } finally {
    cancel();
  }
}

/** Clients that it had accepted may finish first. */
async function seeEnded(successor: SuccessorProcess, clock: Env["clock"]): Promise<void> {
  const cancel = clock.after(ENDING_PATIENCE_MS, () => { successor.signal("SIGKILL"); }, true);
  await successor.ended;
  cancel();
}

class Pact {
  readonly kept: Promise<void>;
  readonly ending: Promise<number>;
  readonly #estate: Estate;
  readonly #successor: SuccessorProcess;
  #resolve: () => void = () => undefined;
  #reject: (error: Error) => void = () => undefined;
  #isFrozen = false;
  #isControlClosed = false;
  #isLockGiven = false;
  #end: (drainMs: number) => void = () => undefined;
  #isOver = false;
  /** One message after the other. */
  #turn: Promise<void> = Promise.resolve();

  constructor(estate: Estate, successor: SuccessorProcess) {
    this.#estate = estate;
    this.#successor = successor;
    this.kept = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.ending = new Promise((resolve) => { this.#end = resolve; });
    successor.onMessage((raw) => {
      this.#turn = this.#turn.then(() => this.#hear(raw)).catch((error: unknown) => {
        this.fail(error instanceof Error ? error.message : String(error));
      });
    });
    void successor.ended.then((status) => this.#turn.then(() => { this.fail(`it ended with status ${status}`); }));
  }

  /** The first reason counts. */
  fail(reason: string): void {
    this.#isOver = true;
    this.#reject(new Error(reason));
  }

  /** What was closed, frozen or given for it is as before. */
  async undo(log: Env["log"]): Promise<void> {
    await this.#turn;
    try {
      if (this.#isLockGiven) await this.#estate.giveLock(null);
      if (this.#isControlClosed) await this.#estate.openControl();
    } catch (error) {
      log.error({ err: error }, "after a hand-over that failed, not all is as before; traffic is not concerned");
    }
    if (this.#isFrozen) await this.#estate.freeze(false);
  }

  async #hear(raw: unknown): Promise<void> {
    const { data: message } = fromSuccessorSchema.safeParse(raw);
    if (message?.type === "ending") this.#end(message.drainMs);
    if (message === undefined || this.#isOver) return;
    const estate = this.#estate;
    switch (message.type) {
      case "hello": {
        const why = this.#whyNot(message);
        if (why !== null) {
          await this.#refuse(why);
          return;
        }
        this.#isFrozen = true;
        await estate.freeze(true);
        await this.#send({ type: "go", ...estate.plane });
        return;
      }
      case "want": {
        const { key } = message;
        await this.#successor.send({ type: "socket", key }, estate.sharedSocket(key) ?? undefined);
        return;
      }
      case "control":
        this.#isControlClosed = true;
        await estate.closeControl(this.#successor.pid);
        await this.#send({ type: "yours" });
        return;
      case "serving":
        await this.#judge(message);
        return;
      case "failed":
        this.fail(message.message);
        return;
      case "ending":
        return;
    }
  }

  #whyNot({ format, instance, mode }: Extract<FromSuccessor, { type: "hello" }>): string | null {
    if (format !== HAND_OVER_FORMAT) {
      return `it speaks format ${format} of the hand-over, and this one ${HAND_OVER_FORMAT}: restart instead`;
    }
    if (instance !== this.#estate.instance) {
      return `the file is of instance ${instance} now, and this is ${this.#estate.instance}: restart instead`;
    }
    if (mode === "xdp") return "the file asks for the XDP plane now, which takes no sockets over: restart instead";
    return null;
  }

  /** What is served here has to be served there. */
  async #judge({ error, unserved }: Extract<FromSuccessor, { type: "serving" }>): Promise<void> {
    const served = this.#estate.served();
    const lost = Object.entries(unserved).filter(([name]) => served.has(name)).map(([name, why]) => `${name}: ${why}`);
    if (error !== null) lost.push(error);
    if (lost.length > 0) {
      await this.#refuse(`it does not serve all that is served: ${lost.join("; ")}`);
      return;
    }
    this.#isLockGiven = true;
    await this.#estate.giveLock(this.#successor.pid);
    this.#isOver = true;
    await this.#send({ type: "left" });
    this.#resolve();
  }

  async #refuse(message: string): Promise<void> {
    await this.#send({ type: "no", message });
    this.fail(message);
  }

  async #send(message: FromPredecessor): Promise<void> {
    await this.#successor.send(message);
  }
}
