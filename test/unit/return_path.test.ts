// The test of nat's way back without a network: whom it asks, from which address it does not, what it says of
// each answer, and that the address is gone afterwards, whatever happened.

import { EventEmitter } from "node:events";
import type { NetConnectOpts, Socket, TcpNetConnectOpts } from "node:net";
import { describe, expect, it } from "vitest";
import { runCli } from "../../src/cli/program.ts";
import { standIns, testReturnPath, testWays, wayTargets, wayUntested } from "../../src/dataplane/return_path.ts";
import type { InterfaceAddress, RouteAnswer } from "../../src/dataplane/xdp/netlink/rtnetlink.ts";
import { STAND_IN_MARK } from "../../src/dataplane/xdp/stand_in.ts";
import type { Config } from "../../src/model/config.ts";
import { address, configOf } from "../support/configs.ts";
import { createFakeEnv } from "../support/fake_env.ts";

const NOBODY = new AbortController().signal;
/** What a connection from a client's address meets, and one from the host's own; null: nothing. */
type Way = readonly [client: string | null, own: string | null];

function held(text: string, length: number, ifindex = 2, protocol = 0): InterfaceAddress {
  return { address: address(text), length, ifindex, protocol, metric: 0 };
}

/** Addresses of a host, as rtnetlink keeps them, with eth0 in 10.0.0.0/24 and 2001:db8::/64. */
class Host {
  entries = [held("127.0.0.1", 8, 1), held("10.0.0.100", 24), held("2001:db8::100", 64)];
  gateway: string | null = null;
  asked: string[] = [];
  ways = new Map<string, Way>();
  readonly env = createFakeEnv({ net: { ...createFakeEnv().net, connect: (options) => this.#connect(options) } });
  readonly requests = {
    addresses: () => [...this.entries],
    addAddress: (added: InterfaceAddress) => {
      if (this.entries.some((each) => each.ifindex === added.ifindex && each.address.text === added.address.text)) return false;
      this.entries.push(added);
      return true;
    },
    removeAddress: (removed: InterfaceAddress) => {
      const before = this.entries.length;
      this.entries = this.entries.filter((each) => each !== removed);
      return this.entries.length < before;
    },
    route: (to: { readonly family: 4 | 6 }): RouteAnswer => ({
      type: 1, ifindex: 2, mtu: 0, gateway: this.gateway === null ? null : address(this.gateway),
      source: address(to.family === 4 ? "10.0.0.100" : "2001:db8::100"),
    }),
  };

  #connect(options: NetConnectOpts): Socket {
    const { host = "", port, localAddress } = options as TcpNetConnectOpts;
    this.asked.push(`${host} ${port}${localAddress === undefined ? "" : ` from ${localAddress}`}`);
    const isThere = this.entries.some((each) => each.address.text === localAddress && each.ifindex === 1);
    const meets = localAddress === undefined ? this.ways.get(host)?.[1] : isThere ? this.ways.get(host)?.[0] : "EADDRNOTAVAIL";
    const socket = Object.assign(new EventEmitter(), { destroy: () => undefined, resetAndDestroy: () => undefined });
    if (meets === "connect") setImmediate(() => socket.emit("connect"));
    else if (typeof meets === "string") setImmediate(() => socket.emit("error", Object.assign(new Error(meets), { code: meets })));
    return socket as unknown as Socket;
  }

  async test(config: Config, given: readonly string[] = [], signal = NOBODY): Promise<string[]> {
    let done = false;
    const result = testWays(this.env, this.requests, config, given, signal).finally(() => { done = true; });
    // Each round of connections that nobody answers ends with one move of the clock.
    result.catch(() => undefined);
    while (!done) await this.env.advance(1000);
    return (await result).map(({ name, level, found, remedy }) => `${level} ${name}: ${found}${remedy === null ? "" : ` → ${remedy}`}`);
  }
}

function natConfig(...backends: (string | readonly [address: string, port: number])[]): Config {
  return configOf({
    pools: { web: backends.map((each, index) => (typeof each === "string" ? { name: `b${index + 1}`, address: each }
      : { name: `b${index + 1}`, address: each[0], port: each[1] })) },
    services: [{ name: "web", address: "203.0.113.10", port: 443, forwarding: "nat", pool: "web" }],
  });
}

describe("who is asked", () => {
  it("each backend of nat services once, by its own port, the service's, or one that is probed", () => {
    const config = configOf({
      pools: {
        web: [{ name: "a", address: "10.0.0.1", port: 8443 }, { name: "b", address: "10.0.0.2" }],
        far: ["c"], any: [{ name: "d", address: "10.0.0.4" }],
      },
      services: [
        { name: "one", address: "203.0.113.10", port: 443, forwarding: "nat", pool: "web" },
        { name: "two", address: "203.0.113.10", port: 53, protocol: "udp", forwarding: "nat", pool: "web" },
        { name: "three", address: "203.0.113.11", port: 443, forwarding: "fullnat", pool: "far" },
        { name: "four", address: "203.0.113.12", port: "any", forwarding: "nat", pool: "any" },
      ],
    });
    expect(wayTargets(config).map(({ name, address: at, port }) => `${name} ${at.text} ${port}`)).toEqual([
      "web/a 10.0.0.1 8443", "web/b 10.0.0.2 443", "any/d 10.0.0.4 1",
    ]);
    expect(wayUntested(config).map(({ found }) => found).join()).toContain("answers of 3 nat backend(s)");
    expect(wayUntested({ ...config, dataplane: { ...config.dataplane, mode: "proxy" } })).toEqual([]);
  });

  it("at most 64, which is said, and none on this host itself, which is said too", async () => {
    const host = new Host();
    const texts = Array.from({ length: 66 }, (_, index) => `10.0.1.${index + 1}`);
    for (const text of texts) host.ways.set(text, ["connect", "connect"]);
    const said = await host.test(natConfig(...texts, "10.0.0.100"));
    expect(said.filter((each) => each.startsWith("ok way back web/"))).toHaveLength(64);
    expect(said.slice(64)).toEqual([
      "ok way back: 1 backend address(es) on this host itself: not tested",
      "warning way back: 2 more backend address(es) were not tested: 64 are at most → test a file with those pools alone",
    ]);
  });

  it("nobody without nat", async () => {
    const config = configOf({ pools: { web: ["a"] }, services: [{ name: "web", address: "203.0.113.10", port: 80, pool: "web" }] });
    expect(wayUntested(config)).toEqual([]);
    const host = new Host();
    expect(await host.test(config)).toEqual(["ok way back: no service has forwarding: nat, so nothing to test"]);
    expect(host.asked).toEqual([]);
  });
});

describe("an address stands in for a client", () => {
  const config = natConfig("10.0.0.1");
  const { entries } = new Host();
  const chosen = (...given: string[]): string => {
    const { 4: ipv4, 6: ipv6 } = standIns(given, config, entries);
    return `${ipv4.text} ${ipv6.text}`;
  };

  it("when it is given, one for each IP version, or else one of the networks for documentation", () => {
    expect(chosen()).toBe("192.0.2.254 2001:db8:ffff:ffff::fe");
    expect(chosen("2001:db8:7::1", "198.51.100.9")).toBe("198.51.100.9 2001:db8:7::1");
  });

  it.each([
    ["web", "is no IP address"], ["10.0.0.0/8", "is no IP address"],
    ["127.0.0.1", "no unicast address"], ["224.0.0.1", "no unicast address"], ["0.0.0.0", "no unicast address"],
    ["fe80::1", "no unicast address"], ["ff02::1", "no unicast address"], ["::", "no unicast address"], ["::1", "no unicast address"],
    ["203.0.113.10", "is in 203.0.113.10, the virtual address of web"], ["10.0.0.1", "is the address of a backend of web"],
    ["10.0.0.100", "is this host's own"], ["10.0.0.7", "is on a link of this host (10.0.0.0/24)"],
    ["2001:db8::7", "is on a link of this host (2001:db8::/64)"],
  ])("but not %s, which %s", (text, why) => {
    expect(() => chosen(text)).toThrow(`${text} cannot stand in for a client: it `);
    expect(() => chosen(text)).toThrow(why);
  });

  it("nor a source of fullnat, nor two of one IP version, nor ours where a link has that network", () => {
    const sources = { ...config, dataplane: { ...config.dataplane, nat: { ...config.dataplane.nat, sources: [address("198.51.100.9")] } } };
    expect(() => standIns(["198.51.100.9"], sources, entries)).toThrow("is one of dataplane.nat.sources");
    expect(() => chosen("198.51.100.8", "198.51.100.9")).toThrow("is a second one of IPv4");
    expect(() => standIns([], config, [held("192.0.2.1", 24)])).toThrow("192.0.2.254 cannot stand in");
    // An IP version that no backend has does not matter.
    expect(() => standIns([], config, [held("2001:db8:ffff:ffff::1", 64)])).not.toThrow();
  });
});

describe("what is said of", () => {
  const said = async (way: Way, set: (host: Host) => void = () => undefined): Promise<string> => {
    const host = new Host();
    set(host);
    host.ways.set("10.0.0.1", way);
    const texts = await host.test(natConfig(["10.0.0.1", 8443]));
    expect(host.asked.sort()).toEqual(["10.0.0.1 8443", "10.0.0.1 8443 from 192.0.2.254"]);
    expect(host.entries).toHaveLength(3);
    expect(host.env.timers()).toBe(0);
    return texts.join("\n");
  };
  const beside = "; clients of its own network get answers directly, unless it has a route to them by way of here";
  it("an answer: the way is right, for clients elsewhere", async () => {
    const text = "ok way back web/b1: 10.0.0.1, TCP port 8443: answers to 192.0.2.254 come back through this host";
    expect(await said(["connect", "connect"])).toBe(text + beside);
    expect(await said(["connect", "connect"], (host) => { host.gateway = "10.0.0.254"; })).toBe(text);
  });
  it("a refusal: the way is right, too", async () => {
    for (const code of ["ECONNREFUSED", "ECONNRESET"]) {
      expect(await said([code, code])).toBe("ok way back web/b1: 10.0.0.1, TCP port 8443: refuses connections,"
        + ` and its answers to 192.0.2.254 come back through this host${beside}`);
    }
  });
  it("silence where the host itself gets an answer: the way is wrong, and which route mends it", async () => {
    for (const own of ["connect", "ECONNREFUSED"]) {
      const text = await said([null, own]);
      expect(text).toContain("error way back web/b1: 10.0.0.1, TCP port 8443: answers this host, but no answer to 192.0.2.254 came back");
      expect(text).toContain("→ on web/b1: \"ip route replace CLIENTS via 10.0.0.100\"");
    }
    expect(await said(["EHOSTUNREACH", "connect"], (host) => { host.gateway = "10.0.0.254"; }))
      .toContain("→ web/b1 is behind 10.0.0.254: lead what it sends to clients back to 10.0.0.100");
  });
  it("silence altogether: nothing is known", async () => {
    expect(await said([null, null])).toContain("warning way back web/b1: 10.0.0.1, TCP port 8443: does not answer at all (no answer)");
    expect(await said([null, "EHOSTUNREACH"])).toContain("does not answer at all (EHOSTUNREACH)");
  });
  it("a fault of this host: nothing is known", async () => {
    expect(await said(["EMFILE", "EMFILE"])).toContain("warning way back web/b1: 10.0.0.1, TCP port 8443: could not be tested: EMFILE");
    expect(await said(["EWHATEVER", null])).toContain("could not be tested: unexpected EWHATEVER");
  });
});

describe("the address", () => {
  it("goes when the test is interrupted or fails, and the one that a killed test left goes first", async () => {
    const host = new Host();
    host.entries.push(held("198.51.100.9", 32, 1, STAND_IN_MARK));
    const interruption = new AbortController();
    const ended = testWays(host.env, host.requests, natConfig("10.0.0.1", "2001:db8::1"), [], interruption.signal);
    expect(host.entries.map(({ address: { text } }) => text).slice(3)).toEqual(["192.0.2.254"]);
    interruption.abort();
    const [first] = await ended;
    expect(first?.found).toBe("198.51.100.9, which a killed test had left on lo, was taken away");
    expect(host.entries).toHaveLength(3);
    host.requests.addAddress = () => { throw new Error("no memory"); };
    await expect(host.test(natConfig("10.0.0.1"))).rejects.toThrow("no memory");
    expect(host.entries).toHaveLength(3);
  });

  it("of somebody else on lo stays", async () => {
    const host = new Host();
    host.entries.push(held("192.0.2.254", 32, 1));
    await expect(host.test(natConfig("10.0.0.1"))).rejects.toThrow("is this host's own");
    expect(host.entries).toHaveLength(4);
  });

  it("takes CAP_NET_ADMIN, and a file", async () => {
    const env = createFakeEnv();
    env.stored.set("/proc/self/status", { bytes: Buffer.from("CapEff:\t0000000000000000\n"), mode: 0o444 });
    await expect(testReturnPath(env, natConfig("10.0.0.1"), [], NOBODY)).rejects.toMatchObject({
      code: "PERMISSION_DENIED", details: { capability: "CAP_NET_ADMIN" },
    });
    let err = "";
    const quiet = { ...env, net: { ...env.net, localAddresses: () => [] } };
    const code = await runCli(["doctor", "--return-path"], {
      env: quiet, out: () => undefined, err: (text) => { err += text; }, isTty: false, columns: 80, actor: "test",
      confirm: () => Promise.resolve(false), interrupted: NOBODY, onHangup: () => () => undefined, onUpgradeSignal: () => () => undefined,
      connect: () => { throw new Error("nobody is connected to"); },
    });
    expect([code, err]).toEqual([2, "pointsman: REQUEST_INVALID: --return-path needs the backends: name a configuration file with -c\n"]);
  });
});
