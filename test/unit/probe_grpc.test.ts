// Probes by the gRPC health protocol: of the server of a library that is not ours, and of servers that answer
// as none should.

import { Server as GrpcServer, ServerCredentials, status, type sendUnaryData, type ServerUnaryCall } from "@grpc/grpc-js";
import { createSecureServer, createServer, type ServerHttp2Stream } from "node:http2";
import { describe, expect, it } from "vitest";
import type { GrpcHealth } from "../../src/model/health_check.ts";
import { createCertificate } from "../support/certificate.ts";
import { closers, freePort, listen, raw, run, say, TIMING, TLS } from "../support/probe_world.ts";

const GRPC: GrpcHealth = { type: "grpc", service: "", host: null, tls: null, ...TIMING };
const DAY_MS = 86_400_000;
const certificate = createCertificate("web.example", new Date(Date.now() - DAY_MS), new Date(Date.now() + 9 * DAY_MS));

/** What the health service of a server says, by service; else a gRPC error. */
type Says = Readonly<Record<string, "SERVING" | "NOT_SERVING" | "UNKNOWN" | status>>;
const NUMBERS = { UNKNOWN: 0, SERVING: 1, NOT_SERVING: 2 } as const;

/** The library's own framing and status; the messages are bytes that we make and take. */
async function serve(says: Says, options: { readonly host?: string; readonly tls?: boolean; readonly asked?: string[] } = {}): Promise<number> {
  const server = new GrpcServer();
  server.addService({
    check: {
      path: "/grpc.health.v1.Health/Check", requestStream: false, responseStream: false,
      requestSerialize: (value: Buffer) => value, requestDeserialize: (value: Buffer) => value,
      responseSerialize: (value: Buffer) => value, responseDeserialize: (value: Buffer) => value,
    },
  }, {
    check: (call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>) => {
      const service = call.request.subarray(call.request.length > 0x80 ? 3 : 2).toString();
      options.asked?.push(service);
      const said = says[service];
      if (said === undefined) answer({ code: status.NOT_FOUND, details: "unknown service ☹" });
      else if (typeof said === "number") answer({ code: said, details: "" });
      else answer(null, said === "UNKNOWN" ? Buffer.alloc(0) : Buffer.of(0x08, NUMBERS[said]));
    },
  });
  const credentials = options.tls === true
    ? ServerCredentials.createSsl(null, [{ private_key: Buffer.from(certificate.key), cert_chain: Buffer.from(certificate.cert) }])
    : ServerCredentials.createInsecure();
  const host = options.host ?? "127.0.0.1";
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(host.includes(":") ? `[${host}]:0` : `${host}:0`, credentials, (error, bound) => {
      if (error === null) resolve(bound);
      else reject(error);
    });
  });
  closers.push(async () => { server.forceShutdown(); });
  return port;
}

/** A server whose streams the test answers. */
function answer(stream: (stream: ServerHttp2Stream) => void): Promise<number> {
  const server = createServer();
  server.on("stream", (each) => {
    each.on("error", () => { /* the probe may be gone */ });
    each.resume();
    stream(each);
  });
  return listen(server);
}

const HEADERS = { ":status": 200, "content-type": "application/grpc+proto" } as const;
const frame = (message: string): Buffer => Buffer.from(`00${(message.length / 2).toString(16).padStart(8, "0")}${message}`, "hex");

function respond(body: Buffer, trailers: Record<string, string>): (stream: ServerHttp2Stream) => void {
  return (stream) => {
    stream.respond(HEADERS, { waitForTrailers: true });
    stream.on("wantTrailers", () => { stream.sendTrailers(trailers); });
    stream.end(body);
  };
}

describe("a gRPC library's server", () => {
  it.each([["127.0.0.1", false], ["::1", false], ["127.0.0.1", true], ["::1", true]])("is asked at %s, with TLS %s", async (host, tls) => {
    const asked: string[] = [];
    const port = await serve({ "": "SERVING", "shop.v1.Cart": "NOT_SERVING", "idle": "UNKNOWN" }, { host, tls, asked });
    const health: GrpcHealth = { ...GRPC, tls: tls ? TLS : null };
    expect(await run(port, health, host)).toMatchObject({ ok: true, conclusive: true, reason: "SERVING" });
    expect(await run(port, { ...health, service: "shop.v1.Cart" }, host)).toMatchObject(
      { ok: false, conclusive: true, reason: "the server answered NOT_SERVING (shop.v1.Cart)" });
    expect((await run(port, { ...health, service: "idle" }, host)).reason).toBe("the server answered UNKNOWN (idle)");
    expect((await run(port, { ...health, service: "nobody" }, host)).reason).toBe("the server answered NOT_FOUND: unknown service ☹");
    expect(asked).toEqual(["", "shop.v1.Cart", "idle", "nobody"]);
  });

  it("understands the name of a service of any length", async () => {
    const service = "a".repeat(200);
    expect(await run(await serve({ [service]: "SERVING" }), { ...GRPC, service })).toMatchObject({ ok: true });
  });

  it("without a health service says so", async () => {
    const server = new GrpcServer();
    const port = await new Promise<number>((resolve) => {
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (_error, bound) => { resolve(bound); });
    });
    closers.push(async () => { server.forceShutdown(); });
    expect((await run(port, GRPC)).reason).toMatch(/^the server answered UNIMPLEMENTED: .* \(no health service there\?\)$/);
  });

  it("that is overloaded or wants credentials is named by the code", async () => {
    const port = await serve({ a: status.RESOURCE_EXHAUSTED, b: status.UNAUTHENTICATED });
    expect((await run(port, { ...GRPC, service: "a" })).reason).toMatch(/^the server answered RESOURCE_EXHAUSTED/);
    expect((await run(port, { ...GRPC, service: "b" })).reason).toMatch(/^the server answered UNAUTHENTICATED/);
  });
});

describe("other servers", () => {
  it.each([
    ["an unknown status", frame("0809"), { "grpc-status": "0" }, "the server answered status 9"],
    ["no status", frame("0801"), {}, "the answer ended without a gRPC status"],
    ["an unknown code", frame(""), { "grpc-status": "99" }, "the server answered status 99"],
    ["a broken message", frame("08"), { "grpc-status": "0" }, "not a health response: 000000000108"],
    ["two messages", Buffer.concat([frame("0801"), frame("0801")]), { "grpc-status": "0" }, "not a health response: 00000000020801"],
    ["a compressed one", Buffer.from("01000000020801", "hex"), { "grpc-status": "0" }, "not a health response: 01000000020801"],
    ["a longer length", Buffer.from("00000000ff0801", "hex"), { "grpc-status": "0" }, "not a health response: 00000000ff0801"],
    ["nothing", Buffer.alloc(0), { "grpc-status": "0" }, "not a health response: "],
    ["too much", Buffer.alloc(10_000), { "grpc-status": "0" }, "the answer is longer than 4096 bytes"],
  ])("%s", async (_name, body, trailers, reason) => {
    const outcome = await run(await answer(respond(body, trailers)), GRPC);
    expect(outcome).toMatchObject({ ok: false, conclusive: true });
    expect(outcome.reason).toContain(reason);
  });

  it("fields of later versions are passed over", async () => {
    expect(await run(await answer(respond(frame("1203616263" + "0801" + "1805"), { "grpc-status": "0" })), GRPC)).toMatchObject({ ok: true });
  });

  it("that are none of gRPC are named", async () => {
    expect((await run(await answer((stream) => { stream.respond({ ":status": 404 }); stream.end("no"); }), GRPC)).reason)
      .toBe("not a gRPC server: HTTP status 404");
    expect((await run(await answer((stream) => { stream.respond({ ":status": 200, "content-type": "text/html" }); stream.end("<html>"); }), GRPC)).reason)
      .toBe("not a gRPC server: content-type text/html");
    const http1 = await raw((socket) => { socket.once("data", () => { socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"); }); });
    expect((await run(http1, GRPC)).reason).toMatch(/^not an HTTP\/2 server: /);
    const port = await listen(createSecureServer({ ...certificate, ALPNProtocols: ["http/1.1"], allowHTTP1: true }));
    expect((await run(port, { ...GRPC, tls: TLS })).ok).toBe(false);
  });

  it("that refuse, are silent, hang up, or are slow", async () => {
    expect((await run(await freePort(), GRPC)).reason).toBe("connection refused");
    const silent = await raw((socket) => { socket.resume(); });
    expect((await run(silent, { ...GRPC, timeoutMs: 400 })).reason).toBe("timeout after 400 ms while waiting for the response");
    const hanging = await answer((stream) => { stream.respond(HEADERS); });
    expect((await run(hanging, { ...GRPC, timeoutMs: 400 })).reason).toBe("timeout after 400 ms while reading the response");
    const cut = await raw((socket) => { socket.once("data", () => { socket.end(); }); });
    expect((await run(cut, GRPC)).reason).toBe("connection closed without a response");
    const half = await answer((stream) => {
      stream.respond(HEADERS);
      stream.write(frame("0801").subarray(0, 4));
      setTimeout(() => { stream.session?.destroy(); }, 30);
    });
    expect((await run(half, GRPC)).reason).toBe("connection closed in the middle of a response");
    const slow = await raw((socket) => { socket.resume(); void say(socket, Buffer.from("000000040000000000", "hex"), true); });
    expect((await run(slow, { ...GRPC, timeoutMs: 400 })).ok).toBe(false);
    const expired = createCertificate("web.example", new Date(Date.now() - 9 * DAY_MS), new Date(Date.now() - DAY_MS));
    const late = await listen(createSecureServer(expired));
    expect((await run(late, { ...GRPC, tls: { ...TLS, failDays: 0 } })).reason).toMatch(/^the certificate ended on /);
  });
});
