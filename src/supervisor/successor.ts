// Handing an instance over to another process: starts it, gives it what it asks for, and leaves when it
// serves; or, when anything goes wrong before, sees it dead and goes on as if nothing had been. Knows the
// messages and the order of things; must never know what a plane does with its sockets.

import type { Env, SuccessorProcess } from "../env.ts";
import { Failure } from "../errors.ts";
import type { FlowsElsewhere, PlaneBequest, SessionSharing } from "../dataplane/dataplane.ts";
import { datagramIn, datagramsTo } from "./datagram_channel.ts";
import { fromSuccessorSchema, HAND_OVER_FORMAT, hasSessions } from "./hand_over.ts";
import type { FromPredecessor, FromSuccessor } from "./hand_over.ts";

/** What is handed over, and how. */
export interface Estate {
  readonly instance: string;
  /** Why this plane; what to do to get the better one. */
  readonly plane: { readonly reason: string; readonly remedy: string | null };
  readonly bequest: PlaneBequest;
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
  /** Tells it of connections that are here still. */
  tell(held: FlowsElsewhere): void;
}

/** A new process that does not serve within this time is given up. */
const PATIENCE_MS = 60_000;
/** One that has failed may take so long to end. */
const ENDING_PATIENCE_MS = 10_000;
/** UDP sessions that are not shared within this time end; so do those that begin at the last moment, and are many. */
const SHARING_PATIENCE_MS = 30_000;
const LATE_SHARING_PATIENCE_MS = 1_000;

/** Resolves when the other process serves. Throws HAND_OVER_FAILED when all is as before. */
export async function handOver(estate: Estate, env: Pick<Env, "clock" | "exec" | "log">): Promise<Heir> {
  const successor = env.exec.startSuccessor();
  const pact = new Pact(estate, successor, env.log);
  const cancel = env.clock.after(PATIENCE_MS, () => {
    pact.fail(`it did not serve within ${PATIENCE_MS / 1000} s`);
    successor.signal("SIGKILL");
  }, true);
  try {
    await pact.kept;
    return {
      process: successor, ending: pact.ending,
      tell: (held) => { successor.send({ type: "held", held }).catch(() => undefined); }, // nobody counts any more
    };
  } catch (error) {
    await seeEnded(successor, env.clock); // nobody but us acts from then on
    successor.close();
    await pact.undo();
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
  readonly #log: Env["log"];
  readonly #successor: SuccessorProcess;
  #resolve: () => void = () => undefined;
  #reject: (error: Error) => void = () => undefined;
  #isFrozen = false;
  #isControlClosed = false;
  #isLockGiven = false;
  #end: (drainMs: number) => void = () => undefined;
  #isOver = false;
  /** Null until they agree on a format that has them. */
  #sessions: SessionSharing | null = null;
  /** One message after the other. */
  #turn: Promise<void> = Promise.resolve();

  constructor(estate: Estate, successor: SuccessorProcess, log: Env["log"]) {
    this.#log = log;
    this.#estate = estate;
    this.#successor = successor;
    this.kept = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.ending = new Promise((resolve) => { this.#end = resolve; });
    successor.onMessage((raw) => {
      const { data: message } = fromSuccessorSchema.safeParse(raw);
      if (message === undefined) return; // of a later format, and not for us
      if (message.type === "ending") this.#end(message.drainMs);
      if (message.type === "endFlows") estate.bequest.endFlows(new Set(message.backends));
      if (message.type === "datagram") this.#sessions?.receive(datagramIn(message));
      this.#turn = this.#turn.then(() => this.#hear(message)).catch((error: unknown) => {
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
  async undo(): Promise<void> {
    this.#sessions?.undo();
    await this.#turn;
    try {
      if (this.#isLockGiven) await this.#estate.giveLock(null);
      if (this.#isControlClosed) await this.#estate.openControl();
    } catch (error) {
      this.#log.error({ err: error }, "after a hand-over that failed, not all is as before; traffic is not concerned");
    }
    if (this.#isFrozen) await this.#estate.freeze(false);
  }

  async #hear(message: FromSuccessor): Promise<void> {
    if (this.#isOver) return;
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
        const format = Math.min(message.newest ?? message.format, HAND_OVER_FORMAT);
        if (hasSessions(format)) {
          this.#sessions = estate.bequest.shareSessions((session, socket) => this.#successor.send({ type: "session", ...session }, socket));
        } else this.#log.warn({ format }, "the new process takes no UDP sessions: clients begin new ones, from other source ports");
        await this.#send({ type: "go", format, ...estate.plane });
        return;
      }
      case "want": {
        const { key } = message;
        await this.#successor.send({ type: "socket", key }, estate.bequest.sharedSocket(key) ?? undefined);
        this.#sessions?.share(key);
        return;
      }
      case "control":
        await this.#sessions?.settled(SHARING_PATIENCE_MS);
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
      case "datagram":
      case "endFlows":
      case "ending":
        return; // not in turn
    }
  }

  #whyNot({ format, instance, mode }: Extract<FromSuccessor, { type: "hello" }>): string | null {
    if (format > HAND_OVER_FORMAT) {
      return `it speaks format ${format} of the hand-over and later ones, and this one ${HAND_OVER_FORMAT}: restart instead`;
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
    await this.#sessions?.settled(LATE_SHARING_PATIENCE_MS);
    this.#isOver = true;
    const lastWord = this.#sessions?.leave(datagramsTo(this.#successor)) ?? { busy: [], ended: [], leftBehind: 0 };
    await this.#send({ type: "left", ...lastWord, held: this.#estate.bequest.heldFlows() });
    this.#sessions?.close();
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
