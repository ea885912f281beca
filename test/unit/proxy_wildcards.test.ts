// Ranges of ports in the proxy plane: a socket for each port, one limit over all of them, and services
// that no sockets can serve beside those that they can.

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import { beforeEach, describe, expect, it } from "vitest";
import type { Config } from "../../src/model/config.ts";
import {
  config, ending, freePort, line, leaveNoSockets, ProxyWorld, service, type ServiceChange,
} from "../support/proxy_world.ts";

let world: ProxyWorld;
leaveNoSockets(() => world.close());
beforeEach(() => { world = new ProxyWorld(); });

const BACKEND_HOST = "127.0.0.2";
const SIZE = 3;

/** The first of three ports in a row that nobody has just now. */
async function freeRange(): Promise<number> {
  for (;;) {
    const first = await freePort();
    const ports = Array.from({ length: SIZE }, (_, at) => first + at);
    if (first + 2 * SIZE <= 65_535 && (await Promise.all(ports.map(isFree))).every(Boolean)) return first;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const free = new Promise<boolean>((resolve) => {
    server.once("error", () => { resolve(false); });
    server.listen(port, "127.0.0.1", () => { resolve(true); });
  });
  const is = await free;
  if (is) await new Promise((resolve) => { server.close(resolve); });
  return is;
}

/** Backends without a port of their own, at each port of the range. */
function samePort(...services: ServiceChange[]): Config {
  const made = config(services.map((each) => service(each)), { web: { a: { address: BACKEND_HOST, port: 1 } } });
  const pools = made.pools.map((pool) => ({
    ...pool, backends: pool.backends.map((backend) => ({ ...backend, port: null })),
  }));
  return { ...made, pools };
}

async function said(port: number): Promise<string> {
  const client = world.client({ host: "127.0.0.1", port });
  const text = await line(client);
  client.destroy();
  await once(client, "close");
  return text;
}

describe("a range of ports", () => {
  it("leads from each of its ports to the same port of the backend, by TCP", async () => {
    const first = await freeRange();
    const servers = Array.from({ length: SIZE }, (_, at) => createServer((socket) => {
      // Who has heard enough resets.
      socket.on("error", () => { socket.destroy(); });
      socket.end(`port ${first + at}\n`);
    }).listen(first + at, BACKEND_HOST));
    await Promise.all(servers.map((server) => once(server, "listening")));
    const wanted = samePort({ port: `${first}-${first + 2}` });
    expect((await world.apply(wanted)).failed).toEqual(new Map());
    expect(world.plane.status().listening).toEqual(new Map([["web", `127.0.0.1:${first}-${first + 2}`]]));
    for (let port = first; port < first + SIZE; port++) expect(await said(port)).toBe(`port ${port}`);

    const steps = world.plane.plan(world.tables.make(samePort({ port: `${first + 3}-${first + 5}` })));
    expect(steps.map(({ action, object }) => `${action} ${object}`)).toEqual(["listen service web", "close service web"]);
    expect(steps[0]?.detail).toBe(`tcp 127.0.0.1:${first + 3}-${first + 5}`);
    expect(steps[1]?.detail).toContain(`tcp 127.0.0.1:${first}-${first + 2}; `);
    for (const server of servers) server.close();
  });

  it("does so by UDP", async () => {
    const first = await freeRange();
    const sockets = await Promise.all(Array.from({ length: SIZE }, async (_, at) => {
      const socket = createSocket("udp4");
      socket.on("message", (text, from) => { socket.send(`${first + at} ${text.toString()}`, from.port, from.address); });
      socket.bind(first + at, BACKEND_HOST);
      await once(socket, "listening");
      return socket;
    }));
    expect((await world.apply(samePort({ port: `${first}-${first + 2}`, protocol: "udp" }))).failed).toEqual(new Map());
    const client = await world.udpClient();
    for (let port = first; port < first + SIZE; port++) client.socket.send("hello", port, "127.0.0.1");
    await expect.poll(() => client.heard.toSorted()).toEqual([0, 1, 2].map((at) => `${first + at} hello`));
    for (const socket of sockets) socket.close();
  });

  it("leaves a port to the more specific service, and has one limit over the others", async () => {
    const first = await freeRange();
    const [range, exact] = [await world.greeter("range"), await world.greeter("exact")];
    const made = config([
      service({ name: "range", port: `${first}-${first + 2}`, pool: "range", proxy: { connectionsMax: 2 } }),
      service({ name: "exact", port: first + 1, pool: "exact" }),
    ], { range: { range }, exact: { exact } });
    expect((await world.apply(made)).failed).toEqual(new Map());
    expect(world.plane.status().listening).toEqual(new Map([
      ["range", `127.0.0.1:${first}-${first + 2} (2 ports)`], ["exact", `127.0.0.1:${first + 1}`],
    ]));
    expect(await said(first + 1)).toBe("exact");
    const held = [first, first + 2].map((port) => world.client({ host: "127.0.0.1", port }));
    for (const client of held) expect(await line(client)).toBe("range");
    expect((await ending(world.client({ host: "127.0.0.1", port: first }))).text).toBe("");
    expect(world.plane.counters().incidents?.get("connections_max")).toBe(1);
    held[1]!.destroy();
    await expect.poll(() => world.plane.counters().flowTable.count).toBe(1);
    expect(await said(first)).toBe("range");
    await expect.poll(() => world.plane.counters().flowTable.count).toBe(1);
    // A new version of the service has the same connections.
    await world.apply({ ...made, services: made.services.map((each) => ({ ...each, flowIdleMs: 1 })) });
    const more = world.client({ host: "127.0.0.1", port: first + 2 });
    expect(await line(more)).toBe("range");
    expect((await ending(world.client({ host: "127.0.0.1", port: first }))).text).toBe("");
  });

  it("is served at the ports that can be had, and says which one is not", async () => {
    const first = await freeRange();
    const [backend, taken] = [await world.greeter("a"), createServer().listen(first + 1, "127.0.0.1")];
    await once(taken, "listening");
    const report = await world.apply(config([service({ port: `${first}-${first + 2}` })], { web: { a: backend } }));
    expect(report.failed.get("web")).toMatch(new RegExp(`^PORT_IN_USE: .*127\\.0\\.0\\.1:${first + 1}\\.`));
    expect(await said(first)).toBe("a");
    taken.close();
  });

  it("that no sockets can serve is named, and the other services are served", async () => {
    const backend = await world.greeter("a");
    const port = await freePort();
    const made = config([
      service({ name: "prefix", address: "127.0.0.0/28", port }), service({ name: "any", port: "any" }),
      service({ name: "wide", port: "10000-20000" }), service({ name: "fine", port }),
    ], { web: { a: backend } });
    const { failed } = await world.apply(made);
    expect([...failed.keys()].sort()).toEqual(["any", "prefix", "wide"]);
    expect(failed.get("prefix")).toMatch(/^127\.0\.0\.0\/28: a prefix is not served by the proxy plane/);
    expect(failed.get("any")).toMatch(/^any: .*at most 256 ports/);
    expect(world.plane.status().failed).toEqual(failed);
    expect(await said(port)).toBe("a");
    const complaints = (): number => world.fake.messages("error").length;
    expect(complaints()).toBe(3);
    await world.apply(made);
    expect(complaints()).toBe(3);
  });
});
