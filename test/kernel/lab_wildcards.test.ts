// Services with several addresses and ports from outside: real sockets in the lab, to addresses of a
// prefix that is routed to the balancer, to ports of a range and to any port; and a service that
// becomes a prefix while connections are held and datagrams stream.

import { once } from "node:events";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Lab, LabHost } from "../../scripts/lab_network.ts";
import { raiseLab } from "../../scripts/lab_network.ts";
import type { Instance, Shares } from "../../scripts/lab_services.ts";
import {
  firstLine, instanceName, ROOT, serveBackend, startInstance, tally, waitFor,
} from "../../scripts/lab_services.ts";
import { runIn, runInSync, spawnIn } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";

const HTTP_PORT = 8001;
const ECHO_PORT = 8007;
const COUNT = 40;

const FAMILIES = [
  {
    family: 4, range: "198.18.101.0/28", alone: "198.18.102.1", live: "198.18.103.1", lives: "198.18.103.0/28",
    within: ["198.18.101.0", "198.18.101.5", "198.18.101.15"], narrow: "198.18.101.3",
  },
  {
    family: 6, range: "2001:db8:101::/64", alone: "2001:db8:102::1", live: "2001:db8:103::1", lives: "2001:db8:103::/64",
    within: ["2001:db8:101::1", "2001:db8:101::5:5", "2001:db8:101:0:ffff::"], narrow: "2001:db8:101::3",
  },
] as const;
type Family = (typeof FAMILIES)[number];

const host = (address: string): string => (address.includes(":") ? `[${address}]` : address);
const total = (shares: Shares): number => [...shares.values()].reduce((a, b) => a + b, 0);
const prefixesOf = ({ range, alone, lives, family }: Family): string[] =>
  [range, `${alone}/${family === 4 ? 32 : 128}`, lives];

/** The backends hold whole prefixes (AnyIP), and the client's router is the balancer. */
function route(lab: Lab): void {
  for (const each of FAMILIES) {
    const v6 = each.family === 6 ? ["-6"] : [];
    for (const prefix of prefixesOf(each)) {
      for (const { namespace } of lab.backends) {
        runInSync(namespace, "ip", [...v6, "route", "add", "local", prefix, "dev", "lo"]);
      }
      const via = each.family === 4 ? lab.balancer.ipv4 : lab.balancer.ipv6;
      runInSync(lab.client.namespace, "ip", [...v6, "route", "add", prefix, "via", via]);
    }
  }
}

async function serve(backend: LabHost): Promise<void> {
  await serveBackend(backend, { iperf: false, decap: false });
  runInSync(backend.namespace, "sysctl", ["-qw", "net.ipv6.ip_nonlocal_bind=1"]);
  const addresses = FAMILIES.flatMap(({ within, alone, live }) => [...within, alone, live]);
  const server = spawnIn(backend.namespace, process.execPath, [
    join(ROOT, "dist/scripts/lab_backend.js"), backend.name, String(HTTP_PORT), String(ECHO_PORT), ...addresses,
  ]);
  await firstLine(server, `${backend.name}'s second server`);
}

/** `live`: what the services that change are at. */
function configText(lab: Lab, name: string, live: (family: Family) => string): string {
  const backends = lab.backends.map((each) => `{ name: ${each.name}, address: ${each.ipv4} }`).join(", ");
  const [, second] = lab.backends;
  const services = FAMILIES.flatMap((each) => ["tcp", "udp"].flatMap((protocol) => {
    const service = (what: string, address: string, port: number | string, pool: string): string =>
      `  - { name: ${what}-${protocol}-${each.family}, address: "${address}", port: ${port}, protocol: ${protocol},`
      + ` pool: ${pool} }`;
    return [
      service("range", each.range, "8000-8099", "web"), service("alone", each.alone, "any", "web"),
      service("narrow", each.narrow, HTTP_PORT, "one"), service("live", live(each), ECHO_PORT, "web"),
    ];
  }));
  return `version: 1
instance: ${name}
dataplane: { mode: xdp, interfaces: [eth0], hashSeed: "0123456789abcdef" }
pools:
  web: { health: { type: tcp, port: 80, interval: 500ms, timeout: 300ms }, backends: [${backends}] }
  one: { health: { type: none }, backends: [{ name: ${second?.name}, address: ${second?.ipv4} }] }
services:
${services.join("\n")}
`;
}

describeKernel("wildcard services in the lab", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  let lab: Lab;
  let instance: Instance;
  const name = instanceName("wildcards");

  beforeAll(async () => {
    lab = raiseLab({ label: "wildcards", backends: 2, mtu: 1500, localVip: false });
    route(lab);
    for (const each of lab.backends) await serve(each);
    instance = await startInstance(lab, name, configText(lab, name, ({ live }) => live));
  });
  afterAll(async () => {
    await instance?.remove();
    lab?.close();
  });

  async function byHttp(address: string, port: number): Promise<Shares> {
    const url = `http://${host(address)}:${port}/?[1-${COUNT}]`;
    const ended = await runIn(lab.client.namespace, "curl",
      ["-s", "-Z", "--parallel-max", "8", "-m", "3", "-H", "Connection: close", url],
      { check: false });
    return tally(ended.stdout.split("\n").filter((line) => line !== ""), COUNT);
  }

  async function byUdp(address: string, port: number): Promise<Shares> {
    const ended = await runIn(lab.client.namespace, process.execPath,
      [join(ROOT, "dist/scripts/lab_client.js"), "udp", address, String(port), String(COUNT)]);
    return tally(ended.stdout.split("\n").filter((line) => line !== ""), COUNT);
  }

  const BOTH = ["web-1", "web-2"];

  describe.each(FAMILIES)("IPv$family", (each) => {
    it("spreads TCP and UDP to each address of a prefix, at a port of the range", async () => {
      for (const address of each.within) {
        const [http, udp] = [await byHttp(address, HTTP_PORT), await byUdp(address, ECHO_PORT)];
        expect([[...http.keys()], total(http)], address).toEqual([BOTH, COUNT]);
        expect([[...udp.keys()], total(udp)], address).toEqual([BOTH, COUNT]);
      }
    });

    it("spreads TCP and UDP to any port of an address", async () => {
      for (const port of [80, HTTP_PORT]) expect([...(await byHttp(each.alone, port)).keys()]).toEqual(BOTH);
      expect([...(await byUdp(each.alone, ECHO_PORT)).keys()]).toEqual(BOTH);
    });

    it("prefers the exact service inside the prefix, and leaves the rest to the host", async () => {
      expect([...(await byHttp(each.narrow, HTTP_PORT)).keys()]).toEqual(["web-2"]);
      const refused = await runIn(lab.client.namespace, "curl",
        ["-s", "-m", "2", `http://${host(each.within[1])}:80/`], { check: false });
      expect(refused.stdout).toBe("");
    });

    it("meets the backend that explain names for this address and port", async () => {
      const source = each.family === 4 ? lab.client.ipv4 : lab.client.ipv6;
      for (let port = 22_000 + each.family * 10; port < 22_003 + each.family * 10; port++) {
        const to = `${host(each.within[1])}:${HTTP_PORT}`;
        const told = JSON.parse(await instance.verb(
          "explain", `${host(source)}:${port}`, `range-tcp-${each.family}`, "--to", to, "-o", "json",
        )) as { backend: string; destination: string };
        const met = await runIn(lab.client.namespace, "curl",
          ["-sf", "-m", "5", "--local-port", String(port), `http://${to}/`]);
        expect(`web/${met.stdout.trim()}`, `from port ${port}`).toBe(told.backend);
        expect(told.destination.endsWith(`:${HTTP_PORT}`)).toBe(true);
      }
    });
  });

  it("shows addresses and ports as they are configured", async () => {
    const { services } = JSON.parse(await instance.verb("status", "-o", "json")) as {
      services: { name: string; endpoint: string; traffic: { packets: number } }[];
    };
    const byName = new Map(services.map((each) => [each.name, each]));
    expect(byName.get("range-udp-4")?.endpoint).toBe("198.18.101.0/28:8000-8099");
    expect(byName.get("alone-tcp-6")?.endpoint).toBe("[2001:db8:102::1]:any");
    for (const what of ["range", "alone"]) {
      for (const each of ["tcp-4", "udp-4", "tcp-6", "udp-6"]) {
        expect(byName.get(`${what}-${each}`)?.traffic.packets, `${what}-${each}`).toBeGreaterThanOrEqual(COUNT);
      }
    }
  });

  it("becomes a prefix, and one address again, without losing a connection or a datagram", async () => {
    const client = (what: string, address: string): ReturnType<typeof spawnIn> =>
      spawnIn(lab.client.namespace, process.execPath,
        [join(ROOT, "dist/scripts/lab_client.js"), what, address, String(ECHO_PORT), "8", "8"]);
    const running = FAMILIES.flatMap(({ live }) => [client("hold", live), client("stream", live)]).map((child) => {
      let said = "";
      child.stdout?.on("data", (chunk: Buffer) => { said += chunk.toString(); });
      return { ended: once(child, "exit"), text: () => said };
    });
    await waitFor("the clients to send", 10_000, () => Promise.resolve(running.every(({ text }) => text() !== "")));
    const endpointIs = async (text: string): Promise<boolean> =>
      (await instance.verb("services", "-o", "json")).includes(`"${text}"`);
    for (const [at, endpoint] of [
      [({ lives }: Family) => lives, "198.18.103.0/28:8007"], [({ live }: Family) => live, "198.18.103.1:8007"],
      [({ lives }: Family) => lives, "198.18.103.0/28:8007"],
    ] as const) {
      instance.configure(configText(lab, name, at));
      instance.process.kill("SIGHUP");
      await waitFor(`services to be at ${endpoint}`, 10_000, () => endpointIs(endpoint));
    }
    await Promise.all(running.map(({ ended }) => ended));
    for (const { text } of running) {
      const [, held, sent, answered] = /held (\d+), broken 0|sent (\d+), answered (\d+)/.exec(text()) ?? [];
      if (held === undefined) expect(answered, text()).toBe(sent);
      else expect(held).toBe("8");
    }
  });
});
