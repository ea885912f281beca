// The rules of a pool through the proxy plane on real loopback sockets: who answers a client, and whose
// connections go on.

import type { Socket } from "node:net";
import { beforeEach, describe, expect, it } from "vitest";
import type { Config, PoolConfig } from "../../src/model/config.ts";
import type { ServiceChange } from "../support/proxy_world.ts";
import { config, freePort, leaveNoSockets, line, ProxyWorld, service, udpPort } from "../support/proxy_world.ts";

let world: ProxyWorld;
leaveNoSockets(() => world.close());
beforeEach(() => { world = new ProxyWorld(); });

const poll = { timeout: 10_000, interval: 5 };

/** a and b are first, r in reserve. */
async function serve(rules: Partial<PoolConfig>, change: ServiceChange = {}, host = "127.0.0.1"): Promise<Config> {
  const [a, b, r] = await Promise.all(["a", "b", "r"].map((name) => world.greeter(name, host)));
  const plain = config([service({ address: host, port: await freePort(host), ...change })], { web: { a: a!, b: b!, r: { ...r!, priority: 1 } } });
  const wanted = { ...plain, pools: plain.pools.map((pool) => ({ ...pool, ...rules })) };
  expect([...(await world.apply(wanted)).failed]).toEqual([]);
  return wanted;
}

/** Who answered which of so many connections, all of which stay open. */
async function open({ services }: Config, count = 24): Promise<{ readonly name: string; readonly socket: Socket }[]> {
  const { network: { address }, ports } = services[0]!;
  const opened = [];
  for (let at = 0; at < count; at++) {
    const socket = world.client({ host: address.text, port: ports.from });
    opened.push({ name: await line(socket), socket });
  }
  return opened;
}

function names(opened: readonly { readonly name: string }[]): string {
  return [...new Set(opened.map(({ name }) => name))].sort().join("");
}

async function echo(socket: Socket): Promise<void> {
  const answer = line(socket);
  socket.write("again\n");
  expect(await answer).toBe("again");
}

describe("a sorry backend", () => {
  it("answers while nobody else may, with and without a ring, and its connections go on afterwards", async () => {
    for (const algorithm of ["maglev", "round-robin", "least-connections", "power-of-two", "bounded-load"] as const) {
      const wanted = await serve({ sorry: "r" }, { algorithm });
      expect(names(await open(wanted)), algorithm).toBe("ab");
      await world.down("web/a", "web/b");
      const sorry = await open(wanted, 4);
      expect(names(sorry), algorithm).toBe("r");
      await world.down("web/a");
      expect(names(await open(wanted, 4)), algorithm).toBe("b");
      await echo(sorry[0]!.socket);
      await world.down();
    }
  });

  it("comes and goes with the config", async () => {
    const wanted = await serve({ sorry: null });
    expect(names(await open(wanted))).toBe("ab");
    const live = { ...wanted, pools: wanted.pools.map((pool) => ({ ...pool, sorry: "b" })) };
    await world.apply(live);
    expect(names(await open(live))).toBe("a");
    await world.down("web/a", "web/r");
    expect(names(await open(live, 3))).toBe("b");
  });
});

describe("zones", () => {
  it("keep connections near, and spill over as much as is missing", async () => {
    const [a, b, far] = await Promise.all(["a", "b", "f"].map((name) => world.greeter(name)));
    const plain = config([service({ port: await freePort(), algorithm: "round-robin" })], {
      web: { a: { ...a!, zone: "east" }, b: { ...b!, zone: "east" }, f: { ...far!, zone: "west" } },
    });
    const wanted = { ...plain, zone: "east", pools: plain.pools.map((pool) => ({ ...pool, spillBelow: 100 })) };
    await world.apply(wanted);
    expect(names(await open(wanted, 6))).toBe("ab");
    await world.down("web/a");
    expect((await open(wanted, 6)).map(({ name }) => name).sort().join("")).toBe("bbbfff");
    await world.apply({ ...wanted, zone: "west" });
    expect(names(await open(wanted, 4))).toBe("f");
  });
});

describe("reserves", () => {
  for (const host of ["127.0.0.1", "::1"]) {
    it(`come when too few of those before them are up, and go without losing a connection (${host})`, async () => {
      const wanted = await serve({ reserves: { minimum: { count: 2 } } }, {}, host);
      const before = await open(wanted);
      expect(names(before)).toBe("ab");
      await world.down("web/b");
      const meanwhile = await open(wanted);
      expect(names(meanwhile)).toBe("ar");
      await world.down();
      expect(names(await open(wanted))).toBe("ab");
      // Of a backend that went down the connections end; those of a and of the reserve go on.
      for (const { name, socket } of [...before, ...meanwhile]) if (name !== "b") await echo(socket);
    });
  }

  it("are in turn with the others where flows are placed one by one", async () => {
    const wanted = await serve({}, { algorithm: "round-robin" });
    expect(names(await open(wanted, 4))).toBe("ab");
    await world.down("web/a", "web/b");
    expect(names(await open(wanted, 2))).toBe("r");
    const live = { ...wanted, pools: wanted.pools.map((pool) => ({ ...pool, reserves: { minimum: { percent: 100 } } })) };
    await world.apply(live, ["web/a"]);
    expect((await open(live, 4)).map(({ name }) => name).sort().join("")).toBe("bbrr");
  });

  it("take over from clients of UDP whose backend is down", async () => {
    const backends = await Promise.all(["a", "r"].map((name) => world.udpBackend(name)));
    const wanted = config([service({ protocol: "udp", port: await udpPort() })], {
      web: { a: backends[0]!, r: { ...backends[1]!, priority: 1 } },
    });
    expect([...(await world.apply(wanted)).failed]).toEqual([]);
    const { ports, network: { address } } = wanted.services[0]!;
    const { socket, heard } = await world.udpClient();
    const ask = async (count: number): Promise<void> => {
      socket.send("x", ports.from, address.text);
      await expect.poll(() => heard.length, poll).toBe(count);
    };
    await ask(1);
    await world.down("web/a");
    await ask(2);
    expect(heard).toEqual(["a:x", "r:x"]);
  });
});
