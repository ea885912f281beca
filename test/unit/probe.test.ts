// Probes against real servers on the loopback, well-behaved and not, with the real Env.

import { createServer as createHttpServer, type IncomingMessage, type RequestListener } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { createServer, Socket } from "node:net";
import { describe, expect, it } from "vitest";
import type { Outcome } from "../../src/health/judge.ts";
import type { ConnectThrough } from "../../src/health/probes/socket.ts";
import { createProbe } from "../../src/health/probe.ts";
import { parseAddress } from "../../src/model/address.ts";
import type { Health, HttpHealth } from "../../src/model/health_check.ts";
import { createCertificate } from "../support/certificate.ts";
import { env, freePort, listen, nowhere, raw, run, TIMING, TLS } from "../support/probe_world.ts";

const TCP: Health = { type: "tcp", ...TIMING };
const HTTP: HttpHealth = {
  type: "http", version: 1, method: "GET", path: "/health", host: null, headers: [], statuses: [{ from: 200, to: 299 }],
  body: null, bodyMatches: null, json: [], drainHeader: null, tls: null, ...TIMING,
};

/** A probe whose connections are the test's: nobody answers them. */
function probeThrough(open: () => Socket, health: Health): Promise<Outcome> {
  const address = parseAddress("127.0.0.1");
  if (address === null) throw new Error("127.0.0.1 is no address");
  const target = { name: "p/b", pool: "p", backend: "b", address, port: 1, health, through: [] };
  const socket = (): Socket => {
    const opened = open();
    opened.connect = () => opened;
    return opened;
  };
  return createProbe({ ...env, net: { ...env.net, socket } }, nowhere)(target, new AbortController().signal);
}

function http(answer: RequestListener): Promise<number> {
  return listen(createHttpServer(answer));
}

describe("tcp", () => {
  it("succeeds when the connection opens, on either family, and closes it", async () => {
    const closed = new Promise<void>((resolve) => {
      void raw((socket) => { socket.on("end", resolve); socket.resume(); }).then(async (port) => {
        expect(await run(port, TCP)).toMatchObject({ ok: true, conclusive: true, reason: "connected" });
      });
    });
    await closed;
    const port = await listen(createServer(), "::1");
    expect(await run(port, TCP, "::1")).toMatchObject({ ok: true });
  });

  it("fails when refused", async () => {
    expect(await run(await freePort(), TCP)).toMatchObject({ ok: false, conclusive: true, reason: "connection refused" });
  });

  it("times out when nobody answers", async () => {
    // The loopback always answers, so the silent host is a socket that never hears anything.
    const outcome = await probeThrough(() => new Socket(), { ...TCP, timeoutMs: 60 });
    expect(outcome).toMatchObject({ ok: false, conclusive: true, reason: "timeout after 60 ms while connecting" });
  });

  it("is inconclusive when this host is at fault, thrown or emitted", async () => {
    const fault = Object.assign(new Error("connect EMFILE"), { code: "EMFILE" });
    const outcome = await probeThrough(() => { throw fault; }, TCP);
    const emitted = await probeThrough(() => {
      const socket = new Socket();
      setImmediate(() => { socket.destroy(fault); });
      return socket;
    }, TCP);
    expect(emitted).toMatchObject({ conclusive: false, reason: outcome.reason });
    expect(outcome).toMatchObject({ ok: false, conclusive: false });
    expect(outcome.reason).toContain("EMFILE");
  });

  it("ends at once when aborted, before or during", async () => {
    const port = await raw(() => { /* accepts and is silent */ });
    const early = new AbortController();
    early.abort();
    expect(await run(port, TCP, "127.0.0.1", early.signal)).toMatchObject({ conclusive: false, reason: "cancelled" });
    const late = new AbortController();
    const pending = run(port, HTTP, "127.0.0.1", late.signal);
    late.abort();
    expect(await pending).toMatchObject({ conclusive: false, reason: "cancelled" });
  });
});

describe("http", () => {
  it("asks for the path with its headers, and accepts the statuses given", async () => {
    let seen: IncomingMessage | null = null;
    const port = await http((request, response) => { seen = request; response.statusCode = 204; response.end(); });
    expect(await run(port, HTTP)).toMatchObject({ ok: true, reason: "status 204" });
    expect(seen).toMatchObject({ method: "GET", url: "/health" });
    expect((seen as IncomingMessage | null)?.headers).toMatchObject({ host: `127.0.0.1:${port}`, connection: "close" });
    await run(port, { ...HTTP, method: "HEAD", host: "web.example", path: "/a?b=c" });
    expect(seen).toMatchObject({ method: "HEAD", url: "/a?b=c", headers: { host: "web.example" } });
  });

  it("refuses other statuses and names them", async () => {
    const port = await http((_request, response) => { response.statusCode = 503; response.end(); });
    expect(await run(port, HTTP)).toMatchObject({ ok: false, conclusive: true, reason: "status 503, expected 200-299" });
    const statuses = [{ from: 301, to: 301 }, { from: 500, to: 503 }];
    expect(await run(port, { ...HTTP, statuses })).toMatchObject({ ok: true });
    expect((await run(port, { ...HTTP, statuses: statuses.slice(0, 1) })).reason).toBe("status 503, expected 301");
  });

  it("finds a text in the body, across chunks, and says when it is not there", async () => {
    const port = await http((request, response) => {
      response.write("all is w");
      setTimeout(() => { response.end(request.url === "/split" ? "ell, grüß" : "rong"); }, 5);
    });
    const match = { ...HTTP, path: "/split", body: "is well, grüß" };
    expect(await run(port, match)).toMatchObject({ ok: true, reason: "status 200, body matches" });
    expect(await run(port, { ...match, path: "/" })).toMatchObject(
      { ok: false, conclusive: true, reason: 'status 200, the body lacks "is well, grüß"' });
  });

  it("reads no more than 64 KiB of an endless body", async () => {
    let written = 0;
    const port = await http((_request, response) => {
      const chunk = Buffer.alloc(16 * 1024, "x");
      const more = (): void => {
        written += chunk.length;
        if (response.write(chunk)) setImmediate(more);
        else response.once("drain", more);
      };
      more();
    });
    const outcome = await run(port, { ...HTTP, body: "never" });
    expect(outcome).toMatchObject({ ok: false, reason: 'status 200, the first 65536 bytes of the body lack "never"' });
    expect(written).toBeGreaterThanOrEqual(65_536);
  });

  it("names the stage in which a slow server was given up", async () => {
    const accepting = await raw((socket) => { socket.resume(); });
    const slow = { ...HTTP, timeoutMs: 80 };
    expect((await run(accepting, slow)).reason).toBe("timeout after 80 ms while waiting for the response");
    const afterHeaders = await http((_request, response) => { response.writeHead(200).flushHeaders(); });
    expect((await run(afterHeaders, { ...slow, body: "x" })).reason).toBe("timeout after 80 ms while reading the body");
    expect(await run(afterHeaders, slow)).toMatchObject({ ok: true });
  });

  it("a server that drips is given up at the same deadline", async () => {
    const port = await raw((socket) => {
      socket.write("HTTP/1.1 200 OK\r\n");
      const timer = setInterval(() => { socket.write("X-Drip: 1\r\n"); }, 10);
      socket.on("close", () => { clearInterval(timer); });
    });
    expect((await run(port, { ...HTTP, timeoutMs: 120 })).reason)
      .toBe("timeout after 120 ms while waiting for the response");
  });

  it.each([
    ["garbage", "\u0000\u0001 not http at all\r\n\r\n", "not an HTTP response"],
    ["an early end", "", "connection closed without a response"],
    ["half a response", "HTTP/1.1 200 OK\r\nContent-Le", "connection closed without a response"],
    ["a huge header", `HTTP/1.1 200 OK\r\nX: ${"x".repeat(100_000)}\r\n\r\n`, "not an HTTP response"],
  ])("%s is a failure with a reason", async (_name, bytes, reason) => {
    const port = await raw((socket) => { socket.end(bytes, "latin1"); });
    const outcome = await run(port, HTTP);
    expect(outcome).toMatchObject({ ok: false, conclusive: true });
    expect(outcome.reason).toContain(reason);
  });

  it("a body cut short is a failure, and so is a reset", async () => {
    const cut = await raw((socket) => { socket.end("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"); });
    expect(await run(cut, { ...HTTP, body: "never" })).toMatchObject({ ok: false, conclusive: true });
    const reset = await raw((socket) => { socket.once("data", () => { socket.resetAndDestroy(); }); });
    expect(await run(reset, HTTP)).toMatchObject({ ok: false, conclusive: true });
  });

  it("a protocol switch nobody asked for is a status like any other", async () => {
    const port = await raw((socket) => { socket.write("HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"); });
    expect((await run(port, HTTP)).reason).toBe("status 101, expected 200-299");
  });

  it("interim answers are waited through, a flood of them or of headers is bounded", async () => {
    const interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    const after = await raw((socket) => {
      socket.end(`${interim}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine`);
    });
    expect(await run(after, { ...HTTP, body: "fine" })).toMatchObject({ ok: true });
    const endless = (first: string, line: string) => raw((socket) => {
      socket.write(first);
      const more = (): void => {
        while (!socket.destroyed && socket.write(line)) { /* as much as goes */ }
      };
      socket.on("drain", more);
      more();
    });
    const headers = await run(await endless("HTTP/1.1 200 OK\r\n", "X: y\r\n".repeat(100)), HTTP);
    expect(headers).toMatchObject({ ok: false, conclusive: true });
    expect(headers.reason).toMatch(/not an HTTP response/);
    const flood = await run(await endless("", interim.repeat(100)), HTTP);
    expect(flood.reason).toBe("not an HTTP response: more than 16 interim ones");
  });

  it("a chunked body is read without its framing, and a reset in its middle is a failure", async () => {
    const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    const whole = await raw((socket) => { socket.end(`${head}3\r\nall\r\n5\r\n is w\r\n3\r\nell\r\n0\r\n\r\n`); });
    expect(await run(whole, { ...HTTP, body: "all is well" })).toMatchObject({ ok: true });
    const reset = await raw((socket) => {
      socket.write(`${head}3\r\nall\r\n`, () => setTimeout(() => socket.resetAndDestroy(), 50));
    });
    expect(await run(reset, { ...HTTP, body: "never" })).toMatchObject({ ok: false, conclusive: true });
  });

  it("a redirect is a status, and is not followed; Host of IPv6 has brackets", async () => {
    const hosts: string[] = [];
    const server = createHttpServer((request, response) => {
      hosts.push(request.headers.host ?? "");
      response.writeHead(302, { Location: "/other" }).end();
    });
    const port = await listen(server, "::1");
    expect((await run(port, HTTP, "::1")).reason).toBe("status 302, expected 200-299");
    expect(hosts).toEqual([`[::1]:${port}`]);
  });

  it("a path that cannot be sent is a failure, not a crash", async () => {
    const port = await http((_request, response) => response.end());
    expect(await run(port, { ...HTTP, path: "/a b" })).toMatchObject({ ok: false, conclusive: true });
  });
});

describe("tls", () => {
  const DAY_MS = 86_400_000;
  function https(fromMs: number, toMs: number): Promise<number> {
    const certificate = createCertificate("web.example", new Date(Date.now() + fromMs), new Date(Date.now() + toMs));
    return listen(createHttpsServer(certificate, (_request, response) => response.end("fine")));
  }
  const tls = (verify: boolean, serverName: string | null = "web.example"): HttpHealth =>
    ({ ...HTTP, tls: { ...TLS, serverName, verify } });

  it("self-signed: accepted without verification, refused with it", async () => {
    const port = await https(-DAY_MS, DAY_MS);
    expect(await run(port, { ...tls(false), body: "fine" })).toMatchObject({ ok: true });
    expect(await run(port, tls(false, null))).toMatchObject({ ok: true });
    const refused = await run(port, tls(true));
    expect(refused).toMatchObject({ ok: false, conclusive: true });
    expect(refused.reason).toContain("DEPTH_ZERO_SELF_SIGNED_CERT");
  });

  it("a certificate of another name is refused with verification alone", async () => {
    const port = await https(-DAY_MS, DAY_MS);
    expect(await run(port, tls(false, "other.example"))).toMatchObject({ ok: true });
    expect(await run(port, tls(true, "other.example"))).toMatchObject({ ok: false, conclusive: true });
  });

  it("expired: accepted without verification, refused with it", async () => {
    const port = await https(-2 * DAY_MS, -DAY_MS);
    expect(await run(port, tls(false))).toMatchObject({ ok: true });
    expect((await run(port, tls(true))).ok).toBe(false);
  });

  it("a server that speaks no TLS, or never finishes the handshake, fails with a reason", async () => {
    const plain = await http((_request, response) => response.end());
    expect((await run(plain, tls(false))).ok).toBe(false);
    const silent = await raw((socket) => { socket.resume(); });
    expect((await run(silent, { ...tls(false), timeoutMs: 80 })).reason)
      .toBe("timeout after 80 ms while shaking hands");
  });
});

describe("leaks", () => {
  it("two hundred probes of every outcome leave no socket behind", async () => {
    const good = await http((_request, response) => response.end("fine"));
    const silent = await raw((socket) => { socket.resume(); });
    const refused = await freePort();
    const before = sockets();
    for (let i = 0; i < 50; i += 1) {
      await Promise.all([
        run(good, HTTP), run(good, TCP), run(silent, { ...HTTP, timeoutMs: 10 }), run(refused, HTTP),
      ]);
    }
    await expect.poll(sockets).toBe(before);
  });
  const sockets = (): number => process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length;
});

describe("a probe through the plane", () => {
  const NOWHERE = parseAddress("192.0.2.1")!;

  /** The places are real servers, which the plane stands in front of, or reasons why it has no way there. */
  function through(places: readonly (number | string)[], health: Health): Promise<Outcome> {
    const connect: ConnectThrough = ({ port }) => {
      const place = places[port - 1]!;
      return typeof place === "string" ? place : env.net.connect({ host: "127.0.0.1", port: place });
    };
    const target = {
      name: "p/b", pool: "p", backend: "b", address: NOWHERE, port: 1, health,
      through: places.map((_, index) => ({ service: `s${index}`, backend: "p/b", address: NOWHERE, port: index + 1 })),
    };
    return createProbe(env, connect)(target, new AbortController().signal);
  }

  it("asks the virtual address, and says which", async () => {
    const port = await http((request, response) => {
      response.statusCode = request.headers.host === "192.0.2.1:1" ? 200 : 500;
      response.end();
    });
    expect(await through([port], HTTP)).toMatchObject({ ok: true, reason: "192.0.2.1:1: status 200" });
    expect(await through([port], TCP)).toMatchObject({ ok: true, reason: "192.0.2.1:1: connected" });
  });

  it("succeeds when every address answers, and fails by the first that does not", async () => {
    const [well, ill] = [await http((_, response) => { response.end(); }), await http((_, response) => {
      response.statusCode = 503;
      response.end();
    })];
    expect(await through([well, well, well], HTTP)).toMatchObject(
      { ok: true, conclusive: true, reason: "192.0.2.1:1, and 2 more: status 200" });
    expect(await through([well, ill, await freePort()], HTTP)).toMatchObject(
      { ok: false, conclusive: true, reason: "192.0.2.1:2: status 503, expected 200-299" });
  });

  it("says nothing of the backend where the plane has no way, unless another address failed", async () => {
    const port = await http((_, response) => { response.end(); });
    expect(await through([port, "no road"], HTTP)).toMatchObject(
      { ok: false, conclusive: false, reason: "192.0.2.1:2: no road" });
    expect(await through(["no road", await freePort()], TCP)).toMatchObject(
      { ok: false, conclusive: true, reason: "192.0.2.1:2: connection refused" });
  });

  it("shakes hands over the plane's socket", async () => {
    const [from, to] = [new Date(Date.now() - 86_400_000), new Date(Date.now() + 86_400_000)];
    const certificate = createCertificate("web.example", from, to);
    const port = await listen(createHttpsServer(certificate, (_, response) => { response.end("is well"); }));
    const tls = TLS;
    expect(await through([port], { ...HTTP, tls, body: "well" })).toMatchObject({ ok: true, conclusive: true });
    expect(await through([port], { ...HTTP, tls: { ...tls, verify: true } })).toMatchObject({ ok: false, conclusive: true });
  });

  it("ends plain connections by a reset, which leaves no port waiting", async () => {
    let reset: Error | null = null;
    const server = createServer((socket) => { socket.on("error", (error) => { reset = error; }); });
    const port = await listen(server);
    expect(await through([port], TCP)).toMatchObject({ ok: true });
    await expect.poll(() => reset, { timeout: 5000 }).toMatchObject({ code: "ECONNRESET" });
  });
});

describe("a 503 that asks for a drain", () => {
  const answer = (status: number, headers: Record<string, string | string[]>) =>
    http((_request, response) => { response.writeHead(status, headers).end("bye"); });
  const asking = (name: string, value: string | null): HttpHealth => ({ ...HTTP, drainHeader: { name, value } });

  it.each([
    [{ "X-Drain": "1" }, "1"], [{ "x-drain": " YES " }, "yes"], [{ "X-Drain": "whatever" }, null],
    [{ "X-Drain": ["0", "1"] }, "1"], [{ "X-Drain": "" }, null],
  ])("is a success of its own: %j for %j", async (headers, value) => {
    const outcome = await run(await answer(503, headers), { ...asking("x-drain", value), body: "hello" });
    expect(outcome).toMatchObject({ ok: true, conclusive: true, drains: true });
    expect(outcome.reason).toMatch(/^status 503 with x-drain: /);
  });

  it.each([
    [503, {}, "1"], [503, { "X-Drain": "0" }, "1"], [503, { "X-Drained": "1" }, null], [500, { "X-Drain": "1" }, "1"],
  ])("is not %i with %j, for %j", async (status, headers, value) => {
    const outcome = await run(await answer(status, headers), asking("x-drain", value));
    expect(outcome).toMatchObject({ ok: false, conclusive: true, reason: `status ${status}, expected 200-299` });
    expect(outcome.drains).toBeUndefined();
  });

  it("nor what comes with success, nor anything where no header is named", async () => {
    const fine = await run(await answer(200, { "X-Drain": "1" }), asking("x-drain", "1"));
    expect([fine.ok, fine.drains]).toEqual([true, undefined]);
    expect((await run(await answer(503, { "X-Drain": "1" }), HTTP)).ok).toBe(false);
  });

  it("of one virtual address is the backend's word for all of them; a failure of another says more", async () => {
    const ports = [await answer(200, {}), await answer(503, { "X-Drain": "1" }), await answer(500, {})] as const;
    const [local] = [parseAddress("127.0.0.1")!];
    const through = (wanted: readonly number[]): Promise<Outcome> => createProbe(env, ({ port }) =>
      env.net.connect({ host: "127.0.0.1", port }))({
      name: "p/b", pool: "p", backend: "b", address: local, port: 1, health: asking("x-drain", "1"),
      through: wanted.map((port) => ({ service: "s", backend: "p/b", address: local, port })),
    }, new AbortController().signal);
    expect(await through([ports[0], ports[1]])).toMatchObject({
      ok: true, drains: true, reason: `127.0.0.1:${ports[1]}, and 1 more: status 503 with x-drain: 1`,
    });
    expect(await through([ports[1], ports[2]])).toMatchObject({ ok: false, reason: expect.stringContaining("status 500") as string });
  });
});
