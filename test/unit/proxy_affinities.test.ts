// Clients that are remembered by the proxy plane: the book, and real loopback sockets.

import type { Socket } from "node:net";
import { beforeEach, describe, expect, it } from "vitest";
import { Affinities } from "../../src/dataplane/proxy/affinities.ts";
import type { AffinityKey } from "../../src/model/affinity.ts";
import type { Config } from "../../src/model/config.ts";
import type { Destination, ForwardingTable } from "../../src/model/table.ts";
import { config, freePort, leaveNoSockets, line, ProxyWorld, service, type ServiceChange, type TcpBackend } from "../support/proxy_world.ts";

describe("the book of clients", () => {
  let nowNs = 0n;
  let book: Affinities;
  beforeEach(() => {
    nowNs = 1000n;
    book = new Affinities({ monotonicNs: () => nowNs });
  });
  const client = (last: number, id = 1n): AffinityKey => ({ id, client: new Uint8Array(16).fill(last) });
  const serving = (...timeouts: readonly (readonly [id: bigint, timeoutMs: number])[]): ForwardingTable =>
    ({ services: timeouts.map(([id, timeoutMs]) => ({ affinity: { id, timeoutMs } })) }) as unknown as ForwardingTable;
  const to = (id: number, generation = 1): Destination => ({ id, generation }) as Destination;

  it("has a client as of now while a flow is open, and then as of the last one's end", () => {
    const first = book.begin(client(1), to(7), 10);
    const second = book.begin(client(1), to(7), 10);
    nowNs = 2000n;
    expect(book.of(client(1))).toEqual({ destination: 7, generation: 1, lastSeenNs: 2000n });
    first.end();
    nowNs = 3000n;
    expect(book.of(client(1))).toEqual({ destination: 7, generation: 1, lastSeenNs: 3000n });
    second.end();
    nowNs = 4000n;
    expect(book.of(client(1))).toEqual({ destination: 7, generation: 1, lastSeenNs: 3000n });
    expect(book.of(client(2))).toBeNull();
    expect(book.of(client(1, 2n))).toBeNull();
  });

  it("has it where its newest flow went, and where a flow went that nobody took at first", () => {
    book.begin(client(1), to(7), 10);
    const second = book.begin(client(1), to(8, 2), 10);
    expect(book.of(client(1))).toMatchObject({ destination: 8, generation: 2 });
    second.moved(to(9, 3));
    expect(book.of(client(1))).toMatchObject({ destination: 9, generation: 3 });
  });

  it("forgets whoever has begun no flow for longest, and whose service is gone", () => {
    for (const last of [1, 2, 3]) book.begin(client(last), to(last), 3).end();
    book.begin(client(1), to(1), 3).end();
    book.begin(client(4, 2n), to(4), 3);
    expect([1, 2, 3].map((last) => book.of(client(last))?.destination)).toEqual([1, undefined, 3]);
    expect(book.size).toBe(3);
    book.follow(serving([2n, 60_000]));
    expect(book.size).toBe(1);
    expect(book.of(client(4, 2n))?.destination).toBe(4);
    expect([book.count(1n), book.count(2n)]).toEqual([0, 1]);
  });

  it("counts the clients of a service that have a flow, or had one within its timeout, and lets the others go", () => {
    book.follow(serving([1n, 1], [2n, 60_000]));
    const flows = [1, 2, 3].map((last) => book.begin(client(last), to(7), 10));
    const again = book.begin(client(2), to(7), 10);
    book.begin(client(1, 2n), to(7), 10).end();
    expect([1n, 2n, 3n].map((id) => book.count(id))).toEqual([3, 1, 0]);
    flows[0]!.end();
    flows[1]!.end();
    nowNs += 1_000_000n;
    flows[2]!.end();
    expect(book.count(1n)).toBe(3);
    nowNs += 1n;
    expect([book.count(1n), book.count(2n), book.size]).toEqual([2, 1, 3]);
    expect(book.of(client(1))).toBeNull();
    again.end();
    book.begin(client(3), to(7), 10);
    nowNs += 1_000_001n;
    // The first has come back, and has a flow; the second one's ended for too long ago.
    expect([book.count(1n), book.of(client(2)), book.of(client(3))?.destination]).toEqual([1, null, 7]);
    expect(book.evicted).toBe(0);
  });

  it("counts clients that were forgotten to make room, and not those whose time was over", () => {
    book.follow(serving([1n, 1]));
    book.begin(client(1), to(7), 1).end();
    nowNs += 1_000_001n;
    book.begin(client(2), to(7), 1).end();
    expect([book.evicted, book.size, book.count(1n)]).toEqual([0, 1, 1]);
    const pushedOut = book.begin(client(3), to(7), 1);
    expect([book.evicted, book.count(1n)]).toEqual([1, 1]);
    book.begin(client(4), to(7), 1).end();
    pushedOut.end();
    expect([book.evicted, book.count(1n), book.of(client(3))]).toEqual([2, 1, null]);
    nowNs += 1_000_001n;
    expect([book.count(1n), book.size]).toEqual([0, 0]);
  });
});

describe("clients of the proxy plane", () => {
  let world: ProxyWorld;
  leaveNoSockets(() => world.close());
  beforeEach(() => { world = new ProxyWorld(); });
  const NAMES = ["a", "b", "c"] as const;

  async function serve(change: ServiceChange): Promise<{ wanted: Config; backends: readonly TcpBackend[] }> {
    const backends = await Promise.all(NAMES.map((name) => world.greeter(name)));
    const pool = Object.fromEntries(backends.map((backend) => [backend.name, backend]));
    const wanted = config([service({ port: await freePort(), algorithm: "round-robin", affinityTimeoutMs: 60_000, ...change })], { web: pool });
    expect([...(await world.apply(wanted)).failed]).toEqual([]);
    return { wanted, backends };
  }

  function connectTo({ services: [one] }: Config, localAddress: string): Socket {
    return world.client({ host: one!.network.address.text, port: one!.ports.from, localAddress });
  }

  async function met(wanted: Config, ...from: readonly string[]): Promise<string> {
    let names = "";
    for (const localAddress of from) names += await line(connectTo(wanted, localAddress));
    return names;
  }

  const [ONE, OTHER, THIRD] = ["127.0.0.2", "127.0.0.3", "127.0.1.2"] as const;

  it("stay where they are, connection after connection, also when all come at once", async () => {
    const { wanted } = await serve({});
    expect(await met(wanted, ONE, OTHER, THIRD, ONE, OTHER, THIRD, ONE, ONE)).toBe("abcabcaa");
    expect(world.plane.counters().affinities).toEqual({ count: 3, max: wanted.limits.affinities, services: new Map([["web", 3]]), evicted: 0 });
    const burst = await Promise.all(Array.from({ length: 12 }, () => line(connectTo(wanted, "127.0.9.9"))));
    expect(new Set(burst).size).toBe(1);
  });

  it("are one with whoever shares their prefix", async () => {
    const { wanted } = await serve({ sourcePrefix: { ipv4: 24, ipv6: 64 } });
    expect(await met(wanted, ONE, OTHER, THIRD, OTHER, ONE)).toBe("aabaa");
  });

  it("are forgotten when the timeout is over, and not while a connection is open", async () => {
    world = new ProxyWorld({ fakeTime: true });
    const { wanted } = await serve({ affinityTimeoutMs: 60_000 });
    const sockets = [connectTo(wanted, ONE)];
    expect(await line(sockets[0]!)).toBe("a");
    await world.fake.advance(600_000);
    sockets.push(connectTo(wanted, ONE));
    expect(await line(sockets[1]!)).toBe("a");
    for (const socket of sockets) socket.destroy();
    await expect.poll(() => world.plane.counters().backendFlows?.get("web/a")?.count, { timeout: 10_000 }).toBe(0);
    await world.fake.advance(60_000);
    const third = connectTo(wanted, ONE);
    expect(await line(third)).toBe("a");
    third.destroy();
    await expect.poll(() => world.plane.counters().backendFlows?.get("web/a")?.count, { timeout: 10_000 }).toBe(0);
    expect(world.plane.counters().affinities).toMatchObject({ count: 1 });
    await world.fake.advance(60_001);
    expect(world.plane.counters().affinities).toMatchObject({ count: 0 });
    expect(await met(wanted, ONE)).toBe("b");
  });

  it("go elsewhere when their backend is down or refuses, and stay there when it is back", async () => {
    const { wanted, backends } = await serve({});
    expect(await met(wanted, ONE, OTHER)).toBe("ab");
    await world.down("web/a");
    const next = await met(wanted, ONE);
    expect(next).not.toBe("a");
    await world.apply(wanted);
    expect(await met(wanted, ONE, ONE)).toBe(next + next);
    await new Promise((resolve) => { backends[1]!.server.close(resolve); for (const socket of backends[1]!.sockets) socket.destroy(); });
    const refuge = await met(wanted, OTHER);
    expect(refuge).not.toBe("b");
    expect(await met(wanted, OTHER)).toBe(refuge);
  });

  it("of UDP go with a new port where the old one's session was", async () => {
    const backends = await Promise.all(NAMES.map((name) => world.udpBackend(name)));
    const pool = Object.fromEntries(backends.map((backend) => [backend.name, backend]));
    const wanted = config([service({ protocol: "udp", port: await freePort(), algorithm: "round-robin", affinityTimeoutMs: 60_000 })], { web: pool });
    await world.apply(wanted);
    const { ports, network } = wanted.services[0]!;
    const answers: string[] = [];
    for (let round = 0; round < 4; round++) {
      const { socket, heard } = await world.udpClient();
      socket.send("x", ports.from, network.address.text);
      await expect.poll(() => heard.length, { timeout: 10_000 }).toBe(1);
      answers.push(heard[0]!);
    }
    expect(answers).toEqual(["a:x", "a:x", "a:x", "a:x"]);
  });

  it("are remembered by services that have them, and by no others", async () => {
    const { wanted } = await serve({ affinityTimeoutMs: null });
    expect(await met(wanted, ONE, ONE, ONE)).toBe("abc");
  });
});
