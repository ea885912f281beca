// Clients of regions with real flows in the XDP plane: by a database, over its replacement, a restart and an end of the
// supervisor. The proxy plane's are in test/unit/proxy_loopback_geo.test.ts.

import { once } from "node:events";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Lab } from "../../scripts/lab_network.ts";
import { raiseLab, VIP4, VIP6 } from "../../scripts/lab_network.ts";
import { instanceName, startInstance, type Instance } from "../../scripts/lab_services.ts";
import { spawnIn } from "../../scripts/namespaces.ts";
import { openInTurn, type FlowsInTurn } from "../support/flows_in_turn.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { addClients, type LabClient } from "../support/lab_clients.ts";
import { country, mmdb } from "../support/mmdb.ts";

const FIRST_PORT = 9000;
/** Connections that the ring alone places, those that are all remembered, datagrams, and translated ones. */
const SERVICES = ["minimal", "full", "datagrams", "translated"] as const;
type ServiceName = (typeof SERVICES)[number];
const FLOWS = 12;
/** Each region's, and of everybody else. */
const POOLS = { all: "web-1", eu: "web-2", na: "web-3" } as const;
type Region = keyof typeof POOLS;
const CODES = { all: country("JP", "AS"), eu: country("DE", "EU"), na: country("US", "NA") } as const;

const fixture = (name: string): string => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));

describeKernel("regions of clients", KERNEL, () => {
  let lab: Lab;
  let instance: Instance;
  let clients: readonly LabClient[];
  const name = instanceName("geo");
  const directory = mkdtempSync(join(tmpdir(), "pointsman-geo-"));
  const database = join(directory, "places.mmdb");

  /** By client. */
  function writeDatabase(regions: readonly Region[]): void {
    const entries = Object.fromEntries(regions.flatMap((region, at) => {
      const { ipv4, ipv6 } = clients[at]!;
      return [[`${ipv4}/32`, CODES[region]], [`${ipv6}/128`, CODES[region]]];
    }));
    writeFileSync(`${database}.new`, mmdb(entries));
    renameSync(`${database}.new`, database);
  }

  function configText(): string {
    const pools = Object.entries(POOLS).map(([pool, backend]) => {
      const { ipv4 } = lab.backends.find((each) => each.name === backend)!;
      return `  ${pool}: { health: { type: none }, backends: [{ name: ${backend}, address: ${ipv4} }] }`;
    }).join("\n");
    const geo = `geo: { database: ${database}, regions: [
        { name: eu, continents: [EU], pool: eu }, { name: na, countries: [US, CA], pool: na }] }`;
    // Of UDP, what is new for a client that comes to another region is told from what was there by the table alone.
    const keys: Readonly<Record<ServiceName, string>> = {
      minimal: "forwarding: l2, tracking: minimal", full: "forwarding: l2, tracking: full",
      datagrams: "forwarding: l2, protocol: udp, tracking: full", translated: "forwarding: fullnat",
    };
    return `version: 1
instance: ${name}
dataplane: { mode: xdp, interfaces: [eth0] }
pools:
${pools}
services:
${SERVICES.map((service, at) => `  - { name: ${service}, address: "${service === "datagrams" ? VIP6 : VIP4}", port: ${FIRST_PORT + at}, pool: all, ${
  keys[service]}, ${geo} }`).join("\n")}
`;
  }

  beforeAll(async () => {
    lab = raiseLab({ label: "geo", backends: 3, mtu: 1500, localVip: true });
    clients = addClients(lab, [201, 202, 203]);
    await Promise.all(lab.backends.map(async (host) => {
      const args = [fixture("named_server.mjs"), host.name, FIRST_PORT, SERVICES.length, VIP4, VIP6, host.ipv4, host.ipv6].map(String);
      const server = spawnIn(host.namespace, process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
      await once(server.stdout!, "data");
    }));
    writeDatabase(["eu", "na", "all"]);
    instance = await startInstance(lab, name, configText());
  });
  afterAll(async () => {
    await instance?.remove();
    lab?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  let nextPort = 10_000;
  function open(service: ServiceName, at: number): Promise<FlowsInTurn> {
    const { ipv4, ipv6 } = clients[at]!;
    const firstPort = nextPort;
    nextPort += FLOWS;
    const way = service === "datagrams" ? { protocol: "udp", address: VIP6, localAddress: ipv6 } as const
      : { protocol: "tcp", address: VIP4, localAddress: ipv4 } as const;
    return openInTurn(lab, { ...way, port: FIRST_PORT + SERVICES.indexOf(service), count: FLOWS, firstPort });
  }

  const everyFlow = (region: Region): string[] => Array.from({ length: FLOWS }, () => POOLS[region]);

  async function expectRegions(regions: readonly Region[]): Promise<void> {
    for (const service of SERVICES) {
      for (const [at, region] of regions.entries()) {
        const flows = await open(service, at);
        await flows.close();
        expect(flows.names, `${service}, client ${at}`).toEqual(everyFlow(region));
      }
    }
  }

  it("are served by the region's pool, and the others by the service's", async () => {
    await expectRegions(["eu", "na", "all"]);
    expect((await instance.api.services()).map((each) => each.name)).toContain("minimal@eu");
  });

  it("keep the flows that are open when the database puts their clients elsewhere, for which new ones go there", async () => {
    const held: FlowsInTurn[] = [];
    for (const service of SERVICES) for (const at of clients.keys()) held.push(await open(service, at));
    writeDatabase(["na", "all", "eu"]);
    await instance.api.reload("test");
    for (const flows of held) expect(await flows.again()).toEqual(flows.names);
    await expectRegions(["na", "all", "eu"]);
    // Twice as many tables stand there for a while: none may be lost by a second replacement before it is over.
    writeDatabase(["all", "eu", "na"]);
    await instance.api.reload("test");
    for (const flows of held) expect(await flows.again()).toEqual(flows.names);
    await expectRegions(["all", "eu", "na"]);
    for (const flows of held) await flows.close();
  });

  it("are served by them while nobody supervises, and by whoever takes over", async () => {
    const held: FlowsInTurn[] = [];
    for (const service of SERVICES) held.push(await open(service, 1));
    await instance.stop("SIGKILL");
    await expectRegions(["all", "eu", "na"]);
    instance = await startInstance(lab, name, configText());
    expect(instance.log()).not.toContain("write-region-table");
    for (const flows of held) expect(await flows.again()).toEqual(flows.names);
    await expectRegions(["all", "eu", "na"]);
    writeDatabase(["eu", "eu", "eu"]);
    await instance.api.reload("test");
    for (const flows of held) {
      expect(await flows.again()).toEqual(flows.names);
      await flows.close();
    }
    await expectRegions(["eu", "eu", "eu"]);
  });

  it("go with the regions, when the config has none any more", async () => {
    instance.configure(configText().replaceAll(/, geo: \{[^]*?\] \}/g, ""));
    await instance.api.reload("test");
    await expectRegions(["all", "all", "all"]);
    instance.configure(configText());
    await instance.api.reload("test");
    await expectRegions(["eu", "eu", "eu"]);
  });
});
