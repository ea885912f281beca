// UDP sessions of a proxy plane that another process is to have, and of one that gets them: the other process is
// played by the test. Real loopback sockets, fake time.

import { createSocket, type Socket } from "node:dgram";
import { describe, expect, it } from "vitest";
import type {
  PassedDatagram, PlanePredecessor, SessionReceiver, SessionSharing, SharedSession,
} from "../../src/dataplane/dataplane.ts";
import type { Config } from "../../src/model/config.ts";
import { locatedByNetworks } from "../support/configs.ts";
import {
  config, leaveNoSockets, ProxyWorld, service, type ServiceChange, type UdpBackend, type UdpClient, udpPort,
} from "../support/proxy_world.ts";

const poll = { timeout: 10_000, interval: 5 };
const worlds: ProxyWorld[] = [];
leaveNoSockets(async () => { for (const world of worlds.splice(0)) await world.close(); });

function newWorld(options: ConstructorParameters<typeof ProxyWorld>[0] = {}): ProxyWorld {
  const world = new ProxyWorld({ fakeTime: true, ...options });
  worlds.push(world);
  return world;
}

function wantedOf(port: number, backends: readonly UdpBackend[], change: ServiceChange = {}): Config {
  return config([service({ name: "dns", protocol: "udp", port, ...change })],
    { web: Object.fromEntries(backends.map((backend) => [backend.name, backend])) });
}

/** Of its one backend. */
function identityIn(world: ProxyWorld, wanted: Config): string {
  const [destination] = world.tables.make(wanted).destinations.values();
  return String(destination!.identity);
}

async function ask(client: UdpClient, port: number, text: string): Promise<string> {
  const count = client.heard.length;
  client.socket.send(text, port, "127.0.0.1");
  await expect.poll(() => client.heard.length, poll).toBeGreaterThan(count);
  return client.heard.at(-1) ?? "";
}

function incidents(world: ProxyWorld): Record<string, number> {
  return Object.fromEntries(world.plane.counters().incidents ?? []);
}

function sessionsOf(world: ProxyWorld): number {
  return world.plane.counters().flowTable.count ?? 0;
}

describe("a plane that shares its sessions", () => {
  interface Sharing {
    readonly world: ProxyWorld;
    readonly backend: UdpBackend;
    readonly port: number;
    readonly client: UdpClient;
    readonly sent: SharedSession[];
    readonly sharing: SessionSharing;
  }

  /** With one session that is shared, last used two seconds ago. */
  async function share(): Promise<Sharing> {
    const world = newWorld();
    const backend = await world.udpBackend("a");
    const port = await udpPort();
    await world.apply(wantedOf(port, [backend]));
    const client = await world.udpClient();
    await ask(client, port, "1");
    await world.fake.advance(5000); // looks at it
    await world.fake.advance(2000);
    const sent: SharedSession[] = [];
    const sharing = world.plane.bequest!().shareSessions((session) => {
      sent.push(session);
      return Promise.resolve();
    });
    sharing.share("tcp 127.0.0.1:1"); // none of its sockets
    sharing.share(`udp 127.0.0.1:${port}`);
    await sharing.settled(1000);
    return { world, backend, port, client, sent, sharing };
  }

  it("tells all that it takes to go on with one, and goes on with it from the same port", async () => {
    const { world, backend, port, client, sent, sharing } = await share();
    const identity = identityIn(world, wantedOf(port, [backend]));
    expect(sent).toEqual([{
      id: 0, key: `udp 127.0.0.1:${port}`, address: "127.0.0.1", port: client.port, isNamed: false,
      backend: identity, proxyProtocol: "none", idleMs: expect.any(Number) as number,
    }]);
    expect(sent[0]!.idleMs).toBeGreaterThanOrEqual(2000);
    expect(sent[0]!.idleMs).toBeLessThanOrEqual(7000);
    expect(await ask(client, port, "2")).toBe("a:2");
    const other = await world.udpClient();
    expect(await ask(other, port, "3")).toBe("a:3"); // begins meanwhile, and is shared too
    await world.fake.advance(1); // its socket was being connected
    expect(sent).toHaveLength(2);
    sharing.undo();
    expect([await ask(client, port, "4"), await ask(other, port, "5")]).toEqual(["a:4", "a:5"]);
    const from = backend.heard.map((each) => each.from);
    expect(from).toEqual([from[0], from[0], from[2], from[0], from[2]]);
  });

  it("hears of strangers while it is not connected, and passes nothing of them on", async () => {
    const { world, backend, port, client, sharing } = await share();
    const stranger = await world.udpClient();
    stranger.socket.send("not asked for", backend.heard[0]!.from, "127.0.0.1");
    await expect.poll(() => incidents(world), poll).toEqual({ answer_of_stranger: 1 });
    sharing.undo();
    expect(await ask(client, port, "2")).toBe("a:2");
    stranger.socket.send("again", backend.heard[0]!.from, "127.0.0.1"); // and is not heard any more
    expect(await ask(client, port, "3")).toBe("a:3");
    expect([client.heard, incidents(world)]).toEqual([["a:1", "a:2", "a:3"], { answer_of_stranger: 1 }]);
  });

  it("says in the end which moved and which ended, and passes on whatever it still reads", async () => {
    const { world, backend, port, client, sent, sharing } = await share();
    const idle = await world.udpClient();
    await ask(idle, port, "idle");
    await world.fake.advance(1); // its socket was being connected
    expect(sent).toHaveLength(2);
    await ask(client, port, "busy");
    await world.fake.advance(20_000);
    await ask(client, port, "busy");
    await world.fake.advance(20_000);
    expect(sessionsOf(world)).toBe(1);
    await ask(await world.udpClient(), port, "quiet");
    await world.fake.advance(1);
    expect(sent).toHaveLength(3);
    const passed: PassedDatagram[] = [];
    const lastWord = sharing.leave((datagram) => {
      passed.push(datagram);
      return passed.length < 3;
    });
    expect(lastWord).toEqual({ busy: [0], ended: [1], leftBehind: 0 });
    for (const text of ["x", "y", "z"]) client.socket.send(text, port, "127.0.0.1");
    await expect.poll(() => passed.map(({ bytes }) => Buffer.from(bytes).toString()), poll).toEqual(["x", "y", "z"]);
    expect(passed[0]).toMatchObject({ key: `udp 127.0.0.1:${port}`, address: "127.0.0.1", port: client.port });
    expect([incidents(world), backend.heard.length]).toEqual([{ datagram_dropped: 1 }, 5]);
    sharing.close();
    expect(sessionsOf(world)).toBe(0);
  });

  it("leaves behind what cannot be sent, and has it back when all is undone", async () => {
    const world = newWorld();
    const backend = await world.udpBackend("a");
    const port = await udpPort();
    await world.apply(wantedOf(port, [backend]));
    const clients = [await world.udpClient(), await world.udpClient(), await world.udpClient()];
    for (const client of clients) await ask(client, port, "1");
    let count = 0;
    const sharing = world.plane.bequest!().shareSessions(() => {
      count += 1;
      return count < 2 ? Promise.resolve() : Promise.reject(new Error("gone"));
    });
    sharing.share(`udp 127.0.0.1:${port}`);
    await sharing.settled(1000);
    expect(sharing.leave(() => true)).toMatchObject({ ended: [], leftBehind: 1 });
    expect(world.fake.messages("warn")).toHaveLength(1);
    sharing.undo();
    for (const client of clients) expect(await ask(client, port, "2")).toBe("a:2");
    expect(new Set(backend.heard.map(({ from }) => from)).size).toBe(3);
  });
});

describe("a plane that takes sessions over", () => {
  interface Taking {
    readonly world: ProxyWorld;
    readonly backend: UdpBackend;
    readonly wanted: Config;
    readonly port: number;
    readonly client: UdpClient;
    readonly passed: PassedDatagram[];
    readonly receiver: SessionReceiver;
    readonly shared: (change?: Partial<SharedSession>) => SharedSession;
  }

  async function take(change: ServiceChange = {}, openFilesMax = 1000): Promise<Taking> {
    const passed: PassedDatagram[] = [];
    let receiver: SessionReceiver | null = null;
    const port = await udpPort();
    const listening = await bound(port);
    const predecessor: PlanePredecessor = {
      take: (key) => Promise.resolve(key === `udp 127.0.0.1:${port}` ? listening : null),
      sharesSessions: true,
      onSessions: (given) => { receiver = given; },
      pass: (datagram) => {
        passed.push(datagram);
        return true;
      },
      isServing: () => true, heldFlows: () => ({ services: {}, backends: {} }), endFlows: () => undefined,
    };
    const world = newWorld({ predecessor, openFilesMax });
    const backend = await world.udpBackend("a");
    const wanted = wantedOf(port, [backend], change);
    await world.apply(wanted);
    const client = await world.udpClient();
    const identity = identityIn(world, wanted);
    const shared = (more: Partial<SharedSession> = {}): SharedSession => ({
      id: 0, key: `udp 127.0.0.1:${port}`, address: "127.0.0.1", port: client.port, isNamed: false,
      backend: identity, proxyProtocol: "none", idleMs: 0, ...more,
    });
    return { world, backend, wanted, port, client, passed, receiver: receiver!, shared };
  }

  async function bound(port = 0): Promise<Socket> {
    const socket = createSocket("udp4");
    await new Promise<void>((resolve) => { socket.bind(port, "127.0.0.1", resolve); });
    return socket;
  }

  it("goes on with a session at once, by its own socket, and passes on what it has none for until the last word", async () => {
    const { world, backend, port, client, passed, receiver, shared } = await take();
    const socket = await bound();
    const from = socket.address().port;
    receiver.adopt(shared(), socket);
    expect(await ask(client, port, "1")).toBe("a:1");
    const other = await world.udpClient();
    other.socket.send("whose?", port, "127.0.0.1");
    await expect.poll(() => passed.length, poll).toBe(1);
    expect(passed[0]).toMatchObject({ address: "127.0.0.1", port: other.port });
    receiver.decide({ busy: [], ended: [], leftBehind: 2 });
    receiver.decide(null); // the process ends later
    expect(await ask(client, port, "2")).toBe("a:2");
    expect(await ask(other, port, "3")).toBe("a:3");
    receiver.receive(passed[0]!); // comes back from the one that is not to take it
    await expect.poll(() => other.heard.at(-1), poll).toBe("a:whose?");
    expect(backend.heard.map((each) => each.from).slice(0, 2)).toEqual([from, from]);
    expect([incidents(world), passed.length]).toEqual([{ session_left_behind: 2 }, 1]);
  });

  it("goes on with one whose backend is of the client's region, and counts it there", async () => {
    const geo = locatedByNetworks({ regions: [
      { name: "other", networks: ["192.0.2.0/24"], pool: "web" }, { name: "here", networks: ["127.0.0.0/8"], pool: "web" },
    ] });
    const { world, port, client, receiver, shared } = await take({ pool: "elsewhere", geo });
    receiver.adopt(shared(), await bound());
    expect(await ask(client, port, "1")).toBe("a:1");
    expect([incidents(world), world.plane.counters().serviceFlows.get("dns@here")?.count]).toEqual([{}, 1]);
  });

  it("does not connect a session that the next process has by then", async () => {
    const { world, backend, port, client, receiver, shared } = await take();
    const socket = await bound();
    receiver.adopt(shared(), socket);
    const sharing = world.plane.bequest!().shareSessions(() => Promise.resolve());
    sharing.share(`udp 127.0.0.1:${port}`);
    await sharing.settled(1000);
    receiver.decide({ busy: [], ended: [], leftBehind: 0 }); // connects thousands in several turns, and is late with this one
    expect(await ask(client, port, "1")).toBe("a:1");
    expect(() => socket.remoteAddress()).toThrow("Not connected");
    sharing.undo();
    expect(await ask(client, port, "2")).toBe("a:2");
    expect(socket.remoteAddress().port).toBe(backend.port);
  });

  it("decides alone when the other process is gone", async () => {
    const { port, client, receiver } = await take();
    receiver.decide(null);
    expect(await ask(client, port, "1")).toBe("a:1");
  });

  it("lets a session be idle for what is left of its time, and no longer", async () => {
    const { world, client, port, receiver, shared } = await take();
    receiver.adopt(shared({ id: 5, idleMs: 20_000 }), await bound());
    receiver.adopt(shared({ id: 6, port: 1, idleMs: 20_000 }), await bound());
    receiver.adopt(shared({ id: 7, port: 2, idleMs: 20_000 }), await bound());
    receiver.adopt(shared({ id: 8, port: 3 }), await bound());
    await world.fake.advance(15_000); // not looked at: what moves elsewhere is not known
    expect(sessionsOf(world)).toBe(4);
    receiver.decide({ busy: [6], ended: [8], leftBehind: 0 });
    expect(sessionsOf(world)).toBe(3);
    await ask(client, port, "5 moves");
    await world.fake.advance(5000);
    expect(sessionsOf(world)).toBe(2); // 7 was idle for 40 s
  });

  it("refuses those that it has no backend or no room for, or would send in another form", async () => {
    const { world, receiver, shared } = await take({ proxy: { sessionsMax: 2 } }, 64 + 3);
    receiver.adopt(shared({ backend: "17" }), await bound());
    receiver.adopt(shared({ proxyProtocol: "v2" }), await bound());
    receiver.adopt(shared({ key: "udp 127.0.0.1:1" }), await bound());
    expect(incidents(world)).toEqual({ session_moved: 2 });
    for (const port of [1, 2, 3]) receiver.adopt(shared({ id: port, port }), await bound());
    expect([sessionsOf(world), incidents(world)]).toEqual([2, { session_moved: 2, sessions_max: 1 }]);
    receiver.decide({ busy: [], ended: [], leftBehind: 0 });
    receiver.adopt(shared({ id: 9, port: 9 }), await bound()); // too late
    expect(sessionsOf(world)).toBe(2);
    expect(world.fake.logged.find(({ message }) => message === "UDP sessions go on here")?.fields)
      .toEqual({ taken: 2, refused: 4, leftBehind: 0 });
  });

  it("has the later one of two sessions of a client, and ends those whose backend is not alive", async () => {
    const { world, backend, client, port, receiver, shared, wanted } = await take();
    receiver.adopt(shared({ id: 0 }), await bound());
    const later = await bound();
    const from = later.address().port;
    receiver.adopt(shared({ id: 1 }), later);
    receiver.decide({ busy: [], ended: [0], leftBehind: 0 });
    expect(await ask(client, port, "1")).toBe("a:1");
    expect(backend.heard.map((each) => each.from)).toEqual([from]);
    await world.apply(wanted, ["web/a"]);
    expect([sessionsOf(world), incidents(world)]).toEqual([0, { session_moved: 1 }]);
  });
});
