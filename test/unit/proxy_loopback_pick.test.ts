// Algorithms that place each flow for itself, through the proxy plane on real loopback sockets: exact turns
// and exact counts.

import type { Socket } from "node:net";
import { beforeEach, describe, expect, it } from "vitest";
import type { Config, ServiceConfig } from "../../src/model/config.ts";
import {
  config, freePort, line, leaveNoSockets, ProxyWorld, service, type ServiceChange, type TcpBackend,
} from "../support/proxy_world.ts";

let world: ProxyWorld;
leaveNoSockets(() => world.close());
beforeEach(() => { world = new ProxyWorld(); });

const poll = { timeout: 10_000, interval: 5 };
const NAMES = ["a", "b", "c"] as const;

async function serve(weights: readonly number[], change: ServiceChange): Promise<{ wanted: Config; backends: readonly TcpBackend[] }> {
  const backends = await Promise.all(weights.map((_, at) => world.greeter(NAMES[at]!)));
  const pool = Object.fromEntries(backends.map((backend, at) => [backend.name, { ...backend, weight: weights[at]! }]));
  const wanted = config([service({ port: await freePort(), ...change })], { web: pool });
  expect([...(await world.apply(wanted)).failed]).toEqual([]);
  return { wanted, backends };
}

function serviceOf(wanted: Config): ServiceConfig {
  return wanted.services[0]!;
}

function connectTo(wanted: Config): Socket {
  const { network: { address }, ports } = serviceOf(wanted);
  return world.client({ host: address.text, port: ports.from });
}

/** Opens so many connections, one after the other, and leaves them open. */
async function open(wanted: Config, count: number): Promise<{ readonly name: string; readonly socket: Socket }[]> {
  const opened: { name: string; socket: Socket }[] = [];
  for (let at = 0; at < count; at++) {
    const socket = connectTo(wanted);
    opened.push({ name: await line(socket), socket });
  }
  return opened;
}

function names(opened: readonly { readonly name: string }[]): string {
  return opened.map(({ name }) => name).join("");
}

function flows(): Record<string, number> {
  const { backendFlows } = world.plane.counters();
  return Object.fromEntries([...backendFlows ?? []].map(([name, { count }]) => [name.slice("web/".length), count ?? -1]));
}

describe("round-robin", () => {
  it("asks backends of weights 5, 1 and 1 in the published order, round after round", async () => {
    const { wanted } = await serve([5, 1, 1], { algorithm: "round-robin" });
    expect(names(await open(wanted, 14))).toBe("aabacaaaabacaa");
  });

  it("goes on over a change of the config, and leaves out who is down", async () => {
    const { wanted } = await serve([1, 1, 1], { algorithm: "round-robin" });
    expect(names(await open(wanted, 2))).toBe("ab");
    await world.apply({ ...wanted, services: [{ ...serviceOf(wanted), flowIdleMs: 1234 }] });
    expect(names(await open(wanted, 2))).toBe("ca");
    await world.down("web/b");
    expect(names(await open(wanted, 4)).replaceAll("ac", "")).toMatch(/^(|ca|a|c)$/);
  });

  it("gives a refused connection to the next backend, whose turn that was", async () => {
    const { wanted, backends } = await serve([1, 1, 1], { algorithm: "round-robin" });
    await new Promise((resolve) => { backends[1]!.server.close(resolve); });
    expect(names(await open(wanted, 4))).toBe("acac");
  });

  it("takes turns over clients of UDP, each of whom stays where it is", async () => {
    const backends = await Promise.all(NAMES.map((name) => world.udpBackend(name)));
    const pool = Object.fromEntries(backends.map((backend) => [backend.name, backend]));
    const wanted = config([service({ protocol: "udp", port: await freePort(), algorithm: "round-robin" })], { web: pool });
    await world.apply(wanted);
    const { ports, network: { address } } = serviceOf(wanted);
    for (const expected of ["a", "b", "c", "a", "b", "c"]) {
      const { socket, heard } = await world.udpClient();
      for (let round = 1; round <= 2; round++) {
        socket.send("x", ports.from, address.text);
        await expect.poll(() => heard.length, poll).toBe(round);
      }
      expect(heard).toEqual([`${expected}:x`, `${expected}:x`]);
    }
  });
});

describe("least-connections", () => {
  it("fills up whoever has fewest for its weight", async () => {
    const { wanted } = await serve([2, 1, 1], { algorithm: "least-connections" });
    const opened = await open(wanted, 12);
    expect(flows()).toEqual({ a: 6, b: 3, c: 3 });
    for (const { name, socket } of opened) if (name === "a") socket.destroy();
    await expect.poll(flows, poll).toEqual({ a: 0, b: 3, c: 3 });
    expect(names(await open(wanted, 5))).toBe("aaaaa");
  });

  it("counts connections that are being opened: a burst does not go to one backend", async () => {
    const { wanted } = await serve([1, 1, 1], { algorithm: "least-connections" });
    const burst = await Promise.all(Array.from({ length: 30 }, () => line(connectTo(wanted))));
    expect(Object.fromEntries(NAMES.map((name) => [name, burst.filter((each) => each === name).length])))
      .toEqual({ a: 10, b: 10, c: 10 });
  });

  it("forgets connections that were refused: they weigh on nobody", async () => {
    const { wanted, backends } = await serve([1, 1], { algorithm: "least-connections", proxy: { connectRetries: 1 } });
    const [, second] = backends;
    await new Promise((resolve) => { second!.server.close(resolve); });
    expect(names(await open(wanted, 6))).toBe("aaaaaa");
    expect(flows()).toEqual({ a: 6, b: 0 });
    // Whoever has none is asked first; of equals, any.
    expect(world.plane.counters().incidents?.get("connect_retried")).toBeGreaterThanOrEqual(5);
  });
});

describe("bounded-load", () => {
  it("keeps a client's place, until its backend has more than its bound", async () => {
    const { wanted } = await serve([1, 1, 1], { algorithm: "bounded-load", loadFactorPercent: 150, hash: "source-ip" });
    // All come from one address: without a bound all of them would meet one backend.
    await open(wanted, 30);
    const counts = Object.values(flows()).sort((a, b) => b - a);
    expect(counts[0]).toBe(15); // of 30: as many as 1.5 × 30 ÷ 3
    expect(counts.reduce((sum, each) => sum + each, 0)).toBe(30);
  });
});

describe("random and power-of-two", () => {
  it("meet every backend, by chance", async () => {
    for (const algorithm of ["random", "power-of-two"] as const) {
      const { wanted } = await serve([1, 1, 1], { algorithm, hash: "source-ip" });
      const met = new Set(names(await open(wanted, 60)));
      expect(met, algorithm).toEqual(new Set(NAMES)); // missed by chance once in 10^10 runs
    }
  });
});

describe("least-response-time", () => {
  /** Asks one client after the other; each waits for the answer or the end. */
  async function ask(wanted: Config, count: number): Promise<string> {
    let heard = "";
    for (let at = 0; at < count; at++) {
      const socket = connectTo(wanted);
      socket.write("x");
      heard += await new Promise<string>((resolve) => {
        let text = "";
        socket.on("data", (chunk) => { text += String(chunk); });
        socket.on("error", () => { resolve("!"); });
        socket.on("end", () => { resolve(text === "" ? "!" : text); });
      });
      socket.destroy();
    }
    return heard;
  }

  it("leaves a backend that ends connections without an answer, and tells what answers take", async () => {
    const answers = await world.tcpBackend("a", (socket) => { socket.once("data", () => { socket.end("a"); }); });
    const leaves = await world.tcpBackend("b", (socket) => { socket.once("data", () => { socket.end(); }); });
    const wanted = config([service({ port: await freePort(), algorithm: "least-response-time" })], { web: { a: answers, b: leaves } });
    await world.apply(wanted);
    // Both are unknown; then b took as long as a connection may.
    await ask(wanted, 8);
    const heard = await ask(wanted, 60);
    expect(heard.replaceAll("!", "").length).toBeGreaterThan(40);
    const { latencies } = world.plane.counters();
    expect(latencies!.get("web/b")! / latencies!.get("web/a")!).toBeGreaterThan(2);
    expect(world.plane.answerMs!("web/b")! / world.plane.answerMs!("web/a")!).toBeGreaterThan(2);
    expect(world.plane.answerMs!("web/nobody")).toBeNull();
  });

  it("measures UDP from the first datagram to the first answer, and asks the unknown first", async () => {
    const backends = await Promise.all(NAMES.map((name) => world.udpBackend(name)));
    const pool = Object.fromEntries(backends.map((backend) => [backend.name, backend]));
    const wanted = config([service({ protocol: "udp", port: await freePort(), algorithm: "least-response-time" })], { web: pool });
    await world.apply(wanted);
    const { ports, network: { address } } = serviceOf(wanted);
    for (let round = 0; round < 12; round++) {
      const { socket, heard } = await world.udpClient();
      socket.send("x", ports.from, address.text);
      await expect.poll(() => heard.length, poll).toBe(1);
    }
    const { latencies } = world.plane.counters();
    expect([...latencies!.keys()].sort()).toEqual(["web/a", "web/b", "web/c"]);
  });
});
