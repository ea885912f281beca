// One client of a UDP service: a socket of its own, connected to the backend, so that answers find
// their way back and unreachable ports are heard of. While another process has the socket as well, it is not
// connected, and both read it. Knows one socket; nothing of other sessions.

import type { Socket } from "node:dgram";
import type { Address } from "../../model/address.ts";
import { ANSWERED, failedFlow, silentFlow, type FlowsSeen } from "../../model/flows_seen.ts";
import { proxyHeaderV2 } from "../../model/proxy_protocol.ts";
import type { Destination, Service } from "../../model/table.ts";
import type { AffinityHold } from "./affinities.ts";
import { AnswerClock } from "./answer_clock.ts";
import type { ClientPlace, ProxyContext, VirtualPlace } from "./context.ts";
import { errnoName, reasonOf } from "./listening.ts";
import { createSessionSocket, isFrom } from "./session_socket.ts";
import type { Account } from "./tally.ts";

/** Datagrams that wait while the socket is being connected. */
const WAITING_MAX = 64;
/** What ICMP messages about the backend come as: no port there, or no host. */
const UNREACHABLE: ReadonlySet<string> = new Set(["ECONNREFUSED", "EHOSTUNREACH"]);

export interface SessionStart {
  readonly place: ClientPlace;
  /** What the client asked for. */
  readonly to: VirtualPlace;
  readonly service: Service;
  readonly destination: Destination;
  /** Null: the service remembers no clients. */
  readonly affinity: AffinityHold | null;
  readonly reply: (datagram: Uint8Array) => void;
  /** The session cannot go on; it has closed itself. */
  readonly onFailure: () => void;
  /** What another process has as well; null: the session begins here. */
  readonly shared: { readonly socket: Socket; readonly idleMs: number } | null;
}

/** Where the datagrams of the client go. */
type Way =
  /** Nowhere yet: they wait while the socket is being connected. */
  | { readonly is: "connecting"; readonly waiting: Uint8Array[] }
  | { readonly is: "connected" }
  /** The socket is not connected: each says where it goes. */
  | { readonly is: "by address" };

export class UdpSession {
  readonly destination: Destination;
  readonly #context: ProxyContext;
  readonly #start: SessionStart;
  readonly #account: Account;
  readonly #socket: Socket;
  readonly #header: Uint8Array | null;
  #way: Way = { is: "by address" };
  readonly #clock: AnswerClock | null;
  #isClosed = false;
  /** Another process has it, or is about to. */
  #isShared = false;
  /** Until then it has to stay open. */
  #isBeingSent = false;
  #datagrams = 0;
  #bytes = 0;
  /** Datagrams both ways; and how many there were at the last look, and when it was shared. */
  #moved = 0;
  #movedBefore = 0;
  #movedWhenShared = 0;
  #activeAtMs: number;
  /** The backend has answered, and nothing said since then that it does not. */
  #isAnswered = false;

  constructor(context: ProxyContext, start: SessionStart) {
    this.#context = context;
    this.#start = start;
    this.destination = start.destination;
    this.#account = { service: start.service.name, backend: start.destination.name };
    this.#activeAtMs = context.env.clock.monotonicMs() - (start.shared?.idleMs ?? 0);
    this.#header = proxyHeader(start);
    this.#clock = start.shared === null ? AnswerClock.start(context, start.service, start.destination.name) : null;
    this.#socket = this.#open(start);
    if (start.shared === null) this.reconnect();
    context.tally.open(this.#account);
  }

  /** From the client to the backend. */
  send(datagram: Uint8Array): void {
    this.#moved += 1;
    this.#clock?.asked();
    this.#datagrams += 1;
    this.#bytes += datagram.length;
    if (this.#way.is !== "connecting") this.#forward(datagram);
    else if (this.#way.waiting.length < WAITING_MAX) this.#way.waiting.push(datagram);
    else this.#context.tally.incident("datagram_dropped");
  }

  count(): void {
    if (this.#datagrams === 0) return;
    this.#context.tally.traffic(this.#account, this.#datagrams, this.#bytes);
    this.#datagrams = 0;
    this.#bytes = 0;
  }

  /** True when no datagram moved for so long. */
  isIdle(nowMs: number, idleMs: number): boolean {
    this.#clock?.sweep(nowMs);
    if (this.#moved !== this.#movedBefore) {
      this.#movedBefore = this.#moved;
      this.#activeAtMs = nowMs;
    }
    return nowMs - this.#activeAtMs >= idleMs;
  }

  /** Ends since nothing moves. */
  expire(): void {
    if (!this.#isAnswered) this.#tell(silentFlow("no answer until the idle timeout"));
    this.close();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.count();
    this.#context.tally.close(this.#account);
    this.#start.affinity?.end();
    this.#context.descriptors.give(1);
    if (!this.#isBeingSent) this.#socket.close();
  }

  /**
   * Connects it to the backend, at first or again. Not while another process is to have it: that one would get
   * it connected, and could not send by it.
   */
  reconnect(): void {
    if (this.#isClosed || this.#isShared) return;
    const { address, port } = this.#backend;
    const waiting: Uint8Array[] = [];
    this.#way = { is: "connecting", waiting };
    this.#socket.connect(port, address.text, (error?: Error) => { this.#onConnected(waiting, error ?? null); });
  }

  // ---- shared with another process

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Whether share() would lose nothing now. */
  get isSharable(): boolean {
    return !this.#isClosed && this.#way.is !== "connecting" && this.#socket.getSendQueueCount() === 0;
  }

  /**
   * The socket, for another process to have as well. Until arrived() it stays open, also when the session ends:
   * the kernel has not taken it yet. Throws when it cannot be disconnected.
   */
  share(): Socket {
    if (this.#way.is === "connected") this.#socket.disconnect();
    this.#way = { is: "by address" };
    this.#movedWhenShared = this.#moved;
    this.#isShared = true;
    this.#isBeingSent = true;
    return this.#socket;
  }

  /** The other process has it, or will never get it. */
  arrived(): void {
    this.#isBeingSent = false;
    if (this.#isClosed) this.#socket.close();
  }

  /** The other process is gone. */
  takeBack(): void {
    this.#isShared = false;
    this.reconnect();
  }

  /** Whether any datagram moved here since it was shared. */
  get hasMovedSinceShared(): boolean {
    return this.#moved !== this.#movedWhenShared;
  }

  /** For how long no datagram has moved. */
  idleMs(nowMs: number): number {
    this.isIdle(nowMs, Infinity);
    return nowMs - this.#activeAtMs;
  }

  /** Something moved elsewhere. */
  touch(): void {
    this.#moved += 1;
  }

  // ---- the socket

  get #backend(): { readonly address: Address; readonly port: number } {
    const { address, port } = this.destination;
    return { address, port: port ?? this.#start.to.port };
  }

  #open({ shared, reply }: SessionStart): Socket {
    const { address, port } = this.#backend;
    const socket = shared?.socket ?? createSessionSocket(this.#context.env.net, address.family);
    socket.on("message", (datagram, from) => {
      if (!isFrom(from, address, port)) {
        this.#context.tally.incident("answer_of_stranger");
        return;
      }
      this.#moved += 1;
      if (!this.#isAnswered) this.#tell(ANSWERED);
      this.#isAnswered = true;
      this.#clock?.answered();
      if (!this.#isClosed) reply(datagram);
    });
    socket.on("error", (error) => { this.#onLoss(error); });
    return socket;
  }

  #forward(datagram: Uint8Array): void {
    if (this.#isClosed) return;
    const parts = this.#header === null ? [datagram] : [this.#header, datagram];
    const onSent = (error: Error | null): void => {
      if (error !== null) this.#onLoss(error);
    };
    if (this.#way.is === "connected") {
      this.#socket.send(parts, onSent);
      return;
    }
    const { address, port } = this.#backend;
    this.#socket.send(parts, port, address.text, onSent);
  }

  /** An ICMP message comes as an error of the next send or receive, whichever is first. */
  #onLoss(error: Error): void {
    this.#context.tally.incident("datagram_dropped");
    this.#warn(error);
    if (!UNREACHABLE.has(errnoName(error))) return;
    this.#isAnswered = false;
    this.#clock?.failed();
    this.#tell(failedFlow(reasonOf(error)));
  }

  #onConnected(waiting: readonly Uint8Array[], error: Error | null): void {
    if (this.#isClosed) return;
    if (error !== null && this.#start.shared === null) {
      this.#warn(error);
      this.#context.tally.incident("session_failed");
      this.close();
      this.#start.onFailure();
      return;
    }
    // Node 20 connects no socket of IPv6 that came from another process (EINVAL): it goes on without.
    this.#way = { is: error === null ? "connected" : "by address" };
    for (const datagram of waiting) this.#forward(datagram);
  }

  #tell(seen: FlowsSeen): void {
    if (!this.#isClosed) this.#context.saw(this.#account.backend, seen);
  }

  #warn(error: Error): void {
    this.#context.warn(`session ${this.destination.name}`, {
      service: this.#account.service, backend: this.destination.name, reason: reasonOf(error),
    }, "a datagram did not reach its backend");
  }
}

/** v1 has no datagrams: they get v2 where either is asked for. */
function proxyHeader({ place, to, service: { config } }: SessionStart): Uint8Array | null {
  if (config.proxy.proxyProtocol === "none") return null;
  return proxyHeaderV2({
    source: place.address, sourcePort: place.port,
    destination: to.address, destinationPort: to.port,
  }, "udp");
}
