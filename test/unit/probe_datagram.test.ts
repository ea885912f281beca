// Probes by datagrams: plain ones, and DNS over UDP and TCP; of servers on the loopback that answer well, badly,
// late or not at all.

import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { createServer } from "node:net";
import dnsPacket, { type Answer, type Packet } from "dns-packet";
import { describe, expect, it } from "vitest";
import { parseAddress } from "../../src/model/address.ts";
import type { DnsHealth, ProbePayload, UdpHealth } from "../../src/model/health_check.ts";
import { readPayload } from "../../src/config/formats_health.ts";
import { closers, listen, raw, run, say, TIMING } from "../support/probe_world.ts";

const text = (said: string): ProbePayload => readPayload(said);
const UDP: UdpHealth = { type: "udp", send: text("PING"), expect: null, ...TIMING };
const DNS: DnsHealth = {
  type: "dns", name: "www.example.org", recordType: "A", rcode: "NOERROR", answer: null, transport: "udp", ...TIMING,
};

/** A server that answers each datagram as it is told; null: not at all. */
async function udp(
  answer: (heard: Buffer, from: RemoteInfo, socket: Socket) => Uint8Array | string | null, host = "127.0.0.1", port = 0,
): Promise<number> {
  const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
  socket.on("message", (heard, from) => {
    const said = answer(heard, from, socket);
    if (said !== null) socket.send(said, from.port, from.address);
  });
  await new Promise<void>((resolve) => { socket.bind(port, host, resolve); });
  closers.push(() => new Promise((resolve) => { socket.close(() => { resolve(); }); }));
  return socket.address().port;
}

async function closedPort(): Promise<number> {
  const socket = createSocket("udp4");
  await new Promise<void>((resolve) => { socket.bind(0, "127.0.0.1", resolve); });
  const { port } = socket.address();
  await new Promise<void>((resolve) => { socket.close(resolve); });
  return port;
}

describe("udp", () => {
  it.each(["127.0.0.1", "::1"])("at %s sends its payload and takes any answer, or the one that is expected", async (host) => {
    const heard: string[] = [];
    const port = await udp((bytes) => { heard.push(bytes.toString("latin1")); return "+PONG"; }, host);
    expect(await run(port, UDP, host)).toMatchObject({ ok: true, conclusive: true, reason: "answered by 5 bytes" });
    expect(await run(port, { ...UDP, send: text("hex:00ff"), expect: text("PONG") }, host)).toMatchObject({ ok: true });
    expect(await run(port, { ...UDP, expect: text("hex:2b50") }, host)).toMatchObject({ ok: true });
    expect(heard).toEqual(["PING", "\u0000\u00ff", "PING"]);
  });

  it("fails by another answer, and tells it", async () => {
    const port = await udp(() => "\u0000no\u001b[2J");
    expect((await run(port, { ...UDP, expect: text("PONG") })).reason)
      .toBe("the answer (7 bytes: ·no·[2J) lacks what is expected");
    expect((await run(port, { ...UDP, expect: text("hex:ff") })).reason)
      .toBe("the answer (7 bytes: 006e6f1b5b324a) lacks what is expected");
    expect(await run(await udp(() => ""), { ...UDP, expect: text("PONG") })).toMatchObject({ ok: false, conclusive: true });
  });

  it("fails when refused and when nobody answers, and hears nobody else", async () => {
    expect(await run(await closedPort(), UDP)).toMatchObject({ ok: false, conclusive: true, reason: "connection refused" });
    expect((await run(await udp(() => null), { ...UDP, timeoutMs: 400 })).reason)
      .toBe("timeout after 400 ms while waiting for the answer");
    const stranger = createSocket("udp4");
    closers.push(() => new Promise((resolve) => { stranger.close(() => { resolve(); }); }));
    const port = await udp((_heard, from) => { stranger.send("+PONG", from.port, from.address); return null; });
    expect((await run(port, { ...UDP, timeoutMs: 400 })).ok).toBe(false);
  });

  it("fails where the address cannot even be sent to", async () => {
    // A broadcast address is refused by the kernel, and no packet leaves.
    expect(await run(9, UDP, "255.255.255.255")).toMatchObject({ ok: false, conclusive: true, reason: expect.stringContaining("EACCES") as string });
  });

  it("comes from the source of choice, whose lack says nothing of the backend", async () => {
    let from = "";
    const port = await udp((_heard, sender) => { from = sender.address; return "x"; });
    expect(await run(port, { ...UDP, source: parseAddress("127.0.0.3") })).toMatchObject({ ok: true });
    expect(from).toBe("127.0.0.3");
    expect(await run(port, { ...UDP, source: parseAddress("198.18.255.1") })).toMatchObject(
      { ok: false, conclusive: false, reason: expect.stringContaining("does not have the address 198.18.255.1") as string });
  });

  it("leaves no socket behind, whatever happens", async () => {
    const sockets = (): number => process.getActiveResourcesInfo().filter((name) => name === "UDPWrap").length;
    const [good, silent, closed] = [await udp(() => "x"), await udp(() => null), await closedPort()];
    const before = sockets();
    for (let round = 0; round < 20; round += 1) {
      const abort = new AbortController();
      const aborted = run(silent, UDP, "127.0.0.1", abort.signal);
      await Promise.all([run(good, UDP), run(silent, { ...UDP, timeoutMs: 5 }), run(closed, UDP)]);
      abort.abort();
      expect(await aborted).toMatchObject({ conclusive: false });
    }
    // Those of tests before may go meanwhile.
    await expect.poll(sockets).toBeLessThanOrEqual(before);
  });
});

const A: Answer = { type: "A", name: "www.example.org", ttl: 60, data: "192.0.2.7" };

/** The answer to a query, with what the test wants otherwise. */
function reply(query: Buffer, change: Packet & { rcode?: number } = {}): Buffer {
  const { id, questions } = dnsPacket.decode(query);
  return dnsPacket.encode({ type: "response", id: id ?? 0, questions: questions ?? [], answers: [A], flags: change.rcode ?? 0, ...change });
}

describe("dns", () => {
  it.each(["127.0.0.1", "::1"])("at %s asks its question, and takes the answer", async (host) => {
    const asked: unknown[] = [];
    const port = await udp((query) => { asked.push(dnsPacket.decode(query).questions?.[0]); return reply(query); }, host);
    expect(await run(port, DNS, host)).toMatchObject({ ok: true, conclusive: true, reason: "NOERROR, 1 answer" });
    expect(await run(port, { ...DNS, answer: "192.0.2.7" }, host)).toMatchObject({ ok: true });
    expect((await run(port, { ...DNS, answer: "192.0.2.8" }, host)).reason).toBe("www.example.org A is 192.0.2.7, expected 192.0.2.8");
    expect((await run(port, { ...DNS, recordType: "AAAA", answer: "2001:db8::1" }, host)).reason)
      .toBe("www.example.org AAAA is without an answer, expected 2001:db8::1");
    expect(asked[0]).toMatchObject({ name: "www.example.org", type: "A" });
  });

  it.each([
    [{ type: "TXT", name: "x", data: ["v=", "1"] }, "TXT", "v=1"], [{ type: "MX", name: "x", data: { preference: 5, exchange: "mail.x" } }, "MX", "5 mail.x"],
    [{ type: "SRV", name: "x", data: { port: 80, target: "a.x", priority: 1, weight: 2 } }, "SRV", "1 2 80 a.x"],
    [{ type: "CNAME", name: "x", data: "Y.example" }, "CNAME", "y.example"],
    [{ type: "SOA", name: "x", data: { mname: "a", rname: "b", serial: 42, refresh: 1, retry: 1, expire: 1, minimum: 1 } }, "SOA", "42"],
  ] as [Answer, DnsHealth["recordType"], string][])("finds %j", async (record, recordType, answer) => {
    const port = await udp((query) => reply(query, { answers: [record] }));
    expect(await run(port, { ...DNS, recordType, answer })).toMatchObject({ ok: true });
  });

  it("by the code of the response", async () => {
    const port = await udp((query) => reply(query, { flags: 3, answers: [] }));
    expect((await run(port, DNS)).reason).toBe("the server answered NXDOMAIN, expected NOERROR");
    expect(await run(port, { ...DNS, rcode: "NXDOMAIN" })).toMatchObject({ ok: true, reason: "NXDOMAIN, 0 answers" });
    const failing = await udp((query) => reply(query, { flags: 2 }));
    expect((await run(failing, DNS)).reason).toBe("the server answered SERVFAIL, expected NOERROR");
  });

  it("asks again by TCP where the answer was cut short, byte by byte too, and by TCP alone where that is wished", async () => {
    let byTcp = 0;
    const port = await raw((socket) => {
      socket.on("data", (query) => {
        byTcp += 1;
        const answer = reply(query.subarray(2), { answers: Array.from({ length: 100 }, () => A) });
        void say(socket, Buffer.concat([Buffer.of(answer.length >> 8, answer.length & 255), answer]), byTcp === 2);
      });
    });
    await udp((query) => reply(query, { flags: dnsPacket.TRUNCATED_RESPONSE, answers: [] }), "127.0.0.1", port);
    expect(await run(port, DNS)).toMatchObject({ ok: true, reason: "NOERROR, 100 answers" });
    expect(await run(port, { ...DNS, transport: "tcp" })).toMatchObject({ ok: true });
    expect(byTcp).toBe(2);
  });

  it("fails where TCP is missing, silent, cut or garbage", async () => {
    const truncated = await udp((query) => reply(query, { flags: dnsPacket.TRUNCATED_RESPONSE }));
    expect((await run(truncated, DNS)).reason).toBe("connection refused");
    const tcp: DnsHealth = { ...DNS, transport: "tcp", timeoutMs: 400 };
    expect((await run(await listen(createServer((socket) => { socket.resume(); })), tcp)).reason)
      .toBe("timeout after 400 ms while waiting for the answer by TCP");
    const saying = (said: string): Promise<number> => raw((socket) => { socket.once("data", () => { socket.end(said); }); });
    expect((await run(await saying(""), tcp)).reason).toBe("connection closed without an answer");
    expect((await run(await saying("\u0000\u0040half"), tcp)).reason).toBe("connection closed in the middle of an answer");
    expect((await run(await saying("\u0000\u0004half"), tcp)).reason).toMatch(/^not a DNS answer: /);
  });

  it("takes no answer to another question, and no garbage", async () => {
    const other = await udp((query) => reply(query, { questions: [{ type: "A", name: "other.example" }] }));
    expect((await run(other, DNS)).reason).toBe("the answer is to another question");
    expect((await run(await udp(() => "garbage"), DNS)).reason).toMatch(/^not a DNS answer: /);
    expect((await run(await udp((query) => query), DNS)).reason).toMatch(/^not a DNS answer: /);
    const late = await udp((query) => reply(query, { id: ((dnsPacket.decode(query).id ?? 0) + 1) & 0xffff }));
    expect((await run(late, { ...DNS, timeoutMs: 400 })).reason).toBe("timeout after 400 ms while waiting for the answer");
    expect((await run(await udp(() => null), { ...DNS, timeoutMs: 60 })).ok).toBe(false);
    expect((await run(await closedPort(), DNS)).reason).toBe("connection refused");
  });
});
