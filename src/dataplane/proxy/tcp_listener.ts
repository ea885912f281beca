// Accepts the TCP connections of one service, within its limit, and asks decide() where each one
// goes. Knows its connections; a change of the table reaches it as a new version of its service.

import type { Server, Socket } from "node:net";
import type { SharedSocket } from "../../env.ts";
import { parseAddress } from "../../model/address.ts";
import type { Service } from "../../model/table.ts";
import type { ProxyContext, ServiceLoad } from "./context.ts";
import { decideFlow, holdAffinity, newest, warnOfDescriptors } from "./context.ts";
import type { ListeningPlace } from "./listening.ts";
import { reasonOf } from "./listening.ts";
import type { Account } from "./tally.ts";
import { HIGH_WATER_MARK, resetSocket, TcpConnection } from "./tcp_connection.ts";

/** The kernel takes no more than net.core.somaxconn of it. */
const BACKLOG = 4096;
const KEEP_ALIVE_MS = 60_000;
/** One for the client, one for its backend. */
const DESCRIPTORS = 2;

export class TcpListener {
  place: ListeningPlace;
  readonly #context: ProxyContext;
  readonly #connections = new Set<TcpConnection>();
  readonly #server: Server;
  #service: Service;
  #load: ServiceLoad;
  #onEmpty: (() => void) | null = null;

  private constructor(
    context: ProxyContext, place: ListeningPlace, service: Service, load: ServiceLoad,
  ) {
    this.#context = context;
    this.place = place;
    this.#service = service;
    this.#load = load;
    const options = {
      allowHalfOpen: true, pauseOnConnect: true, noDelay: true,
      keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS, highWaterMark: HIGH_WATER_MARK,
    };
    this.#server = context.env.net.createServer(options, (client) => { this.#accept(client); });
  }

  /**
   * Resolves when it listens; rejects with the error of the bind. A socket that a predecessor has is
   * listened on at once, within the turn in which it came: clients wait in its queue.
   */
  static async open(
    context: ProxyContext, place: ListeningPlace, service: Service, load: ServiceLoad,
  ): Promise<TcpListener> {
    const taken = await context.take(place.key);
    return await new Promise((resolve, reject) => {
      const listener = new TcpListener(context, place, service, load);
      const server = listener.#server;
      server.once("error", reject);
      const onListening = (): void => {
        server.removeListener("error", reject);
        server.on("error", (error) => { listener.#onAcceptError(error); });
        resolve(listener);
      };
      if (taken !== null) server.listen(taken, BACKLOG, onListening);
      else {
        server.listen({
          host: place.host, port: place.port, ipv6Only: place.family === 6, backlog: BACKLOG,
          exclusive: true,
        }, onListening);
      }
    });
  }

  /** For a process that takes over. */
  get socket(): SharedSocket {
    return this.#server;
  }

  get service(): Service {
    return this.#service;
  }

  /** Connections, those still being connected included. */
  get size(): number {
    return this.#connections.size;
  }

  /**
   * A new version of the service. Connections stay where they are, as they would behind any TCP
   * proxy.
   */
  update(service: Service, place: ListeningPlace, load: ServiceLoad): void {
    this.#service = service;
    this.place = place;
    this.#load.flows -= this.#connections.size;
    this.#load = load;
    this.#load.flows += this.#connections.size;
  }

  /** Of connections that have come to their backend. */
  accounts(): Account[] {
    return [...this.#connections].flatMap(({ account }) => account ?? []);
  }

  /** Of these backends ("pool/backend"). */
  endFlows(backends: ReadonlySet<string>): void {
    for (const connection of this.#connections) connection.endAt(backends);
  }

  count(): void {
    for (const connection of this.#connections) connection.count();
  }

  sweep(nowMs: number): void {
    for (const connection of this.#connections) connection.sweep(nowMs);
  }

  /** How long a connection may be idle; 0: for ever. */
  get idleMs(): number {
    return this.#service.config.proxy.idleTimeoutMs;
  }

  /** Accepts no more. Resolves when the last connection has ended. */
  drain(): Promise<void> {
    this.#server.close();
    return new Promise((resolve) => {
      if (this.#connections.size === 0) resolve();
      else this.#onEmpty = resolve;
    });
  }

  /** Ends what is left. */
  reset(): void {
    for (const connection of this.#connections) connection.reset();
  }

  #accept(client: Socket): void {
    const { tally } = this.#context;
    const service = this.#service;
    if (!this.#hasRoom(service)) {
      this.#turnAway(client);
      return;
    }
    const address = parseAddress((client.remoteAddress ?? "").split("%")[0] ?? "");
    if (address === null) { // gone between the accept and now
      tally.incident("client_gone");
      this.#turnAway(client);
      return;
    }
    const place = { address, port: client.remotePort ?? 0 };
    const { verdict, destination, how, service: decided } = decideFlow(this.#context, service, this.place.virtual, place);
    tally.verdict(verdict, 0);
    if (verdict !== "TX_FORWARDED" || destination === null || decided === null) {
      this.#turnAway(client);
      return;
    }
    this.#context.descriptors.take(DESCRIPTORS);
    this.#load.flows += 1;
    this.#connections.add(new TcpConnection(this.#context, {
      client, place, to: this.place.virtual, destination, slot: how?.slot ?? null,
      affinity: holdAffinity(this.#context, decided, place, destination),
      service: () => newest(this.#context.table(), this.#service, decided),
      onEnd: (connection) => { this.#onEnd(connection); },
    }));
  }

  /** Counts and says why when there is none. */
  #hasRoom({ name, config: { proxy } }: Service): boolean {
    const { tally, descriptors } = this.#context;
    if (this.#load.flows >= proxy.connectionsMax) {
      tally.incident("connections_max");
      this.#context.warn(`connections ${name}`, { service: name, max: proxy.connectionsMax },
        "a service has all the connections it may have; further ones are turned away");
      return false;
    }
    if (descriptors.has(DESCRIPTORS)) return true;
    tally.incident("descriptors_max");
    warnOfDescriptors(this.#context, name);
    return false;
  }

  #turnAway(client: Socket): void {
    client.on("error", () => { /* nobody is there to hear it */ });
    resetSocket(client);
  }

  #onEnd(connection: TcpConnection): void {
    this.#connections.delete(connection);
    this.#load.flows -= 1;
    this.#context.descriptors.give(DESCRIPTORS);
    if (this.#connections.size === 0) this.#onEmpty?.();
  }

  /**
   * No descriptor for a connection, say. The listener goes on; libuv has turned the client away.
   */
  #onAcceptError(error: Error): void {
    this.#context.tally.incident("accept_failed");
    this.#context.warn(`accept ${this.place.key}`, {
      service: this.#service.name, listening: this.place.endpoint, reason: reasonOf(error),
    }, "a connection could not be accepted; of EMFILE, raise the limit of open files (ulimit -n)");
  }
}
