// Probes by the gRPC health protocol: of the server of a library that is not ours, and of servers that answer
// as none should.

import { status } from "@grpc/grpc-js";
import { createServer as createTlsServer } from "node:tls";
import { describe, expect, it } from "vitest";
import type { GrpcHealth } from "../../src/model/health_check.ts";
import { createCertificate } from "../support/certificate.ts";
import { base64, usePeer, type Answer } from "../support/http2_peer.ts";
import { freePort, listen, raw, run, say, TIMING, TLS } from "../support/probe_world.ts";

const GRPC: GrpcHealth = { type: "grpc", service: "", host: null, tls: null, ...TIMING };
const DAY_MS = 86_400_000;
const certificate = createCertificate("web.example", new Date(Date.now() - DAY_MS), new Date(Date.now() + 9 * DAY_MS));

const peer = usePeer();
const HEADERS = { "content-type": "application/grpc+proto" };
const frame = (message: string): Buffer => Buffer.from(`00${(message.length / 2).toString(16).padStart(8, "0")}${message}`, "hex");

/** A server that answers each call so. */
const answer = (said: Answer): Promise<number> => peer().listen({ answer: said });

describe("a gRPC library's server", () => {
  it.each([["127.0.0.1", false], ["::1", false], ["127.0.0.1", true], ["::1", true]])("is asked at %s, with TLS %s", async (host, tls) => {
    const says = { "": "SERVING", "shop.v1.Cart": "NOT_SERVING", "idle": "UNKNOWN" } as const;
    const port = await peer().grpc(says, { host, ...(tls ? { certificate } : {}) });
    const health: GrpcHealth = { ...GRPC, tls: tls ? TLS : null };
    expect(await run(port, health, host)).toMatchObject({ ok: true, conclusive: true, reason: "SERVING" });
    expect(await run(port, { ...health, service: "shop.v1.Cart" }, host)).toMatchObject(
      { ok: false, conclusive: true, reason: "the server answered NOT_SERVING (shop.v1.Cart)" });
    expect((await run(port, { ...health, service: "idle" }, host)).reason).toBe("the server answered UNKNOWN (idle)");
    expect((await run(port, { ...health, service: "nobody" }, host)).reason).toBe("the server answered NOT_FOUND: unknown service ☹");
    expect(await peer().asked(port)).toEqual(["", "shop.v1.Cart", "idle", "nobody"].map((service) => ({ service })));
  });

  it("understands the name of a service of any length", async () => {
    const service = "a".repeat(200);
    expect(await run(await peer().grpc({ [service]: "SERVING" }), { ...GRPC, service })).toMatchObject({ ok: true });
  });

  it("without a health service says so", async () => {
    const port = await peer().grpc(null);
    expect((await run(port, GRPC)).reason).toMatch(/^the server answered UNIMPLEMENTED: .* \(no health service there\?\)$/);
  });

  it("that is overloaded or wants credentials is named by the code", async () => {
    const port = await peer().grpc({ a: status.RESOURCE_EXHAUSTED, b: status.UNAUTHENTICATED });
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
    const outcome = await run(await answer({ headers: HEADERS, body: base64(body), trailers }), GRPC);
    expect(outcome).toMatchObject({ ok: false, conclusive: true });
    expect(outcome.reason).toContain(reason);
  });

  it("fields of later versions are passed over", async () => {
    expect(await run(await answer({
      headers: HEADERS, body: base64(frame("1203616263" + "0801" + "1805")), trailers: { "grpc-status": "0" },
    }), GRPC)).toMatchObject({ ok: true });
  });

  it("that are none of gRPC are named", async () => {
    expect((await run(await answer({ status: 404, body: base64("no") }), GRPC)).reason)
      .toBe("not a gRPC server: HTTP status 404");
    expect((await run(await answer({ headers: { "content-type": "text/html" }, body: base64("<html>") }), GRPC)).reason)
      .toBe("not a gRPC server: content-type text/html");
    const http1 = await raw((socket) => { socket.once("data", () => { socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"); }); });
    expect((await run(http1, GRPC)).reason).toBe("not an HTTP/2 server: it begins with HTTP/1.1 400 Bad Request");
    const mute = await listen(createTlsServer(certificate));
    expect((await run(mute, { ...GRPC, tls: TLS })).reason).toBe("the server offers no HTTP/2 (ALPN h2)");
  });

  it("that refuse, are silent, hang up, or are slow", async () => {
    expect((await run(await freePort(), GRPC)).reason).toBe("connection refused");
    const silent = await raw((socket) => { socket.resume(); });
    expect((await run(silent, { ...GRPC, timeoutMs: 400 })).reason).toBe("timeout after 400 ms while waiting for the response");
    const hanging = await answer({ headers: HEADERS, then: "hang" });
    expect((await run(hanging, { ...GRPC, timeoutMs: 400 })).reason).toBe("timeout after 400 ms while reading the response");
    const cut = await raw((socket) => { socket.once("data", () => { socket.end(); }); });
    expect((await run(cut, GRPC)).reason).toBe("connection closed without a response");
    const half = await answer({ headers: HEADERS, body: base64(frame("0801").subarray(0, 4)), then: "destroy" });
    expect((await run(half, GRPC)).reason).toBe("connection closed in the middle of a response");
    const slow = await raw((socket) => { socket.resume(); void say(socket, Buffer.from("000000040000000000", "hex"), true); });
    expect((await run(slow, { ...GRPC, timeoutMs: 400 })).ok).toBe(false);
    const expired = createCertificate("web.example", new Date(Date.now() - 9 * DAY_MS), new Date(Date.now() - DAY_MS));
    const late = await listen(createTlsServer({ ...expired, ALPNProtocols: ["h2"] }));
    expect((await run(late, { ...GRPC, tls: { ...TLS, failDays: 0 } })).reason).toMatch(/^the certificate ended on /);
  });
});
