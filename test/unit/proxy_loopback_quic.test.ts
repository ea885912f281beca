// Connection IDs in the proxy plane, on loopback sockets: a client that comes from another port keeps its
// backend, whatever the ring says, and one whose ID says nothing stays with its session.

import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { BackendConfig, Config } from "../../src/model/config.ts";
import { hexBytes } from "../../src/model/hex.ts";
import { encodeCid, quicLbConfig } from "../../src/model/quic_lb.ts";
import { config, ProxyWorld, service, udpPort } from "../support/proxy_world.ts";
import type { UdpBackend, UdpClient } from "../support/proxy_world.ts";
import { QUIC_LB_KEY } from "../support/quic_lb_vectors.ts";

let world: ProxyWorld;
beforeEach(() => { world = new ProxyWorld({ fakeTime: true }); });
afterEach(() => world.close());

const KEY = hexBytes(QUIC_LB_KEY);
const QUIC = { id: 0, serverIdBytes: 1, nonceBytes: 6, lengthEncoded: false };
const NAMES = ["a", "b", "c"];
const poll = { timeout: 10_000, interval: 5 };

async function serve(host: string): Promise<{ wanted: Config; port: number; backends: UdpBackend[] }> {
  const backends: UdpBackend[] = [];
  for (const name of NAMES) backends.push(await world.udpBackend(name, host));
  const port = await udpPort(host);
  const quicLb = { configs: [{ ...QUIC, key: { from: "inline", bytes: KEY } as const }] };
  const plain = config(
    [service({ name: "quic", protocol: "udp", port, address: host, quicLb })],
    { web: Object.fromEntries(backends.map((backend) => [backend.name, backend])) });
  const known = (backend: BackendConfig): BackendConfig =>
    ({ ...backend, serverIds: [`0${NAMES.indexOf(backend.name) + 1}`] });
  const wanted = {
    ...plain, pools: plain.pools.map((pool) => ({ ...pool, backends: pool.backends.map(known) })),
  };
  await world.apply(wanted);
  return { wanted, port, backends };
}

let nonce = 0;
/** A packet with a short header and an ID that names the server; `text` behind it. */
function packet(server: number): string {
  nonce += 1;
  const id = encodeCid(quicLbConfig({ ...QUIC, key: KEY }), Uint8Array.of(server), Uint8Array.of(0, 0, 0, 0, 0, nonce), 3);
  return Buffer.from([0x41, ...id, ...Buffer.from("-".repeat(20))]).toString("latin1");
}

/** Who answers. */
async function ask(client: UdpClient, port: number, text: string, host: string): Promise<string> {
  const count = client.heard.length;
  client.socket.send(Buffer.from(text, "latin1"), port, host);
  await expect.poll(() => client.heard.length, poll).toBeGreaterThan(count);
  return client.heard.at(-1)!.split(":")[0]!;
}

const outcomes = (): Record<string, number> => Object.fromEntries(world.plane.counters().quic ?? []);

describe.each(["127.0.0.1", "::1"])("on %s", (host) => {
  it("an ID leads to its backend from every address", async () => {
    const { port } = await serve(host);
    for (let server = 1; server <= 3; server += 1) {
      for (let address = 0; address < 6; address += 1) {
        expect(await ask(await world.udpClient(host), port, packet(server), host)).toBe(NAMES[server - 1]);
      }
    }
    expect(outcomes()).toEqual({ routed: 18, no_id: 0, no_config: 0, no_server: 0, server_down: 0 });
  });

  it("two connections of one address go to two backends, and what has no ID to the first", async () => {
    const { port } = await serve(host);
    const client = await world.udpClient(host);
    for (const server of [2, 3, 2, 1, 3]) expect(await ask(client, port, packet(server), host)).toBe(NAMES[server - 1]);
    expect(await ask(client, port, "hello", host)).toBe("b");
    expect(outcomes()).toMatchObject({ routed: 5, no_id: 1 });
    expect(world.plane.counters().flowTable.count).toBe(3);
  });

  it("a server that nobody has, and one that is down, are left to the ring", async () => {
    const { port } = await serve(host);
    const client = await world.udpClient(host);
    const byRing = await ask(client, port, "hello", host);
    expect(await ask(client, port, packet(9), host)).toBe(byRing);
    await world.down(`web/${byRing}`);
    const next = await ask(client, port, packet(NAMES.indexOf(byRing) + 1), host);
    expect(next).not.toBe(byRing);
    expect(outcomes()).toEqual({ routed: 0, no_id: 1, no_config: 0, no_server: 1, server_down: 1 });
  });
});
