// UDP sessions on their way to a process that takes over: one after the other is sent, with its socket, while
// all of them go on here. Knows sessions and their listeners; must never know how anything is sent.

import type { Clock, Log, SharedSocket } from "../../env.ts";
import type { LastWord, PassDatagram, PassedDatagram, SendSession, SessionSharing } from "../dataplane.ts";
import { reasonOf } from "./listening.ts";
import { clientOf, type UdpListener } from "./udp_listener.ts";
import type { UdpSession } from "./udp_session.ts";

/** A session whose socket is being connected, or has something to send still, is tried again after this time. */
const AGAIN_MS = 1;

interface Entry {
  readonly listener: UdpListener;
  readonly key: string;
  readonly session: UdpSession;
}

export interface SharingWorld {
  readonly clock: Clock;
  readonly log: Log;
  readonly listenerOf: (key: string) => UdpListener | null;
}

export class ProxySessionSharing implements SessionSharing {
  readonly #world: SharingWorld;
  readonly #send: SendSession;
  readonly #listeners = new Set<UdpListener>();
  /** Those that the other process does not have yet, in their order. */
  readonly #waiting = new Set<Entry>();
  /** By their place here, which is their id. */
  readonly #sent: UdpSession[] = [];
  /** They end with this process. */
  #unsharable = 0;
  #isSending = false;
  /** Nothing is sent any more. */
  #isOver = false;
  readonly #onSettled: (() => void)[] = [];

  constructor(world: SharingWorld, send: SendSession) {
    this.#world = world;
    this.#send = send;
  }

  share(key: string): void {
    const listener = this.#world.listenerOf(key);
    if (listener === null || this.#isOver) return;
    this.#listeners.add(listener);
    listener.onSession((client, session) => {
      this.#waiting.add({ listener, key: client, session });
      if (!this.#isSending) void this.#sendAll();
    });
  }

  receive({ key, address, port, bytes }: PassedDatagram): void {
    this.#world.listenerOf(key)?.receive(bytes, { address, port });
  }

  settled(patienceMs: number): Promise<void> {
    if (!this.#isSending) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#world.clock.after(patienceMs, resolve, true);
      this.#onSettled.push(() => {
        cancel();
        resolve();
      });
    });
  }

  leave(pass: PassDatagram): LastWord {
    this.#isOver = true;
    for (const listener of this.#listeners) {
      listener.onSession(null);
      listener.passTo(pass);
    }
    const ids = (isOne: (session: UdpSession) => boolean): number[] =>
      this.#sent.flatMap((session, id) => (isOne(session) ? [id] : []));
    const leftBehind = [...this.#waiting].filter(({ session }) => !session.isClosed).length + this.#unsharable;
    const shared = this.#sent.length;
    if (leftBehind > 0) {
      this.#world.log.warn({ shared, leftBehind }, "UDP sessions that could not be handed over in time end: "
        + "their clients' next datagrams begin new ones, from other source ports");
    } else if (shared > 0) this.#world.log.info({ shared }, "the other process has the UDP sessions");
    return {
      busy: ids((session) => !session.isClosed && session.hasMovedSinceShared),
      ended: ids((session) => session.isClosed), leftBehind,
    };
  }

  close(): void {
    for (const listener of this.#listeners) void listener.drain();
  }

  undo(): void {
    this.#isOver = true;
    for (const listener of this.#listeners) {
      listener.onSession(null);
      listener.passTo(null);
    }
    for (const session of this.#sent) session.takeBack();
  }

  async #sendAll(): Promise<void> {
    this.#isSending = true;
    while (this.#waiting.size > 0 && !this.#isOver) {
      if (await this.#sendSharable() > 0) continue;
      await new Promise<void>((resolve) => { this.#world.clock.after(AGAIN_MS, resolve, true); });
    }
    this.#isSending = false;
    for (const tell of this.#onSettled.splice(0)) tell();
  }

  /** How many of those that wait do so no longer. */
  async #sendSharable(): Promise<number> {
    let done = 0;
    for (const entry of [...this.#waiting]) {
      if (this.#isOver) break;
      if (!entry.session.isClosed && !entry.session.isSharable) continue;
      this.#waiting.delete(entry);
      done += 1;
      if (!entry.session.isClosed) await this.#sendOne(entry);
    }
    return done;
  }

  async #sendOne({ listener, key, session }: Entry): Promise<void> {
    const { place, service: { config } } = listener;
    let socket: SharedSocket;
    try {
      socket = session.share();
    } catch (error) {
      this.#unsharable += 1;
      this.#world.log.debug({ reason: reasonOf(error) }, "a UDP session's socket cannot be disconnected");
      return;
    }
    const id = this.#sent.push(session) - 1;
    try {
      await this.#send({
        id, key: place.key, ...clientOf(key), backend: String(session.destination.identity),
        proxyProtocol: config.proxy.proxyProtocol, idleMs: session.idleMs(this.#world.clock.monotonicMs()),
      }, socket);
    } catch (error) {
      this.#isOver = true;
      this.#world.log.debug({ reason: reasonOf(error) }, "UDP sessions are not shared any more");
    } finally {
      session.arrived();
    }
  }
}
