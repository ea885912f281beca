// Receives the datagrams of one UDP service and keeps a session per client, within its limit. A
// session whose backend went is closed at once, and the client's next datagram is decided anew. While
// another process reads the same socket, one of the two begins sessions: the other one passes on to it
// what it has none for.
//
// Bound to `any`, the kernel picks the source address of answers by route, and Node cannot say
// otherwise: a client that asked another address of this host would not know them. Hence the note
// in the log.

import type { RemoteInfo, Socket } from "node:dgram";
import type { SharedSocket } from "../../env.ts";
import { parseAddress } from "../../model/address.ts";
import { namedByCid, type Named } from "../../model/quic_named.ts";
import { everyRegion, serviceFor } from "../../model/service_lookup.ts";
import type { Destination, Service } from "../../model/table.ts";
import type { PassDatagram, SharedSession } from "../dataplane.ts";
import type { ClientPlace, ProxyContext, ServiceLoad } from "./context.ts";
import { decideFlow, holdAffinity, maySit, warnOfDescriptors } from "./context.ts";
import type { ListeningPlace } from "./listening.ts";
import { reasonOf } from "./listening.ts";
import { addressLookup } from "./session_socket.ts";
import { UdpSession, type SessionStart } from "./udp_session.ts";

/** Asked of the kernel, which gives at most net.core.rmem_max. */
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;
/** So many sessions end in one turn of the event loop. */
const END_AT_ONCE = 256;

/** Of the client, as Node tells it. */
type ClientEnd = Pick<RemoteInfo, "address" | "port">;

/** Called with each session that there is or begins. */
export type OnSession = (key: string, session: UdpSession) => void;

export class UdpListener {
  place: ListeningPlace;
  readonly #context: ProxyContext;
  readonly #sessions = new Map<string, UdpSession>();
  readonly #socket: Socket;
  #service: Service;
  #load: ServiceLoad;
  /** Who takes datagrams of clients that have no session here, or all. */
  #passing: { readonly what: "unknown" | "all"; readonly pass: PassDatagram } | null;
  #onSession: OnSession | null = null;
  #draining: Promise<void> | null = null;

  private constructor(
    context: ProxyContext, place: ListeningPlace, service: Service, load: ServiceLoad, socket: Socket, isShared: boolean,
  ) {
    this.#context = context;
    this.place = place;
    this.#service = service;
    this.#load = load;
    this.#socket = socket;
    this.#passing = isShared && context.pass !== null ? { what: "unknown", pass: context.pass } : null;
    socket.on("error", (error) => { this.#onError(error); });
    socket.on("message", (datagram, from) => { this.receive(datagram, from); });
  }

  /** Resolves when it receives; rejects with the error of the bind. */
  static async open(
    context: ProxyContext, place: ListeningPlace, service: Service, load: ServiceLoad,
  ): Promise<UdpListener> {
    // One of a predecessor is read from the moment in which it came.
    const taken = await context.take(place.key) as Socket | null;
    return new UdpListener(context, place, service, load, taken ?? await bind(context, place), taken !== null);
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
    if (this.#passing !== null) return; // what moves elsewhere is not known here
    for (const [key, session] of this.#sessions) {
      if (!session.isIdle(nowMs, this.idleMs)) continue;
      this.#forget(key);
      session.expire();
    }
  }

  /** How long a session may be idle. */
  get idleMs(): number {
    return this.#service.config.proxy.udpIdleTimeoutMs;
  }

  /**
   * Forgets its clients and receives no more: without the socket there is no way to answer them. Thousands of
   * sessions end in several turns.
   */
  drain(): Promise<void> {
    this.#draining ??= this.#drain();
    return this.#draining;
  }

  reset(): void {
    // drain() leaves nothing
  }

  // ---- with another process

  /** Tells of every session, those to come included; null: no longer. */
  onSession(listener: OnSession | null): void {
    this.#onSession = listener;
    if (listener === null) return;
    for (const [key, session] of this.#sessions) listener(key, session);
  }

  /** From now on all datagrams are somebody else's; null: they are ours, also those of clients without a session. */
  passTo(pass: PassDatagram | null): void {
    this.#passing = pass === null ? null : { what: "all", pass };
  }

  /** As one of the process that we take over from; null: it cannot go on here, and what stands in the way is counted. */
  adopt(shared: SharedSession, socket: Socket): { readonly key: string; readonly session: UdpSession } | null {
    const service = this.#service;
    const table = this.#context.table();
    // Regions may share a pool: the client's own comes first.
    const client = placeOf(shared)?.address.bytes;
    const own = client === undefined ? service : serviceFor(table, service, client);
    const [decided, destination] = [own, ...everyRegion(table, service)].flatMap((each) =>
      each.destinations.map((id) => [each, table.destinations.get(id)] as const))
      .find(([, each]) => String(each?.identity) === shared.backend) ?? [service];
    if (destination === undefined || !maySit(table, service, destination)
      || shared.proxyProtocol !== service.config.proxy.proxyProtocol) {
      this.#context.tally.incident("session_moved");
      return null;
    }
    const base = sessionKey(shared);
    const key = shared.isNamed ? namedKey(base, destination) : base;
    const earlier = this.#sessions.get(key); // it has ended there meanwhile
    if (earlier !== undefined) this.#end(key, earlier);
    if (!this.#hasRoom(service)) return null;
    const session = this.#begin(key, shared, decided, destination, { socket, idleMs: shared.idleMs });
    return session === null ? null : { key, session };
  }

  /** Unless another one has taken its place. */
  end(key: string, session: UdpSession): void {
    if (this.#sessions.get(key) === session) this.#end(key, session);
  }

  receive(datagram: Uint8Array, from: ClientEnd): void {
    if (this.#passing?.what === "all") {
      this.#pass(this.#passing.pass, datagram, from);
      return;
    }
    if (this.#draining !== null && this.#passing === null) return;
    const named = namedByCid(this.#context.table(), this.#service, datagram);
    const key = this.#sessionKey(named, from);
    const session = this.#sessions.get(key);
    if (session === undefined && this.#passing !== null) {
      this.#pass(this.#passing.pass, datagram, from);
      return;
    }
    if (named !== null) this.#context.tally.quic(named.outcome);
    (session ?? this.#decideSession(key, from, datagram))?.send(datagram);
  }

  #pass(pass: PassDatagram, bytes: Uint8Array, { address, port }: ClientEnd): void {
    if (!pass({ key: this.place.key, address, port, bytes })) this.#context.tally.incident("datagram_dropped");
  }

  // ---- sessions

  /**
   * The client's address; with a backend that a connection ID names and that is not the one the
   * client's first session went to, a session of its own.
   */
  #sessionKey(named: Named | null, from: ClientEnd): string {
    const key = sessionKey(from);
    if (named === null) return key;
    const first = this.#sessions.get(key);
    if (named.destination === null || first === undefined) return key;
    return first.destination.identity === named.destination.identity ? key : namedKey(key, named.destination);
  }

  #decideSession(key: string, from: ClientEnd, datagram: Uint8Array): UdpSession | null {
    const service = this.#service;
    if (!this.#hasRoom(service)) return null;
    const place = placeOf(from);
    if (place === null) return null;
    const { verdict, destination, service: decided } = decideFlow(this.#context, service, this.place.virtual, place, datagram);
    this.#context.tally.verdict(verdict, 0);
    if (verdict !== "TX_FORWARDED" || destination === null || decided === null) return null;
    return this.#begin(key, from, decided, destination, null);
  }

  #begin(
    key: string, { address, port }: ClientEnd, service: Service, destination: Destination, shared: SessionStart["shared"],
  ): UdpSession | null {
    const place = placeOf({ address, port });
    if (place === null) return null;
    this.#context.descriptors.take(1);
    try {
      const session = new UdpSession(this.#context, {
        place, to: this.place.virtual, service, destination, shared,
        affinity: holdAffinity(this.#context, service, place, destination),
        reply: (answer) => { this.#reply(answer, address, port); },
        onFailure: () => { this.#forget(key); },
      });
      this.#sessions.set(key, session);
      this.#load.flows += 1;
      this.#onSession?.(key, session);
      return session;
    } catch (error) {
      this.#onError(error);
      this.#context.descriptors.give(1);
      this.#context.tally.incident("session_failed");
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

  async #drain(): Promise<void> {
    let ended = 0;
    for (const [key, session] of this.#sessions) {
      if (ended === END_AT_ONCE) {
        await new Promise<void>((resolve) => { this.#context.env.clock.after(0, resolve, true); });
        ended = 0;
      }
      this.end(key, session);
      ended += 1;
    }
    await new Promise<void>((resolve) => { this.#socket.close(resolve); });
  }

  #reply(answer: Uint8Array, address: string, port: number): void {
    this.#socket.send(answer, port, address, (error) => {
      if (error !== null) this.#context.tally.incident("datagram_dropped");
    });
  }

  #onError(error: unknown): void {
    this.#context.warn(`receive ${this.place.key}`, {
      service: this.#service.name, listening: this.place.endpoint, reason: reasonOf(error),
    }, "a datagram socket met an error and goes on");
  }
}

function sessionKey({ address, port }: ClientEnd): string {
  return `${address}|${port}`;
}

function namedKey(key: string, { id }: Destination): string {
  return `${key}|${id}`;
}

/** What a session's key says. */
export function clientOf(key: string): Pick<SharedSession, "address" | "port" | "isNamed"> {
  const [address = "", port, named] = key.split("|");
  return { address, port: Number(port), isNamed: named !== undefined };
}

function placeOf({ address: text, port }: ClientEnd): ClientPlace | null {
  const address = parseAddress(text.split("%")[0] ?? "");
  return address === null ? null : { address, port };
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
