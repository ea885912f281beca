// Where a probe goes and what opens its connections: this host's sockets, or the plane's. Must never know
// what is said over them.

import type { Socket } from "node:net";
import type { Env } from "../../env.ts";
import { formatEndpoint } from "../../model/address.ts";
import type { ProbedHealth } from "../../model/health_check.ts";
import type { ProbePlace, ProbeTarget } from "../target.ts";
import { OwnFault } from "./attempt.ts";
import type { ProcessDoors } from "./process.ts";

/**
 * Connects the way a client's packets go. A text says why that cannot be done; it is no fault of
 * the backend.
 */
export type ConnectThrough = (place: ProbePlace) => Socket | string;

/** One target by one way. */
export interface Aim<H extends ProbedHealth = ProbedHealth> {
  /** "pool/backend". */
  readonly name: string;
  readonly address: ProbeTarget["address"];
  readonly port: number;
  readonly health: H;
  /** Null: straight to the address. */
  readonly place: ProbePlace | null;
}

/** What a probe needs of the world. */
export interface Doors extends Pick<Env, "clock" | "files" | "net" | "random">, ProcessDoors {
  readonly connectThrough: ConnectThrough;
  /** Whether commands of health checks may be run. */
  readonly allowsExec: boolean;
}

export function openSocket(doors: Doors, aim: Aim): Socket {
  const { address, port, place } = aim;
  if (place !== null) {
    const opened = doors.connectThrough(place);
    if (typeof opened === "string") throw new OwnFault(opened);
    return opened;
  }
  return doors.net.socket().setNoDelay(true)
    .connect({ host: address.text, port, family: address.family, ...sourceOf(aim) });
}

/** Options of a socket that is to come from an address of the configuration's choice. */
export function sourceOf({ address, health }: Aim): { readonly localAddress?: string } {
  const { source } = health;
  return source?.family === address.family ? { localAddress: source.text } : {};
}

/** Lets go of a socket whose errors no longer interest anybody. */
export function discard(socket: Socket, { place, health, address }: Pick<Aim, "address" | "health" | "place">): void {
  socket.on("error", () => { /* the attempt is over */ });
  // A reset leaves no port waiting for a minute. The kernel knows the plane's sockets, and those with a source
  // of their own, by their own port alone, and would run out of them at some hundred probes a second.
  const isNamed = place !== null || health.source?.family === address.family;
  const isPlain = !("encrypted" in socket);
  if (isNamed && isPlain && !socket.connecting) socket.resetAndDestroy();
  else socket.destroy();
}

/** As a URL or a Host header has it: without the port that goes without saying. */
export function authorityOf({ address, port }: Pick<Aim, "address" | "port">, defaultPort: number): string {
  if (port !== defaultPort) return formatEndpoint(address, port);
  return address.family === 4 ? address.text : `[${address.text}]`;
}
