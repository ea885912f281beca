// UDP through the proxy plane on real loopback sockets: sessions, their end, their limit.

import { beforeEach, describe, expect, it } from "vitest";
import { createEnv } from "../../src/env_real.ts";
import type { Config } from "../../src/model/config.ts";
import {
  config, leaveNoSockets, ProxyWorld, service, type ServiceChange, type UdpBackend, type UdpClient, udpPort,
} from "../support/proxy_world.ts";

let world: ProxyWorld;
leaveNoSockets(() => world.close());
beforeEach(() => { world = new ProxyWorld({ fakeTime: true }); });

const poll = { timeout: 10_000, interval: 5 };

async function serve(backends: readonly UdpBackend[], change: ServiceChange = {}): Promise<{ wanted: Config; port: number }> {
  const port = await udpPort(change.address);
  const wanted = config(
    [service({ name: "dns", protocol: "udp", port, ...change })],
    { web: Object.fromEntries(backends.map((backend) => [backend.name, backend])) });
  const report = await world.apply(wanted);
  expect([...report.failed]).toEqual([]);
  return { wanted, port };
}

/** Sends and waits for the answer to this very datagram. */
async function ask(client: UdpClient, port: number, text: string, host = "127.0.0.1"): Promise<string> {
  const count = client.heard.length;
  client.socket.send(text, port, host);
  await expect.poll(() => client.heard.length, poll).toBeGreaterThan(count);
  return client.heard.at(-1) ?? "";
}

function incidents(): Record<string, number> {
  return Object.fromEntries(world.plane.counters().incidents ?? []);
}

describe("udp sessions", () => {
  it("carry datagrams both ways, whole and apart, on either family, from one address per client", async () => {
    for (const host of ["127.0.0.1", "::1"]) {
      const backend = await world.udpBackend("a", host);
      const { port } = await serve([backend], { address: host });
      const [one, two] = [await world.udpClient(host), await world.udpClient(host)];
      expect(await ask(one, port, "1", host)).toBe("a:1");
      expect(await ask(two, port, "2", host)).toBe("a:2");
      expect(await ask(one, port, "", host)).toBe("a:");
      expect(await ask(one, port, "x".repeat(60_000), host)).toBe(`a:${"x".repeat(60_000)}`);
      const froms = backend.heard.map(({ from }) => from);
      expect(new Set(froms).size).toBe(2);
      expect([froms[2], froms[3]]).toEqual([froms[0], froms[0]]);
      expect(world.plane.counters().flowTable).toEqual({ count: 2, max: 1000 });
    }
  });

  it("datagrams that arrive before the session's socket is connected wait in order", async () => {
    const backend = await world.udpBackend("a");
    const { port } = await serve([backend]);
    const client = await world.udpClient();
    for (let i = 0; i < 50; i += 1) client.socket.send(String(i), port, "127.0.0.1");
    await expect.poll(() => client.heard.length, poll).toBe(50);
    expect(backend.heard.map(({ text }) => text)).toEqual(Array.from({ length: 50 }, (_, i) => String(i)));
  });

  it("count datagrams and bytes of clients, and one verdict per session", async () => {
    const { port } = await serve([await world.udpBackend("a")]);
    const client = await world.udpClient();
    for (const text of ["1", "22", "333"]) await ask(client, port, text);
    const counters = world.plane.counters();
    expect(counters.services.get("dns")).toEqual({ packets: 3, bytes: 6, flows: 1 });
    expect(counters.backends.get("web/a")).toEqual({ packets: 3, bytes: 6, flows: 1 });
    expect(counters.verdicts).toEqual({ TX_FORWARDED: { packets: 1, bytes: 6 } });
  });

  it("end when idle, not before, and open anew", async () => {
    const backend = await world.udpBackend("a");
    const { port } = await serve([backend], { proxy: { udpIdleTimeoutMs: 8000 } });
    const client = await world.udpClient();
    for (let i = 0; i < 5; i += 1) {
      await ask(client, port, `${i}`);
      await world.fake.advance(7000);
      expect(world.plane.counters().flowTable.count).toBe(1);
    }
    await world.fake.advance(3100);
    expect(world.plane.counters().flowTable.count).toBe(0);
    await ask(client, port, "again");
    expect(world.plane.counters().services.get("dns")?.flows).toBe(2);
  });

  it("stay with a draining backend, and move at once from a dead one", async () => {
    const backends = [await world.udpBackend("a"), await world.udpBackend("b")];
    const { wanted, port } = await serve(backends);
    const client = await world.udpClient();
    const first = (await ask(client, port, "1")).slice(0, 1);
    const other = first === "a" ? "b" : "a";
    await world.plane.apply(world.tables.make(wanted, [], { [`web/${first}`]: 0 }));
    expect(await ask(client, port, "2")).toBe(`${first}:2`);
    await world.down(`web/${first}`);
    expect(world.plane.counters().flowTable.count).toBe(0);
    expect(incidents()).toMatchObject({ session_moved: 1 });
    expect(await ask(client, port, "3")).toBe(`${other}:3`);
    await world.down();
    expect(await ask(client, port, "4")).toBe(`${other}:4`);
  });

  it("move at once from a backend in maintenance, though nobody else is alive and the service fails open", async () => {
    const backends = [await world.udpBackend("a"), await world.udpBackend("b")];
    const { wanted, port } = await serve(backends, { failOpen: true });
    const client = await world.udpClient();
    const first = (await ask(client, port, "1")).slice(0, 1);
    const other = first === "a" ? "b" : "a";
    await world.plane.apply(world.tables.make(wanted, ["web/a", "web/b"], {}, [{
      target: `web/${first}`, change: { kind: "maintenance" }, actor: "ann", reason: null, atMs: 0, expiresAtMs: null,
    }]));
    expect(incidents()).toMatchObject({ session_moved: 1 });
    expect(await ask(client, port, "2")).toBe(`${other}:2`);
  });

  it("move when their backend leaves the config, and stay over a reload that does not concern them", async () => {
    const backends = [await world.udpBackend("a"), await world.udpBackend("b")];
    const { wanted, port } = await serve(backends);
    const client = await world.udpClient();
    const first = (await ask(client, port, "1")).slice(0, 1);
    await world.apply(wanted);
    expect(incidents()).toEqual({});
    const rest = backends.filter(({ name }) => name !== first);
    await world.apply(config(wanted.services, { web: Object.fromEntries(rest.map((each) => [each.name, each])) }));
    expect(incidents()).toEqual({ session_moved: 1 });
    expect(await ask(client, port, "2")).toBe(`${rest[0]?.name}:2`);
  });

  it("beyond the maximum are not opened; those that are go on", async () => {
    const { port } = await serve([await world.udpBackend("a")], { proxy: { sessionsMax: 2, udpIdleTimeoutMs: 8000 } });
    const clients = [await world.udpClient(), await world.udpClient(), await world.udpClient()] as const;
    await ask(clients[0], port, "0");
    await ask(clients[1], port, "1");
    clients[2].socket.send("2", port, "127.0.0.1");
    await expect.poll(() => incidents()["sessions_max"], poll).toBe(1);
    expect(await ask(clients[0], port, "still")).toBe("a:still");
    expect(clients[2].heard).toEqual([]);
    await world.fake.advance(20_000);
    expect(await ask(clients[2], port, "now")).toBe("a:now");
  });

  it("without a backend each datagram is dropped with a verdict", async () => {
    const { port } = await serve([await world.udpBackend("a")]);
    await world.down("web/a");
    const client = await world.udpClient();
    client.socket.send("x", port, "127.0.0.1");
    client.socket.send("y", port, "127.0.0.1");
    await expect.poll(() => world.plane.counters().verdicts.DROP_NO_BACKEND?.packets, poll).toBe(2);
    expect(world.plane.counters().flowTable.count).toBe(0);
  });

  it("survive a backend whose port is closed for a while", async () => {
    const backend = await world.udpBackend("a");
    const { port } = await serve([{ ...backend, port: await udpPort() }]);
    const client = await world.udpClient();
    for (let i = 0; i < 5; i += 1) client.socket.send("lost", port, "127.0.0.1");
    await expect.poll(() => incidents()["datagram_dropped"] ?? 0, poll).toBeGreaterThan(0);
    expect(world.plane.counters().flowTable.count).toBe(1);
    expect(world.fake.messages("warn")).toHaveLength(1);
  });

  it("that cannot be opened are counted and give back what they took; the next datagram tries again", async () => {
    const faults = ["told", "thrown"];
    const { net } = createEnv();
    world = new ProxyWorld({ fakeTime: true, openFilesMax: 64 + 1, net: {
      createDatagram: (options) => {
        const socket = net.createDatagram(options);
        const connect = socket.connect.bind(socket);
        socket.connect = (port: number, host?: unknown, onConnected?: (error?: Error) => void) => {
          const fault = faults.pop();
          if (fault === undefined) connect(port, String(host), onConnected);
          else if (fault === "thrown") {
            socket.close();
            throw new Error("no socket");
          } else setImmediate(() => onConnected?.(new Error("no route")));
        };
        return socket;
      },
    } });
    const { port } = await serve([await world.udpBackend("a")]);
    const client = await world.udpClient();
    for (const count of [1, 2]) {
      client.socket.send("x", port, "127.0.0.1");
      await expect.poll(() => incidents()["session_failed"], poll).toBe(count);
      await expect.poll(() => world.plane.counters().flowTable.count, poll).toBe(0);
    }
    expect(await ask(client, port, "now")).toBe("a:now");
    expect(incidents()).toEqual({ session_failed: 2 });
  });

  it("put the PROXY header before each datagram, over either family", async () => {
    const families = [["127.0.0.1", "2112000c", 4], ["::1", "21220024", 16]] as const;
    for (const [host, kind, bytes] of families) {
      const backend = await world.udpBackend("a", host);
      const { port } = await serve([backend], { address: host, proxy: { proxyProtocol: "v1" } });
      const client = await world.udpClient(host);
      await ask(client, port, "one", host);
      await ask(client, port, "", host);
      for (const [index, text] of ["one", ""].entries()) {
        const datagram = Buffer.from(backend.heard[index]?.text ?? "", "latin1");
        expect(datagram.subarray(0, 16).toString("hex")).toBe(`0d0a0d0a000d0a515549540a${kind}`);
        expect(datagram.readUInt16BE(16 + 2 * bytes)).toBe(client.port);
        expect(datagram.subarray(20 + 2 * bytes).toString()).toBe(text);
      }
    }
  });

  it("carry the longest datagrams; one that the header makes too long is dropped and counted", async () => {
    const lengths: number[] = [];
    const backend = await world.udpBackend("a");
    backend.socket.removeAllListeners("message");
    backend.socket.on("message", (datagram, from) => {
      lengths.push(datagram.length);
      backend.socket.send(datagram, from.port, from.address);
    });
    const { port } = await serve([backend]);
    const client = await world.udpClient();
    const longest = "x".repeat(65_507);
    expect((await ask(client, port, longest)).length).toBe(65_507);
    await world.apply(config([service({
      name: "dns", protocol: "udp", port, proxy: { proxyProtocol: "v2" },
    })], { web: { a: backend } }));
    client.socket.send(longest, port, "127.0.0.1");
    await expect.poll(incidents, poll).toEqual({ session_moved: 1, datagram_dropped: 1 });
    expect((await ask(client, port, "short")).length).toBe(28 + 5);
    expect(lengths).toEqual([65_507, 28 + 5]);
  });
});
