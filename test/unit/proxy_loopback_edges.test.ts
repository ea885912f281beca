// TCP through the proxy plane where things go wrong at the edges: ends and resets with data still
// in flight, peers that read nothing, backends that close at once. Real loopback sockets.

import { createHash } from "node:crypto";
import { once } from "node:events";
import type { Socket } from "node:net";
import { beforeEach, describe, expect, it } from "vitest";
import type { ServiceChange, TcpBackend } from "../support/proxy_world.ts";
import {
  config, ending, freePort, line, leaveNoSockets, ProxyWorld, service,
} from "../support/proxy_world.ts";

let world: ProxyWorld;
leaveNoSockets(() => world.close());
beforeEach(() => { world = new ProxyWorld(); });

const poll = { timeout: 10_000, interval: 5 };
const MIB = 1 << 20;

/** One service before one backend, and a client of it. */
async function connectThrough(backend: TcpBackend, change: ServiceChange = {}): Promise<Socket> {
  const host = change.address ?? "127.0.0.1";
  const port = await freePort(host);
  const wanted = config([service({ port, ...change })], { web: { a: backend } });
  expect([...(await world.apply(wanted)).failed]).toEqual([]);
  return world.client({ host, port });
}

/** The plane's socket of the next connection to a backend. */
function captureBackend(): { socket: Socket | null } {
  const captured: { socket: Socket | null } = { socket: null };
  const { connect } = new ProxyWorld().env.net;
  world = new ProxyWorld({ net: { connect: (options) => (captured.socket = connect(options)) } });
  return captured;
}

function noise(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0, next = 1; at < length; at += 1) {
    next = (next * 48_271) % 0x7fffffff;
    bytes[at] = next & 0xff;
  }
  return bytes;
}

const digest = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");

async function flowsEnd(): Promise<void> {
  await expect.poll(() => world.plane.counters().flowTable.count, poll).toBe(0);
}

function incidents(): Record<string, number> {
  return Object.fromEntries(world.plane.counters().incidents ?? []);
}

describe("an end with much in flight", () => {
  it("of both directions at once loses nothing, whoever reads late", async () => {
    const [up, down] = [noise(8 * MIB), noise(8 * MIB + 1)];
    const heard: Buffer[] = [];
    const backend = await world.tcpBackend("a", (socket) => {
      socket.end(down);
      setTimeout(() => { socket.on("data", (chunk: Buffer) => heard.push(chunk)); }, 50);
    });
    const client = await connectThrough(backend);
    client.end(up);
    await once(client, "connect");
    const answer: Buffer[] = [];
    setTimeout(() => { client.on("data", (chunk: Buffer) => answer.push(chunk)); }, 100);
    await once(client, "end");
    expect(digest(Buffer.concat(answer))).toBe(digest(down));
    await flowsEnd();
    await expect.poll(() => Buffer.concat(heard).length, poll).toBe(up.length);
    expect(digest(Buffer.concat(heard))).toBe(digest(up));
    expect(incidents()).toEqual({});
  });

  it("a backend that takes the connection and closes at once ends the client's too", async () => {
    const backend = await world.tcpBackend("a", (socket) => { socket.destroy(); });
    const client = await connectThrough(backend);
    await once(client, "connect");
    client.write(noise(MIB));
    const { text, end } = await ending(client);
    expect([text, ["fin", "reset"].includes(end)]).toEqual(["", true]);
    client.end();
    await flowsEnd();
  });
});

describe("a reset", () => {
  it("of one side while the other side's end is on its way leaves nothing behind", async () => {
    const captured = captureBackend();
    const client = await connectThrough(await world.tcpBackend("a", (socket) => {
      socket.once("data", () => socket.end("bye"));
    }));
    await once(client, "connect");
    client.write("x");
    await expect.poll(() => captured.socket !== null, poll).toBe(true);
    const error = Object.assign(new Error("write EPIPE"), { code: "EPIPE" });
    captured.socket?.once("end", () => captured.socket?.destroy(error));
    client.resume();
    await expect.poll(incidents, poll).toEqual({ backend_reset: 1 });
    await flowsEnd();
  });

  for (const side of ["client", "backend"] as const) {
    it(`of a ${side} right after its last words is no end of them`, async () => {
      let accepted: Socket | null = null;
      const backend = await world.tcpBackend("a", (socket) => { accepted = socket; });
      for (let round = 1; round <= 10; round += 1) {
        accepted = null;
        const client = await connectThrough(backend);
        await expect.poll(() => accepted !== null, poll).toBe(true);
        if (accepted === null) return;
        const [writer, reader] = side === "client" ? [client, accepted] : [accepted, client];
        const reset = resetOf(reader);
        reader.resume();
        writer.write("last words", () => { writer.resetAndDestroy(); });
        await reset;
        await expect.poll(incidents, poll).toEqual({ [`${side}_reset`]: round });
      }
      await flowsEnd();
    });

    it(`of a ${side} that the other side kept from sending more is passed on`, async () => {
      world = new ProxyWorld({ fakeTime: true });
      let accepted: Socket | null = null;
      const backend = await world.tcpBackend("a", (socket) => { accepted = socket; });
      const client = await connectThrough(backend, { proxy: { idleTimeoutMs: 0 } });
      await expect.poll(() => accepted !== null, poll).toBe(true);
      if (accepted === null) return;
      const [writer, reader] = side === "client" ? [client, accepted] : [accepted, client];
      await stall(writer, reader);
      writer.resetAndDestroy();
      await world.fake.advance(5000);
      await expect.poll(incidents, poll).toEqual({ [`${side}_reset`]: 1 });
      await world.fake.advance(10_000); // what was said before is kept for so long
      const reset = resetOf(reader);
      reader.resume();
      await reset;
      await flowsEnd();
    });
  }
});

/**
 * Resolves with the reset. Where data and a reset come together libuv gives the data and an end,
 * and only a write tells the truth.
 */
async function resetOf(socket: Socket): Promise<void> {
  socket.once("end", () => { socket.write(""); });
  const error = await new Promise<NodeJS.ErrnoException>((resolve) => {
    socket.once("error", resolve);
  });
  expect(error.code).toMatch(/^(ECONNRESET|EPIPE)$/);
}

/** Writes to somebody who reads nothing until nothing moves any more. */
async function stall(writer: Socket, reader: Socket): Promise<void> {
  reader.pause();
  writer.write(Buffer.alloc(64 * MIB));
  let last = -1;
  await expect.poll(() => {
    const moved = writer.bytesWritten - writer.writableLength;
    const stood = moved === last;
    last = moved;
    return stood;
  }, { timeout: 10_000, interval: 300 }).toBe(true);
}

describe("closing the plane", () => {
  it("does not wait for a client that reads nothing", async () => {
    const client = await connectThrough(await world.tcpBackend("a", (socket) => {
      socket.end(noise(32 * MIB));
    }));
    client.pause();
    await expect.poll(() => world.plane.counters().flowTable.count, poll).toBe(1);
    await expect.poll(() => client.readableLength > 0, poll).toBe(false);
    await world.plane.close({ detach: true, drainMs: 10 });
    expect(world.plane.counters().flowTable.count).toBe(0);
  });
});

describe("the PROXY protocol", () => {
  it("over IPv6 in both versions, whatever the backend's family", async () => {
    const cases = [
      ["v1", "::1"], ["v2", "::1"], ["v1", "127.0.0.1"], ["v2", "127.0.0.1"],
    ] as const;
    for (const [version, host] of cases) {
      const heard: Buffer[] = [];
      const backend = await world.tcpBackend("a", (socket) => {
        socket.on("data", (chunk: Buffer) => heard.push(chunk));
      }, host);
      const change = { address: "::1", proxy: { proxyProtocol: version } } as const;
      const client = await connectThrough(backend, change);
      await once(client, "connect");
      client.write("GET /\n");
      const { localPort, remotePort } = client;
      const ports = Buffer.alloc(4);
      ports.writeUInt16BE(localPort ?? 0, 0);
      ports.writeUInt16BE(remotePort ?? 0, 2);
      const one = "00000000000000000000000000000001";
      const header = version === "v1"
        ? Buffer.from(`PROXY TCP6 ::1 ::1 ${localPort} ${remotePort}\r\n`)
        : Buffer.concat([Buffer.from(`0d0a0d0a000d0a515549540a21210024${one}${one}`, "hex"), ports]);
      await expect.poll(() => Buffer.concat(heard).toString("latin1"), poll)
        .toBe(`${header.toString("latin1")}GET /\n`);
    }
  });
});

it("the text a client sends while its backend is being connected is not lost", async () => {
  const client = await connectThrough(await world.greeter("a"));
  client.end("early\n");
  expect(await line(client)).toBe("a");
  expect((await ending(client)).text).toBe("early\n");
});
