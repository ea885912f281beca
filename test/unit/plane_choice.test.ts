// Why the proxy was taken, told where XDP is not even tried: every reason at once, from the config and from
// the host, each with a remedy that works where pointsman is installed. The host is simulated.

import { describe, expect, it } from "vitest";
import { parseConfig } from "../../src/config/parse.ts";
import { openDataplane } from "../../src/dataplane/open.ts";
import { probeHost } from "../../src/dataplane/probe.ts";
import type { Config } from "../../src/model/config.ts";
import type { PoolHealth } from "../../src/model/health_check.ts";
import type { FakeEnv } from "../support/fake_env.ts";
import { createFakeEnv } from "../support/fake_env.ts";

const ROOT = "/opt/pointsman";
/** CAP_NET_ADMIN alone. */
const EFFECTIVE = (1n << 12n).toString(16).padStart(16, "0");

function hostWith(paths: readonly string[]): FakeEnv {
  const env = createFakeEnv({ root: ROOT });
  env.files.writeAtomic("/proc/self/status", `Name:\tnode\nCapEff:\t${EFFECTIVE}\n`, 0o444);
  env.files.writeAtomic("/proc/sys/kernel/osrelease", "6.12.0\n", 0o444);
  for (const path of paths) env.files.writeAtomic(`${ROOT}/${path}`, "", 0o644);
  return env;
}

function configOf(forwardings: readonly string[], interfaces = "[eth9]", keys = ""): Config {
  const services = forwardings.map((forwarding, index) =>
    `  - { name: s${index}, address: ${forwarding === "fullnat" ? "'2001:db8::10'" : "203.0.113.10"}, port: ${80 + index}, protocol: tcp, `
      + `forwarding: ${forwarding}, pool: web${keys} }\n`);
  const parsed = parseConfig("c.yaml", Buffer.from(`version: 1
dataplane: { mode: auto, interfaces: ${interfaces} }
pools: { web: { health: { type: none }, backends: [{ name: a, address: 10.0.0.1 }] } }
services:
${services.join("")}`));
  if (!("config" in parsed)) throw new Error(JSON.stringify(parsed.problems));
  return parsed.config;
}

async function choiceOn(env: FakeEnv, config: Config): Promise<{ reason: string; remedy: string | null }> {
  const { plane, choice } = await openDataplane(config, env);
  await plane.close({ detach: true, drainMs: 0 });
  expect(choice.mode).toBe("proxy");
  expect(env.messages("warn")).toHaveLength(1);
  expect(env.messages("warn")[0]).toContain(choice.reason.replace("XDP cannot be used: ", ""));
  return choice;
}

const ALL = [
  ["l2", /^XDP cannot be used: the addon is not built/],
  ["fullnat", /^XDP cannot be used: s0 \(fullnat\): the XDP plane's fullnat keeps .*; addon: the addon is not built/],
] as const;

describe("the reasons for the proxy", () => {
  it.each(ALL)("with forwarding %s name the addon, the programs and the capabilities that are missing", async (forwarding, begins) => {
    const { reason, remedy } = await choiceOn(hostWith(["scripts/setup.mjs"]), configOf([forwarding]));
    expect(reason).toMatch(begins);
    expect(reason).toContain("capabilities: without CAP_PERFMON, CAP_BPF");
    expect(reason).toContain(`programs: ${ROOT}/build/bpf/pointsman.bpf.o is not built`);
    expect(remedy).toContain('run "npm run setup" in /opt/pointsman');
    expect(remedy?.match(/npm run setup/g)).toHaveLength(1);
    expect(remedy).toContain("run as root, or grant");
  });

  it("name who wants what XDP cannot do, and the empty list of interfaces; doctor names the same", async () => {
    const config = configOf(["fullnat", "l2", "nat", "fullnat", "fullnat", "fullnat", "fullnat", "fullnat"], "[]");
    const env = hostWith([]);
    const { reason } = await choiceOn(env, config);
    for (const told of [reason, probeHost(config, env).reason]) {
      expect(told).toContain("s6 (fullnat) and 1 more: the XDP plane's fullnat keeps the IP version");
      for (const each of ["dataplane.interfaces is empty", "addon: ", "capabilities: "]) expect(told).toContain(each);
    }
  });
});

describe("least-response-time", () => {
  it.each([["none", 1], ["tcp", 0]] as const)("with probes of type %s is a reason %i times", async (type, times) => {
    const { pools, ...config } = configOf(["l2"], "[eth9]", ", algorithm: least-response-time");
    const health = { ...pools[0]!.health, type } as PoolHealth;
    const { reason } = await choiceOn(hostWith([]), { ...config, pools: [{ ...pools[0]!, health }] });
    expect(reason.split("s0 (least-response-time): the XDP plane goes by how long probes take")).toHaveLength(times + 1);
  });
});

describe("algorithms that place each flow for itself", () => {
  it.each(["round-robin", "random", "least-connections", "power-of-two", "bounded-load"])("like %s are no reason", async (algorithm) => {
    const { reason } = await choiceOn(hostWith([]), configOf(["l2"], "[eth9]", `, algorithm: ${algorithm}`));
    expect(reason).not.toContain(algorithm);
  });
});

describe("probes via: tunnel", () => {
  const checks = (via: string, vip: string): unknown[] => {
    const parsed = parseConfig("c.yaml", Buffer.from(`version: 1
dataplane: { mode: auto, interfaces: [eth9] }
pools: { web: { health: { type: tcp, via: ${via} }, backends: [{ name: a, address: 10.0.0.2 }] } }
services: [{ name: s, address: ${vip}, port: 80, protocol: tcp, forwarding: l2, pool: web }]
`));
    if (!("config" in parsed)) throw new Error(JSON.stringify(parsed.problems));
    const env = hostWith([]);
    env.net.localAddresses = () => ["127.0.0.1", "203.0.113.10"];
    return probeHost(parsed.config, env).checks.filter(({ name }) => name === "probes via: tunnel");
  };

  it("need the virtual address to be elsewhere", () => {
    expect(checks("direct", "203.0.113.10")).toEqual([]);
    expect(checks("tunnel", "203.0.113.11")).toMatchObject([{ ok: true }]);
    expect(checks("tunnel", "203.0.113.10")).toMatchObject([{
      ok: false, level: "warning", found: "203.0.113.10: on this host, so probes via: tunnel say nothing of backends",
    }]);
  });
});

describe("silent connections", () => {
  const checks = (service: string, capabilities: bigint, mode = "auto"): unknown[] => {
    const parsed = parseConfig("c.yaml", Buffer.from(`version: 1
dataplane: { mode: ${mode}, interfaces: [eth9] }
pools: { web: { health: { type: none }, backends: [{ name: a, address: 10.0.0.2 }] } }
services: [{ name: s, address: 203.0.113.10, port: 80, ${service}, pool: web }]
`));
    if (!("config" in parsed)) throw new Error(JSON.stringify(parsed.problems));
    const env = hostWith([]);
    env.files.writeAtomic("/proc/self/status", `CapEff:\t${capabilities.toString(16).padStart(16, "0")}\n`, 0o444);
    return probeHost(parsed.config, env).checks.filter(({ name }) => name === "silent connections");
  };

  it("that are translated need CAP_NET_RAW to be ended", () => {
    const [tcp, all] = ["protocol: tcp, forwarding: fullnat", 0x1ffffffffffn];
    expect(checks(tcp, all & ~(1n << 13n))).toMatchObject([{ ok: false, level: "warning", remedy: "grant CAP_NET_RAW" }]);
    expect(checks(tcp, all)).toEqual([]);
    expect(checks(tcp, 0n, "proxy")).toEqual([]);
    expect(checks("protocol: tcp, forwarding: l2", 0n)).toEqual([]);
    expect(checks("protocol: udp, forwarding: nat", 0n)).toEqual([]);
  });
});

describe("backends on this host", () => {
  const checks = (backend: string, vip: string): unknown[] => {
    const parsed = parseConfig("c.yaml", Buffer.from(`version: 1
dataplane: { mode: auto, interfaces: [eth9] }
pools: { web: { health: { type: none }, backends: [{ name: a, address: ${backend} }] } }
services:
  - { name: s, address: 203.0.113.10, port: 80, protocol: tcp, forwarding: l2, pool: web, vip: { assign: ${vip} } }
`));
    if (!("config" in parsed)) throw new Error(JSON.stringify(parsed.problems));
    const env = hostWith([]);
    env.net.localAddresses = () => ["127.0.0.1", "10.0.0.1"];
    return probeHost(parsed.config, env).checks.filter(({ name }) => name === "local backends");
  };

  it("are told of, and need the virtual address here", () => {
    expect(checks("10.0.0.2", "none")).toEqual([]);
    expect(checks("10.0.0.1", "loopback")).toMatchObject([{ ok: true, found: "web/a: on this host itself" }]);
    expect(checks("10.0.0.1", "none")).toMatchObject([{
      ok: false, found: "web/a: on this host itself, which does not hold 203.0.113.10",
      remedy: "its stack drops what it is not the address of: set vip.assign: loopback, or for a prefix "
        + "\"ip route add local PREFIX dev lo\"",
    }]);
  });
});

describe("the remedy for a missing native part", () => {
  const remedies = (env: FakeEnv): (string | null)[] => probeHost(null, env).checks
    .filter(({ name, ok }) => !ok && (name === "addon" || name === "programs")).map(({ remedy }) => remedy);

  it.each([
    ["a checkout is its set-up", ["scripts/setup.mjs"], /^run "npm run setup" in \/opt\/pointsman/],
    ["a package without it is another package", [], /^this package .* from a checkout: "npm run setup && npm install --global \."/],
    ["a package whose addon does not load is libbpf first", ["build/pointsman.node"], /^install libbpf .*apt-get install libbpf1\), or /],
  ] as const)("in %s", (_where, paths, remedy) => {
    const found = remedies(hostWith(paths));
    expect(found).toHaveLength(2);
    for (const each of found) expect(each).toMatch(remedy);
  });
});
