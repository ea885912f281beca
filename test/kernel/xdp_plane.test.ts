// The XDP plane's life on a real kernel: made, adopted after a crash, swapped, detached; and its tables
// under real packets. Packets are test runs of the program as it is loaded.

import { existsSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Settings } from "../../src/dataplane/xdp/abi.gen.ts";
import { detachInstance } from "../../src/dataplane/xdp/detach.ts";
import { FragmentEntry, FragmentKey } from "../../src/dataplane/xdp/abi.gen.ts";
import type { Config } from "../../src/model/config.ts";
import { EMPTY_LEDGER } from "../../src/model/table.ts";
import type { XdpPlane } from "../../src/dataplane/xdp/xdp_plane.ts";
import { deleteOwn } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import {
  BALANCER_MAC, config, createWire, DROP, env, freshInstance, native, open, PASS, PEER_MAC, pinDirectory, pinsOfInstance, programOn,
  REDIRECT, send, tableOf, until, type Wire,
} from "./fixtures/plane_fixture.ts";

let wire: Wire;
const opened: { plane: XdpPlane; instance: string }[] = [];

async function opening(instance: string, of = config({ instance })): Promise<XdpPlane> {
  const plane = await open(of);
  opened.push({ plane, instance });
  return plane;
}

/** As kill -9: the handles go, what is pinned stays. */
async function abandon(plane: XdpPlane): Promise<void> {
  await plane.close({ detach: false, drainMs: 0 });
}

async function resolved(plane: XdpPlane): Promise<void> {
  await until("next hops resolved", () => [...plane.status().neighbours.values()].every((text) => text.startsWith("resolved")));
  // What the plane has seen reaches the program a little later: now, for this test.
  plane.refresh();
  await plane.settled();
}

describeKernel("the XDP plane", KERNEL, () => {
  beforeAll(() => { wire = createWire("plane"); });
  afterEach(async () => {
    for (const { plane } of opened) await plane.close({ detach: true, drainMs: 0 });
    for (const { instance } of opened.splice(0)) detachInstance(native(), env, instance);
  });
  afterAll(() => { deleteOwn(); });

  it("forwards to each backend after the first apply, and to nobody else", async () => {
    const instance = freshInstance();
    const of = config({ instance });
    const plane = await opening(instance, of);
    expect(plane.ledger()).toEqual(EMPTY_LEDGER);
    expect(plane.adoptedSeed()).toBeNull();
    expect(send(plane, 1000).action).toBe(PASS);
    const report = await plane.apply(tableOf(of, plane.ledger()));
    expect(report.steps).toBeGreaterThan(0);
    await resolved(plane);
    const sent = send(plane, 1000);
    expect(sent).toMatchObject({ action: REDIRECT, mac: PEER_MAC });
    expect(send(plane, 1000, { port: 81 }).action).toBe(PASS);
    expect(plane.counters().verdicts.TX_FORWARDED).toMatchObject({ packets: 1 });
    expect(plane.counters().services.get("web")).toMatchObject({ packets: 1 });
    expect(plane.status()).toMatchObject({ mode: "xdp", adopted: false, interfaces: [{ name: "veth0", mode: "native" }] });
  });

  it("pins everything, and leaves nothing behind when it is detached", async () => {
    const instance = freshInstance();
    const of = config({ instance });
    const plane = await opening(instance, of);
    await plane.apply(tableOf(of, plane.ledger()));
    expect(pinsOfInstance(instance)).toEqual(expect.arrayContaining(["link-veth0", "map-settings", "map-rings_medium", "ring-medium-0"]));
    expect(programOn(wire)).not.toBeNull();
    await plane.close({ detach: true, drainMs: 0 });
    expect(programOn(wire)).toBeNull();
    expect(existsSync(pinDirectory(instance))).toBe(false);
  });

  it("is adopted with its table, ids, seed and traffic after its owner is gone", async () => {
    const instance = freshInstance();
    const of = config({ instance });
    const first = await opening(instance, of);
    const table = tableOf(of, first.ledger());
    await first.apply(table);
    await resolved(first);
    const before = Array.from({ length: 64 }, (_, port) => send(first, 1000 + port).action);
    await abandon(first);
    const program = programOn(wire);
    expect(program).not.toBeNull();

    const second = await opening(instance, of);
    expect(second.status()).toMatchObject({ adopted: true, interfaces: [{ name: "veth0", adopted: true }] });
    expect(second.adoptedSeed()).toBe(0x0123456789abcdefn);
    expect(second.ledger().destinations).toEqual(table.ledger.destinations);
    expect(second.ledger().services).toEqual(table.ledger.services);
    // Before any apply, packets go where they went.
    expect(Array.from({ length: 64 }, (_, port) => send(second, 1000 + port).action)).toEqual(before);
    const again = tableOf(of, second.ledger());
    expect(second.plan(again).filter(({ action }) => action !== "write-next-hop" && action !== "activate-next-hop")).toEqual([]);
    const report = await second.apply(again);
    expect(report.steps).toBe(0);
    expect(second.counters().services.get("web")?.packets).toBe(128);
  });

  it("rewrites the ring when a backend goes down, and restores it exactly", async () => {
    const instance = freshInstance();
    const of = config({ instance });
    const plane = await opening(instance, of);
    const whole = tableOf(of, plane.ledger());
    await plane.apply(whole);
    const ring = (): Uint16Array => {
      const { maps, state } = plane.inside;
      const { scheme } = state.services.get(0)!.versions[state.services.get(0)!.active]!;
      expect(maps.readActive(0)).toBe(state.services.get(0)!.active);
      return maps.ring(scheme.ringClass, scheme.ringId).slice(0, scheme.ringSize);
    };
    const before = ring();
    expect(before).toEqual(whole.services[0]!.ring.slots);
    const lost = whole.services[0]!.destinations[1]!;
    const name = whole.destinations.get(lost)!.backend;
    await plane.apply(tableOf(of, whole.ledger, [name]));
    const during = ring();
    expect(during.includes(lost)).toBe(false);
    expect(during.every((id, slot) => before[slot] === lost || id === before[slot])).toBe(true);
    await plane.apply(whole);
    expect(ring()).toEqual(before);
  });

  it("loads another program for what a new table needs, under the same link", async () => {
    const instance = freshInstance();
    const of = config({ instance });
    const plane = await opening(instance, of);
    await plane.apply(tableOf(of, plane.ledger()));
    await resolved(plane);
    const before = programOn(wire);
    const ipip = config({
      instance,
      services:
        "[{ name: web, address: 203.0.113.10, port: 80, protocol: tcp, forwarding: ipip, pool: web }]",
    });
    const table = tableOf(ipip, plane.ledger());
    expect(plane.plan(table)[0]).toMatchObject({ action: "load-program" });
    await plane.apply(table);
    expect(programOn(wire)).not.toBe(before);
    await resolved(plane);
    const { frame, action } = send(plane, 1000);
    expect(action).toBe(REDIRECT);
    // The outer header: protocol 4, from the balancer.
    expect(frame[23]).toBe(4);
    expect([...frame.subarray(26, 30)]).toEqual([10, 1, 0, 1]);
  });

  it("changes policy, hash, orphan policy and ring size of a live service", async () => {
    const instance = freshInstance();
    const service = (more: string): string =>
      `[{ name: web, address: 203.0.113.10, port: 80, protocol: tcp, forwarding: l2, tracking: none, pool: web${more} }]`;
    const plane = await opening(instance);
    const apply = async (more: string, dataplane = ""): Promise<void> => {
      const of = config({ instance, services: service(more), dataplane });
      await plane.apply(tableOf(of, plane.ledger()));
      await resolved(plane);
    };
    await apply("");
    expect(send(plane, 1000).action).toBe(REDIRECT);
    await apply(", policy: { deny: [198.51.100.0/24] }");
    expect(send(plane, 1000).action).toBe(DROP);
    expect(plane.counters().verdicts.DROP_DENIED?.packets).toBe(1);
    await apply(", policy: { allow: [198.51.100.7/32], deny: [198.51.100.0/24] }");
    expect(send(plane, 1000).action).toBe(REDIRECT);
    await apply(", policy: { allow: [192.0.2.0/24] }");
    expect(send(plane, 1000).action).toBe(DROP);
    await apply(", hash: source-ip, ringSize: 251");
    const macs = new Set(Array.from({ length: 20 }, (_, port) => send(plane, 1000 + port).action));
    expect([...macs]).toEqual([REDIRECT]);
    expect(plane.inside.state.rings.get("small/0")?.key).toContain("251-");
    await apply(", ringSize: 131071");
    expect(send(plane, 1000).action).toBe(REDIRECT);
    expect(plane.inside.state.rings.has("large/0")).toBe(true);
    await apply("", ", orphan: { after: 60s, action: drop }");
    plane.heartbeat();
    expect(send(plane, 1000).action).toBe(REDIRECT);
    // The last sign of life was when the machine started, which is more than a minute ago.
    plane.inside.maps.settings.writeHeartbeat(1n);
    expect(send(plane, 1000).action).toBe(DROP);
    plane.heartbeat();
    expect(send(plane, 1000).action).toBe(REDIRECT);
    expect(plane.counters().verdicts.DROP_ORPHANED?.packets).toBe(1);
    const small = config({ instance, services: service("") });
    await abandon(plane);
    const adopted = await opening(instance, small);
    // A policy and a large ring that are gone left nothing to adopt.
    expect([...adopted.inside.state.services.values()].every(({ policy }) => policy.size === 0)).toBe(true);
    expect(adopted.plan(tableOf(small, adopted.ledger())).map(({ action }) => action)).toEqual(["set-orphan"]);
  });

  it.each([
    ["keep", REDIRECT, null], ["pass", PASS, "PASS_ORPHANED"], ["drop", DROP, "DROP_ORPHANED"],
  ] as const)("does what orphan says when nobody writes its heartbeat: %s, until somebody adopts it", async (action, orphaned, verdict) => {
    const instance = freshInstance();
    const of = config({ instance, dataplane: `, orphan: { after: 60s, action: ${action} }` });
    const plane = await opening(instance, of);
    await plane.apply(tableOf(of, plane.ledger()));
    await resolved(plane);
    expect(send(plane, 1000).action).toBe(REDIRECT);
    // The last sign of life was when the machine started, which is more than a minute ago.
    plane.inside.maps.settings.writeHeartbeat(1n);
    expect(send(plane, 1000).action).toBe(orphaned);
    if (verdict !== null) expect(plane.counters().verdicts[verdict]?.packets).toBe(1);
    // What is nobody's service is none of its business.
    expect(send(plane, 1000, { port: 81 }).action).toBe(PASS);
    await abandon(plane);
    const next = await opening(instance, of);
    expect(send(next, 1000).action).toBe(REDIRECT);
  });

  it("grows its maps under traffic and keeps what they hold", async () => {
    const instance = freshInstance();
    const of = config({ instance, limits: "{ services: 1, backends: 3, flows: 64 }" });
    const plane = await opening(instance, of);
    await plane.apply(tableOf(of, plane.ledger()));
    await resolved(plane);
    for (let port = 0; port < 16; port++) send(plane, 1000 + port);
    const services = Array.from(
      { length: 6 },
      (_, at) =>
        `{ name: s${at}, address: 203.0.113.10, port: ${80 + at}, protocol: tcp, forwarding: l2, pool: web }`,
    );
    const more = config({
      instance,
      limits: "{ services: 8, backends: 64, flows: 64 }",
      services: `[${services.join(", ")}]`,
    });
    const report = await plane.apply(tableOf(more, plane.ledger()));
    expect(report.failed.size).toBe(0);
    await resolved(plane);
    expect(plane.inside.state.capacities.services).toBeGreaterThanOrEqual(6);
    for (let at = 0; at < 6; at++) expect(send(plane, 1000, { port: 80 + at }).action).toBe(REDIRECT);
    expect(plane.counters().verdicts.TX_FORWARDED?.packets).toBe(22);
    expect(plane.counters().services.get("s0")?.packets).toBe(17);
    await abandon(plane);
    const adopted = await opening(instance, more);
    expect(adopted.inside.state.capacities.services).toBeGreaterThanOrEqual(6);
    for (let at = 0; at < 6; at++) expect(send(adopted, 1000, { port: 80 + at }).action).toBe(REDIRECT);
  });

  it("adopts the ports of fragments, and makes room for more", async () => {
    const instance = freshInstance();
    const room = (fragments: number): Config =>
      config({ instance, limits: `{ services: 8, backends: 16, flows: 1024, fragments: ${fragments} }` });
    const plane = await opening(instance, room(64));
    const [key, value] = [new Uint8Array(FragmentKey.size).fill(7), new Uint8Array(FragmentEntry.size).fill(8)];
    plane.inside.maps.maps.fragments.update(key, value, 0);
    await abandon(plane);
    const adopted = await opening(instance, room(256));
    const { fragments } = adopted.inside.maps.maps;
    expect([fragments.info().maxEntries, adopted.inside.state.capacities.fragments]).toEqual([256, 256]);
    expect(fragments.lookup(key)).toEqual(value);
    // A smaller limit takes nothing away.
    await abandon(adopted);
    const again = await opening(instance, room(64));
    expect(again.inside.state.capacities.fragments).toBe(256);
    expect(again.inside.maps.maps.fragments.lookup(key)).toEqual(value);
  });

  describe("detachInstance", () => {
    it("takes down a plane that nobody owns, and says when there is none", async () => {
      const instance = freshInstance();
      const plane = await opening(instance);
      await plane.apply(tableOf(config({ instance }), plane.ledger()));
      await abandon(plane);
      expect(detachInstance(native(), env, instance)).toEqual({ interfaces: ["veth0"] });
      expect(programOn(wire)).toBeNull();
      expect(pinsOfInstance(instance)).toEqual([]);
      expect(detachInstance(native(), env, instance)).toBeNull();
    });
  });

  it("refuses an interface that is not there, one in use, and a plane of another version", async () => {
    const instance = freshInstance();
    const of = config({ instance });
    await expect(open({ ...of, dataplane: { ...of.dataplane, interfaces: ["nope0"] } })).rejects.toMatchObject({
      code: "DEVICE_MISSING", details: { name: "nope0" },
    });
    const plane = await opening(instance);
    await expect(open(config({ instance: freshInstance() }))).rejects.toMatchObject({
      code: "PLANE_IN_USE", details: { interface: "veth0" },
      message: `veth0 runs the program of the instance ${instance} already: pointsman detach --instance ${instance}, `
        + "or take veth0 out of dataplane.interfaces of one of the two",
    });
    plane.inside.maps.maps.settings.update(new Uint8Array(4), new Uint8Array(Settings.size), 0);
    await abandon(plane);
    await expect(open(config({ instance }))).rejects.toMatchObject({ code: "ABI_MISMATCH" });
    // It goes on forwarding, and detach works all the same.
    expect(programOn(wire)).not.toBeNull();
    expect(detachInstance(native(), env, instance)).not.toBeNull();
  });

  it("attaches anew when the interface was made again under its name, after a restart and while it lives", async () => {
    const instance = freshInstance();
    const of = config({ instance });
    const plane = await opening(instance, of);
    await plane.apply(tableOf(of, plane.ledger()));
    await abandon(plane);
    makeInterfaceAgain();
    const again = await opening(instance, of);
    expect(again.status().interfaces).toMatchObject([{ name: "veth0", adopted: false }]);
    await again.apply(tableOf(of, again.ledger()));
    await resolved(again);
    expect(send(again, 1000).action).toBe(REDIRECT);

    makeInterfaceAgain();
    await until("attached again", () => programOn(wire) !== null);
    await until("forwarding again", () => send(again, 1000).action === REDIRECT);
    expect(again.status().interfaces).toMatchObject([{ name: "veth0", ifindex: native().interfaceIndex("veth0") }]);
  });
});

/** What a driver does when it is loaded again. */
function makeInterfaceAgain(): void {
  wire.ip("link", "delete", "veth0");
  wire.ip("link", "add", "veth0", "address", BALANCER_MAC, "type", "veth", "peer", "name", "veth1",
    "address", PEER_MAC, "netns", wire.peer);
  wire.ip("address", "add", "10.1.0.1/24", "dev", "veth0");
  wire.ip("link", "set", "veth0", "up");
  for (const last of [2, 11, 12, 13]) wire.peerIp("address", "add", `10.1.0.${last}/24`, "dev", "veth1");
  wire.peerIp("link", "set", "veth1", "up");
}
