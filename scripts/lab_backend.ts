// What runs on a backend of the lab: an HTTP server and echo servers that say who they are. Knows its
// name and its addresses; a test, the demonstration and the benchmark are its clients.
//
//   GET /          its name                    TCP 7   everything back, half-close honoured
//                                              TCP 9   its name and a newline, then everything back
//   GET /health    200, or 503 after POST /sick (POST /well ends that); after POST /slow?ms=N so much later
//   GET /bytes?n=N N bytes of a fixed sequence     UDP 7   its name, a newline, the datagram; after POST /late?ms=N so much later
//   POST /digest   SHA-256 of the body                        GET /datagrams  how many came there

import { createHash } from "node:crypto";
import { createSocket } from "node:dgram";
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer as createTcpServer } from "node:net";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";

const [, , name = "backend", httpPort = "80", echoPort = "7", ...addresses] = process.argv;
let sick = false;
let slowMs = 0;
let lateMs = 0;
let datagrams = 0;

/** The byte at each offset of /bytes: 251 is prime, so no power of two hides a shifted block. */
function sequence(from: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i++) bytes[i] = (from + i) % 251;
  return bytes;
}

function* blocks(total: number): Generator<Buffer> {
  const size = 251 * 256;
  const block = sequence(0, size);
  for (let sent = 0; sent < total; sent += size) yield total - sent < size ? block.subarray(0, total - sent) : block;
}

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? "/", "http://backend");
  if (request.method === "POST" && url.pathname === "/digest") {
    const hash = createHash("sha256");
    for await (const chunk of request) hash.update(chunk as Buffer);
    response.end(`${hash.digest("hex")}\n`);
    return;
  }
  request.resume();
  if (request.method === "POST" && (url.pathname === "/sick" || url.pathname === "/well")) sick = url.pathname === "/sick";
  if (url.pathname === "/datagrams") {
    response.end(`${datagrams}\n`);
    return;
  }
  if (request.method === "POST" && url.pathname === "/slow") slowMs = Number(url.searchParams.get("ms") ?? "0");
  if (request.method === "POST" && url.pathname === "/late") lateMs = Number(url.searchParams.get("ms") ?? "0");
  if (url.pathname === "/health") {
    response.statusCode = sick ? 503 : 200;
    await sleep(slowMs);
  }
  if (url.pathname === "/bytes") {
    const total = Number(url.searchParams.get("n") ?? "0");
    response.setHeader("content-length", total);
    Readable.from(blocks(total)).pipe(response);
    return;
  }
  response.end(`${name}\n`);
}

const http = createServer((request, response) => {
  serve(request, response).catch((error: unknown) => { response.destroy(error as Error); });
});
// Port 80 on every address: the backend's own for probes, the virtual one for clients.
http.listen(Number(httpPort), "::");

const echo = createTcpServer({ allowHalfOpen: true }, (socket) => {
  socket.on("error", () => socket.destroy());
  socket.pipe(socket);
});
echo.listen(Number(echoPort), "::");

// Who holds a connection says so first.
const named = createTcpServer({ allowHalfOpen: true }, (socket) => {
  socket.on("error", () => socket.destroy());
  socket.write(`${name}\n`);
  socket.pipe(socket);
});
named.listen(Number(echoPort) + 2, "::");

// A datagram's answer must leave from the address that was asked, so each address has a socket.
for (const address of addresses) {
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
  socket.on("message", (message, from) => {
    datagrams += 1;
    const answer = Buffer.concat([Buffer.from(`${name}\n`), message]);
    setTimeout(() => { socket.send(answer, from.port, from.address); }, lateMs);
  });
  socket.bind(Number(echoPort), address);
}

http.once("listening", () => { process.stdout.write(`${name} ready\n`); });
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => { process.exit(0); });
