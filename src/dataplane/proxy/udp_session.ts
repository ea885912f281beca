// One client of a UDP service: a socket of its own, connected to the backend, so that answers find
// their way back and unreachable ports are heard of. Knows one socket; nothing of other sessions.

import type { Socket } from "node:dgram";
import { proxyHeaderV2 } from "../../model/proxy_protocol.ts";
import type { Destination, Service } from "../../model/table.ts";
import type { ClientPlace, ProxyContext, VirtualPlace } from "./context.ts";
import { reasonOf } from "./listening.ts";
import type { Account } from "./tally.ts";

/** Datagrams that wait while the socket is being connected. */
const WAITING_MAX = 64;

export interface SessionStart {
  readonly place: ClientPlace;
  /** What the client asked for. */
  readonly to: VirtualPlace;
  readonly service: Service;
  readonly destination: Destination;
  readonly reply: (datagram: Uint8Array) => void;
  /** The session cannot go on; it has closed itself. */
  readonly onFailure: () => void;
}

export class UdpSession {
  readonly destination: Destination;
  readonly #context: ProxyContext;
  readonly #account: Account;
  readonly #socket: Socket;
  readonly #header: Uint8Array | null;
  #waiting: Uint8Array[] | null = [];
  #isClosed = false;
  #datagrams = 0;
  #bytes = 0;
  #hasMoved = true;
  #activeAtMs: number;

  constructor(context: ProxyContext, start: SessionStart) {
    this.#context = context;
    this.destination = start.destination;
    this.#account = { service: start.service.name, backend: start.destination.name };
    this.#activeAtMs = context.env.clock.monotonicMs();
    this.#header = proxyHeader(start);
    this.#socket = this.#open(start);
    context.tally.open(this.#account);
  }

  /** From the client to the backend. */
  send(datagram: Uint8Array): void {
    this.#hasMoved = true;
    this.#datagrams += 1;
    this.#bytes += datagram.length;
    if (this.#waiting === null) this.#forward(datagram);
    else if (this.#waiting.length < WAITING_MAX) this.#waiting.push(datagram);
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
    if (this.#hasMoved) {
      this.#hasMoved = false;
      this.#activeAtMs = nowMs;
    }
    return nowMs - this.#activeAtMs >= idleMs;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.count();
    this.#context.tally.close(this.#account);
    this.#context.descriptors.give(1);
    this.#socket.close();
  }

  /** Throws when this host has no socket to give. */
  #open(start: SessionStart): Socket {
    const { address, port } = this.destination;
    const socket = this.#context.env.net.createDatagram({
      type: address.family === 4 ? "udp4" : "udp6", lookup: addressLookup,
    });
    socket.on("message", (datagram) => {
      this.#hasMoved = true;
      start.reply(datagram);
    });
    socket.on("error", (error) => { this.#onError(error, start); });
    socket.once("connect", () => {
      const waiting = this.#waiting ?? [];
      this.#waiting = null;
      for (const datagram of waiting) this.#forward(datagram);
    });
    socket.connect(port ?? start.to.port, address.text);
    return socket;
  }

  #forward(datagram: Uint8Array): void {
    if (this.#isClosed) return;
    const parts = this.#header === null ? [datagram] : [this.#header, datagram];
    this.#socket.send(parts, (error) => {
      if (error !== null) this.#onLoss(error);
    });
  }

  /** An ICMP message comes as an error of the next send or receive, whichever is first. */
  #onLoss(error: Error): void {
    this.#context.tally.incident("datagram_dropped");
    this.#warn(error);
  }

  #onError(error: Error, start: SessionStart): void {
    if (this.#waiting === null) {
      this.#onLoss(error);
      return;
    }
    // It could not even be connected.
    this.#warn(error);
    this.#context.tally.incident("session_failed");
    this.close();
    start.onFailure();
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

type LookupCallback = (error: null, address: string, family: number) => void;

/**
 * All addresses here are numbers. Node would ask its resolver about each, a turn of the event loop
 * later.
 */
export function addressLookup(host: string, ...rest: readonly unknown[]): void {
  const callback = rest.at(-1) as LookupCallback;
  callback(null, host, host.includes(":") ? 6 : 4);
}
