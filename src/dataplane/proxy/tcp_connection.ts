// One TCP connection through the proxy: connect to a backend, and to the next one if that fails,
// then pass bytes, half-closes and resets on until both sides are done. Knows two sockets; nothing
// of listeners.

import type { NetConnectOpts, Socket } from "node:net";
import type { Cancel } from "../../env.ts";
import { failedFlow, LOCAL_FAULTS } from "../../model/flows_seen.ts";
import { proxyHeaderV1, proxyHeaderV2 } from "../../model/proxy_protocol.ts";
import type { Destination, Service } from "../../model/table.ts";
import { AnswerClock } from "./answer_clock.ts";
import type { AffinityHold } from "./affinities.ts";
import type { ClientPlace, ProxyContext, VirtualPlace } from "./context.ts";
import { decideAgain } from "./context.ts";
import { watchFirstAnswer } from "./first_answer.ts";
import { errnoName, reasonOf } from "./listening.ts";
import type { Account } from "./tally.ts";

/** How much of each direction waits in this process before reading stops. */
export const HIGH_WATER_MARK = 256 * 1024;
/** A peer that vanished without a word is noticed by TCP itself. */
const KEEP_ALIVE_MS = 60_000;
/** What a reset leaves for the other side may still be delivered for so long. */
const LINGER_MS = 10_000;
/** Written to learn of errors. */
const NOTHING = new Uint8Array(0);
/** No fault of the backend that is to be left. */
const TAKEN_OUT = new Error("the backend is taken out");

export interface ConnectionStart {
  readonly client: Socket;
  readonly place: ClientPlace;
  /** What the client asked for. */
  readonly to: VirtualPlace;
  /** The newest version of the service, or of the client's region in it; the last one if it is gone. */
  readonly service: () => Service;
  readonly destination: Destination;
  readonly slot: number | null;
  /** Null: the service remembers no clients. */
  readonly affinity: AffinityHold | null;
  /** Called once, when both sockets are closed. */
  readonly onEnd: (connection: TcpConnection) => void;
}

export class TcpConnection {
  readonly #context: ProxyContext;
  readonly #start: ConnectionStart;
  readonly #tried = new Set<number>();
  #backend: Socket | null = null;
  /** Ends the attempt to connect that is under way, in favour of the next one. */
  #giveUp: (() => void) | null = null;
  #name = "";
  #isConnecting = false;
  #account: Account | null = null;
  /** The connection is given up, since nothing moves. */
  #tellSilence: () => void = () => undefined;
  #clock: AnswerClock | null = null;
  #cancelTimer: Cancel | null = null;
  #isEnding = false;
  #hasEnded = false;
  #countedBytes = 0;
  #activity = -1;
  #activeAtMs: number;

  constructor(context: ProxyContext, start: ConnectionStart) {
    this.#context = context;
    this.#start = start;
    this.#activeAtMs = context.env.clock.monotonicMs();
    start.client.on("error", (error) => { this.#onError(start.client, error); });
    start.client.once("close", () => { this.#onClientClose(); });
    this.#connect(start.destination);
  }

  /** Adds what came from the client since the last call to the books. */
  count(): void {
    if (this.#account === null) return;
    const { bytesRead } = this.#start.client;
    this.#context.tally.traffic(this.#account, 0, bytesRead - this.#countedBytes);
    this.#countedBytes = bytesRead;
  }

  /** Null before there is a backend. */
  get account(): Account | null {
    return this.#account;
  }

  /** Ends the connection when a side is gone or no byte moved for as long as the service allows. */
  sweep(nowMs: number): void {
    const { idleTimeoutMs } = this.#start.service().config.proxy;
    const backend = this.#backend;
    if (this.#account === null || backend === null || this.#isEnding) return;
    this.#clock?.sweep(nowMs);
    askWhetherReset(this.#start.client);
    askWhetherReset(backend);
    if (idleTimeoutMs === 0) return;
    const activity = movedBytes(this.#start.client) + movedBytes(backend);
    if (activity !== this.#activity) {
      this.#activity = activity;
      this.#activeAtMs = nowMs;
    } else if (nowMs - this.#activeAtMs >= idleTimeoutMs) {
      this.#context.tally.incident("idle_timeout");
      this.#tellSilence();
      this.#isEnding = true;
      this.#start.client.destroy();
      backend.destroy();
    }
  }

  /** Resets the connection if it is with one of these backends; if it is about to be, another one gets it. */
  endAt(backends: ReadonlySet<string>): void {
    if (this.#isEnding || !backends.has(this.#name)) return;
    if (this.#account === null) {
      this.#giveUp?.();
      return;
    }
    this.#context.tally.incident("drain_reset");
    this.reset();
  }

  /** Ends both sides at once. */
  reset(): void {
    this.#isEnding = true;
    this.#cancelTimer?.();
    resetSocket(this.#start.client);
    if (this.#backend !== null) resetSocket(this.#backend);
  }

  // ---- before there is a backend

  #connect(destination: Destination): void {
    const { env } = this.#context;
    const options: NetConnectOpts & { highWaterMark: number } = {
      host: destination.address.text, port: destination.port ?? this.#start.to.port,
      family: destination.address.family,
      allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS,
      highWaterMark: HIGH_WATER_MARK,
    };
    this.#tried.add(destination.id);
    this.#name = destination.name;
    this.#setConnecting(true);
    this.#clock = AnswerClock.start(this.#context, this.#start.service(), destination.name);
    let backend: Socket;
    try {
      backend = env.net.connect(options);
    } catch (error) {
      this.#retry(destination, error);
      return;
    }
    this.#backend = backend;
    const fail = (error: unknown): void => {
      if (this.#backend !== backend || this.#account !== null) return;
      this.#backend = null;
      this.#cancelTimer?.();
      backend.destroy();
      this.#retry(destination, error);
    };
    this.#giveUp = () => { fail(TAKEN_OUT); };
    const timeoutMs = this.#start.service().config.proxy.connectTimeoutMs;
    this.#cancelTimer = env.clock.after(timeoutMs, () => { fail(null); });
    backend.on("error", (error) => {
      if (this.#account === null) fail(error);
      else this.#onError(backend, error);
    });
    backend.once("close", () => { this.#onBackendClose(backend); });
    backend.once("connect", () => {
      if (this.#backend === backend && !this.#isEnding) this.#join(backend, destination);
    });
  }

  /** `error` null: nobody answered in time. */
  #retry(destination: Destination, error: unknown): void {
    const { tally } = this.#context;
    const { client, slot } = this.#start;
    this.#setConnecting(false);
    if (this.#isEnding) return;
    tally.incident(error === null ? "connect_timeout" : "connect_failed");
    this.#tellRefusal(destination.name, error);
    this.#context.warn(`connect ${destination.name}`, {
      service: this.#start.service().name, backend: destination.name,
      reason: error === null ? "timeout" : reasonOf(error),
    }, "a backend did not take a connection");
    const service = this.#start.service();
    const mayRetry = slot !== null && this.#tried.size <= service.config.proxy.connectRetries;
    const next = mayRetry ? decideAgain(this.#context, service, slot, this.#tried) : null;
    if (next === null) {
      tally.incident("backends_exhausted");
      this.#isEnding = true;
      resetSocket(client);
    } else {
      tally.incident("connect_retried");
      this.#start.affinity?.moved(next);
      this.#connect(next);
    }
  }

  /** Faults of this host say nothing of the backend. */
  #tellRefusal(backend: string, error: unknown): void {
    if (error === TAKEN_OUT || LOCAL_FAULTS[errnoName(error)] !== undefined) return;
    this.#clock?.failed();
    this.#context.saw(backend, failedFlow(error === null ? "timeout while connecting" : reasonOf(error)));
  }

  #join(backend: Socket, destination: Destination): void {
    const { client } = this.#start;
    const { env: { clock }, saw } = this.#context;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#setConnecting(false);
    this.#account = { service: this.#start.service().name, backend: destination.name };
    this.#context.tally.open(this.#account);
    const header = this.#proxyHeader();
    if (header !== null) backend.write(header);
    this.#clock?.join(client, backend);
    client.pipe(backend, { end: false });
    backend.pipe(client, { end: false });
    this.#tellSilence = watchFirstAnswer({
      from: backend, client, nowMs: () => clock.monotonicMs(), tell: (seen) => { saw(destination.name, seen); },
    });
    client.once("end", () => { this.#passEnd(client, backend); });
    backend.once("end", () => { this.#passEnd(backend, client); });
  }

  /** With the backend whose name is noted. */
  #setConnecting(isConnecting: boolean): void {
    if (this.#isConnecting === isConnecting) return;
    this.#isConnecting = isConnecting;
    this.#context.tally.connecting(this.#name, isConnecting ? 1 : -1);
  }

  #proxyHeader(): Uint8Array | null {
    const { config } = this.#start.service();
    const { proxyProtocol } = config.proxy;
    if (proxyProtocol === "none") return null;
    const endpoints = {
      source: this.#start.place.address, sourcePort: this.#start.place.port,
      destination: this.#start.to.address, destinationPort: this.#start.to.port,
    };
    return proxyProtocol === "v1" ? proxyHeaderV1(endpoints) : proxyHeaderV2(endpoints, "tcp");
  }

  // ---- the end

  /**
   * Half-close. Where a reset comes together with data, libuv gives the data and then an end: the
   * other side would take what it has for all there is. A write meets the reset. (A side that we
   * ended already cannot be asked: its end is believed.)
   */
  #passEnd(from: Socket, to: Socket): void {
    const pass = (): void => { if (!this.#isEnding) to.end(); };
    if (!from.writable) pass();
    else if (from.writableLength > 0) this.#context.env.clock.after(0, pass); // writes fail first
    else from.write(NOTHING, (error) => { if (error === null || error === undefined) pass(); });
  }

  /** An error of one side, a reset as a rule: the other side is to hear of it. */
  #onError(side: Socket, error: Error): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    const isClient = side === this.#start.client;
    const other = isClient ? this.#backend : this.#start.client;
    if (this.#account === null) this.#context.tally.incident("client_gone");
    else this.#context.tally.incident(isClient ? "client_reset" : "backend_reset");
    const sideName = isClient ? "client" : "backend";
    this.#context.env.log.debug({ account: this.#account, side: sideName, err: error },
      "a connection was reset");
    if (other === null) return;
    if (other.writableLength === 0 || this.#account === null) {
      resetSocket(other);
      return;
    }
    // An answer sent before the reset is worth delivering, but not worth waiting for long.
    other.pause();
    const reset = (): void => {
      this.#cancelTimer?.();
      resetSocket(other);
    };
    this.#cancelTimer = this.#context.env.clock.after(LINGER_MS, reset);
    if (other.writableEnded) other.once("finish", reset);
    else other.write(NOTHING, reset);
  }

  #onClientClose(): void {
    this.#isEnding = true;
    this.#cancelUnlessLingering();
    if (this.#account === null) this.#backend?.destroy();
    this.#endIfOver();
  }

  #onBackendClose(backend: Socket): void {
    if (this.#backend !== backend) return; // one that was tried and given up
    if (this.#account === null) this.#backend = null;
    this.#endIfOver();
  }

  #cancelUnlessLingering(): void {
    if (this.#account !== null) return;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
  }

  #endIfOver(): void {
    const isBackendClosed = this.#backend === null || this.#backend.closed;
    if (this.#hasEnded || !this.#start.client.closed || !isBackendClosed) return;
    this.#hasEnded = true;
    this.#cancelTimer?.();
    this.#setConnecting(false);
    this.count();
    if (this.#account !== null) this.#context.tally.close(this.#account);
    this.#start.affinity?.end();
    this.#start.onEnd(this);
  }
}

/** RST where the connection stands; a socket that is only connecting is closed. */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) return;
  if (socket.connecting) socket.destroy();
  else if (isShuttingDown(socket)) socket.once("finish", () => { socket.resetAndDestroy(); });
  else socket.resetAndDestroy();
}

/** libuv refuses to reset while a shutdown is under way, and Node then loses the descriptor. */
function isShuttingDown({ writableEnded, writableFinished, writableLength }: Socket): boolean {
  return writableEnded && !writableFinished && writableLength === 0;
}

/**
 * Node polls no socket that it neither reads nor writes. While the other side takes nothing, a
 * reset of this one would go unheard for as long; a write of nothing meets it.
 */
function askWhetherReset(socket: Socket): void {
  if (!socket.isPaused() || !socket.writable || socket.writableLength > 0) return;
  socket.write(NOTHING);
}

/** Grows whenever bytes were read, or written bytes were taken by the kernel. */
function movedBytes(socket: Socket): number {
  return socket.bytesRead + socket.bytesWritten - socket.writableLength;
}
