// Receives the datagrams of one UDP service and keeps a session per client, within its limit. A
// session whose backend went is closed at once, and the client's next datagram is decided anew.
//
// Bound to `any`, the kernel picks the source address of answers by route, and Node cannot say
// otherwise: a client that asked another address of this host would not know them. Hence the note
// in the log.

import type { RemoteInfo, Socket } from "node:dgram";
import type { SharedSocket } from "../../env.ts";
import { parseAddress } from "../../model/address.ts";
import { namedByCid } from "../../model/quic_named.ts";
import type { Service } from "../../model/table.ts";
import type { ProxyContext, ServiceLoad } from "./context.ts";
import { decideFlow, maySit, warnOfDescriptors } from "./context.ts";
import type { ListeningPlace } from "./listening.ts";
import { reasonOf } from "./listening.ts";
import { addressLookup, UdpSession } from "./udp_session.ts";

/** Asked of the kernel, which gives at most net.core.rmem_max. */
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;

export class UdpListener {
  place: ListeningPlace;
  readonly #context: ProxyContext;
  readonly #sessions = new Map<string, UdpSession>();
  readonly #socket: Socket;
  #service: Service;
  #load: ServiceLoad;

  private constructor(
    context: ProxyContext, place: ListeningPlace, service: Service, load: ServiceLoad, socket: Socket,
  ) {
    this.#context = context;
    this.place = place;
    this.#service = service;
    this.#load = load;
    this.#socket = socket;
    socket.on("error", (error) => { this.#onError(error); });
    socket.on("message", (datagram, from) => { this.#receive(datagram, from); });
  }

  /** Resolves when it receives; rejects with the error of the bind. */
  static async open(
    context: ProxyContext, place: ListeningPlace, service: Service, load: ServiceLoad,
  ): Promise<UdpListener> {
    // One of a predecessor is read from the moment in which it came.
    const socket = await context.take(place.key) as Socket | null ?? await bind(context, place);
    return new UdpListener(context, place, service, load, socket);
  }

  /** For a process that takes over. */
  get socket(): SharedSocket {
    return this.#socket;
  }

  get service(): Service {
    return this.#service;
  }

  get size(): number {
    return this.#sessions.size;
  }

  /**
   * A new version of the service. Sessions whose backend is no longer there, or not alive, end
   * here.
   */
  update(service: Service, place: ListeningPlace, load: ServiceLoad): void {
    const before = this.#service.config.proxy.proxyProtocol;
    this.#service = service;
    this.place = place;
    this.#load.flows -= this.#sessions.size;
    this.#load = load;
    this.#load.flows += this.#sessions.size;
    for (const [key, session] of this.#sessions) {
      if (before === service.config.proxy.proxyProtocol
        && maySit(this.#context.table(), service, session.destination)) continue;
      this.#context.tally.incident("session_moved");
      this.#end(key, session);
    }
  }

  /** With a new version of the service: update() has ended them. */
  endFlows(): void {
    // a listener that leaves has none any more
  }

  count(): void {
    for (const session of this.#sessions.values()) session.count();
  }

  sweep(nowMs: number): void {
    for (const [key, session] of this.#sessions) {
      if (session.isIdle(nowMs, this.idleMs)) this.#end(key, session);
    }
  }

  /** How long a session may be idle. */
  get idleMs(): number {
    return this.#service.config.proxy.udpIdleTimeoutMs;
  }

  /**
   * Receives no more and forgets its clients: without the socket there is no way to answer them.
   */
  drain(): Promise<void> {
    for (const [key, session] of this.#sessions) this.#end(key, session);
    return new Promise((resolve) => { this.#socket.close(resolve); });
  }

  reset(): void {
    // drain() has left nothing
  }

  #receive(datagram: Uint8Array, from: RemoteInfo): void {
    const key = this.#sessionKey(datagram, from);
    const session = this.#sessions.get(key) ?? this.#openSession(key, from, datagram);
    session?.send(datagram);
  }

  /**
   * The client's address; with a backend that a connection ID names and that is not the one the
   * client's first session went to, a session of its own.
   */
  #sessionKey(datagram: Uint8Array, from: RemoteInfo): string {
    const key = `${from.address}|${from.port}`;
    const named = namedByCid(this.#context.table(), this.#service, datagram);
    if (named === null) return key;
    this.#context.tally.quic(named.outcome);
    const first = this.#sessions.get(key);
    if (named.destination === null || first === undefined) return key;
    const { id, identity } = named.destination;
    return first.destination.identity === identity ? key : `${key}|${id}`;
  }

  #openSession(key: string, from: RemoteInfo, datagram: Uint8Array): UdpSession | null {
    const { tally } = this.#context;
    const service = this.#service;
    if (!this.#hasRoom(service)) return null;
    const address = parseAddress(from.address.split("%")[0] ?? "");
    if (address === null) return null;
    const place = { address, port: from.port };
    const { virtual } = this.place;
    const { verdict, destination } = decideFlow(this.#context, service, virtual, place, datagram);
    tally.verdict(verdict, 0);
    if (verdict !== "TX_FORWARDED" || destination === null) return null;
    this.#context.descriptors.take(1);
    try {
      const session = new UdpSession(this.#context, {
        place, to: this.place.virtual, service, destination,
        reply: (answer) => { this.#reply(answer, from); },
        onFailure: () => { this.#forget(key); },
      });
      this.#sessions.set(key, session);
      this.#load.flows += 1;
      return session;
    } catch (error) {
      this.#onError(error);
      this.#context.descriptors.give(1);
      tally.incident("session_failed");
      return null;
    }
  }

  /** Counts and says why when there is none. */
  #hasRoom({ name, config: { proxy: { sessionsMax } } }: Service): boolean {
    const { tally, descriptors } = this.#context;
    if (this.#load.flows >= sessionsMax) {
      tally.incident("sessions_max");
      this.#context.warn(`sessions ${name}`, { service: name, max: sessionsMax },
        "a service has all the sessions it may have; datagrams of further clients are dropped");
      return false;
    }
    if (descriptors.has(1)) return true;
    tally.incident("descriptors_max");
    warnOfDescriptors(this.#context, name);
    return false;
  }

  #end(key: string, session: UdpSession): void {
    this.#forget(key);
    session.close();
  }

  #forget(key: string): void {
    if (this.#sessions.delete(key)) this.#load.flows -= 1;
  }

  #reply(answer: Uint8Array, to: RemoteInfo): void {
    this.#socket.send(answer, to.port, to.address, (error) => {
      if (error !== null) this.#context.tally.incident("datagram_dropped");
    });
  }

  #onError(error: unknown): void {
    this.#context.warn(`receive ${this.place.key}`, {
      service: this.#service.name, listening: this.place.endpoint, reason: reasonOf(error),
    }, "a datagram socket met an error and goes on");
  }
}

function bind({ env }: ProxyContext, place: ListeningPlace): Promise<Socket> {
  const socket = env.net.createDatagram({
    type: place.family === 4 ? "udp4" : "udp6", ipv6Only: place.family === 6,
    recvBufferSize: RECEIVE_BUFFER_BYTES, lookup: addressLookup,
  });
  return new Promise((resolve, reject) => {
    const onBindError = (error: Error): void => {
      socket.close();
      reject(error);
    };
    socket.once("error", onBindError);
    socket.bind({ address: place.host, port: place.port, exclusive: true }, () => {
      socket.removeListener("error", onBindError);
      resolve(socket);
    });
  });
}
