// Health probes that travel to the virtual address as clients' packets do: a backend that lacks it, or has
// stopped unwrapping tunnels, is down for them and up for direct ones. Then what they need of the host: it
// is there while they run, made anew after a crash, and gone afterwards.

import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Lab, LabHost } from "../../scripts/lab_network.ts";
import { raiseLab, VIP4, VIP6 } from "../../scripts/lab_network.ts";
import type { Instance } from "../../scripts/lab_services.ts";
import { instanceName, serveBackend, startDecap, startInstance, waitFor } from "../../scripts/lab_services.ts";
import { runIn, runInSync, spawnIn } from "../../scripts/namespaces.ts";
import { createCertificate } from "../support/certificate.ts";
import { describeKernel, KERNEL, ROOT } from "../support/kernel.ts";

const PATIENCE_MS = 20_000;
/** Two interfaces, and for each family a rule and a route. */
const ROAD_LINES = 2 + 2 + 2;
const HTTP = "type: http, path: /health, port: 80";
const THROUGH = `${HTTP}, via: tunnel`;

interface Backend { readonly name: string; readonly state: string; readonly reason: string }

interface Case {
  readonly name: string;
  readonly forwarding: string;
  /** Family of the backend's address, which the outer header has. */
  readonly outside: 4 | 6;
  readonly inside: 4 | 6;
  readonly health: string;
}

function through(forwarding: string, inside: 4 | 6, outside: 4 | 6): Case {
  const name = `${forwarding.split(",")[0]!}-${inside}in${outside}`;
  return { name, forwarding, outside, inside, health: THROUGH };
}

const FAMILIES = [4, 6] as const;
const TUNNELS: readonly Case[] = ["ipip", "gue, gue: { variant: 1 }", "gre"].flatMap((forwarding) =>
  FAMILIES.flatMap((inside) => FAMILIES.map((outside) => through(forwarding, inside, outside))));
const L2: readonly Case[] = FAMILIES.map((family) => through("l2", family, family));
const TCP: Case = {
  name: "tcp", forwarding: "ipip", inside: 4, outside: 4, health: "type: tcp, port: 80, via: tunnel",
};
const DIRECT: Case = { name: "direct", forwarding: "ipip", inside: 4, outside: 4, health: HTTP };
/** Kinds that say more than a request, in the two ways that differ most; each handshake takes its time. */
const PATIENT = "via: tunnel, interval: 1s, timeout: 900ms";
const KINDS: readonly Case[] = ([
  ["h2c", "type: http, version: 2, port: 82, body: fine"], ["h2", "type: http, version: 2, port: 83, tls: { verify: false }"],
  ["tls", "type: tls, verify: false, port: 83"], ["grpc", "type: grpc, port: 82"], ["redis", "type: redis, port: 84"],
] as const).flatMap(([kind, health]) => [
  { name: `${kind}-ipip`, forwarding: "ipip", inside: 4, outside: 4, health: `${health}, ${PATIENT}` },
  { name: `${kind}-gre`, forwarding: "gre", inside: 6, outside: 4, health: `${health}, ${PATIENT}` },
]);
const CASES = [...TUNNELS, ...L2, TCP, DIRECT, ...KINDS];

/** Each case has a pool of one backend and one service, at a port of its own. */
function configText(instance: string, host: LabHost, cases: readonly Case[], extra = ""): string {
  const pools = cases.map(({ name, outside, health }) =>
    `  ${name}: { health: { ${health}${health.includes("interval") ? "" : ", interval: 200ms, timeout: 150ms"}, rise: 1, fall: 2 },`
    + ` backends: [{ name: b, address: "${outside === 4 ? host.ipv4 : host.ipv6}" }] }`);
  const services = cases.map(({ name, forwarding, inside }, index) =>
    `  - { name: ${name}, address: "${inside === 4 ? VIP4 : VIP6}", port: ${8000 + index},`
    + ` forwarding: ${forwarding}, pool: ${name} }`);
  return `version: 1
instance: ${instance}
dataplane: { mode: xdp, interfaces: [eth0], hashSeed: "0123456789abcdef"${extra} }
pools:
${pools.join("\n")}
services:
${services.join("\n")}
`;
}

/** Until the namespace goes. */
async function serveKinds(host: LabHost): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "pointsman-probed-"));
  const [key, certificate] = [join(directory, "key.pem"), join(directory, "certificate.pem")];
  const made = createCertificate("web.example", new Date(Date.now() - 86_400_000), new Date(Date.now() + 30 * 86_400_000));
  writeFileSync(key, made.key);
  writeFileSync(certificate, made.cert);
  const server = spawnIn(host.namespace, process.execPath, [`${ROOT}/test/kernel/fixtures/probed_server.mjs`, key, certificate]);
  await once(server.stdout!, "data");
  rmSync(directory, { recursive: true });
}

describeKernel("probes via: tunnel", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  let lab: Lab;
  let host: LabHost;
  let decap: ChildProcess;
  let instance: Instance;
  let name: string;
  const onHost = (...args: string[]): string => runInSync(host.namespace, "ip", args).stdout;
  const onBalancer = (...args: string[]): string => runInSync(lab.balancer.namespace, "ip", args).stdout;
  /** What probes need of the balancer: interfaces, rules and routes, as text. */
  const road = (): string[] => [
    ...onBalancer("-o", "link").match(/(?<=^\d+: )probex?-\w+/gm) ?? [],
    ...[["-4", "rule"], ["-6", "rule"]].flatMap((args) =>
      onBalancer(...args).split("\n").filter((line) => line.includes("fwmark"))),
    ...onBalancer("route", "show", "table", "all").split("\n").filter((line) => line.includes("default dev probe")),
  ];
  /** The control API, without a process of its own for each question. */
  const ask = async (path: string): Promise<unknown> => {
    const socket = `/run/pointsman/${name}.sock`;
    const { stdout } = await runIn(
      lab.balancer.namespace, "curl", ["-sf", "-m", "5", "--unix-socket", socket, `http://localhost${path}`],
    );
    return JSON.parse(stdout);
  };
  const states = async (): Promise<Map<string, string>> => {
    const all = await ask("/v1/backends") as Backend[];
    return new Map(all.map((each) => [each.name.replace("/b", ""), each.state]));
  };
  const becomes = async (what: string, wanted: ReadonlyMap<string, string>): Promise<void> => {
    let last: ReadonlyMap<string, string> = new Map();
    await waitFor(what, PATIENCE_MS, async () => {
      last = await states();
      return [...wanted].every(([each, state]) => last.get(each) === state);
    }).catch((error: unknown) => { throw new Error(`${String(error)}: ${JSON.stringify([...last])}\n${instance.log()}`); });
  };
  const wanted = (isUp: (each: Case) => boolean): ReadonlyMap<string, string> =>
    new Map(CASES.map((each) => [each.name, isUp(each) ? "active" : "down"]));
  const reconfigure = (cases: readonly Case[], extra = ""): void => {
    instance.configure(configText(name, host, cases, extra));
    instance.process.kill("SIGHUP");
  };

  beforeAll(async () => {
    lab = raiseLab({ label: "probes", backends: 1, mtu: 1500, localVip: false });
    host = lab.backends[0]!;
    await serveBackend(host, { iperf: false, decap: false });
    await serveKinds(host);
    decap = (await startDecap(host)).process;
    name = instanceName("probes");
    instance = await startInstance(lab, name, configText(name, host, CASES));
  });
  afterAll(async () => {
    await instance?.remove();
    lab?.close();
  });

  it("finds a backend up that serves the virtual address, in every mode and mix of families", async () => {
    await becomes("all backends to be up", wanted(() => true));
  });

  it("finds it down without the virtual address, which direct probes do not see, and up again with it", async () => {
    onHost("address", "del", `${VIP4}/32`, "dev", "lo");
    await becomes("those of the IPv4 address to be down", wanted((each) => each.inside === 6 || each === DIRECT));
    onHost("address", "add", `${VIP4}/32`, "dev", "lo");
    onHost("address", "del", `${VIP6}/128`, "dev", "lo");
    await becomes("those of the IPv6 address to be down", wanted((each) => each.inside === 4));
    onHost("address", "add", `${VIP6}/128`, "dev", "lo", "nodad");
    await becomes("all backends to be up again", wanted(() => true));
  });

  it("finds it down when nothing unwraps its tunnels, but for l2", async () => {
    decap.kill("SIGTERM");
    await once(decap, "exit");
    await becomes("those behind tunnels to be down", wanted((each) => L2.includes(each) || each === DIRECT));
    decap = (await startDecap(host)).process;
    await becomes("all backends to be up again", wanted(() => true));
  });

  it("is no traffic of any service", async () => {
    const packets = async (): Promise<number[]> => {
      const services = await ask("/v1/services") as { readonly traffic: { readonly packets: number } }[];
      return services.map(({ traffic }) => traffic.packets);
    };
    expect(await packets()).toEqual(CASES.map(() => 0));
    // Nobody listens there, but the client's packet is one.
    await runIn(lab.client.namespace, "curl", ["-s", "-m", "2", `http://${VIP4}:8000/`], { check: false });
    await waitFor("the client's packets to be counted", PATIENCE_MS, async () => (await packets())[0]! > 0);
    expect((await packets()).slice(1)).toEqual(CASES.slice(1).map(() => 0));
  });

  it("lays its road anew after a crash, over what is left of the old one", async () => {
    const before = road();
    expect(before).toHaveLength(ROAD_LINES);
    await instance.stop("SIGKILL");
    expect(road()).toEqual(before);
    instance = await startInstance(lab, name, configText(name, host, CASES));
    await becomes("all backends to be up", wanted(() => true));
    expect(road()).toHaveLength(before.length);
  });

  it("takes its road away with the last probe, and lays another one for another mark", async () => {
    reconfigure([DIRECT]);
    await waitFor("the road to be gone", PATIENCE_MS, () => Promise.resolve(road().length === 0));
    // Another plane, too, in which the program is where drivers need not know of XDP.
    reconfigure(CASES, ", xdp: generic, probes: { mark: 4660, table: 4661 }");
    await becomes("all backends to be up", wanted(() => true));
    expect(road().join("\n")).toContain("fwmark 0x1234 lookup 4661");
    expect(road()).toHaveLength(ROAD_LINES);
  });

  it("says nothing of a backend while this host is in the way, and why", async () => {
    const settled = async (reason: RegExp): Promise<void> => {
      await waitFor(`the log to say ${reason.source}`, PATIENCE_MS, () => Promise.resolve(reason.test(instance.log())));
    };
    onBalancer("address", "add", `${VIP4}/32`, "dev", "lo");
    await settled(/this host has 198\.18\.100\.1 itself/);
    onBalancer("address", "del", `${VIP4}/32`, "dev", "lo");
    runInSync(lab.balancer.namespace, "sysctl", ["-qw", "net.ipv4.conf.eth0.rp_filter=1"]);
    await settled(/rp_filter drops what eth0 receives from 198\.18\.100\.1/);
    runInSync(lab.balancer.namespace, "sysctl", ["-qw", "net.ipv4.conf.eth0.rp_filter=0"]);
    onBalancer("rule", "add", "priority", "80", "fwmark", "4660", "unreachable");
    await settled(/mark 4660 does not lead to 198\.18\.100\.1/);
    expect(await states()).toEqual(wanted(() => true));
    onBalancer("rule", "del", "priority", "80");
    await settled(/travel as clients' packets do again/);
  });

  it("lays its road anew when somebody has taken it away", async () => {
    const near = road().find((line) => line.startsWith("probe-"))!;
    onBalancer("link", "del", near);
    await waitFor("the road to be there again", PATIENCE_MS, () => Promise.resolve(road().length === ROAD_LINES));
    onHost("address", "del", `${VIP4}/32`, "dev", "lo");
    await becomes("those of the IPv4 address to be down", wanted((each) => each.inside === 6 || each === DIRECT));
    onHost("address", "add", `${VIP4}/32`, "dev", "lo");
    await becomes("all backends to be up again", wanted(() => true));
  });

  it("leaves nothing behind, neither at the end nor by the next start or detach after a crash", async () => {
    await instance.stop();
    expect(road()).toEqual([]);
    instance = await startInstance(lab, name, configText(name, host, [TCP]));
    await becomes("the backend to be up", new Map([["tcp", "active"]]));
    await instance.stop("SIGKILL");
    expect(road()).toHaveLength(2 + 1 + 1);
    // Whoever comes next has no such probes, and takes away what is left; then has them again.
    instance = await startInstance(lab, name, configText(name, host, [DIRECT]));
    await waitFor("what was left to be gone", PATIENCE_MS, () => Promise.resolve(road().length === 0));
    reconfigure([TCP]);
    await becomes("the backend to be up", new Map([["tcp", "active"]]));
    await instance.stop("SIGKILL");
    expect(road()).toHaveLength(2 + 1 + 1);
    await instance.verb("detach");
    expect(road()).toEqual([]);
  });
});
