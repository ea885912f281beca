// The proxy plane and its listeners: what can be bound, what a reload leaves alone, how it ends.

import { once } from "node:events";
import { Socket } from "node:net";
import { beforeEach, describe, expect, it } from "vitest";
import type { Server } from "node:net";
import type { Env } from "../../src/env.ts";
import { createEnv } from "../../src/env_real.ts";
import type { Config } from "../../src/model/config.ts";
import {
  config, ending, freePort, line, leaveNoSockets, ProxyWorld, service, type TcpBackend, udpPort,
} from "../support/proxy_world.ts";

const realNet = createEnv().net;
let world: ProxyWorld;
leaveNoSockets(() => world.close());
beforeEach(() => { world = new ProxyWorld(); });

const poll = { timeout: 10_000, interval: 5 };

function behind(backend: TcpBackend): Record<string, Record<string, TcpBackend>> {
  return { web: { [backend.name]: backend } };
}

function actions(wanted: Config, down: readonly string[] = []): string[] {
  return world.plane.plan(world.tables.make(wanted, down)).map(({ action, object }) => `${action} ${object}`);
}

describe("binding", () => {
  it("what cannot be bound is named with its remedy; the others are served", async () => {
    const backend = await world.greeter("a");
    const [port, taken] = [await freePort(), await world.greeter("b")];
    const report = await world.apply(config([
      service({ name: "foreign", address: "203.0.113.10", port }),
      service({ name: "foreign6", address: "2001:db8::1", port }),
      service({ name: "taken", port: taken.port }),
      service({ name: "fine", port }),
    ], behind(backend)));
    expect([...report.failed.keys()].sort()).toEqual(["foreign", "foreign6", "taken"]);
    expect(report.failed.get("foreign")).toMatch(
      /^ADDRESS_NOT_LOCAL: 203\.0\.113\.10 .*ip addr add 203\.0\.113\.10\/32 dev lo.*ipv4\.ip_nonlocal_bind.*--proxy-bind/);
    expect(report.failed.get("foreign6")).toContain("ip addr add 2001:db8::1/128 dev lo");
    expect(report.failed.get("taken")).toMatch(/^PORT_IN_USE: .*--port-offset/);
    expect(world.plane.status().failed).toEqual(report.failed);
    expect([...world.plane.status().listening]).toEqual([["fine", `127.0.0.1:${port}`]]);
    expect(await line(world.client({ host: "127.0.0.1", port }))).toBe("a");
  });

  it("a failed bind is tried again at each apply, and reported once while it is the same", async () => {
    const [backend, taken] = [await world.greeter("a"), await world.greeter("b")];
    const wanted = config([service({ port: taken.port })], behind(backend));
    await world.apply(wanted);
    await world.apply(wanted);
    expect(world.fake.messages("error")).toHaveLength(1);
    await new Promise((resolve) => { taken.server.close(resolve); });
    const report = await world.apply(wanted);
    expect(report).toMatchObject({ steps: 1, failed: new Map() });
    expect(await line(world.client({ host: "127.0.0.1", port: taken.port }))).toBe("a");
  });

  it("any: a v6 service leaves the v4 port alone", async () => {
    const port = await freePort();
    const [four, six] = [await world.greeter("four"), await world.greeter("six", "::1")];
    const report = await world.apply(config([
      service({ name: "v6", address: "2001:db8::1", port, pool: "six" }),
      service({ name: "v4", address: "203.0.113.10", port, pool: "four" }),
    ], { four: { four }, six: { six } }, { bind: "any" }));
    expect([...report.failed]).toEqual([]);
    expect([...world.plane.status().listening.values()].sort()).toEqual([`0.0.0.0:${port}`, `[::]:${port}`]);
    expect(await line(world.client({ host: "127.0.0.1", port }))).toBe("four");
    expect(await line(world.client({ host: "::1", port }))).toBe("six");
  });

  it("two services that fall on one place: the first has it", async () => {
    const port = await freePort();
    const backend = await world.greeter("a");
    const report = await world.apply(config([
      service({ name: "one", address: "203.0.113.10", port }), service({ name: "two", address: "203.0.113.11", port }),
    ], behind(backend), { bind: "loopback" }));
    expect(report.failed.get("two")).toContain("service one listens on");
    expect([...world.plane.status().listening.keys()]).toEqual(["one"]);
  });

  it("an offset that leaves the ports is refused by name", async () => {
    const report = await world.apply(config(
      [service({ port: 60_000 })], behind(await world.greeter("a")), { portOffset: 10_000 }));
    expect(report.failed.get("web")).toContain("70000");
  });
});

describe("apply", () => {
  it("opens, keeps, changes and closes no more than it must, as plan said", async () => {
    const backend = await world.greeter("a");
    const other = await world.greeter("b");
    const [one, two] = [await freePort(), await freePort()];
    const pools = { web: { a: backend, b: other } };
    const first = config([service({ name: "one", port: one }), service({ name: "two", port: two })], pools);
    await world.apply(config([], pools));
    expect(actions(first)).toEqual(["listen service one", "listen service two"]);
    expect(await world.apply(first)).toMatchObject({ steps: 2 });
    const client = world.client({ host: "127.0.0.1", port: one });
    const name = await line(client);

    expect(actions(first)).toEqual([]);
    expect(await world.apply(first)).toMatchObject({ steps: 0 });
    expect(actions(first, ["web/a"])).toEqual(["update service one", "update service two"]);
    const second = config([service({ name: "two", port: two, failOpen: true })], pools);
    expect(actions(second)).toEqual(["update service two", "close service one"]);
    await world.apply(second);
    expect([...world.plane.status().listening.keys()]).toEqual(["two"]);
    const refused = world.client({ host: "127.0.0.1", port: one });
    expect((await ending(refused)).end).toBe("reset");
    client.write("I am still here\n");
    expect(await line(client)).toBe("I am still here");
    expect(world.plane.counters()).toMatchObject({ flowTable: { count: 1 } });
    expect(world.plane.counters().backendFlows.get(`web/${name}`)).toMatchObject({ count: 1, kind: "exact" });
    client.end();
    await expect.poll(() => world.plane.counters().flowTable.count, poll).toBe(0);
    await world.apply(config(second.services, { web: name === "a" ? { b: other } : { a: backend } }));
    expect(world.plane.counters().backends.has(`web/${name}`)).toBe(false);
  });

  it("a reload under traffic drops no connection", async () => {
    const backends = { web: { a: await world.greeter("a"), b: await world.greeter("b") } };
    const port = await freePort();
    await world.apply(config([service({ port })], backends));
    let wrong = 0;
    let isOver = false;
    const caller = async (): Promise<void> => {
      while (!isOver) {
        const client = world.client({ host: "127.0.0.1", port });
        client.end("x\n");
        const { text, end } = await ending(client);
        if (!/^[ab]\nx\n$/.test(text) || end !== "fin") wrong += 1;
      }
    };
    const callers = [caller(), caller(), caller()];
    for (let i = 0; i < 30; i += 1) {
      await world.apply(config([service({ port, failOpen: i % 2 === 0 })], backends), i % 3 === 0 ? ["web/a"] : []);
      await new Promise((resolve) => { setTimeout(resolve, 5); });
    }
    isOver = true;
    await Promise.all(callers);
    expect(wrong).toBe(0);
    expect(world.plane.counters().services.get("web")?.flows).toBeGreaterThan(20);
  });
});

describe("time", () => {
  it("a connect that takes too long goes to the next backend", async () => {
    let connects = 0;
    const silentOnce: Env["net"]["connect"] = (options) => {
      connects += 1;
      return connects === 1 ? new Socket() : realNet.connect(options);
    };
    world = new ProxyWorld({ fakeTime: true, net: { connect: silentOnce } });
    const pools = { web: { a: await world.greeter("a"), b: await world.greeter("b") } };
    const port = await freePort();
    await world.apply(config([service({ port, proxy: { connectTimeoutMs: 700 } })], pools));
    const client = world.client({ host: "127.0.0.1", port });
    await expect.poll(() => connects, poll).toBe(1);
    await world.fake.advance(699);
    expect(world.plane.counters().incidents).toEqual(new Map());
    await world.fake.advance(1);
    expect(await line(client)).toMatch(/^[ab]$/);
    expect(world.plane.counters().incidents).toEqual(new Map([["connect_timeout", 1], ["connect_retried", 1]]));
    expect(world.plane.counters().verdicts).toMatchObject({ TX_FORWARDED: { packets: 1 } });
  });

  it("an idle connection ends on both sides; one with traffic does not", async () => {
    world = new ProxyWorld({ fakeTime: true });
    const port = await freePort();
    const backend = await world.greeter("a");
    await world.apply(config([service({ port, proxy: { idleTimeoutMs: 4000 } })], behind(backend)));
    const [idle, busy] = [world.client({ host: "127.0.0.1", port }), world.client({ host: "127.0.0.1", port })];
    await Promise.all([line(idle), line(busy)]);
    const end = ending(idle);
    for (let i = 0; i < 6; i += 1) {
      await world.fake.advance(1000);
      busy.write(`${i}\n`);
      expect(await line(busy)).toBe(String(i));
    }
    expect((await end).end).toBe("fin");
    expect(world.plane.counters()).toMatchObject({ flowTable: { count: 1 } });
    await expect.poll(() => backend.sockets.size, poll).toBe(1);
    expect(Object.fromEntries(world.plane.counters().incidents ?? [])).toEqual({ idle_timeout: 1 });
  });
});

describe("the end", () => {
  it("close waits for connections to end by themselves", async () => {
    const port = await freePort();
    await world.apply(config([service({ port })], behind(await world.greeter("a"))));
    const client = world.client({ host: "127.0.0.1", port });
    await line(client);
    const closing = world.plane.close({ detach: true, drainMs: 60_000 });
    expect((await ending(world.client({ host: "127.0.0.1", port }))).end).toBe("reset");
    client.write("last\n");
    expect(await line(client)).toBe("last");
    client.end();
    await once(client, "end");
    await closing;
    await expect(world.apply(config([], {}))).rejects.toThrow("closed");
  });

  it("and resets those that do not", async () => {
    const port = await freePort();
    const backend = await world.greeter("a");
    await world.apply(config([service({ port })], behind(backend)));
    const client = world.client({ host: "127.0.0.1", port });
    await line(client);
    const end = ending(client);
    await world.plane.close({ detach: true, drainMs: 20 });
    expect((await end).end).toBe("reset");
    await expect.poll(() => backend.sockets.size, poll).toBe(0);
    expect(world.plane.counters().flowTable.count).toBe(0);
  });
});

describe("a listener without a descriptor for its next client", () => {
  it("never gets there: the proxy leaves open files to the rest of the process", async () => {
    world = new ProxyWorld({ openFilesMax: 64 + 6 });
    const [port, dns] = [await freePort(), await udpPort()];
    const [backend, resolver] = [await world.greeter("a"), await world.udpBackend("b")];
    await world.apply(config([
      service({ port }), service({ name: "dns", protocol: "udp", port: dns, pool: "dns" }),
    ], { web: { a: backend }, dns: { b: resolver } }));
    const clients = [0, 1].map(() => world.client({ host: "127.0.0.1", port }));
    await Promise.all(clients.map(line));
    const asker = await world.udpClient();
    for (let i = 0; i < 3; i += 1) { // two descriptors are left: one session more, no connection
      asker.socket.send("x", dns, "127.0.0.1");
      await expect.poll(() => asker.heard.length, poll).toBe(i + 1);
    }
    expect((await ending(world.client({ host: "127.0.0.1", port }))).end).not.toBe("fin");
    expect(world.plane.counters().incidents).toEqual(new Map([["descriptors_max", 1]]));
    clients[0]?.end();
    await expect.poll(() => world.plane.counters().flowTable.count, poll).toBe(2);
    expect(await line(world.client({ host: "127.0.0.1", port }))).toBe("a");
  });

  it("counts, warns and goes on", async () => {
    let server: Server | null = null;
    world = new ProxyWorld({
      net: { createServer: (options, onConnection) => (server = realNet.createServer(options, onConnection)) },
    });
    const port = await freePort();
    await world.apply(config([service({ port })], behind(await world.greeter("a"))));
    const emfile = Object.assign(new Error("accept EMFILE"), { code: "EMFILE" });
    (server as Server | null)?.emit("error", emfile);
    (server as Server | null)?.emit("error", emfile);
    expect(world.plane.counters().incidents).toEqual(new Map([["accept_failed", 2]]));
    expect(world.fake.messages("warn")).toHaveLength(1);
    expect(await line(world.client({ host: "127.0.0.1", port }))).toBe("a");
  });
});
