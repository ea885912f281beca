// What HTTP probes ask for and look at beyond a status: headers, bodies by text, expression and field, and
// HTTP/2 in both its ways; of servers on the loopback, well-behaved and not.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type RequestListener } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeFields } from "../../src/health/probes/hpack.ts";
import { encodeFrame, FLAG, TYPE } from "../../src/health/probes/http2_frames.ts";
import { parseAddress } from "../../src/model/address.ts";
import { compileExpression } from "../../src/model/expression.ts";
import type { HttpHealth } from "../../src/model/health_check.ts";
import { createCertificate } from "../support/certificate.ts";
import { base64, usePeer } from "../support/http2_peer.ts";
import { freePort, listen, raw, run, say, TIMING, TLS } from "../support/probe_world.ts";

const HTTP: HttpHealth = {
  type: "http", version: 1, method: "GET", path: "/health", host: null, headers: [], statuses: [{ from: 200, to: 299 }],
  body: null, bodyMatches: null, json: [], drainHeader: null, tls: null, ...TIMING,
};
const HTTP2: HttpHealth = { ...HTTP, version: 2 };
const DAY_MS = 86_400_000;
const certificate = createCertificate("web.example", new Date(Date.now() - DAY_MS), new Date(Date.now() + 9 * DAY_MS));

const http = (answer: RequestListener): Promise<number> => listen(createServer(answer));
const saying = (body: string | Buffer): Promise<number> => http((_request, response) => { response.end(body); });

const peer = usePeer();
const SETTINGS = encodeFrame(TYPE.settings, 0, 0);

describe("request headers", () => {
  let directory = "";
  beforeAll(() => { directory = mkdtempSync(join(tmpdir(), "pointsman-probe-")); });
  afterAll(() => { rmSync(directory, { recursive: true, force: true }); });

  it.each([1, 2] as const)("are sent by version %i, a secret one from its file, and take the place of our own", async (version) => {
    const path = join(directory, "token");
    writeFileSync(path, "Bearer 1234\n");
    let seen: Readonly<Record<string, unknown>> | undefined;
    const port = version === 1 ? await http((request, response) => { seen = request.headers; response.end(); }) : await peer().listen();
    const outcome = await run(port, { ...HTTP, version, headers: [
      { name: "X-Probe", value: { from: "inline", text: "1" } }, { name: "Authorization", value: { from: "file", path } },
      { name: "User-Agent", value: { from: "inline", text: "somebody" } },
    ] });
    expect(outcome).toMatchObject({ ok: true, reason: "status 200" });
    if (version === 2) [seen] = await peer().asked(port);
    expect(seen).toMatchObject({ "x-probe": "1", "authorization": "Bearer 1234", "user-agent": "somebody" });
  });

  it.each([
    ["missing", null, /^there is no file .*missing$/], ["empty", "", /does not hold one line/],
    ["lines", "a\nb", /does not hold one line/], ["long", "x".repeat(5000), /does not hold one line/],
  ])("say nothing of the backend without their file: %s", async (name, text, reason) => {
    const path = join(directory, name);
    if (text !== null) writeFileSync(path, text);
    const port = await saying("fine");
    const outcome = await run(port, { ...HTTP, headers: [{ name: "X-Key", value: { from: "file", path } }] });
    expect(outcome).toMatchObject({ ok: false, conclusive: false, reason: expect.stringMatching(reason) as string });
    if (text !== null && text !== "") expect(outcome.reason).not.toContain(text);
  });
});

describe("a body that has to match", () => {
  it.each([
    ["^(ok|ready)$", "ready", true], ["^(ok|ready)$", "not ready", false], ["grüß", "a grüß b", true], ["(?i)UP", "it is up", true],
  ])("%s in %j: %j", async (bodyMatches, body, ok) => {
    const outcome = await run(await saying(body), { ...HTTP, bodyMatches });
    expect(outcome).toMatchObject({ ok, conclusive: true });
    expect(outcome.reason).toBe(ok ? "status 200, body matches" : `status 200, nothing in the body matches /${bodyMatches}/`);
  });

  it("is looked at from its start, in time that does not explode", async () => {
    // A backtracking engine would take longer than the age of the world for this one.
    const evil = { ...HTTP, bodyMatches: "(a+)+[bc]$" };
    expect(await run(await saying("a".repeat(60_000)), evil)).toMatchObject(
      { ok: false, reason: "status 200, nothing in the first 16384 characters of the body matches /(a+)+[bc]$/" });
    expect(await run(await saying(`${"x".repeat(16_000)}needle`), { ...HTTP, bodyMatches: "ne+dle" })).toMatchObject({ ok: true });
    expect(await run(await saying(`${"x".repeat(17_000)}needle`), { ...HTTP, bodyMatches: "ne+dle" })).toMatchObject({ ok: false });
  });

  it.each(["(", "(?=a)", "(a)\\1", "a{1001}", "(a{100}){10}", "x".repeat(513)])("no expression: %s", (expression) => {
    expect(() => compileExpression(expression)).toThrow();
  });

  it("text and expression together have to be there", async () => {
    const port = await saying("all is well, 3 of 3");
    expect(await run(port, { ...HTTP, body: "well", bodyMatches: "\\d of \\d" })).toMatchObject({ ok: true });
    expect((await run(port, { ...HTTP, body: "ill", bodyMatches: "\\d of \\d" })).reason).toBe('status 200, the body lacks "ill"');
    expect(await run(port, { ...HTTP, body: "well", bodyMatches: "\\d of [4-9]" })).toMatchObject({ ok: false });
  });
});

describe("fields of a JSON body", () => {
  const BODY = JSON.stringify({
    status: "up", ready: true, count: 3, none: null, checks: { database: "down", nodes: [{ up: true }, { up: false }] },
  });
  it.each([
    ["status", "up", null], ["ready", true, null], ["count", 3, null], ["none", null, null], ["checks.nodes.0.up", true, null],
    ["checks.database", "ok", 'checks.database is "down", expected "ok"'], ["count", "3", 'count is 3, expected "3"'],
    ["checks.cache", "ok", 'checks.cache is not in the body, expected "ok"'],
    ["checks.nodes.7.up", true, "checks.nodes.7.up is not in the body, expected true"],
    ["checks", "ok", 'checks is a mapping, expected "ok"'], ["checks.nodes", 1, "checks.nodes is a list, expected 1"],
    ["status.length", 2, "status.length is not in the body, expected 2"], ["toString", "x", 'toString is not in the body, expected "x"'],
  ] as const)("%s == %j", async (path, value, complaint) => {
    const outcome = await run(await saying(BODY), { ...HTTP, json: [{ path: "status", value: "up" }, { path, value }] });
    expect(outcome).toMatchObject({ ok: complaint === null, conclusive: true });
    expect(outcome.reason).toBe(`status 200, ${complaint ?? "body matches"}`);
  });

  it.each([
    ["garbage", "<html>no", "the body is not JSON: <html>no"], ["nothing", "", 'the body is not JSON: ""'],
    ["half of it", '{"status": "u', 'the body is not JSON: {"status": "u'],
    ["control characters", "\u001b[2J{", "the body is not JSON: ·[2J{"],
    ["too much", `"${"x".repeat(70_000)}"`, "the body is longer than 65536 bytes, which is too long to be read as JSON"],
    ["very deep", "[".repeat(60_000), "the body is not JSON: "],
  ])("%s", async (_name, body, reason) => {
    const outcome = await run(await saying(body), { ...HTTP, json: [{ path: "status", value: "up" }] });
    expect(outcome).toMatchObject({ ok: false, conclusive: true });
    expect(outcome.reason).toContain(`status 200, ${reason}`);
  });
});

describe("HTTP/2", () => {
  it.each([["127.0.0.1", false], ["::1", false], ["127.0.0.1", true]])("asks at %s, secure %s", async (host, secure) => {
    const port = await peer().listen({ host, answer: { status: 204 }, ...(secure ? { certificate } : {}) });
    const health: HttpHealth = { ...HTTP2, tls: secure ? TLS : null };
    const outcome = await run(port, health, host);
    expect(outcome).toMatchObject({ ok: true, conclusive: true, reason: "status 204" });
    const authority = host === "::1" ? `[::1]:${port}` : `${host}:${port}`;
    await run(port, { ...health, method: "HEAD", host: "web.example" }, host);
    expect(await peer().asked(port)).toMatchObject([
      { ":method": "GET", ":path": "/health", ":authority": authority, ":scheme": secure ? "https" : "http" },
      { ":method": "HEAD", ":authority": "web.example" },
    ]);
  });

  it("judges status, body and drain as ever", async () => {
    const port = await peer().listen({ answer: { status: 500, body: base64("ill") } });
    expect((await run(port, HTTP2)).reason).toBe("status 500, expected 200-299");
    await peer().answer(port, { body: base64('{"status":"up"}') });
    expect(await run(port, { ...HTTP2, body: "up", json: [{ path: "status", value: "up" }] })).toMatchObject({ ok: true });
    expect(await run(port, { ...HTTP2, body: "down" })).toMatchObject({ ok: false, reason: 'status 200, the body lacks "down"' });
    await peer().answer(port, { status: 503, headers: { "x-drain": "0, 1" } });
    const drainHeader = { name: "x-drain", value: "1" };
    expect(await run(port, { ...HTTP2, drainHeader })).toMatchObject({ ok: false });
    const block = encodeFields([[":status", "503"], ["x-drain", "0"], ["x-drain", "1"]]);
    const lines = await raw((socket) => { socket.write(Buffer.concat([SETTINGS, encodeFrame(TYPE.headers, FLAG.endHeaders, 1, block)])); });
    expect(await run(lines, { ...HTTP2, drainHeader })).toMatchObject({ ok: true, drains: true });
  });

  it("passes over responses before the one that counts, and has no body to wait for", async () => {
    const port = await peer().listen({ answer: { interim: [102, 103], status: 204 } });
    expect((await run(port, { ...HTTP2, body: "x" })).reason).toBe('status 204, the body lacks "x"');
    expect((await run(port, { ...HTTP2, method: "HEAD", body: "x" })).reason).toBe('status 204, the body lacks "x"');
  });

  it("reads no more than 64 KiB, and no endless headers", async () => {
    const port = await peer().listen({ answer: { body: base64("x".repeat(500_000)) } });
    expect((await run(port, { ...HTTP2, body: "never" })).reason).toBe('status 200, the first 65536 bytes of the body lack "never"');
    await peer().answer(port, { headers: Object.fromEntries(Array.from({ length: 300 }, (_, at) => [`x-${at}`, "y"])) });
    expect(await run(port, HTTP2)).toMatchObject(
      { ok: false, conclusive: true, reason: "the headers cannot be read: more than 128 header fields" });
  });

  it("takes half a body for none", async () => {
    const port = await peer().listen({ answer: { body: base64('{"status":'), then: "destroy" } });
    expect((await run(port, { ...HTTP2, json: [{ path: "status", value: "up" }] })).reason)
      .toBe("connection closed before the end of the body");
  });

  it("names servers that speak none of it", async () => {
    expect((await run(await saying("fine"), HTTP2)).reason).toBe("not an HTTP/2 server: it begins with HTTP/1.1 400 Bad Request");
    const tls = createTlsServer({ ...certificate, ALPNProtocols: ["http/1.1"] });
    tls.on("tlsClientError", () => { /* no protocol in common */ });
    expect((await run(await listen(tls), { ...HTTP2, tls: TLS })).reason).toMatch(/^TLS handshake failed: .*no application protocol/);
    const mute = createTlsServer(certificate);
    expect((await run(await listen(mute), { ...HTTP2, tls: TLS })).reason).toBe("the server offers no HTTP/2 (ALPN h2)");
  });

  it("fails with a reason when refused, silent, cut, slow or garbage", async () => {
    expect((await run(await freePort(), HTTP2)).reason).toBe("connection refused");
    const silent = await raw((socket) => { socket.resume(); });
    expect((await run(silent, { ...HTTP2, timeoutMs: 400 })).reason).toBe("timeout after 400 ms while waiting for the response");
    const cut = await raw((socket) => { socket.once("data", () => { socket.end(); }); });
    expect((await run(cut, HTTP2)).reason).toBe("connection closed without a response");
    const garbage = await raw((socket) => { socket.write("\u0000\u0001garbage that is no frame"); });
    expect(await run(garbage, HTTP2)).toMatchObject({ ok: false, conclusive: true });
    const half = await raw((socket) => { socket.write(SETTINGS); socket.once("data", () => { socket.end(Buffer.from("000010010400", "hex")); }); });
    expect((await run(half, HTTP2)).ok).toBe(false);
    const slow = await raw((socket) => { void say(socket, SETTINGS, true); socket.resume(); });
    expect((await run(slow, { ...HTTP2, timeoutMs: 400 })).reason).toBe("timeout after 400 ms while waiting for the response");
    const goaway = await raw((socket) => { socket.write(Buffer.concat([SETTINGS, Buffer.from("00000807000000000000000000000000" + "0b", "hex")])); });
    expect((await run(goaway, HTTP2)).reason).toBe("the server ended the session with HTTP/2 error 11 (ENHANCE_YOUR_CALM)");
    const reset = await peer().listen({ answer: { reset: 7 } });
    expect((await run(reset, HTTP2)).reason).toBe("the server reset the request with HTTP/2 error 7 (REFUSED_STREAM)");
  });
});

describe("the source of a probe", () => {
  it.each([["127.0.0.1", "127.0.0.2"], ["127.0.0.1", "::1"]])("to %s is %s where it is of the same IP version", async (host, source) => {
    let from: string | undefined;
    const port = await http((request, response) => { from = request.socket.remoteAddress; response.end(); });
    expect(await run(port, { ...HTTP, source: parseAddress(source) }, host)).toMatchObject({ ok: true });
    expect(from).toBe(source === "::1" ? "127.0.0.1" : source);
  });

  it("has its plain connections end by a reset, which leaves no port waiting", async () => {
    let reset: Error | null = null;
    const port = await raw((socket) => { socket.on("error", (error) => { reset = error; }); });
    const tcp = { type: "tcp", ...TIMING, source: parseAddress("127.0.0.2") } as const;
    expect(await run(port, tcp)).toMatchObject({ ok: true });
    await expect.poll(() => reset).toMatchObject({ code: "ECONNRESET" });
  });

  it("is this host's own, or its lack says nothing of the backend", async () => {
    const outcome = await run(await saying("fine"), { ...HTTP, source: parseAddress("198.18.255.1") });
    expect(outcome).toMatchObject({ ok: false, conclusive: false });
    expect(outcome.reason).toBe("this host does not have the address 198.18.255.1, or no port of it is left (EADDRNOTAVAIL)");
  });
});
