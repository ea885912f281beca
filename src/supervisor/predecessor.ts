// The process that this one takes over from, as the supervisor sees it: asks for each thing when it is
// needed. Once the other one is gone, every question has an answer that makes this an ordinary start.
// Knows the messages; must never know what a socket is used for.

import type { FlowsElsewhere, PlanePredecessor, SessionReceiver } from "../dataplane/dataplane.ts";
import type { Peer, SharedSocket } from "../env.ts";
import { Failure } from "../errors.ts";
import type { Config } from "../model/config.ts";
import { datagramIn, datagramsTo } from "./datagram_channel.ts";
import type { FromPredecessor, FromSuccessor } from "./hand_over.ts";
import { fromPredecessorSchema, HAND_OVER_FORMAT, hasSessions, OLDEST_FORMAT } from "./hand_over.ts";

type Answer = { readonly message: FromPredecessor; readonly socket: SharedSocket | null } | null;

/** Why the plane that is taken over from is what it is. */
export interface Inherited {
  readonly reason: string;
  readonly remedy: string | null;
}

const NO_FLOWS: FlowsElsewhere = { services: {}, backends: {} };

export class Predecessor {
  readonly #peer: Peer;
  /** Sockets that were asked for, by key. */
  readonly #wanted = new Map<string, (socket: SharedSocket | null) => void>();
  /** Whoever waits for any other answer. */
  #waiting: ((answer: Answer) => void) | null = null;
  #format = OLDEST_FORMAT;
  #receiver: SessionReceiver | null = null;
  #held: FlowsElsewhere = NO_FLOWS;
  /** Backends that have lost their flows before it has left: it ends them then. */
  readonly #toEnd = new Set<string>();
  #isGone = false;
  #hasLeft = false;

  constructor(peer: Peer) {
    this.#peer = peer;
    void peer.closed.then(() => { this.#leave(); });
    peer.onMessage((raw, socket) => { this.#hear(raw, socket); });
  }

  get pid(): number { return this.#peer.pid; }
  /** Before it has left. */
  get isGone(): boolean { return this.#isGone; }

  /** Null: it is gone. Throws HAND_OVER_FAILED when it does not want to. */
  async begin({ instance, dataplane: { mode } }: Config, version: string): Promise<Inherited | null> {
    const answer = await this.#ask({
      type: "hello", format: OLDEST_FORMAT, newest: HAND_OVER_FORMAT, version, instance, mode,
    });
    if (answer === null) return null;
    if (answer.message.type === "go") {
      const { format, reason, remedy } = answer.message;
      this.#format = format;
      return { reason, remedy };
    }
    throw this.#refused(answer.message);
  }

  /** What a plane is to have of it, once it has begun. */
  forPlane(): PlanePredecessor {
    return {
      take: (key) => this.#take(key),
      sharesSessions: hasSessions(this.#format),
      onSessions: (receiver) => {
        this.#receiver = receiver;
        if (this.#isGone) receiver.decide(null);
      },
      pass: datagramsTo(this.#peer),
      isServing: () => !this.#isGone && (!this.#hasLeft || this.hasFlows),
      heldFlows: () => this.#held,
      endFlows: (backends) => {
        for (const name of backends) this.#toEnd.add(name);
        if (this.#hasLeft) this.#endFlows();
      },
    };
  }

  /** A listening socket; null when it has none of this name, or is gone. */
  #take(key: string): Promise<SharedSocket | null> {
    if (this.#isGone || this.#hasLeft) return Promise.resolve(null);
    return new Promise((resolve) => {
      this.#wanted.set(key, resolve);
      this.#send({ type: "want", key });
    });
  }

  /** Resolves when the control socket and the metrics listener are free. */
  async releaseControl(): Promise<void> {
    const answer = await this.#ask({ type: "control" });
    if (answer !== null && answer.message.type !== "yours") throw this.#refused(answer.message);
  }

  /**
   * True: it has left, and the lock is ours. False: it is gone, and the lock nobody's. Throws
   * HAND_OVER_FAILED when it does not leave because it serves more than we do.
   */
  async serve(error: string | null, unserved: Readonly<Record<string, string>>): Promise<boolean> {
    const answer = await this.#ask({ type: "serving", error, unserved });
    if (answer === null) return false;
    if (answer.message.type === "left") return true;
    throw this.#refused(answer.message);
  }

  /** Says why it was not taken over from, unless that was its own word. */
  async fail(message: string): Promise<void> {
    const failed: FromSuccessor = { type: "failed", message };
    if (!this.#hasLeft) await this.#peer.send(failed).catch(() => undefined);
  }

  /** Connections that it has still, or the one before it. */
  get hasFlows(): boolean {
    return Object.keys(this.#held.backends).length > 0;
  }

  /** After it was taken over from: its connections are to end within this time, too. */
  end(drainMs: number): void {
    if (this.#hasLeft) this.#send({ type: "ending", drainMs });
  }

  /** Safe to repeat. */
  close(): void {
    this.#peer.close();
  }

  #endFlows(): void {
    if (this.#toEnd.size > 0) this.#send({ type: "endFlows", backends: [...this.#toEnd] });
    this.#toEnd.clear();
  }

  #ask(message: FromSuccessor): Promise<Answer> {
    if (this.#isGone) return Promise.resolve(null);
    return new Promise((resolve) => {
      this.#waiting = resolve;
      this.#send(message);
    });
  }

  #send(message: FromSuccessor): void {
    this.#peer.send(message).catch(() => { this.#leave(); });
  }

  #hear(raw: unknown, socket: SharedSocket | null): void {
    const { data } = fromPredecessorSchema.safeParse(raw);
    if (data === undefined) return; // of a later format, and not for us
    switch (data.type) {
      case "socket":
        this.#wanted.get(data.key)?.(socket);
        this.#wanted.delete(data.key);
        return;
      case "session": // without its socket where that was closed on the way
        if (socket !== null) this.#receiver?.adopt(data, socket);
        return;
      case "datagram":
        this.#receiver?.receive(datagramIn(data));
        return;
      case "left":
        this.#hasLeft = true;
        this.#held = data.held;
        this.#receiver?.decide(data);
        this.#endFlows();
        break;
      case "held":
        this.#held = data.held;
        return;
      case "go": case "no": case "yours": break;
    }
    const tell = this.#waiting;
    this.#waiting = null;
    tell?.({ message: data, socket });
  }

  #leave(): void {
    this.#isGone = true;
    this.#held = NO_FLOWS;
    this.#receiver?.decide(null);
    for (const tell of this.#wanted.values()) tell(null);
    this.#wanted.clear();
    this.#waiting?.(null);
    this.#waiting = null;
  }

  #refused(message: FromPredecessor): Failure {
    const why = message.type === "no" ? message.message : `it answered ${message.type}`;
    return new Failure("HAND_OVER_FAILED", { pid: this.pid }, `process ${this.pid} does not hand over: ${why}`);
  }
}
