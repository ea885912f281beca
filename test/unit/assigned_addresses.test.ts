// Virtual addresses of the proxy plane against a small model of `ip address`: what is put there,
// what is taken away, and what an operator is told when neither is possible.

import { beforeEach, describe, expect, it } from "vitest";
import { addressMetric, isProxyMetric } from "../../src/dataplane/address_mark.ts";
import {
  AssignedAddresses, removeAssignedAddresses, type AssignedAddress,
} from "../../src/dataplane/proxy/assigned_addresses.ts";
import type { Env } from "../../src/env.ts";
import { createFakeEnv } from "../support/fake_env.ts";
import { address, config, freePort, ProxyWorld, service } from "../support/proxy_world.ts";

interface Entry { local: string; prefixlen: number; metric?: number; device: string }

/** Answers as iproute2 6.1 does. */
class Host {
  entries: Entry[] = [];
  commands: string[] = [];
  refusal: { status: number; stderr: string } | null = null;

  run(args: readonly string[]): { status: number; stdout: string; stderr: string } {
    this.commands.push(args.join(" "));
    const [, verb = "", prefix = "", , device = ""] = args;
    if (args[0] === "-j") return { status: 0, stdout: JSON.stringify(this.#listing()), stderr: "" };
    if (this.refusal !== null) return { stdout: "", ...this.refusal };
    const [local = "", length = ""] = prefix.split("/");
    if (verb === "add") {
      const metric = Number(args[args.indexOf("metric") + 1]);
      this.entries.push({ local, prefixlen: Number(length), device, metric });
    } else {
      this.entries = this.entries.filter((each) => each.local !== local || each.device !== device);
    }
    return { status: 0, stdout: "", stderr: "" };
  }

  #listing(): object[] {
    const devices = [...new Set(["lo", ...this.entries.map(({ device }) => device)])];
    return devices.map((ifname) => ({
      ifname, mtu: 65536, addr_info: this.entries.filter(({ device }) => device === ifname),
    }));
  }

  get texts(): string[] {
    return this.entries.map(({ local, prefixlen, device }) => `${local}/${prefixlen} ${device}`);
  }
}

const nothingElse: Pick<Env["exec"], "runGroup" | "startSuccessor"> = {
  runGroup: () => { throw new Error("nothing else is run here"); },
  startSuccessor: () => { throw new Error("nobody takes over here"); },
};
let host: Host;
let env: Env;
beforeEach(() => {
  host = new Host();
  const fake = createFakeEnv({
    exec: { ...nothingElse, run: (command, args) => {
      expect(command).toBe("ip");
      return Promise.resolve(host.run(args));
    } },
  });
  const local = (): string[] => host.entries.map((each) => each.local);
  env = { ...fake, net: { ...fake.net, localAddresses: local } };
});

const on = (text: string, device = "lo"): AssignedAddress => ({ address: address(text), device });
const four = on("198.18.0.10");
const six = on("2001:db8::10", "eth0");

it("what another process has connections to stays until it has none, and is gone at the end in any case", async () => {
  await new AssignedAddresses(env, "main").want([four, six]);
  let isServing = true;
  const other = { ...env, exec: { ...env.exec } }; // a process of its own
  const fresh = new AssignedAddresses(other, "main", () => isServing);
  await fresh.want([six]);
  await fresh.restore();
  expect(host.texts).toEqual(["198.18.0.10/32 lo", "2001:db8::10/128 eth0"]);
  isServing = false;
  await fresh.restore();
  expect(host.texts).toEqual(["2001:db8::10/128 eth0"]);
  isServing = true;
  await fresh.want([]);
  expect(host.texts).toEqual(["2001:db8::10/128 eth0"]);
  await fresh.release();
  expect(host.texts).toEqual([]);
});

describe("the mark", () => {
  it("is an instance's own, and known as a proxy plane's", () => {
    expect(addressMetric("main")).not.toBe(addressMetric("other"));
    for (const name of ["main", "other", ""]) {
      expect(addressMetric(name)).toBeLessThan(2 ** 32);
      expect(isProxyMetric(addressMetric(name))).toBe(true);
    }
    expect([0, 100, 0x6fff_ffff, 0x7100_0000, 0xffff_ffff].some(isProxyMetric)).toBe(false);
  });
});

describe("assigned addresses", () => {
  it("are put there as the XDP plane puts them, and not twice", async () => {
    const addresses = new AssignedAddresses(env, "main");
    expect(await addresses.want([four, six])).toEqual(new Map());
    expect(host.commands.slice(1)).toEqual([
      `address add 198.18.0.10/32 dev lo noprefixroute metric ${addressMetric("main")}`,
      `address add 2001:db8::10/128 dev eth0 noprefixroute metric ${addressMetric("main")} `
        + "nodad valid_lft forever preferred_lft 0",
    ]);
    host.commands = [];
    await addresses.want([four, six]);
    expect(host.commands).toEqual([]);
  });

  it("that an operator had there stay, and so do those of another instance", async () => {
    host.entries = [
      { local: "198.18.0.10", prefixlen: 24, device: "lo" },
      { local: "198.18.0.20", prefixlen: 32, device: "lo", metric: addressMetric("other") },
    ];
    const addresses = new AssignedAddresses(env, "main");
    await addresses.want([four]);
    await addresses.want([]);
    await addresses.release();
    expect(host.texts).toEqual(["198.18.0.10/24 lo", "198.18.0.20/32 lo"]);
  });

  it("that a killed process left are taken over, or go", async () => {
    host.entries = ["198.18.0.10", "198.18.0.11"].map((local) => (
      { local, prefixlen: 32, device: "lo", metric: addressMetric("main") }
    ));
    const addresses = new AssignedAddresses(env, "main");
    await addresses.want([four]);
    expect(host.texts).toEqual(["198.18.0.10/32 lo"]);
    await addresses.release();
    expect(host.texts).toEqual([]);
  });

  it("go with `detach`, which says whether there were any", async () => {
    await new AssignedAddresses(env, "main").want([four, six]);
    expect(await removeAssignedAddresses(env, "other")).toBe(false);
    expect(await removeAssignedAddresses(env, "main")).toBe(true);
    expect(host.texts).toEqual([]);
    expect(await removeAssignedAddresses(env, "main")).toBe(false);
  });

  it("stay when the plane that leaves has a successor in the process", async () => {
    const [old, fresh] = [new AssignedAddresses(env, "main"), new AssignedAddresses(env, "main")];
    await old.want([four, six]);
    await fresh.want([four]);
    await old.release();
    expect(host.texts).toEqual(["198.18.0.10/32 lo"]);
    await fresh.release();
    expect(host.texts).toEqual([]);
  });

  it("that go meanwhile are put back", async () => {
    const addresses = new AssignedAddresses(env, "main");
    await addresses.want([four]);
    host.commands = [];
    await addresses.restore();
    expect(host.commands).toEqual([]);
    host.entries = [];
    await addresses.restore();
    expect(host.texts).toEqual(["198.18.0.10/32 lo"]);
  });

  it("that could not be put there are named with the remedy, and tried again", async () => {
    const addresses = new AssignedAddresses(env, "main");
    host.refusal = { status: 2, stderr: "RTNETLINK answers: Operation not permitted\n" };
    const remedy = "not permitted: run as root, or grant CAP_NET_ADMIN";
    expect(await addresses.want([four])).toEqual(new Map([["198.18.0.10", remedy]]));
    host.commands = [];
    await addresses.restore();
    expect(host.commands).toEqual([]);
    host.refusal = null;
    expect(await addresses.want([four])).toEqual(new Map());
    expect(host.texts).toEqual(["198.18.0.10/32 lo"]);
  });

  it("need the ip command, and who wants none is not asked to have it", async () => {
    const missing = { status: 127, stdout: "", stderr: "spawn ip ENOENT" };
    const bare = { ...env, exec: { ...nothingElse, run: () => Promise.resolve(missing) } };
    expect(await new AssignedAddresses(bare, "main").want([])).toEqual(new Map());
    const problems = await new AssignedAddresses(bare, "main").want([four]);
    expect(problems.get("198.18.0.10")).toContain("install iproute2");
  });
});

it("a service that cannot listen says why its address is not there", async () => {
  const world = new ProxyWorld();
  const refused = { status: 2, stdout: "[]", stderr: "RTNETLINK answers: Operation not permitted" };
  world.env.exec.run = (_, args) =>
    Promise.resolve(args[0] === "-j" ? { ...refused, status: 0 } : refused);
  const port = await freePort();
  const wanted = config([
    service({ name: "far", address: "198.18.0.10", port, vip: { assign: "loopback" } }),
    service({ port }),
  ], { web: { a: { address: "127.0.0.1", port: 9 } } });
  const { failed } = await world.apply(wanted);
  expect([...failed.keys()]).toEqual(["far"]);
  expect(failed.get("far")).toMatch(/^ADDRESS_NOT_LOCAL: .*CAP_NET_ADMIN/);
  expect(world.fake.messages("warn")).toEqual(["a virtual address could not be put on this host"]);
  await world.close();
});
