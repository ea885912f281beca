// Which plane is chosen, and what is said about it; two planes of one instance in one process; flows that
// are counted; and what the host is said to be able to do.

import { parseAddress } from "../../src/model/address.ts";
import { fixedSource } from "../../src/model/tunnel_source.ts";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { FlowEntry, FlowKey, FlowOther } from "../../src/dataplane/xdp/abi.gen.ts";
import { walk } from "../../src/dataplane/xdp/maps.ts";
import { openDataplane } from "../../src/dataplane/open.ts";
import { probeHost } from "../../src/dataplane/probe.ts";
import type { Dataplane } from "../../src/dataplane/dataplane.ts";
import type { Config } from "../../src/model/config.ts";
import { deleteOwn, runInSync } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import {
  config, createWire, env, freshInstance, open, pinsOfInstance, programOn, REDIRECT, send, tableOf, until, type Wire,
} from "./fixtures/plane_fixture.ts";

let wire: Wire;
const opened: Dataplane[] = [];

function kept<P extends Dataplane>(plane: P): P {
  opened.push(plane);
  return plane;
}

function changed(of: Config, dataplane: Partial<Config["dataplane"]>): Config {
  return { ...of, dataplane: { ...of.dataplane, ...dataplane } };
}

const TRACKED = "[{ name: web, address: 203.0.113.10, port: 80, protocol: tcp, forwarding: l2, tracking: full, pool: web }]";

const FULLNAT = "[{ name: web, address: 203.0.113.10, port: 80, protocol: tcp, forwarding: fullnat, pool: web }]";

describeKernel("the choice of a plane", KERNEL, () => {
  beforeAll(() => { wire = createWire("choice"); });
  afterEach(async () => {
    for (const plane of opened.splice(0)) await plane.close({ detach: true, drainMs: 0 });
  });
  afterAll(() => { deleteOwn(); });

  it("is XDP where it can be had, and says where and how", async () => {
    const { plane, choice } = await openDataplane(changed(config({ instance: freshInstance() }), { mode: "auto" }), env);
    kept(plane);
    expect(choice).toMatchObject({ mode: "xdp", remedy: null, attempts: [{ what: "XDP on veth0", result: "native" }] });
    expect(choice.reason).toBe("XDP is attached to veth0 (native)");
  });

  it("falls back to the proxy with the reason and the remedy, and refuses when the config insists", async () => {
    const missing = changed(config({ instance: freshInstance() }), { interfaces: ["nope0"] });
    const { plane, choice } = await openDataplane(changed(missing, { mode: "auto" }), env);
    kept(plane);
    expect(choice.mode).toBe("proxy");
    expect(choice.reason).toContain("there is no interface nope0");
    expect(choice.remedy).toContain("dataplane.interfaces");
    expect(choice.attempts).toMatchObject([{ what: "XDP" }, { what: "proxy", result: "open" }]);
    await expect(openDataplane(missing, env)).rejects.toMatchObject({ code: "DEVICE_MISSING" });
  });

  it("falls back for each thing that XDP cannot do", async () => {
    const of = changed(config({ instance: freshInstance() }), { mode: "auto" });
    const reasonOf = async (wanted: Config, other = env): Promise<string> => {
      const { plane, choice } = await openDataplane(wanted, other);
      kept(plane);
      expect(choice.mode).toBe("proxy");
      expect(choice.remedy).not.toBeNull();
      return choice.reason;
    };
    expect(await reasonOf(changed(of, { interfaces: [] }))).toContain("dataplane.interfaces is empty");
    const network = fixedSource(parseAddress("2001:db8::99")!);
    expect(await reasonOf({
      ...of, services: of.services.map((each) => ({ ...each, network, forwarding: "fullnat" as const })),
    })).toContain("keeps the IP version");
    expect(await reasonOf(of, { ...env, root: "/nowhere" })).toContain("the addon is not built");
    kept(await open(config({ instance: freshInstance() })));
    expect(await reasonOf(of)).toContain("veth0 runs");
    const { plane, choice } = await openDataplane(changed(of, { mode: "proxy" }), env);
    kept(plane);
    expect(choice).toMatchObject({ mode: "proxy", reason: "the config says mode: proxy", remedy: null });
  });

  it("leaves nothing behind when the second of two interfaces refuses", async () => {
    wire.ip("link", "add", "br1", "type", "bridge");
    wire.ip("link", "set", "br1", "up");
    const instance = freshInstance();
    const both = changed(config({ instance }), { interfaces: ["veth0", "br1"], xdp: "native" });
    await expect(open(both)).rejects.toMatchObject({ code: "XDP_UNAVAILABLE", details: { interface: "br1" } });
    expect(programOn(wire)).toBeNull();
    expect(pinsOfInstance(instance)).toEqual([]);
    wire.ip("link", "delete", "br1");
  });

  it("adopts a live plane that generic XDP would lose packets of, says so, and refuses to begin with it", async () => {
    wire.ip("link", "add", "sum0", "type", "veth", "peer", "name", "sum1");
    wire.ip("link", "set", "sum0", "up");
    const peer = (...switches: string[]): void => { runInSync(wire.balancer, "ethtool", ["-K", "sum1", ...switches]); };
    peer("tx", "on", "tso", "off", "gso", "off");
    const instance = freshInstance();
    const plain = changed(config({ instance, services: TRACKED }), { interfaces: ["sum0"], xdp: "generic" });
    const translating = changed(config({ instance, services: FULLNAT }), plain.dataplane);
    const first = await open(plain);
    await first.apply(tableOf(plain, first.ledger()));
    await first.close({ detach: false, drainMs: 0 });
    const before = programOn(wire, "sum0");
    expect(before).not.toBeNull();

    const adopted = await open(translating);
    expect(adopted.status()).toMatchObject({ adopted: true, interfaces: [{ name: "sum0", mode: "generic", adopted: true }] });
    await expect(adopted.apply(tableOf(translating, adopted.ledger()))).rejects.toMatchObject({ code: "XDP_UNAVAILABLE" });
    expect(adopted.inside.state.destinations.size).toBeGreaterThan(0);
    expect([...adopted.inside.state.destinations.values()].every(({ forwarding }) => forwarding === "l2")).toBe(true);
    expect(programOn(wire, "sum0")).not.toBeNull();
    // Where nothing is in the way any more, the same table is taken.
    peer("tx", "off");
    await adopted.apply(tableOf(translating, adopted.ledger()));
    await adopted.close({ detach: false, drainMs: 0 });

    // What translates already goes on, and the obstacle is named.
    peer("tx", "on", "tso", "off", "gso", "off");
    const { plane, choice } = await openDataplane(translating, env);
    kept(plane);
    expect(choice.reason).toContain("sum0 (generic); was attached in generic mode before, and loses packets: sum1, the other end of sum0");
    expect(choice.remedy).toBe("ethtool -K sum1 tx off");
    await plane.apply(tableOf(translating, plane.ledger()));
    await plane.close({ detach: true, drainMs: 0 });
    wire.ip("link", "delete", "sum0");
  });

  it("takes over within one process, and gives back what the other one wrote", async () => {
    const instance = freshInstance();
    const of = config({ instance });
    const old = kept(await open(of));
    const table = tableOf(of, old.ledger());
    await old.apply(table);
    const fresh = await open(of);
    const other = tableOf(of, fresh.ledger(), ["a"]);
    await fresh.apply(other);
    // The new one is given up: the old one reads what it did, and goes on.
    await fresh.close({ detach: false, drainMs: 0 });
    const report = await old.apply(table);
    expect(report.steps).toBeGreaterThan(0);
    await until("resolved", () => [...old.status().neighbours.values()].every((text) => text.startsWith("resolved")));
    await old.settled();
    const { maps, state } = old.inside;
    const held = state.services.get(0)!;
    expect(maps.readActive(0)).toBe(held.active);
    const { scheme } = held.versions[held.active]!;
    expect(maps.ring(scheme.ringClass, scheme.ringId).slice(0, scheme.ringSize)).toEqual(table.services[0]!.ring.slots);
    expect(send(old, 1000).action).toBe(REDIRECT);
    expect(programOn(wire)).not.toBeNull();
    // A third one that fails right away does not keep the first from cleaning up.
    await (await open(of)).close({ detach: false, drainMs: 0 });
    await old.close({ detach: true, drainMs: 0 });
    expect(pinsOfInstance(instance)).toEqual([]);
    expect(programOn(wire)).toBeNull();
  });

  it("goes on with what it has while it cannot read what another one wrote, and closes it once", async () => {
    wire.ip("link", "add", "here0", "type", "veth", "peer", "name", "there0");
    wire.ip("link", "set", "here0", "up");
    runInSync(wire.balancer, "ethtool", ["-K", "there0", "tso", "off", "gso", "off"]);
    const instance = freshInstance();
    const of = changed(config({ instance }), { interfaces: ["veth0", "here0"], xdp: "generic" });
    const old = kept(await open(of));
    const renamed = async (from: string, to: string): Promise<void> => {
      wire.ip("link", "set", from, "name", to);
      await until(`${to} is there`, () => old.status().refused.has("here0") === (from === "here0"));
    };
    const table = tableOf(of, old.ledger());
    await old.apply(table);
    const fresh = await open(of);
    await fresh.apply(tableOf(of, fresh.ledger(), ["a"]));
    await fresh.close({ detach: false, drainMs: 0 });

    await renamed("here0", "gone0");
    for (let attempt = 0; attempt < 2; attempt += 1)
      await expect(old.apply(table)).rejects.toMatchObject({ code: "DEVICE_MISSING" });
    // The maps and the program are open: whoever asks meanwhile is answered.
    old.heartbeat();
    expect(old.counters().verdicts).toBeDefined();
    expect(old.status()).toMatchObject({ interfaces: [{ name: "veth0" }], refused: new Map([["here0", "it is gone"]]) });
    expect(old.inside.maps.readActive(0)).toBeTypeOf("number");

    await renamed("gone0", "here0");
    await old.apply(table);
    expect(old.status()).toMatchObject({ interfaces: [{ name: "veth0" }, { name: "here0" }], refused: new Map() });
    await renamed("here0", "gone0");
    await (await open(changed(of, { interfaces: ["veth0"] }))).close({ detach: false, drainMs: 0 });
    await expect(old.apply(table)).rejects.toMatchObject({ code: "DEVICE_MISSING" });
    await old.close({ detach: true, drainMs: 0 });
    expect(pinsOfInstance(instance)).toEqual([]);
    expect(programOn(wire)).toBeNull();
    wire.ip("link", "delete", "gone0");
  });

  it("counts the flows that it remembers, by backend", async () => {
    const of = config({ instance: freshInstance(), services: TRACKED });
    const plane = kept(await open(of));
    await plane.apply(tableOf(of, plane.ledger()));
    await until("resolved", () => [...plane.status().neighbours.values()].every((text) => text.startsWith("resolved")));
    await plane.settled();
    for (let port = 0; port < 50; port++) expect(send(plane, 1000 + port).action).toBe(REDIRECT);
    const { flowTable, serviceFlows, backendFlows, services, backends } = plane.counters();
    expect(flowTable).toEqual({ count: 50, max: 1024 });
    expect(serviceFlows.get("web")).toMatchObject({ count: 50, kind: "tracked" });
    expect([...backendFlows.keys()].sort()).toEqual(["web/a", "web/b", "web/c"]);
    expect([...backendFlows.values()].reduce((sum, each) => sum + each.count, 0)).toBe(50);
    expect(services.get("web")).toMatchObject({ packets: 50, flows: 50 });
    expect([...backends.values()].reduce((sum, each) => sum + each.packets, 0)).toBe(50);
  });

  it("counts a flow that its client has closed for a minute, and follows it as before", async () => {
    const of = config({ instance: freshInstance(), services: TRACKED });
    const plane = kept(await open(of));
    await plane.apply(tableOf(of, plane.ledger()));
    await until("resolved", () => [...plane.status().neighbours.values()].every((text) => text.startsWith("resolved")));
    await plane.settled();
    const FLOWS = 12;
    const homes = Array.from({ length: FLOWS }, (_, port) => send(plane, 1000 + port).mac);
    const [FIN, RST, ACK] = [0x01, 0x04, 0x10];
    const closing = [FIN | ACK, RST];
    expect(closing.map((flags, port) => send(plane, 1000 + port, { flags }).mac)).toEqual(homes.slice(0, closing.length));
    const { flows } = plane.inside.maps.maps;
    const sum = (): number => [...plane.counters().backendFlows.values()].reduce((all, { count }) => all + count, 0);
    await until("a walk", () => sum() === FLOWS);
    const marks = walk(flows).map(({ key, value }) => ({ port: FlowKey.decode(key).sourcePort, ...FlowEntry.decode(value) }));
    expect(marks.filter(({ other }) => other === FlowOther.FLOW_CLOSES).map(({ port }) => port).sort()).toEqual([1000, 1001]);
    // Two minutes later, without the waiting.
    for (const { key, value } of walk(flows)) {
      const entry = FlowEntry.decode(value);
      flows.update(key, FlowEntry.encode({ ...entry, lastSeenNs: entry.lastSeenNs - 120_000_000_000n }), 0);
    }
    await until("another walk", () => sum() === FLOWS - closing.length);
    expect(Array.from({ length: FLOWS }, (_, port) => send(plane, 1000 + port, { flags: ACK }).mac)).toEqual(homes);
    await until("they are heard of again", () => sum() === FLOWS);
    expect(send(plane, 1000).mac).toBe(homes[0]);
    const again = walk(flows).filter(({ value }) => FlowEntry.decode(value).other === FlowOther.FLOW_CLOSES);
    expect(again.map(({ key }) => FlowKey.decode(key).sourcePort)).toEqual([1001]);
  });

  it("is what the examination of the host says it would be", async () => {
    const of = changed(config({ instance: freshInstance() }), { mode: "auto" });
    const report = probeHost(of, env);
    expect(report.mode).toBe("xdp");
    const found = new Map(report.checks.map(({ name, found: text, ok }) => [name, { text, ok }]));
    expect(found.get("addon")).toMatchObject({ ok: true });
    expect(found.get("capabilities")).toMatchObject({ ok: true });
    expect(found.get("interface veth0")).toMatchObject({ ok: true });
    expect(found.get("interface veth0")?.text).toContain("veth, MTU 1500");
    expect(found.get("interface veth0")?.text).toContain("native XDP");
    expect(found.get("fallback")?.text).toContain("cannot bind web (203.0.113.10)");
    const missing = probeHost(changed(of, { interfaces: ["nope0"] }), env);
    expect(missing).toMatchObject({ mode: "proxy", reason: "interface nope0: is not there" });
    kept(await open(config({ instance: freshInstance() })));
    expect(probeHost(of, env)).toMatchObject({ mode: "proxy" });
    expect(probeHost(of, { ...env, root: "/nowhere" }).reason).toContain("addon");
  });
});
