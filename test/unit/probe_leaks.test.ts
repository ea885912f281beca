// No probe leaves a socket behind, whoever answers it and however: a handle that Node has lost keeps a process from
// ending, and spins while it does. Straight to a server, and by sockets that somebody else has opened.

import { createServer as createTlsServer } from "node:tls";
import { describe, expect, it } from "vitest";
import { createProbe } from "../../src/health/probe.ts";
import { parseAddress } from "../../src/model/address.ts";
import type { HttpHealth, ProbedHealth } from "../../src/model/health_check.ts";
import { createCertificate } from "../support/certificate.ts";
import { base64, usePeer } from "../support/http2_peer.ts";
import { env, freePort, listen, raw, TIMING, TLS } from "../support/probe_world.ts";

const WAIT = { ...TIMING, timeoutMs: 40 } as const;
const HTTP: HttpHealth = {
  type: "http", version: 1, method: "GET", path: "/", host: null, headers: [], statuses: [{ from: 200, to: 299 }],
  body: null, bodyMatches: null, json: [], drainHeader: null, tls: null, ...WAIT,
};
const KINDS: readonly (readonly [string, ProbedHealth])[] = [
  ["tcp", { type: "tcp", ...WAIT }], ["tls", { type: "tls", tls: TLS, ...WAIT }], ["http", HTTP], ["https", { ...HTTP, tls: TLS }],
  ["h2c", { ...HTTP, version: 2 }], ["h2", { ...HTTP, version: 2, tls: TLS }], ["grpc", { type: "grpc", service: "", host: null, tls: null, ...WAIT }],
  ["redis", { type: "redis", username: null, password: null, role: "any", tls: null, ...WAIT }],
  ["postgres over TLS", { type: "postgres", user: "p", database: null, tls: TLS, ...WAIT }], ["mysql", { type: "mysql", user: null, ...WAIT }],
  ["smtp", { type: "smtp", helloName: "p", tls: null, ...WAIT }], ["agent", { type: "agent", send: null, ...WAIT }],
  ["dns", { type: "dns", name: "a", recordType: "A", rcode: "NOERROR", answer: null, transport: "tcp", ...WAIT }],
];
const peer = usePeer();
const ROUNDS = 8;
const sockets = (): number => process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length;
const LOCAL = parseAddress("127.0.0.1")!;

describe.each(["straight", "by the plane's sockets"])("%s", (way) => {
  it.each(KINDS)("%s", async (_name, health) => {
    const from = new Date(Date.now() - 86_400_000);
    const certificate = createCertificate("web.example", from, new Date(Date.now() + 86_400_000));
    const secure = createTlsServer({ ...certificate, ALPNProtocols: ["h2"] }, (socket) => {
      socket.on("error", () => { /* the probe is gone */ });
      socket.resume();
    });
    const ports = [
      await peer().listen({ answer: { body: base64("fine") } }), await peer().listen({ certificate }), await listen(secure), await freePort(),
      await raw((socket) => { socket.resume(); }), await raw((socket) => { socket.resume(); socket.end("S"); }),
      await raw((socket) => { socket.resume(); socket.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"); }),
    ];
    const before = sockets();
    for (const port of ports) {
      const place = { service: "s", backend: "p/b", address: LOCAL, port };
      const through = way === "straight" ? [] : [place];
      const probe = createProbe(env, () => env.net.connect({ host: "127.0.0.1", port }));
      const target = { name: "p/b", pool: "p", backend: "b", address: LOCAL, port, health, through };
      await Promise.all(Array.from({ length: ROUNDS }, () => probe(target, new AbortController().signal)));
    }
    // Those of tests before may go meanwhile.
    await expect.poll(sockets, { timeout: 10_000 }).toBeLessThanOrEqual(before);
  });
});
