// UDP sessions that a predecessor shares: each goes on here from the moment in which it comes. The predecessor
// begins sessions until its last word; then their sockets are connected again. Knows sessions and their
// listeners; must never know how anything comes.

import type { Socket } from "node:dgram";
import type { SharedSocket } from "../../env.ts";
import type { LastWord, PassedDatagram, SessionReceiver, SharedSession } from "../dataplane.ts";
import type { ProxyContext } from "./context.ts";
import type { TcpListener } from "./tcp_listener.ts";
import { UdpListener } from "./udp_listener.ts";
import type { UdpSession } from "./udp_session.ts";

/** So many sockets are connected in one turn of the event loop. */
const CONNECT_AT_ONCE = 256;

interface Taken {
  readonly listener: UdpListener;
  readonly key: string;
  readonly session: UdpSession;
}

export class SessionTaking implements SessionReceiver {
  readonly #context: ProxyContext;
  /** All there are, by the keys of their sockets. */
  readonly #listeners: ReadonlyMap<string, TcpListener | UdpListener>;
  /** By id. */
  readonly #taken = new Map<number, Taken>();
  #refused = 0;
  #isDeciding = false;

  constructor(context: ProxyContext, listeners: ReadonlyMap<string, TcpListener | UdpListener>) {
    this.#context = context;
    this.#listeners = listeners;
  }

  adopt(shared: SharedSession, socket: SharedSocket): void {
    const listener = this.#listenerOf(shared.key);
    const taken = this.#isDeciding ? null : listener?.adopt(shared, socket as Socket) ?? null;
    if (listener === null || taken === null) {
      socket.close();
      this.#refused += 1;
    } else this.#taken.set(shared.id, { listener, ...taken });
  }

  receive({ key, address, port, bytes }: PassedDatagram): void {
    this.#listenerOf(key)?.receive(bytes, { address, port });
  }

  decide(lastWord: LastWord | null): void {
    if (this.#isDeciding) return;
    this.#isDeciding = true;
    // Of one that is gone without a word nothing is known: all its sessions may be in use.
    const busy = new Set(lastWord?.busy ?? this.#taken.keys());
    const ended = new Set(lastWord?.ended);
    let taken = 0;
    for (const [id, { listener, key, session }] of this.#taken) {
      if (ended.has(id)) listener.end(key, session);
      else if (busy.has(id)) session.touch();
      if (!session.isClosed) taken += 1;
    }
    for (const listener of this.#listeners.values()) if (listener instanceof UdpListener) listener.passTo(null);
    const leftBehind = lastWord?.leftBehind ?? 0;
    for (let count = 0; count < leftBehind; count += 1) this.#context.tally.incident("session_left_behind");
    if (taken + this.#refused + leftBehind > 0) {
      this.#context.env.log.info({ taken, refused: this.#refused, leftBehind }, "UDP sessions go on here");
    }
    void this.#connectAll();
  }

  /** Sessions that have ended meanwhile are left alone. */
  async #connectAll(): Promise<void> {
    let connected = 0;
    for (const { session } of this.#taken.values()) {
      if (connected === CONNECT_AT_ONCE) {
        await new Promise<void>((resolve) => { this.#context.env.clock.after(0, resolve); });
        connected = 0;
      }
      session.reconnect();
      connected += 1;
    }
    this.#taken.clear();
  }

  #listenerOf(key: string): UdpListener | null {
    const listener = this.#listeners.get(key);
    return listener instanceof UdpListener ? listener : null;
  }
}
