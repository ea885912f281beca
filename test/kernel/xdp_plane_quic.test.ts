// Connection IDs in a live XDP plane: adopted as they are, in maps that grow, and through a change of keys
// that breaks off at any step: an ID that both configs know leads to its backend all the while.

import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { detachInstance } from "../../src/dataplane/xdp/detach.ts";
import type { XdpPlane } from "../../src/dataplane/xdp/xdp_plane.ts";
import type { Config } from "../../src/model/config.ts";
import { encodeCid } from "../../src/model/quic_lb.ts";
import type { ForwardingTable } from "../../src/model/table.ts";
import { deleteOwn } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { frameOf, ipv4, UDP } from "../support/packets.ts";
import { config, createWire, env, freshInstance, native, open, tableOf } from "./fixtures/plane_fixture.ts";

const KEYS = ["8f95f09245765f80256934e50c66207f", "fdf726a9893ec05c0632d3956680baf0"] as const;
const ID = (id: number, key: number, nonceBytes = 6): string =>
  `{ id: ${id}, serverIdBytes: 2, nonceBytes: ${nonceBytes}, key: "${KEYS[key]!}" }`;
const NAMES = ["a", "b", "c"] as const;
/** Their link addresses are their own, so that a frame says where it went. */
const BACKENDS = `[${NAMES.map((name, at) =>
  `{ name: ${name}, address: 10.1.0.1${at + 1}, mac: "02:00:00:00:02:0${at + 1}", serverIds: ["000${at + 1}"] }`).join(", ")}]`;

function quicConfig(instance: string, services: readonly (readonly string[])[]): Config {
  const list = services.map((configs, at) =>
    `{ name: quic-${at}, address: 203.0.113.10, port: ${443 + at}, protocol: udp, forwarding: l2, pool: web`
    + `${configs.length === 0 ? "" : `, quicLb: { configs: [${configs.join(", ")}] }`} }`);
  const needs = services.some((configs) => configs.length > 0);
  return config({
    instance, services: `[${list.join(", ")}]`,
    backends: needs ? BACKENDS : BACKENDS.replace(/, serverIds: \["\d+"\]/g, ""),
  });
}

const opened: { plane: XdpPlane; instance: string }[] = [];

async function opening(instance: string, of: Config, failAt = Infinity): Promise<XdpPlane> {
  const plane = await open(of, (_, position) => {
    if (position === failAt) throw new Error("broken off");
  });
  opened.push({ plane, instance });
  return plane;
}

function cidOf(table: ForwardingTable, service: number, configId: number, backend: number): Uint8Array {
  const quic = table.services[service]!.quicLb!.configs.get(configId)!;
  return encodeCid(quic, Uint8Array.of(0, backend + 1), new Uint8Array(quic.nonceBytes).fill(5), 0);
}

let clients = 1000;

/** The backend that a datagram of a new client meets. */
function meets(plane: XdpPlane, cid: Uint8Array, port: number): string {
  clients += 1;
  const frame = frameOf({
    source: ipv4(198, 51, 100, 7), destination: ipv4(203, 0, 113, 10), protocol: UDP, sourcePort: clients,
    destinationPort: port, payload: Uint8Array.of(0x41, ...cid, ...new Uint8Array(24)),
  });
  const run = plane.testRun(frame, { repeat: 1, flags: 0, context: null, outputSizeMax: 2048, batchSize: 0 });
  return NAMES[run.output![5]! - 1] ?? `action ${run.action}`;
}

describeKernel("connection IDs in the XDP plane", KERNEL, () => {
  beforeAll(() => { createWire("quic"); });
  afterEach(async () => {
    for (const { plane } of opened) await plane.close({ detach: true, drainMs: 0 });
    for (const { instance } of opened.splice(0)) detachInstance(native(), env, instance);
  });
  afterAll(() => { deleteOwn(); });

  function expectRouted(plane: XdpPlane, table: ForwardingTable, service: number, configId: number): void {
    for (const [backend, name] of NAMES.entries()) {
      for (let again = 0; again < 6; again += 1) {
        expect(meets(plane, cidOf(table, service, configId, backend), 443 + service)).toBe(name);
      }
    }
  }

  it("are adopted with their keys, and nothing is written again", async () => {
    const instance = freshInstance();
    const of = quicConfig(instance, [[ID(0, 0), ID(6, 1, 14)], [ID(3, 1)]]);
    const first = await opening(instance, of);
    await first.apply(tableOf(of, first.ledger()));
    await first.close({ detach: false, drainMs: 0 });
    const second = await opening(instance, of);
    const table = tableOf(of, second.ledger());
    expect(second.plan(table).filter(({ action }) => action.includes("quic") || action === "write-version")).toEqual([]);
    for (const [service, id] of [[0, 0], [0, 6], [1, 3]] as const) expectRouted(second, table, service, id);
    expect(second.counters().quic?.get("routed")).toBe(54);
  });

  it("come to a plane that had none, in maps that grow", async () => {
    const instance = freshInstance();
    const before = quicConfig(instance, [[], [], []]);
    const plane = await opening(instance, before);
    await plane.apply(tableOf(before, plane.ledger()));
    const all = [0, 1, 2, 3, 4, 5, 6].map((id) => ID(id, id % 2, 4 + id * 2));
    const of = quicConfig(instance, [all, all, all]);
    const table = tableOf(of, plane.ledger());
    expect(plane.plan(table).map(({ action }) => action)).toContain("load-program");
    await plane.apply(table);
    for (let service = 0; service < 3; service += 1) for (let id = 0; id < 7; id += 1) expectRouted(plane, table, service, id);
    const none = tableOf(before, plane.ledger());
    await plane.apply(none);
    expect([plane.inside.state.quicConfigs.size, plane.inside.state.quicServers.size]).toEqual([0, 0]);
  });

  it("survive a change of keys that breaks off at any step", async () => {
    for (let failAt = 0; failAt < 40; failAt += 1) {
      const instance = freshInstance();
      const [old, both, fresh] = [[ID(0, 0)], [ID(0, 0), ID(1, 1)], [ID(1, 1)]]
        .map((configs) => quicConfig(instance, [configs])) as [Config, Config, Config];
      const first = await opening(instance, old);
      await first.apply(tableOf(old, first.ledger()));
      await first.close({ detach: false, drainMs: 0 });
      const breaking = await opening(instance, both, failAt);
      const table = tableOf(both, breaking.ledger());
      const broken = await breaking.apply(table).then(() => false, () => true);
      expectRouted(breaking, table, 0, 0);
      await breaking.close({ detach: false, drainMs: 0 });
      const next = await opening(instance, both);
      await next.apply(tableOf(both, next.ledger()));
      for (const id of [0, 1]) expectRouted(next, table, 0, id);
      await next.apply(tableOf(fresh, next.ledger()));
      expectRouted(next, table, 0, 1);
      await next.close({ detach: true, drainMs: 0 });
      if (!broken) return;
    }
    throw new Error("no change was made whole");
  });
});
