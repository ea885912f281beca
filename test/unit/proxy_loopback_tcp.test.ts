// TCP through the proxy plane on real loopback sockets: bytes, ends, resets, retries and limits.

import { createHash } from "node:crypto";
import { once } from "node:events";
import type { Socket } from "node:net";
import { beforeEach, describe, expect, it } from "vitest";
import { decide } from "../../src/model/decide.ts";
import type { Config, ServiceConfig } from "../../src/model/config.ts";
import {
  address, config, ending, freePort, line, leaveNoSockets, ProxyWorld, service, type ServiceChange, type TcpBackend,
} from "../support/proxy_world.ts";

let world: ProxyWorld;
leaveNoSockets(() => world.close());
beforeEach(() => { world = new ProxyWorld(); });

const poll = { timeout: 10_000, interval: 5 };

function pools(backends: readonly TcpBackend[]): Record<string, Record<string, TcpBackend>> {
  return { web: Object.fromEntries(backends.map((backend) => [backend.name, backend])) };
}

/** One service before these backends, applied. */
async function serve(backends: readonly TcpBackend[], change: ServiceChange = {}): Promise<Config> {
  const wanted = config([service({ port: await freePort(change.address), ...change })], pools(backends));
  const report = await world.apply(wanted);
  expect([...report.failed]).toEqual([]);
  return wanted;
}

function serviceOf(wanted: Config): ServiceConfig {
  const [first] = wanted.services;
  if (first === undefined) throw new Error("no service");
  return first;
}

function connectTo(wanted: Config): Socket {
  const { network: { address }, ports } = serviceOf(wanted);
  return world.client({ host: address.text, port: ports.from });
}

function incidents(): Record<string, number> {
  return Object.fromEntries(world.plane.counters().incidents ?? []);
}

describe("bytes", () => {
  it("come through intact in both directions at once, over IPv4 and IPv6", async () => {
    for (const host of ["127.0.0.1", "::1"]) {
      const echo = await world.tcpBackend("a", (socket) => socket.pipe(socket), host);
      const wanted = await serve([echo], { address: host });
      const client = connectTo(wanted);
      const sent = createHash("sha256");
      const received = createHash("sha256");
      let length = 0;
      client.on("data", (chunk: Buffer) => { received.update(chunk); length += chunk.length; });
      let next = 1;
      for (let i = 0; i < 300; i += 1) {
        const chunk = Buffer.alloc(1 + (i * 7919) % 100_000);
      for (let at = 0; at < chunk.length; at += 1) chunk[at] = (next = (next * 48_271) % 0x7fffffff) & 0xff;
        sent.update(chunk);
        if (!client.write(chunk)) await once(client, "drain");
      }
      client.end();
      await once(client, "end");
      expect(length).toBe(client.bytesWritten);
      expect(received.digest("hex")).toBe(sent.digest("hex"));
    }
  });

  it("a reader that stalls stops the writer: little waits in between", async () => {
    let accepted: Socket | null = null;
    const silent = await world.tcpBackend("a", (socket) => { accepted = socket; socket.pause(); });
    const client = connectTo(await serve([silent]));
    const chunk = Buffer.alloc(1 << 20);
    let written = 0;
    const more = (): void => {
      while (written < 512 && client.write(chunk)) written += 1;
      written += 1;
    };
    client.on("drain", more);
    client.on("connect", more);
    await expect.poll(() => accepted !== null, poll).toBe(true);
    let last = -1;
    await expect.poll(() => { // until nothing moves any more
      const stood = last === client.bytesWritten - client.writableLength;
      last = client.bytesWritten - client.writableLength;
      return stood;
    }, { timeout: 10_000, interval: 300 }).toBe(true);
    expect(last).toBeLessThan(64 << 20);
    const bytesNow = process.memoryUsage().arrayBuffers;
    expect(bytesNow).toBeLessThan(64 << 20);
  });
});

describe("half-close", () => {
  it("the client ends first and still hears the answer", async () => {
    const backend = await world.tcpBackend("a", (socket) => {
      let text = "";
      socket.on("data", (chunk) => { text += chunk.toString(); });
      socket.on("end", () => { setTimeout(() => socket.end(`heard ${text}`), 20); });
    });
    const client = connectTo(await serve([backend]));
    client.end("question");
    expect(await ending(client)).toEqual({ text: "heard question", end: "fin" });
  });

  it("the backend ends first and still hears the rest", async () => {
    let heard = "";
    let isOver = false;
    const backend = await world.tcpBackend("a", (socket) => {
      socket.end("goodbye");
      socket.on("data", (chunk) => { heard += chunk.toString(); });
      socket.on("end", () => { isOver = true; });
    });
    const client = connectTo(await serve([backend]));
    expect(await ending(client)).toEqual({ text: "goodbye", end: "fin" });
    client.write("one ");
    await expect.poll(() => heard, poll).toBe("one ");
    client.end("two");
    await expect.poll(() => isOver, poll).toBe(true);
    expect(heard).toBe("one two");
    await expect.poll(() => world.plane.counters().flowTable.count, poll).toBe(0);
  });
});

describe("resets", () => {
  it("of the client reach the backend", async () => {
    const errors: string[] = [];
    const backend = await world.tcpBackend("a", (socket) => {
      socket.on("error", (error: NodeJS.ErrnoException) => errors.push(error.code ?? ""));
      socket.write("hello\n");
      socket.resume();
    });
    const client = connectTo(await serve([backend]));
    await line(client);
    client.resetAndDestroy();
    await expect.poll(() => errors, poll).toEqual(["ECONNRESET"]);
    expect(incidents()).toMatchObject({ client_reset: 1 });
  });

  it("of the backend reach the client, after what was said before", async () => {
    const backend = await world.tcpBackend("a", (socket) => {
      socket.write("last words");
      socket.once("data", () => { socket.resetAndDestroy(); });
    });
    const client = connectTo(await serve([backend]));
    client.once("data", () => client.write("now"));
    const { end } = await ending(client);
    expect(end).toBe("reset");
    expect(incidents()).toMatchObject({ backend_reset: 1 });
  });

  it("a client that resets while its backend is being connected leaves nothing", async () => {
    const wanted = await serve([await world.greeter("a")]);
    for (let i = 0; i < 20; i += 1) {
      const client = connectTo(wanted);
      client.once("connect", () => client.resetAndDestroy());
      await once(client, "close");
    }
    await expect.poll(() => world.plane.counters().flowTable.count, poll).toBe(0);
  });
});

describe("the choice", () => {
  it("is decide()'s for the service's address, whatever the socket's", async () => {
    const backends = await Promise.all(["a", "b", "c"].map((name) => world.greeter(name)));
    const port = await freePort();
    const wanted = config(
      [service({ address: "203.0.113.10", port: port - 1000 })], pools(backends), { bind: "loopback", portOffset: 1000 });
    await world.apply(wanted);
    expect([...world.plane.status().listening]).toEqual([["web", `127.0.0.1:${port}`]]);
    const table = world.tables.make(wanted);
    const met = new Set<string>();
    for (let i = 0; i < 40; i += 1) {
      const client = world.client({ host: "127.0.0.1", port });
      const said = await line(client);
      const { destination } = decide(table, { flow: null, nowNs: 0n, heartbeatNs: null, neighbour: () => true }, {
        kind: "flow", family: 4, protocol: 6, ttl: 64, tellable: false, syn: true, ack: false, fin: false, rst: false,
        source: address("127.0.0.1").bytes, sourcePort: client.localPort ?? 0,
        destination: address("203.0.113.10").bytes, destinationPort: port - 1000,
      });
      expect(`web/${said}`).toBe(destination?.name);
      met.add(said);
      client.destroy();
    }
    expect([...met].sort()).toEqual(["a", "b", "c"]);
  });

  it("without a backend the client is reset, and the verdict says why", async () => {
    await serve([await world.greeter("a")]).then(async (wanted) => {
      await world.down("web/a");
      expect((await ending(connectTo(wanted))).end).toBe("reset");
    });
    expect(world.plane.counters().verdicts).toMatchObject({ DROP_NO_BACKEND: { packets: 1 } });
  });

  it("a backend that goes down keeps the connections it has", async () => {
    const wanted = await serve([await world.greeter("a"), await world.greeter("b")]);
    const client = connectTo(wanted);
    const said = await line(client);
    await world.down(`web/${said}`);
    client.write("still there\n");
    expect(await line(client)).toBe("still there");
    for (let i = 0; i < 10; i += 1) expect(await line(connectTo(wanted))).not.toBe(said);
  });
});

describe("a backend that does not take the connection", () => {
  it("is passed over for the next of the ring, and later ones for the next but one", async () => {
    const alive = await world.greeter("c");
    const dead = { ...alive, port: await freePort() };
    const wanted = await serve([{ ...dead, name: "a" }, { ...dead, name: "b" }, alive]);
    for (let i = 0; i < 20; i += 1) expect(await line(connectTo(wanted))).toBe("c");
    const counters = world.plane.counters();
    expect(counters.backends.get("web/c")?.flows).toBe(20);
    expect(counters.backends.get("web/a")?.flows ?? 0).toBe(0);
    expect(incidents()["connect_retried"]).toBe(incidents()["connect_failed"]);
    expect(counters.verdicts).toEqual({ TX_FORWARDED: { packets: 20, bytes: 0 } });
  });

  it("is given up after the retries allowed", async () => {
    const alive = await world.greeter("z");
    const names = ["a", "b", "c", "d"];
    const dead = await Promise.all(names.map(async (name) => ({ ...alive, name, port: await freePort() })));
    const wanted = await serve(dead, { proxy: { connectRetries: 1 } });
    expect((await ending(connectTo(wanted))).end).toBe("reset");
    expect(incidents()).toMatchObject({ connect_failed: 2, connect_retried: 1, backends_exhausted: 1 });
    await world.apply(config([service({ ...serviceChange(wanted), proxy: { connectRetries: 9 } })], pools(dead)));
    expect((await ending(connectTo(wanted))).end).toBe("reset");
    expect(incidents()).toMatchObject({ connect_failed: 6, connect_retried: 4, backends_exhausted: 2 });
    expect(world.fake.messages("warn")).toHaveLength(4);
  });
});

function serviceChange(wanted: Config): ServiceChange {
  return { port: serviceOf(wanted).ports.from };
}

describe("limits", () => {
  it("connections beyond the maximum are turned away and counted; one that ends makes room", async () => {
    const wanted = await serve([await world.greeter("a")], { proxy: { connectionsMax: 2 } });
    const [first, second] = [connectTo(wanted), connectTo(wanted)];
    await Promise.all([line(first), line(second)]);
    expect((await ending(connectTo(wanted))).end).not.toBe("fin");
    expect(incidents()).toEqual({ connections_max: 1 });
    expect(world.plane.counters()).toMatchObject({
      flowTable: { count: 2, max: 2 }, verdicts: { TX_FORWARDED: { packets: 2 } },
    });
    first.end();
    await once(first, "end");
    await expect.poll(() => world.plane.counters().flowTable.count, poll).toBe(1);
    expect(await line(connectTo(wanted))).toBe("a");
  });
});

describe("counters", () => {
  it("count bytes of clients while connections live and after", async () => {
    const wanted = await serve([await world.greeter("a")]);
    const client = connectTo(wanted);
    await line(client);
    client.write("12345\n");
    expect(await line(client)).toBe("12345");
    const live = world.plane.counters();
    expect(live.services.get("web")).toEqual({ packets: 0, bytes: 6, flows: 1 });
    expect(live.backendFlows.get("web/a")).toMatchObject({ count: 1, kind: "exact" });
    client.end("67");
    await expect.poll(() => world.plane.counters().flowTable.count, poll).toBe(0);
    const after = world.plane.counters();
    expect(after.services.get("web")).toEqual({ packets: 0, bytes: 8, flows: 1 });
    expect(after.backends.get("web/a")).toEqual({ packets: 0, bytes: 8, flows: 1 });
    expect(after.verdicts).toEqual({ TX_FORWARDED: { packets: 1, bytes: 8 } });
    expect(after.backendFlows.get("web/a")?.count).toBe(0);
  });
});

describe("the PROXY protocol", () => {
  it("tells the backend who the client was, before the first byte", async () => {
    const heard: Buffer[] = [];
    const backend = await world.tcpBackend("a", (socket) => { socket.on("data", (chunk: Buffer) => heard.push(chunk)); });
    const wanted = await serve([backend], { proxy: { proxyProtocol: "v1" } });
    const client = connectTo(wanted);
    await once(client, "connect");
    client.end("GET /\n");
    const port = serviceOf(wanted).ports.from;
    await expect.poll(() => Buffer.concat(heard).toString(), poll)
      .toBe(`PROXY TCP4 127.0.0.1 127.0.0.1 ${client.localPort} ${port}\r\nGET /\n`);
    heard.length = 0;
    await world.apply(config([service({ port, proxy: { proxyProtocol: "v2" } })], pools([backend])));
    connectTo(wanted).end("GET /\n");
    await expect.poll(() => Buffer.concat(heard).length, poll).toBe(28 + 6);
    expect(Buffer.concat(heard).subarray(0, 12).toString("hex")).toBe("0d0a0d0a000d0a515549540a");
  });
});
