// Wildcard services on a real kernel: every packet to its service, adoption from what the maps hold,
// and an exact service that becomes a prefix and comes back while packets arrive between the steps.

import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { detachInstance } from "../../src/dataplane/xdp/detach.ts";
import { failureFrom } from "../../src/dataplane/xdp/native_failure.ts";
import type { XdpPlane } from "../../src/dataplane/xdp/xdp_plane.ts";
import { parseAddress } from "../../src/model/address.ts";
import type { Config } from "../../src/model/config.ts";
import { deleteOwn } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { frameOf, TCP, UDP } from "../support/packets.ts";
import {
  config, createWire, env, freshInstance, native, open, PASS, REDIRECT, tableOf, until,
} from "./fixtures/plane_fixture.ts";

/** Each service has a backend of its own, so that the link address tells which one it was. */
const BACKENDS = `[
  { name: a, address: 10.1.0.11, mac: "02:00:00:00:0b:0a" }, { name: b, address: 10.1.0.12, mac: "02:00:00:00:0b:0b" },
  { name: c, address: 10.1.0.13, mac: "02:00:00:00:0b:0c" }]`;

/** "name address port protocol backend" to a service whose pool is one backend. */
function services(...lines: readonly string[]): string {
  return `[${lines.map((line) => {
    const [name, address, port, protocol, backend] = line.split(" ");
    const last = { a: 11, b: 12, c: 13 }[backend ?? ""];
    return `{ name: ${name}, address: "${address}", port: ${port}, protocol: ${protocol}, forwarding: l2, tracking: none,
      health: { type: none }, backends: [{ name: ${backend}, address: 10.1.0.${last}, mac: "02:00:00:00:0b:0${backend}" }] }`;
  }).join(", ")}]`;
}

const opened: { plane: XdpPlane; instance: string }[] = [];

async function opening(of: Config, onStep?: Parameters<typeof open>[1]): Promise<XdpPlane> {
  const plane = await open(of, onStep);
  opened.push({ plane, instance: of.instance });
  return plane;
}

/** "a", "b" or "c", by the link address; "pass" when the packet is not ours. */
function met(plane: XdpPlane, to: string, port: number, protocol = TCP): string {
  const destination = parseAddress(to)!;
  const source = parseAddress(destination.family === 4 ? "198.51.100.7" : "2001:db8::7")!;
  const frame = frameOf({
    family: destination.family, source: source.bytes, destination: destination.bytes, protocol,
    sourcePort: 40_000, destinationPort: port, flags: 2,
  });
  const { action, output } = plane.testRun(frame, { repeat: 1, flags: 0, context: null, outputSizeMax: 2048, batchSize: 0 });
  if (action === PASS) return "pass";
  expect(action).toBe(REDIRECT);
  return (output?.[5] ?? 0).toString(16).slice(-1);
}

async function resolved(plane: XdpPlane): Promise<void> {
  await until("next hops resolved", () => [...plane.status().neighbours.values()].every((text) => text.startsWith("resolved")));
  await plane.settled();
}

describeKernel("wildcard services", KERNEL, () => {
  beforeAll(() => { createWire("wildcards"); });
  afterEach(async () => {
    for (const { plane } of opened) await plane.close({ detach: true, drainMs: 0 });
    for (const { instance } of opened.splice(0)) detachInstance(native(), env, instance);
  });
  afterAll(() => { deleteOwn(); });

  const NESTED = services(
    "outer 203.0.113.0/24 any tcp a", "inner 203.0.113.16/28 8000-8099 tcp b", "exact 203.0.113.17 8000 tcp c",
    "six 2001:db8:1::/64 80-90 udp c",
  );

  function meetings(plane: XdpPlane): string[] {
    return [
      met(plane, "203.0.113.200", 1), met(plane, "203.0.113.18", 8000), met(plane, "203.0.113.18", 8100),
      met(plane, "203.0.113.17", 8000), met(plane, "203.0.113.17", 8001), met(plane, "203.0.113.18", 8000, UDP),
      met(plane, "2001:db8:1::99", 85, UDP), met(plane, "2001:db8:1::99", 91, UDP), met(plane, "2001:db8:2::1", 85, UDP),
    ];
  }
  const EXPECTED = ["a", "b", "a", "c", "b", "pass", "c", "pass", "pass"];

  it("get the packets of the longest prefix and the narrowest range, before and after an adoption", async () => {
    const of = config({ instance: freshInstance(), backends: BACKENDS, services: NESTED });
    const plane = await opening(of);
    const table = tableOf(of, plane.ledger());
    await plane.apply(table);
    await resolved(plane);
    expect(meetings(plane)).toEqual(EXPECTED);
    expect(plane.status().listening.get("inner")).toBe("203.0.113.16/28:8000-8099");
    await plane.close({ detach: false, drainMs: 0 });

    const again = await opening(of);
    expect(meetings(again)).toEqual(EXPECTED);
    expect(again.ledger().services).toEqual(table.ledger.services);
    // Only what the file cannot say of itself, such as the way to backends, is looked up again.
    const steps = again.plan(tableOf(of, again.ledger())).map(({ action }) => action);
    expect(steps.filter((action) => /service|group|virtual|version|ring/.test(action))).toEqual([]);
    await again.apply(tableOf(of, again.ledger()));
    expect(meetings(again)).toEqual(EXPECTED);
  });

  it("never miss a packet that is theirs before and after a change, between any two steps", async () => {
    const instance = freshInstance();
    const sketches = [
      services("site 203.0.113.10 80 tcp a"),
      services("site 203.0.113.0/28 80 tcp b"),
      services("site 203.0.113.10 any tcp c", "wide 203.0.113.0/24 80-90 tcp a"),
      services("site 203.0.113.8/29 70-80 tcp b", "wide 203.0.113.0/24 80-90 tcp a"),
      services("wide 203.0.113.0/24 80-81 tcp c"),
      services("site 203.0.113.10 80 tcp a"),
    ].map((text) => config({ instance, services: text, backends: BACKENDS }));
    let plane: XdpPlane | null = null;
    const seen: string[] = [];
    plane = await opening(sketches[0]!, () => { if (plane !== null) seen.push(met(plane, "203.0.113.10", 80)); });
    let before = "pass";
    for (const of of sketches) {
      seen.length = 0;
      await plane.apply(tableOf(of, plane.ledger()));
      await plane.settled();
      const after = met(plane, "203.0.113.10", 80);
      const [last] = [...of.services].map(({ network, pool }) => ({ length: network.length, pool }))
        .sort((a, b) => b.length - a.length);
      expect(after).toBe(of.pools.find(({ name }) => name === last?.pool)?.backends[0]?.name);
      expect(seen.length).toBeGreaterThan(3);
      expect(seen.filter((one) => one !== before && one !== after)).toEqual([]);
      before = after;
    }
  });

  it("have as much room as their ports need; a trie that is full is named", async () => {
    const lines = Array.from({ length: 40 }, (_, at) => `s${at} 203.0.113.${at} 1-65534 tcp ${"abc"[at % 3]}`);
    const of = config({
      instance: freshInstance(), backends: BACKENDS, services: services(...lines),
      limits: "{ services: 64, backends: 64, flows: 1024 }",
    });
    const plane = await opening(of);
    await plane.apply(tableOf(of, plane.ledger()));
    await resolved(plane);
    expect(plane.inside.maps.maps.group_services.info().maxEntries).toBe(2048);
    expect([met(plane, "203.0.113.39", 65_534), met(plane, "203.0.113.38", 1), met(plane, "203.0.113.38", 65_535)])
      .toEqual(["a", "c", "pass"]);
    let failure: unknown = null;
    try {
      for (let port = 0; port < 2048; port++) {
        plane.inside.maps.addGroupPorts(9999, { protocol: "tcp", port, bits: 16, index: 0 });
      }
    } catch (error) {
      failure = failureFrom(error);
    }
    expect(failure).toMatchObject({ code: "MAP_FULL", details: { map: "group_services" } });
  });
});
