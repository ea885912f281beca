// A backend of the detection benchmark: one server for each kind of probe, all of which fail together in the way
// that they are told. Each says what little its probe wants to hear; that probes understand the servers that
// others wrote is shown by the kernel tests. Takes one way a line, and answers when it was so (wall clock).
//
//   detection_server KEY_FILE CERTIFICATE_FILE

import { createSocket, type Socket as DatagramSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer as createHttp2Server, type ServerHttp2Stream } from "node:http2";
import { createServer, type Server, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { createServer as createTlsServer } from "node:tls";
import { decode, encode } from "dns-packet";
import { PORTS, type SocketKind, type Way } from "./detection_kinds.ts";

const [, , keyPath = "", certificatePath = ""] = process.argv;
const GARBAGE = Buffer.from("?!# nonsense\r\n\r\n\xff\xfe\0");
let way: Way = "well";

const http = createHttpServer((_, response) => {
  response.statusCode = way === "ill" ? 503 : 200;
  response.end();
});
const tls = createTlsServer({ key: readFileSync(keyPath), cert: readFileSync(certificatePath) });
const h2 = createHttp2Server();
h2.on("stream", (stream: ServerHttp2Stream, headers) => {
  stream.on("error", () => undefined).resume();
  if (headers[":path"] !== "/grpc.health.v1.Health/Check") {
    stream.respond({ ":status": way === "ill" ? 503 : 200 });
    stream.end();
    return;
  }
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => { stream.sendTrailers({ "grpc-status": "0" }); });
  // HealthCheckResponse.status: 1 is SERVING, 2 is NOT_SERVING.
  stream.end(Buffer.of(0, 0, 0, 0, 2, 8, way === "ill" ? 2 : 1));
});
for (const server of [http, tls, h2]) {
  server.on("error", () => undefined);
  server.on("clientError", () => undefined);
  server.on("tlsClientError", () => undefined);
  server.on("sessionError", () => undefined);
}

/** A packet of MySQL's protocol with its header, the first of a connection. */
function mysqlPacket(...parts: readonly (string | Buffer)[]): Buffer {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
  return Buffer.concat([Buffer.of(body.length, 0, 0, 0), body]);
}

/** A message of PostgreSQL's protocol. */
function postgresMessage(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeUInt32BE(4 + body.length, 1);
  return Buffer.concat([head, body]);
}

function smtpReply(line: string): string {
  return line.startsWith("EHLO") ? "250 fine\r\n" : "221 bye\r\n";
}

const SPEAK: Readonly<Record<SocketKind, (socket: Socket) => void>> = {
  tcp: () => undefined,
  tls: (socket) => { tls.emit("connection", socket); },
  http: (socket) => { http.emit("connection", socket); },
  http2: (socket) => { h2.emit("connection", socket); },
  grpc: (socket) => { h2.emit("connection", socket); },
  redis: (socket) => {
    socket.on("data", () => { socket.write(way === "ill" ? "-LOADING Redis is loading the dataset in memory\r\n" : "+PONG\r\n"); });
  },
  postgres: (socket) => {
    socket.on("data", () => {
      socket.write(way === "ill" ? postgresMessage("E", Buffer.from("SFATAL\0C57P03\0Mstarting up\0\0"))
        : postgresMessage("R", Buffer.of(0, 0, 0, 3)));
    });
  },
  mysql: (socket) => {
    // An error is 0xff and its number, 1040 here; a greeting is the protocol's number and the server's version.
    socket.write(way === "ill" ? mysqlPacket(Buffer.of(0xff, 0x10, 0x04), "Too many connections")
      : mysqlPacket(Buffer.of(10), "8.0\0"));
  },
  smtp: (socket) => {
    socket.write(way === "ill" ? "421 closing\r\n" : "220 here\r\n");
    socket.on("data", (line: Buffer) => { socket.write(smtpReply(line.toString())); });
  },
  agent: (socket) => { socket.end(way === "ill" ? "down\n" : "up ready\n"); },
};

function meet(kind: SocketKind, socket: Socket): void {
  socket.on("error", () => undefined);
  // Agents that cannot be heard say nothing: theirs are ill and well alone.
  if (way === "well" || way === "ill" || kind === "agent") SPEAK[kind](socket);
  else if (way === "garbage") socket.write(GARBAGE);
  else if (way === "closes") socket.destroy();
}

const servers = new Map<SocketKind, Server>();
const sockets = new Set<Socket>();

async function open(kind: SocketKind): Promise<void> {
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => { sockets.delete(socket); });
    meet(kind, socket);
  });
  await new Promise<void>((resolve) => { server.listen(PORTS[kind], "0.0.0.0", resolve); });
  servers.set(kind, server);
}

const ANSWERS: Readonly<Record<"udp" | "dns", (question: Buffer) => Buffer>> = {
  udp: () => Buffer.from(way === "ill" ? "no" : "fine"),
  dns: (question) => {
    const { id = 0, questions = [] } = decode(question);
    // Response codes are the low bits of the flags; 2 is SERVFAIL.
    return encode({ type: "response", id, flags: way === "ill" ? 2 : 0, questions, answers: [] });
  },
};
const datagrams = new Map<"udp" | "dns", DatagramSocket>();

async function openDatagrams(kind: "udp" | "dns"): Promise<void> {
  const socket = createSocket("udp4");
  socket.on("message", (question, from) => {
    if (way === "silent") return;
    socket.send(way === "garbage" ? GARBAGE : ANSWERS[kind](question), from.port, from.address);
  });
  await new Promise<void>((resolve) => { socket.bind(PORTS[kind], () => { resolve(); }); });
  datagrams.set(kind, socket);
}

const STREAMS = Object.keys(SPEAK) as SocketKind[];

async function openAll(): Promise<void> {
  await Promise.all([
    ...STREAMS.filter((kind) => !servers.has(kind)).map(open),
    ...(["udp", "dns"] as const).filter((kind) => !datagrams.has(kind)).map(openDatagrams),
  ]);
}

/** Nobody listens any more. */
function closeAll(): void {
  for (const [kind, server] of servers) {
    if (kind === "agent") continue;
    server.close();
    servers.delete(kind);
  }
  for (const socket of sockets) socket.destroy();
  for (const socket of datagrams.values()) socket.close();
  datagrams.clear();
}

await openAll();
process.stdout.write("ready\n");
for await (const line of createInterface({ input: process.stdin })) {
  way = line as Way;
  if (way === "refused") closeAll();
  else await openAll();
  process.stdout.write(`${Date.now()}\n`);
}
process.exit(0);
