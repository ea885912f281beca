// The XDP plane and the network around it: neighbours, routes, links and virtual addresses change, and the
// next packet goes the new way, without anybody applying a table.

import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { addressMetric } from "../../src/dataplane/address_mark.ts";
import type { XdpPlane } from "../../src/dataplane/xdp/xdp_plane.ts";
import { deleteOwn, runInSync } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import {
  BALANCER_MAC, config, createWire, DROP, env, freshInstance, open, PASS, PEER_MAC, programOn, REDIRECT, send, tableOf, until,
  type Sketch, type Wire,
} from "./fixtures/plane_fixture.ts";

let wire: Wire;
let plane: XdpPlane | null = null;

async function planeWith(sketch: Partial<Sketch>): Promise<XdpPlane> {
  const of = config({ instance: freshInstance(), ...sketch });
  plane = await open(of);
  await plane.apply(tableOf(of, plane.ledger()));
  return plane;
}

const ONE = "[{ name: a, address: 10.1.0.11 }]";

function goesTo(live: XdpPlane): string {
  const { action, mac } = send(live, 1000);
  return action === REDIRECT ? mac : action === DROP ? "dropped" : `action ${action}`;
}

function hex(byte: number): string {
  return (byte & 255).toString(16).padStart(2, "0");
}

async function goes(live: XdpPlane, mac: string): Promise<void> {
  await until(`packets go to ${mac}`, () => goesTo(live) === mac);
}

describeKernel("the XDP plane in a network", KERNEL, () => {
  beforeAll(() => {
    wire = createWire("network");
    wire.ip("link", "add", "veth8", "address", "02:00:00:00:08:01", "type", "veth", "peer", "name", "veth9",
      "address", "02:00:00:00:08:02", "netns", wire.peer);
    wire.ip("address", "add", "10.8.0.1/24", "dev", "veth8");
    wire.ip("link", "set", "veth8", "up");
    wire.peerIp("address", "add", "10.8.0.2/24", "dev", "veth9");
    wire.peerIp("link", "set", "veth9", "up");
  });
  afterEach(async () => {
    await plane?.close({ detach: true, drainMs: 0 });
    plane = null;
  });
  afterAll(() => { deleteOwn(); });

  it("resolves a neighbour that nobody knew, and drops packets under its own verdict until then", async () => {
    wire.ip("neigh", "flush", "dev", "veth0");
    const live = await planeWith({ backends: "[{ name: a, address: 10.1.0.77 }]" });
    expect(goesTo(live)).toBe("dropped");
    expect(live.counters().verdicts.DROP_NO_NEIGHBOUR?.packets).toBe(1);
    expect(live.status().neighbours.get("web/a")).toContain("unresolved");
    // It appears; the kernel asks again by itself, and nobody tells the plane.
    wire.peerIp("address", "add", "10.1.0.77/24", "dev", "veth1");
    await goes(live, PEER_MAC);
    expect(live.status().neighbours.get("web/a")).toBe(`resolved: ${PEER_MAC} by way of veth0`);
    wire.peerIp("address", "delete", "10.1.0.77/24", "dev", "veth1");
  });

  it("follows a neighbour's new link address", async () => {
    const live = await planeWith({ backends: ONE });
    await goes(live, PEER_MAC);
    wire.ip("neigh", "replace", "10.1.0.11", "lladdr", "02:00:00:00:0a:0a", "dev", "veth0", "nud", "permanent");
    await goes(live, "02:00:00:00:0a:0a");
    wire.ip("neigh", "delete", "10.1.0.11", "dev", "veth0");
    await goes(live, PEER_MAC);
  });

  it("follows many changes in a row without ever showing half of one", async () => {
    const live = await planeWith({ backends: ONE });
    await goes(live, PEER_MAC);
    const seen = new Set<string>();
    for (let round = 1; round <= 20; round++) {
      const mac = `02:00:00:00:${round.toString(16).padStart(2, "0")}:${round.toString(16).padStart(2, "0")}`;
      wire.ip("neigh", "replace", "10.1.0.11", "lladdr", mac, "dev", "veth0", "nud", "permanent");
      await until("a while", () => { seen.add(goesTo(live)); return goesTo(live) === mac; });
    }
    const whole = [...seen].filter((mac) => mac !== PEER_MAC).every((mac) => {
      const [a, b] = mac.split(":").slice(4);
      return a === b;
    });
    expect(whole).toBe(true);
    wire.ip("neigh", "delete", "10.1.0.11", "dev", "veth0");
  });

  it("follows a route to a gateway, and to another interface", async () => {
    const live = await planeWith({ backends: "[{ name: a, address: 10.50.0.1 }]" });
    await until("no route", () => live.status().neighbours.get("web/a")!.includes("no route"));
    wire.ip("neigh", "replace", "10.1.0.2", "lladdr", PEER_MAC, "dev", "veth0", "nud", "permanent");
    wire.ip("route", "add", "10.50.0.0/16", "via", "10.1.0.2");
    await goes(live, PEER_MAC);
    wire.ip("neigh", "replace", "10.8.0.2", "lladdr", "02:00:00:00:08:02", "dev", "veth8", "nud", "permanent");
    wire.ip("route", "replace", "10.50.0.0/16", "via", "10.8.0.2");
    await goes(live, "02:00:00:00:08:02");
    expect([...send(live, 1000).frame.subarray(6, 12)]).toEqual([2, 0, 0, 0, 8, 1]);
    wire.ip("route", "delete", "10.50.0.0/16");
    await until("dropped again", () => goesTo(live) === "dropped");
  });

  it("follows an interface that goes down and comes back, and its new link address", async () => {
    const live = await planeWith({ backends: ONE });
    await goes(live, PEER_MAC);
    wire.ip("link", "set", "veth0", "down");
    await until("down", () => goesTo(live) === "dropped");
    wire.ip("link", "set", "veth0", "address", "02:00:00:00:01:0f", "up");
    await goes(live, PEER_MAC);
    expect([...send(live, 1000).frame.subarray(6, 12)]).toEqual([2, 0, 0, 0, 1, 0x0f]);
    wire.ip("link", "set", "veth0", "address", BALANCER_MAC);
  });

  it("follows the others when an interface that was made again is refused, and tries that one again", async () => {
    const addVeth6 = (): void => {
      wire.ip("link", "add", "veth6", "type", "veth", "peer", "name", "veth7", "netns", wire.peer);
      wire.ip("link", "set", "veth6", "up");
      wire.peerIp("link", "set", "veth7", "up");
    };
    const peerGro = (state: "on" | "off"): void => { runInSync(wire.peer, "ethtool", ["-K", "veth7", "gro", state]); };
    addVeth6();
    peerGro("on");
    const of = config({ instance: freshInstance(), backends: ONE });
    plane = await open({ ...of, dataplane: { ...of.dataplane, interfaces: ["veth0", "veth6"], xdp: "native" } });
    await plane.apply(tableOf(of, plane.ledger()));
    const live = plane;
    const names = (): string[] => live.attachments().map(({ name }) => name);
    const macs = (): (string | null)[] => [...live.inside.state.linkAddresses.values()].map(({ mac }) => mac);
    await goes(live, PEER_MAC);
    expect(names()).toEqual(["veth0", "veth6"]);
    wire.ip("link", "del", "veth6");
    await until("veth6 is gone", () => live.status().refused.get("veth6") === "it is gone");
    expect(live.status().interfaces.map(({ name }) => name)).toEqual(["veth0"]);
    // Its other end has GRO off: it takes no frames that are redirected.
    addVeth6();
    peerGro("off");
    wire.ip("link", "set", "veth0", "address", "02:00:00:00:01:0e");
    await until("veth0 has its new address", () => macs().includes("02:00:00:00:01:0e"));
    expect([...live.inside.state.firstLinkAddresses.values()].map(({ mac }) => mac)).toContain("02:00:00:00:01:0e");
    await goes(live, PEER_MAC);
    await until("veth6 is refused", () => names().length === 1);
    await until("the reason is told", () => live.status().refused.get("veth6")?.includes("GRO is off at its other end") === true);
    peerGro("on");
    await until("veth6 is tried again", () => names().length === 2);
    expect(programOn(wire, "veth6")).not.toBeNull();
    expect(live.status()).toMatchObject({ interfaces: [{ name: "veth0" }, { name: "veth6" }], refused: new Map() });
    wire.ip("link", "set", "veth0", "address", BALANCER_MAC);
    wire.ip("link", "del", "veth6");
  });

  it("takes the outer source of a tunnel from the route, or from the config", async () => {
    const ipip = "[{ name: web, address: 203.0.113.10, port: 80, protocol: tcp, forwarding: ipip, tracking: none, pool: web }]";
    const live = await planeWith({ backends: ONE, services: ipip });
    await goes(live, PEER_MAC);
    expect([...send(live, 1000).frame.subarray(26, 34)]).toEqual([10, 1, 0, 1, 10, 1, 0, 11]);
    wire.ip("route", "add", "10.1.0.11/32", "dev", "veth0", "src", "10.8.0.1");
    await until("another source", () => send(live, 1000).frame[27] === 8);
    expect([...send(live, 1000).frame.subarray(26, 30)]).toEqual([10, 8, 0, 1]);
    wire.ip("route", "delete", "10.1.0.11/32");
    await until("the first source", () => send(live, 1000).frame[27] === 1);
  });

  it("changes the outer source of an IPv6 tunnel without showing half of it", async () => {
    // An interface that was down has lost its IPv6 addresses.
    for (const last of [1, 5]) wire.ip("address", "replace", `fd00:1::${last}/64`, "dev", "veth0", "nodad");
    const ipip = "[{ name: web, address: 203.0.113.10, port: 80, protocol: tcp, forwarding: ipip, tracking: none, pool: web }]";
    const live = await planeWith({ backends: "[{ name: a, address: \"fd00:1::11\" }]", services: ipip });
    await goes(live, PEER_MAC);
    const source = (): string => Buffer.from(send(live, 1000).frame.subarray(22, 38)).toString("hex");
    const before = source();
    wire.ip("route", "add", "fd00:1::11/128", "dev", "veth0", "src", before.endsWith("5") ? "fd00:1::1" : "fd00:1::5");
    await until("another source", () => goesTo(live) === PEER_MAC && source() !== before);
    expect(["fd000001000000000000000000000005", "fd000001000000000000000000000001"]).toContain(source());
    wire.ip("route", "delete", "fd00:1::11/128");
    wire.ip("address", "delete", "fd00:1::5/64", "dev", "veth0");
  });

  it("reads all of the network again when events were lost", async () => {
    const live = await planeWith({ backends: ONE });
    await goes(live, PEER_MAC);
    const told: string[] = [];
    const info = env.log.info;
    env.log.info = (fields, message) => { told.push(message); info(fields, message); };
    // This thread serves no socket while ip(8) works: far more events than the buffer holds.
    const lines = Array.from({ length: 12_000 }, (_, at) =>
      `neigh replace 10.1.0.${100 + at % 100} lladdr 02:00:00:01:${hex(at >> 8)}:${hex(at & 255)} dev veth0 nud permanent`);
    lines.push("neigh replace 10.1.0.11 lladdr 02:00:00:00:0c:0c dev veth0 nud permanent");
    runInSync(wire.balancer, "ip", ["-batch", "-"], { input: `${lines.join("\n")}\n` });
    await goes(live, "02:00:00:00:0c:0c");
    env.log.info = info;
    expect(told).toContain("events of the network were lost: reading all of it again");
    wire.ip("neigh", "flush", "dev", "veth0", "nud", "permanent");
  });

  it("uses a static next hop without asking anybody", async () => {
    const live = await planeWith({
      backends: "[{ name: a, address: 10.1.0.99, mac: \"02:00:00:00:0b:0b\" }]",
    });
    await goes(live, "02:00:00:00:0b:0b");
    expect(wire.ip("neigh", "show", "10.1.0.99")).toBe("");
  });

  it.each(["l2", "ipip", "gue", "gre"])("passes packets for a backend on this host to its stack (%s), as it comes and goes", async (forwarding) => {
    const services = `[{ name: web, address: 203.0.113.10, port: 80, protocol: tcp, forwarding: ${forwarding},
      tracking: full, pool: web }]`;
    wire.ip("neigh", "replace", "10.1.0.66", "lladdr", PEER_MAC, "dev", "veth0", "nud", "permanent");
    const live = await planeWith({ services, backends: "[{ name: own, address: 10.1.0.66 }]" });
    await goes(live, PEER_MAC);
    wire.ip("address", "add", "10.1.0.66/32", "dev", "lo");
    await until("local", () => send(live, 1000).action === PASS);
    expect(live.status().neighbours.get("web/own")).toContain("local");
    const counted = (): number => live.counters().verdicts.PASS_LOCAL?.packets ?? 0;
    const before = { verdicts: counted(), of: live.counters().backends.get("web/own")! };
    const { action, frame } = send(live, 2000);
    expect(action).toBe(PASS);
    // As it came: no tunnel, no hop less.
    expect([frame[12], frame[13], frame[22], frame[23]]).toEqual([8, 0, 64, 6]);
    expect(counted()).toBe(before.verdicts + 1);
    const { packets, flows } = live.counters().backends.get("web/own")!;
    expect([packets - before.of.packets, flows - before.of.flows]).toEqual([1, 1]);
    wire.ip("address", "delete", "10.1.0.66/32", "dev", "lo");
    await goes(live, PEER_MAC);
    wire.ip("neigh", "delete", "10.1.0.66", "dev", "veth0");
  });

  it("puts virtual addresses where the config says, and takes away only its own", async () => {
    wire.ip("address", "add", "203.0.113.11/32", "dev", "lo");
    // A proxy plane of this instance was there before, and was killed.
    const metric = String(addressMetric("main"));
    wire.ip("address", "add", "203.0.113.10/32", "dev", "lo", "metric", metric);
    const service = (name: string, last: number, assign: string): string =>
      `{ name: ${name}, address: ${last < 100 ? `203.0.113.${last}` : '"2001:db8::10"'}, port: 80, protocol: tcp,
        forwarding: ${last < 100 ? "l2" : "ipip"}, pool: web, vip: { assign: ${assign} } }`;
    const list = [
      service("one", 10, "loopback"), service("two", 11, "loopback"),
      service("three", 12, "interface"), service("six", 110, "loopback"),
    ];
    const services = `[${list.join(", ")}]`;
    const instance = freshInstance();
    const of = config({ instance, services });
    plane = await open(of);
    await plane.apply(tableOf(of, plane.ledger()));
    const on = (name: string): string => wire.ip("-o", "address", "show", "dev", name);
    expect(on("lo")).toContain("203.0.113.10/32");
    expect(on("lo")).not.toContain("metric");
    expect(on("lo")).toContain("2001:db8::10/128");
    expect(on("veth0")).toContain("203.0.113.12/32");
    // Again after a crash: adopted, nothing twice, and what the config no longer wants goes.
    await plane.close({ detach: false, drainMs: 0 });
    const less = config({ instance, services: `[${service("one", 10, "loopback")}]` });
    plane = await open(less);
    await plane.apply(tableOf(less, plane.ledger()));
    expect(on("veth0")).not.toContain("203.0.113.12");
    expect(on("lo")).not.toContain("2001:db8::10");
    expect(on("lo")).toContain("203.0.113.11/32");
    await plane.close({ detach: true, drainMs: 0 });
    expect(on("lo")).not.toContain("203.0.113.10");
    // An operator's address is not ours, although a service had it.
    expect(on("lo")).toContain("203.0.113.11/32");
    wire.ip("address", "delete", "203.0.113.11/32", "dev", "lo");
  });

  it("steps down to generic XDP where native is refused, and says why", async () => {
    // A bridge has no native XDP.
    wire.ip("link", "add", "br0", "type", "bridge");
    wire.ip("link", "set", "br0", "up");
    const of = config({ instance: freshInstance() });
    const generic = { ...of, dataplane: { ...of.dataplane, interfaces: ["br0"] } };
    plane = await open(generic);
    expect(plane.attachments()).toMatchObject([{ name: "br0", mode: "generic" }]);
    expect(plane.attachments()[0]?.note).toContain("br0 refuses native XDP");
    await plane.close({ detach: true, drainMs: 0 });
    plane = null;
    const native = { ...generic, dataplane: { ...generic.dataplane, xdp: "native" as const } };
    await expect(open(native)).rejects.toMatchObject({ code: "XDP_UNAVAILABLE", details: { interface: "br0" } });
    wire.ip("link", "delete", "br0");
  });
});
