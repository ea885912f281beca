// Offloads and MTUs of this kernel's own interfaces: what `doctor` and `check` say of them, and what `run` does
// where one makes a mode impossible. The plane's wire, whose offloads are switched one at a time.

import { rmSync } from "node:fs";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import type { Io } from "../../src/cli/io.ts";
import { runCli } from "../../src/cli/program.ts";
import type { Dataplane } from "../../src/dataplane/dataplane.ts";
import type { HostCheck } from "../../src/dataplane/host_check.ts";
import { openDataplane } from "../../src/dataplane/open.ts";
import { probeHost } from "../../src/dataplane/probe.ts";
import type { Env } from "../../src/env.ts";
import type { Config } from "../../src/model/config.ts";
import { deleteOwn, runInSync } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { config, createWire, env, freshInstance, pinDirectory, programOn, tableOf, type Wire } from "./fixtures/plane_fixture.ts";

let wire: Wire;
const opened: Dataplane[] = [];

function peer(...switches: readonly string[]): void {
  runInSync(wire.peer, "ethtool", ["-K", "veth1", ...switches]);
}

interface Wanted {
  readonly forwarding?: string;
  readonly dataplane?: Partial<Config["dataplane"]>;
  readonly vip?: string;
}

function wanted({ forwarding, dataplane, vip }: Wanted): Config {
  const services = `[{ name: web, address: "${vip ?? "203.0.113.10"}", port: 80, protocol: tcp, forwarding: ${forwarding ?? "l2"}, pool: web }]`;
  const of = config({ instance: freshInstance(), services });
  return { ...of, dataplane: { ...of.dataplane, mode: "auto", ...dataplane } };
}

function findings(of: Config, level: HostCheck["level"]): HostCheck[] {
  return probeHost(of, env).checks.filter((each) => each.level === level);
}

/** Opens a plane; what it warned of comes along. */
async function opening(of: Config): Promise<Awaited<ReturnType<typeof openDataplane>> & { readonly warned: readonly string[] }> {
  const warned: string[] = [];
  const log: Env["log"] = { ...env.log, warn: (_fields, message) => { warned.push(message); }, info: () => undefined, debug: () => undefined };
  const made = await openDataplane(of, { ...env, log });
  opened.push(made.plane);
  return { ...made, warned };
}

/** `check` on a file with these lines, by the real world's files. */
async function checked(text: string): Promise<{ readonly code: number; readonly err: string; readonly out: string }> {
  const ended = { code: -1, err: "", out: "" };
  const files: Env["files"] = Object.create(env.files, { read: { value: (path: string) =>
    path === "/made-up.yaml" ? Buffer.from(text) : env.files.read(path) } }) as Env["files"];
  const io: Io = {
    env: { ...env, files }, out: (each) => { ended.out += each; }, err: (each) => { ended.err += each; },
    isTty: false, columns: 100, actor: "tester", confirm: () => Promise.resolve(false),
    interrupted: new AbortController().signal, onHangup: () => () => undefined, onUpgradeSignal: () => () => undefined,
    connect: () => { throw new Error("check asks no instance"); },
  };
  ended.code = await runCli(["check", "/made-up.yaml"], io);
  return ended;
}

function text(vip: string, interfaces: string): string {
  return `version: 1
dataplane: { interfaces: [${interfaces}], hashSeed: "0011223344556677" }
pools: { web: { health: { type: none }, backends: [{ name: a, address: 10.1.0.11 }] } }
services: [{ name: web, address: "${vip}", port: 80, protocol: tcp, forwarding: ipip, pool: web }]
`;
}

describeKernel("this host's interfaces", [...KERNEL, "tool:ethtool"], () => {
  beforeAll(() => { wire = createWire("findings"); });
  afterEach(async () => {
    for (const plane of opened.splice(0)) await plane.close({ detach: true, drainMs: 0 });
    peer("gro", "on");
  });
  afterAll(() => { deleteOwn(); });

  it("without GRO at a veth's other end run XDP in generic mode, which is announced, or none where native is asked for", async () => {
    expect(findings(wanted({}), "warning").filter(({ name }) => name.includes("XDP on veth0"))).toEqual([]);
    peer("gro", "off");
    const [native] = findings(wanted({}), "warning").filter(({ name }) => name === "native XDP on veth0");
    expect(native?.remedy).toContain("ethtool -K PEER gro on (the other end of veth0");
    const { choice, warned } = await opening(wanted({}));
    expect(choice).toMatchObject({ mode: "xdp", attempts: [{ what: "XDP on veth0" }] });
    expect(choice.reason).toContain("XDP is attached to veth0 (generic); native XDP on veth0 would lose packets");
    expect(choice.remedy).toContain("ethtool -K PEER gro on");
    expect(warned).toContain("XDP runs in generic mode on this interface, which is slower");
    await opened.pop()?.close({ detach: true, drainMs: 0 });
    const only = wanted({ dataplane: { mode: "xdp", xdp: "native" } });
    expect(probeHost(only, env)).toMatchObject({ mode: "proxy" });
    await expect(opening(only)).rejects.toMatchObject({ code: "XDP_UNAVAILABLE", details: { interface: "veth0" } });
    expect(programOn(wire)).toBeNull();
    peer("gro", "on");
    expect((await opening(wanted({}))).choice.reason).toBe("XDP is attached to veth0 (native)");
  });

  it("that have a plane of this instance keep it, with what is in its way, and no other instance finds them free", async () => {
    const of = wanted({ dataplane: { mode: "xdp", xdp: "native" } });
    const program = (by: Config): HostCheck | undefined =>
      probeHost(by, env).checks.find(({ name }) => name === "interface veth0 program");
    expect(program(of)).toBeUndefined();
    await (await opening(of)).plane.close({ detach: false, drainMs: 0 });
    opened.pop();
    expect(program(of)).toMatchObject({ level: "ok", found: "our own program (native), which will be adopted" });
    expect(findings(of, "warning").filter(({ name }) => name === "XDP on veth0")).toEqual([]);
    peer("gro", "off");
    const [kept] = findings(of, "warning").filter(({ name }) => name === "XDP on veth0");
    expect(kept?.found).toContain("our own program, which will be adopted as it is (native), loses packets: veth0 takes no frames");
    expect(kept?.remedy).toContain("ethtool -K PEER gro on");
    expect(probeHost(of, env)).toMatchObject({ mode: "xdp" });
    const { choice, plane } = await opening(of);
    expect(choice.attempts[0]?.result).toContain("adopted, native: was attached before, and loses packets");
    // In the other mode it would be attached anew, and may not be.
    expect(probeHost({ ...of, dataplane: { ...of.dataplane, xdp: "generic" } }, env).checks.filter(({ name }) => name === "XDP on veth0"))
      .toEqual([]);
    const other = wanted({});
    expect(program(other)).toMatchObject({ level: "missing", remedy: expect.stringContaining(`detach --instance ${of.instance}`) as string });
    expect(program(other)?.found).toMatch(new RegExp(`^the program of the instance ${of.instance} \\(id \\d+\\)$`));
    expect(probeHost(other, env)).toMatchObject({ mode: "proxy" });
    wire.ip("link", "set", "veth0", "down");
    wire.ip("link", "set", "veth0", "name", "veth7");
    try {
      const renamed = probeHost({ ...of, dataplane: { ...of.dataplane, interfaces: ["veth7"] } }, env).checks
        .find(({ name }) => name === "interface veth7 program");
      expect(renamed?.found).toContain("our own program, attached when veth7 was called veth0");
      expect(renamed?.remedy).toContain("call it veth0 again");
    } finally {
      wire.ip("link", "set", "veth7", "name", "veth0");
      wire.ip("link", "set", "veth0", "up");
      wire.ip("address", "add", "fd00:1::1/64", "dev", "veth0", "nodad");
    }
    // Nobody's any more, as far as can be told.
    rmSync(`${pinDirectory(of.instance)}/link-veth0`);
    expect(program(of)).toMatchObject({ level: "missing", found: expect.stringMatching(/^another XDP program \(id \d+\)$/) as string });
    expect(plane.mode).toBe("xdp");
  });

  it("on which a bridge gets merged packets leave no mode: the proxy is taken, and xdp is refused", async () => {
    wire.ip("link", "add", "port0", "type", "veth", "peer", "name", "port1", "netns", wire.peer);
    wire.ip("link", "add", "br1", "type", "bridge");
    try {
      for (const name of ["port0", "br1"]) wire.ip("link", "set", name, "up");
      wire.ip("link", "set", "port0", "master", "br1");
      runInSync(wire.balancer, "ethtool", ["-K", "port0", "gro", "on"]);
      const on = wanted({ dataplane: { interfaces: ["br1"] } });
      const [missing] = findings(on, "missing");
      expect(missing).toMatchObject({ name: "XDP on br1" });
      expect(missing?.remedy).toContain("ethtool -K port0 gro off");
      const { choice, warned } = await opening(on);
      expect(choice.mode).toBe("proxy");
      expect(choice.reason).toContain("br1 gets packets that port0 has merged (gro on)");
      expect(warned.join()).toContain("falling back to the proxy plane");
      await expect(opening({ ...on, dataplane: { ...on.dataplane, mode: "xdp" } })).rejects.toMatchObject({ code: "XDP_UNAVAILABLE" });
      runInSync(wire.balancer, "ethtool", ["-K", "port0", "gro", "off"]);
      expect((await opening(on)).choice.reason).toContain("XDP is attached to br1 (generic)");
    } finally {
      wire.ip("link", "delete", "br1");
      wire.ip("link", "delete", "port0");
    }
  });

  it("that bring unfinished checksums run no generic XDP that rewrites, nor begin to", async () => {
    wire.ip("link", "add", "sum0", "type", "veth", "peer", "name", "sum1");
    try {
      for (const name of ["sum0", "sum1"]) wire.ip("link", "set", name, "up");
      runInSync(wire.balancer, "ethtool", ["-K", "sum1", "tx", "on", "tso", "off", "gso", "off"]);
      const on = (forwarding: string): Config => wanted({ forwarding, dataplane: { interfaces: ["sum0"], xdp: "generic" } });
      const [missing] = findings(on("fullnat"), "missing");
      expect(missing).toMatchObject({ name: "XDP on sum0", remedy: "ethtool -K sum1 tx off" });
      const { choice, warned } = await opening(on("fullnat"));
      expect(choice.mode).toBe("proxy");
      expect(choice.reason).toContain("sum1, the other end of sum0, leaves checksums to be finished by others (tx on)");
      expect(warned.join()).toContain("falling back to the proxy plane");
      const only = on("nat");
      await expect(opening({ ...only, dataplane: { ...only.dataplane, mode: "xdp" } })).rejects.toMatchObject({ code: "XDP_UNAVAILABLE" });
      // What rewrites nothing runs; it does not become something that does.
      const { plane, choice: plain } = await opening(on("l2"));
      expect(plain.reason).toContain("XDP is attached to sum0 (generic)");
      const next = tableOf(on("fullnat"), plane.ledger());
      await expect(plane.apply(next)).rejects.toMatchObject({ code: "XDP_UNAVAILABLE", details: { interface: "sum0" } });
      runInSync(wire.balancer, "ethtool", ["-K", "sum1", "tx", "off"]);
      expect(await plane.apply(next)).toBeDefined();
    } finally {
      wire.ip("link", "delete", "sum0");
    }
  });

  it("whose other ends cannot be seen are doubted where generic XDP rewrites", async () => {
    const of = wanted({ forwarding: "fullnat", dataplane: { xdp: "generic" } });
    const about = (each: string): boolean => each.includes("whether the other end of veth0 leaves checksums");
    expect(findings(of, "warning").map(({ found }) => found).filter(about)).toHaveLength(1);
    const { choice, warned } = await opening(of);
    expect(choice.reason).toContain("XDP is attached to veth0 (generic)");
    expect(warned.filter(about)).toHaveLength(1);
    const native = wanted({ forwarding: "fullnat" });
    expect(findings(native, "warning").map(({ found }) => found).filter(about)).toEqual([]);
  });

  it("that are too narrow for a tunnel are told by doctor, check and run, with the figures", async () => {
    const tunnel = wanted({ forwarding: "ipip" });
    const told = "packets of 1500 bytes, as veth0 brings them, are 1520 with the outer headers, and veth0 carries 1500";
    expect(findings(tunnel, "warning").map(({ found }) => found).join()).toContain(told);
    expect(probeHost(tunnel, env).mode).toBe("xdp");
    expect((await opening(tunnel)).warned.join()).toContain(told);
    const narrow = await checked(text("203.0.113.10", "veth0"));
    expect(narrow).toMatchObject({ code: 0 });
    expect(narrow.err).toContain(`/made-up.yaml: warning: MTU of ipip for IPv4 in IPv4 by veth0: web: ${told}`);
    expect(narrow.err).toContain("ip link set veth0 mtu 1520");
    // Elsewhere nobody can tell.
    expect((await checked(text("203.0.113.10", "veth0, veth9"))).err).toBe("");
    wire.ip("link", "set", "veth0", "mtu", "1520");
    try {
      expect((await checked(text("203.0.113.10", "veth0"))).err).toBe("");
    } finally {
      wire.ip("link", "set", "veth0", "mtu", "1500");
    }
  });

  it("that leave IPv6 less than 1280 bytes in a tunnel are an error of check", async () => {
    wire.ip("route", "add", "10.1.0.11/32", "dev", "veth0", "mtu", "1290");
    try {
      const ended = await checked(text("2001:db8:1::1", "veth0"));
      expect(ended).toMatchObject({ code: 2 });
      expect(ended.err).toContain("a route by veth0 carries 1290, of which the outer headers take 20; the 1270 that are left");
      const [error] = findings(wanted({ forwarding: "ipip", vip: "2001:db8:1::1" }), "error");
      expect(error?.remedy).toBe("raise the MTU of the route by veth0 to 1300");
    } finally {
      wire.ip("route", "delete", "10.1.0.11/32");
    }
  });
});
