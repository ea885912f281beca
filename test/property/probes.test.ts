// Whatever a server says, a probe of any kind ends in time with a verdict and a reason of one printable line, and
// takes garbage for no answer. Answers are random bytes, or right ones that were cut, repeated and bent.

import { createSocket } from "node:dgram";
import { createServer, type AddressInfo, type Server } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { HttpHealth, ProbedHealth } from "../../src/model/health_check.ts";
import { randomised } from "../support/counts.ts";
import { run, TIMING, TLS } from "../support/probe_world.ts";
import { Draws } from "../support/random.ts";

/** For the long count, of which one in ten waits for its timeout. */
const PATIENCE_MS = 1_200_000;
const WAIT = { ...TIMING, timeoutMs: 150 } as const;
const HTTP: HttpHealth = {
  type: "http", version: 1, method: "GET", path: "/", host: null, headers: [], statuses: [{ from: 200, to: 299 }],
  body: "well", bodyMatches: "^all", json: [{ path: "a.b", value: 1 }], drainHeader: { name: "x-drain", value: null }, tls: null, ...WAIT,
};
const DNS_ANSWER = Buffer.from("002d12348180000100010000000003777777076578616d706c65000001000103777777076578616d706c65000001000100000e100004c0000207", "hex");

/** With what a well server says, in the order in which it says it. */
const KINDS: readonly (readonly [ProbedHealth, readonly (string | Buffer)[]])[] = [
  [HTTP, ["HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n", "9\r\nall well.\r\n0\r\n\r\n"]],
  [{ ...HTTP, version: 2 }, [
    Buffer.from("000000040000000000" + "000000040100000000", "hex"), Buffer.from("0000010104000000018800000401000000000161", "hex"),
  ]],
  [{ type: "grpc", service: "", host: null, tls: null, ...WAIT }, [
    Buffer.from("000000040000000000" + "000000040100000000", "hex"), Buffer.from("000001010400000001880000070001000000010000000002080100", "hex"),
  ]],
  [{ type: "redis", username: null, password: null, role: "master", tls: null, ...WAIT }, ["+PONG\r\n", "*3\r\n$6\r\nmaster\r\n:3129\r\n*0\r\n"]],
  [{ type: "postgres", user: "p", database: null, tls: null, ...WAIT }, [Buffer.from("520000001700000000a534352414d2d5348412d323536000", "hex")]],
  [{ type: "mysql", user: "p", ...WAIT }, [Buffer.from("4a0000000a382e302e333600", "hex"), Buffer.from("0700000200000002000000", "hex")]],
  [{ type: "smtp", helloName: "p", tls: null, ...WAIT }, ["220-a\r\n220 b\r\n", "250-a\r\n250 b\r\n", "221 c\r\n"]],
  [{ type: "dns", name: "www.example", recordType: "A", rcode: "NOERROR", answer: null, transport: "tcp", ...WAIT }, [DNS_ANSWER]],
  [{ type: "tls", tls: TLS, ...WAIT }, [Buffer.from("160303007a020000760303", "hex")]],
  [{ type: "agent", send: null, ...WAIT }, ["up 75% # fine\n"]],
];

/** What the next connection is told, and whether it is hung up on then. */
interface Script { readonly pieces: readonly Uint8Array[]; readonly ends: boolean }

let server: Server;
let port = 0;
let script: Script = { pieces: [], ends: true };
beforeAll(async () => {
  server = createServer((socket) => {
    const { pieces, ends } = script;
    socket.on("error", () => { /* the probe has had enough */ });
    socket.resume();
    void (async () => {
      for (const piece of pieces) {
        if (socket.destroyed) return;
        socket.write(piece);
        await new Promise((resolve) => { setImmediate(resolve); });
      }
      if (ends) socket.end();
    })();
  });
  await new Promise<void>((resolve) => { server.listen(0, "127.0.0.1", resolve); });
  port = (server.address() as AddressInfo).port;
});
afterAll(() => { server.close(); });

function randomPieces(draws: Draws): Uint8Array[] {
  return Array.from({ length: draws.between(0, 4) }, () => draws.bytes(draws.below(200)));
}

/** Cut, repeated, swapped, or with a byte changed here and there. */
function bent(draws: Draws, right: readonly (string | Buffer)[]): Uint8Array[] {
  const pieces: Uint8Array[] = right.map((piece) => Uint8Array.from(Buffer.from(piece as string)));
  for (let changes = draws.between(0, 3); changes > 0; changes -= 1) {
    const at = draws.below(pieces.length);
    const piece = pieces[at]!;
    switch (draws.below(4)) {
      case 0: pieces[at] = piece.subarray(0, draws.below(piece.length + 1)); break;
      case 1: pieces.splice(at, 0, piece); break;
      case 2: pieces.push(...randomPieces(draws).slice(0, 1)); break;
      default: if (piece.length > 0) piece[draws.below(piece.length)] = draws.below(256);
    }
  }
  return pieces;
}

it("probes end with a verdict and a printable reason, whatever they are told", async () => {
  await randomised("probes", async ({ seed, count }) => {
    const draws = new Draws(seed);
    let well = 0;
    for (let round = 0; round < count; round += 1) {
      const [health, right] = draws.pick(KINDS);
      const isNoise = draws.chance(0.4);
      script = { pieces: isNoise ? randomPieces(draws) : bent(draws, right), ends: draws.chance(0.9) };
      const outcome = await run(port, health);
      if (outcome.ok) well += 1;
      const context = `round ${round}, ${health.type}: ${JSON.stringify(outcome)}`;
      if (!/^[^\u0000-\u001f\u007f]+$/.test(outcome.reason)) expect.fail(`not one printable line: ${context}`);
      if (isNoise && outcome.ok && health.type !== "agent") expect.fail(`noise was taken for an answer: ${context}`);
      if (!outcome.ok && !outcome.conclusive && health.type !== "agent") expect.fail(`our own fault? ${context}`);
    }
    expect(well, "what was right is taken for an answer").toBeGreaterThan(0);
  });
}, PATIENCE_MS);

it("and by datagrams", async () => {
  let next: Uint8Array | null = null;
  const socket = createSocket("udp4");
  socket.on("message", (query, from) => {
    if (next === null) return;
    // Its number is the query's, or no byte behind it would be looked at.
    const answer = Buffer.from(next);
    if (answer.length > 2) query.copy(answer, 0, 0, 2);
    socket.send(answer, from.port, from.address);
  });
  await new Promise<void>((resolve) => { socket.bind(0, "127.0.0.1", resolve); });
  const dns = { type: "dns", name: "www.example", recordType: "A", rcode: "NOERROR", answer: null, transport: "udp", ...WAIT } as const;
  await randomised("probes", async ({ seed, count }) => {
    const draws = new Draws(seed ^ 1);
    let well = 0;
    for (let round = 0; round < count; round += 1) {
      [next = null] = draws.chance(0.3) ? randomPieces(draws) : bent(draws, [DNS_ANSWER.subarray(2)]);
      const outcome = await run(socket.address().port, { ...dns, recordType: draws.pick(["A", "MX", "SOA", "SRV", "TXT"] as const) });
      if (outcome.ok) well += 1;
      if (!/^[^\u0000-\u001f\u007f]+$/.test(outcome.reason)) expect.fail(`not one printable line: round ${round}: ${JSON.stringify(outcome)}`);
    }
    expect(well, "what was right is taken for an answer").toBeGreaterThan(0);
  });
  await new Promise<void>((resolve) => { socket.close(resolve); });
}, PATIENCE_MS);
