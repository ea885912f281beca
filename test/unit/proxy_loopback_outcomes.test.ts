// What the proxy plane tells of flows, on real loopback sockets: which are answered, which fail, and of which nothing
// is known.

import { once } from "node:events";
import type { Socket } from "node:net";
import { beforeEach, describe, expect, it } from "vitest";
import type { FlowsSeen } from "../../src/model/flows_seen.ts";
import {
  config, freePort, leaveNoSockets, ProxyWorld, service, udpPort, type Place, type ServiceChange,
} from "../support/proxy_world.ts";

let world: ProxyWorld;
leaveNoSockets(() => world.close());
beforeEach(() => { world = new ProxyWorld({ fakeTime: true }); });

const poll = { timeout: 10_000, interval: 5 };

/** What is told of flows from now on, one line for each. */
async function serve(backend: Place, change: ServiceChange = {}): Promise<{ readonly port: number; readonly told: string[] }> {
  const port = change.protocol === "udp" ? await udpPort(change.address) : await freePort(change.address);
  const wanted = config([service({ port, ...change })], { web: { a: backend } });
  expect([...(await world.apply(wanted)).failed]).toEqual([]);
  const told: string[] = [];
  world.plane.onFlows?.((name, seen) => { told.push(`${name} ${outcomeOf(seen)}`); });
  return { port, told };
}

function outcomeOf({ ok, failed, silent, reason }: FlowsSeen): string {
  expect(ok + failed + silent).toBe(1);
  return ok === 1 ? "ok" : `${failed === 1 ? "failed" : "silent"}: ${reason}`;
}

/** A backend that does this with each connection, and a client of it. */
async function talk(
  act: (socket: Socket) => void, change: ServiceChange = {}, host = "127.0.0.1",
): Promise<{ readonly client: Socket; readonly told: string[]; readonly backend: Awaited<ReturnType<ProxyWorld["tcpBackend"]>> }> {
  const backend = await world.tcpBackend("a", act, host);
  const { port, told } = await serve(backend, { address: host, ...change });
  const client = world.client({ host, port });
  client.resume();
  await once(client, "connect");
  return { client, told, backend };
}

/** By whatever: errors are part of these tests. */
function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => { socket.once("close", () => { resolve(); }); });
}

describe("a TCP connection", () => {
  it("is answered by the first byte, once, whatever comes then", async () => {
    for (const host of ["127.0.0.1", "::1"]) {
      const { client, told, backend } = await talk((socket) => { socket.write("hello"); }, {}, host);
      await expect.poll(() => told, poll).toEqual(["web/a ok"]);
      const end = closed(client);
      for (const socket of backend.sockets) socket.resetAndDestroy();
      await end;
      expect(told).toEqual(["web/a ok"]);
    }
  });

  it("has failed where nobody takes it, at every backend that is tried", async () => {
    const port = await freePort();
    const { port: to, told } = await serve({ address: "127.0.0.1", port });
    const client = world.client({ host: "127.0.0.1", port: to });
    client.resume();
    const end = closed(client);
    await expect.poll(() => told, poll).toEqual(["web/a failed: ECONNREFUSED"]);
    await end;
  });

  it.each([
    ["reset", (socket: Socket): void => { socket.once("data", () => { socket.resetAndDestroy(); }); }],
    ["closed", (socket: Socket): void => { socket.once("data", () => { socket.end(); }); }],
  ])("has failed where it is %s before any answer", async (how, act) => {
    const { client, told } = await talk(act);
    client.write("question");
    await expect.poll(() => told, poll).toEqual([`web/a failed: connection ${how} before any answer`]);
    client.destroy();
  });

  it("has failed where it is closed at once, also for a client that waits to be greeted", async () => {
    const { client, told } = await talk((socket) => { socket.end(); });
    await expect.poll(() => told, poll).toEqual(["web/a failed: connection closed before any answer"]);
    client.destroy();
  });

  it("says nothing where the client is tired first, has said all it had to, or had nothing to say", async () => {
    const taken: Socket[] = [];
    const keep = (socket: Socket): void => { taken.push(socket); socket.resume(); };
    const { client: tired, told } = await talk(keep);
    tired.write("question");
    await expect.poll(() => taken.length, poll).toBe(1);
    tired.resetAndDestroy();
    const { client: oneWay, told: toldOfIt } = await talk((socket) => { socket.resume(); socket.on("end", () => { socket.end(); }); });
    oneWay.end("line of a log\n");
    await once(oneWay, "end");
    const { client: idle, told: toldOfIdle, backend } = await talk(keep);
    await expect.poll(() => backend.sockets.size, poll).toBe(1);
    await world.fake.advance(2000);
    for (const socket of backend.sockets) socket.end();
    await once(idle, "end");
    idle.destroy();
    expect([told, toldOfIt, toldOfIdle]).toEqual([[], [], []]);
  });

  it("is silent where a question has no answer until the idle timeout", async () => {
    const { client, told, backend } = await talk((socket) => { socket.resume(); }, { proxy: { idleTimeoutMs: 5000 } });
    client.write("question");
    await expect.poll(() => [...backend.sockets][0]?.bytesRead, poll).toBe(8);
    for (let second = 0; second < 15; second++) await world.fake.advance(1000);
    expect(told).toEqual(["web/a silent: no answer until the idle timeout"]);
  });
});

describe("a UDP session", () => {
  it("is answered once, until something says that it is not", async () => {
    const backend = await world.udpBackend("a");
    const { port, told } = await serve(backend, { protocol: "udp" });
    const client = await world.udpClient();
    for (let at = 1; at <= 3; at++) {
      client.socket.send("x", port, "127.0.0.1");
      await expect.poll(() => client.heard.length, poll).toBe(at);
    }
    expect(told).toEqual(["web/a ok"]);
  });

  it.each(["127.0.0.1", "::1"])("has failed where nobody has the port, by ICMP (%s)", async (host) => {
    const gone = await udpPort(host);
    const { port, told } = await serve({ address: host, port: gone }, { protocol: "udp", address: host });
    const client = await world.udpClient(host);
    client.socket.send("x", port, host);
    await expect.poll(() => told, poll).toEqual(["web/a failed: ECONNREFUSED"]);
    client.socket.send("x", port, host);
    await expect.poll(() => told.length, poll).toBe(2);
  });

  it("is silent where it ends without an answer, and not where it had one", async () => {
    const backend = await world.udpBackend("a");
    const { port, told } = await serve(backend, { protocol: "udp", proxy: { udpIdleTimeoutMs: 5000 } });
    const [heard, unheard] = [await world.udpClient(), await world.udpClient()];
    heard.socket.send("x", port, "127.0.0.1");
    await expect.poll(() => heard.heard.length, poll).toBe(1);
    backend.socket.removeAllListeners("message");
    unheard.socket.send("x", port, "127.0.0.1");
    await expect.poll(() => world.plane.counters().flowTable.count, poll).toBe(2);
    for (let second = 0; second < 15; second++) await world.fake.advance(1000);
    expect(told).toEqual(["web/a ok", "web/a silent: no answer until the idle timeout"]);
  });
});
