// Clients that are remembered by the XDP plane: real connections and datagrams of several addresses in the lab, over
// drains, restarts and changes of the config. The proxy plane's are in test/unit/proxy_affinities.test.ts.

import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Lab } from "../../scripts/lab_network.ts";
import { raiseLab, VIP4, VIP6 } from "../../scripts/lab_network.ts";
import { instanceName, startInstance, waitFor, type Instance } from "../../scripts/lab_services.ts";
import { spawnIn } from "../../scripts/namespaces.ts";
import { askInTurn } from "../support/flows_in_turn.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { addClients, type LabClient } from "../support/lab_clients.ts";

const FIRST_PORT = 9000;
const SERVICES = ["turns", "datagrams", "short", "translated", "forgetful", "counted"] as const;
type ServiceName = (typeof SERVICES)[number];
const portOf = (name: ServiceName): number => FIRST_PORT + SERVICES.indexOf(name);
const FLOWS = 12;
const PATIENCE_MS = 60_000;
const SHORT_MS = 3000;
const fixture = (name: string): string => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));

function configText(instance: string, { backends }: Lab, pool = "web"): string {
  const members = backends.map(({ name, ipv4 }) => `{ name: ${name}, address: ${ipv4} }`).join(", ");
  const service = (name: ServiceName, keys: string): string =>
    `  - { name: ${name}, address: "${name === "datagrams" ? VIP6 : VIP4}", port: ${portOf(name)}, algorithm: round-robin, ${keys} }\n`;
  return `version: 1
instance: ${instance}
dataplane: { mode: xdp, interfaces: [eth0] }
pools:
  web: { health: { type: none }, backends: [${members}] }
  other: { health: { type: none }, backends: [${members}] }
services:
${service("turns", `pool: ${pool}, forwarding: l2, affinityTimeout: 1h`)}${
  service("datagrams", "pool: web, forwarding: l2, protocol: udp, affinityTimeout: 1h")}${
  service("short", `pool: web, forwarding: l2, affinityTimeout: ${SHORT_MS / 1000}s`)}${
  service("translated", "pool: web, forwarding: fullnat, affinityTimeout: 1h, sourcePrefix: { ipv4: 24 }")}${
  service("forgetful", "pool: web, forwarding: l2")}${
  service("counted", "pool: web, forwarding: l2, affinityTimeout: 1h")}`;
}

describeKernel("clients that have been here", KERNEL, () => {
  let lab: Lab;
  let instance: Instance;
  /** Beside the client's own. */
  let clients: readonly LabClient[];
  const name = instanceName("affinity");

  beforeAll(async () => {
    lab = raiseLab({ label: "affinity", backends: 3, mtu: 1500, localVip: true });
    clients = addClients(lab, [201, 202, 203, 204]);
    await Promise.all(lab.backends.map(async (host) => {
      const args = [fixture("named_server.mjs"), host.name, FIRST_PORT, SERVICES.length, VIP4, VIP6, host.ipv4, host.ipv6].map(String);
      const server = spawnIn(host.namespace, process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
      await once(server.stdout!, "data");
    }));
    instance = await startInstance(lab, name, configText(name, lab));
  });
  afterAll(async () => {
    await instance?.remove();
    lab?.close();
  });

  let nextPort = 10_000;
  /** Who has each of a client's new flows; they are closed again then. */
  function met(service: ServiceName, at: number, count = FLOWS): Promise<readonly string[]> {
    const { ipv4, ipv6 } = clients[at]!;
    const firstPort = nextPort;
    nextPort += count;
    const way = service === "datagrams" ? { protocol: "udp", address: VIP6, localAddress: ipv6 } as const
      : { protocol: "tcp", address: VIP4, localAddress: ipv4 } as const;
    return askInTurn(lab, { ...way, port: portOf(service), count, firstPort });
  }

  async function only(service: ServiceName, at: number, count = FLOWS): Promise<string> {
    const names = new Set(await met(service, at, count));
    expect([...names], `${service}, client ${at}`).toHaveLength(1);
    return [...names][0]!;
  }

  it.each(["turns", "datagrams"] as const)("of %s go where they have been, each for itself", async (service) => {
    const places = [];
    for (const at of clients.keys()) places.push(await only(service, at));
    expect(places).not.toContain("");
    // In turn, on each CPU: not all four came to the same.
    expect(new Set(places).size).toBeGreaterThan(1);
    for (const at of clients.keys()) expect(await only(service, at)).toBe(places[at]);
  });

  it("are no matter to a service that does not remember them", async () => {
    expect(new Set(await met("forgetful", 0)).size).toBeGreaterThan(1);
  });

  it("of one prefix are one, where flows are translated too", async () => {
    const there = await only("translated", 0);
    expect(there).not.toBe("");
    for (const at of [1, 2, 3]) expect(await only("translated", at)).toBe(there);
  });

  it("leave a drained backend, and stay away when it is back", async () => {
    const before = await only("turns", 0);
    await instance.verb("drain", `web/${before}`);
    const after = await only("turns", 0);
    expect(after).not.toBe(before);
    await instance.verb("undrain", `web/${before}`);
    expect(await only("turns", 0)).toBe(after);
  });

  it("are still known when the supervisor starts again", async () => {
    const places = [await only("turns", 0), await only("turns", 1), await only("datagrams", 2)];
    await instance.stop("SIGKILL");
    instance = await startInstance(lab, name, configText(name, lab));
    expect([await only("turns", 0), await only("turns", 1), await only("datagrams", 2)]).toEqual(places);
  });

  it("are counted by each service as they come, until their time is over, and by a supervisor that starts again", async () => {
    const remembered = async (service: ServiceName): Promise<number | null | undefined> =>
      (await instance.api.services()).find((each) => each.name === service)?.affinities;
    const becomes = async (service: ServiceName, count: number): Promise<void> => {
      await waitFor(`${count} clients of ${service}`, PATIENCE_MS, async () => await remembered(service) === count);
    };
    expect(await remembered("forgetful")).toBeNull();
    await becomes("counted", 0);
    for (const at of clients.keys()) {
      await only("counted", at);
      await becomes("counted", at + 1);
    }
    await waitFor("a client of short, while it comes", PATIENCE_MS, async () => {
      await met("short", 0, 1);
      return await remembered("short") === 1;
    });
    await becomes("short", 0);
    const { affinities } = await instance.api.status();
    expect(affinities?.max).toBe(65_536);
    await instance.stop("SIGKILL");
    instance = await startInstance(lab, name, configText(name, lab));
    await becomes("counted", clients.length);
    expect((await instance.api.status()).affinities).toEqual(affinities);
    expect(await instance.verb("status")).toMatch(/^clients +\d+ of 65\.5k remembered$/m);
  });

  it("are forgotten by a service that has another pool", async () => {
    const places: string[] = [];
    for (const at of clients.keys()) places.push(await only("turns", at));
    const begunBy = async (pool: string): Promise<number> =>
      (await instance.api.backends()).filter((each) => each.pool === pool).reduce((sum, each) => sum + each.traffic.flows, 0);
    instance.configure(configText(name, lab, "other"));
    await instance.api.reload("test");
    const before = await begunBy("web");
    for (const at of clients.keys()) await only("turns", at);
    // Its backends are the same hosts, and still lead there by the pool that the other services have.
    expect(await begunBy("other")).toBe(clients.length * FLOWS);
    expect(await begunBy("web")).toBe(before);
    instance.configure(configText(name, lab));
    await instance.api.reload("test");
    for (const at of clients.keys()) expect(await only("turns", at)).toBe(places[at]);
  });

  it("are forgotten when they have sent nothing for the timeout", async () => {
    const seen = new Set([await only("short", 0)]);
    await waitFor("another backend after a silence", PATIENCE_MS, async () => {
      await new Promise((resolve) => { setTimeout(resolve, SHORT_MS * 1.5); });
      seen.add(await only("short", 0, 2));
      return seen.size > 1;
    });
  });
});
