// Servers on the loopback for health probes to ask, and one probe of them, with the real Env. What a test
// starts here ends with it. Knows sockets; must never know what a kind of probe asks.

import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { afterEach, expect } from "vitest";
import { createEnv } from "../../src/env_real.ts";
import type { Outcome } from "../../src/health/judge.ts";
import { createProbe } from "../../src/health/probe.ts";
import { parseAddress } from "../../src/model/address.ts";
import type { Health, ProbeTls } from "../../src/model/health_check.ts";

/** Of every health check here: nothing is late, and what is to time out says so. */
export const TIMING = {
  intervalMs: 5000, timeoutMs: 5000, rise: 1, fall: 1, jitter: 0, port: null, via: "direct", source: null,
} as const;

/** Of probes over TLS: nothing is verified. */
export const TLS: ProbeTls = { serverName: null, verify: false, ca: null, warnDays: null, failDays: null };

export const env = createEnv({ logLevel: "error" });
export const nowhere = (): string => expect.unreachable("a direct probe goes through nothing");
const probe = createProbe(env, nowhere);

/** Ends what the test began. */
export const closers: (() => Promise<void>)[] = [];
afterEach(async () => { for (const close of closers.splice(0)) await close(); });

export async function listen(server: Server, host = "127.0.0.1"): Promise<number> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => { /* probes may reset */ });
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => { server.listen(0, host, resolve); });
  closers.push(() => new Promise((resolve) => {
    server.close(() => { resolve(); });
    for (const socket of sockets) socket.destroy();
  }));
  return (server.address() as AddressInfo).port;
}

export function run(
  port: number, health: Health, host = "127.0.0.1", signal = new AbortController().signal,
): Promise<Outcome> {
  const address = parseAddress(host);
  if (address === null) throw new Error(`"${host}" is no address`);
  return probe({ name: "p/b", pool: "p", backend: "b", address, port, health, through: [] }, signal);
}

/** A server that says these bytes to whoever connects, and no more. */
export function raw(say: (socket: Socket) => void, host = "127.0.0.1"): Promise<number> {
  return listen(createServer(say), host);
}

/** A server that hears what is asked and answers each time, byte by byte where `slow`. */
export function answering(
  answer: (heard: Buffer, socket: Socket) => Uint8Array | string | null, slow = false, host = "127.0.0.1",
): Promise<number> {
  return raw((socket) => {
    socket.on("data", (heard) => {
      const said = answer(heard, socket);
      if (said !== null) void say(socket, said, slow);
    });
  }, host);
}

/** Writes, byte by byte where `slow`. */
export async function say(socket: Socket, said: Uint8Array | string, slow = false): Promise<void> {
  const bytes = Buffer.from(said);
  if (!slow) socket.write(bytes);
  else {
    socket.setNoDelay(true);
    for (const byte of bytes) {
      if (socket.destroyed) return;
      socket.write(Buffer.of(byte));
      await new Promise((resolve) => { setImmediate(resolve); });
    }
  }
}

/** A port that refuses. */
export async function freePort(host = "127.0.0.1"): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => { server.listen(0, host, resolve); });
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => { server.close(resolve); });
  return port;
}
