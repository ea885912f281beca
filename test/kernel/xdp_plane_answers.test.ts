// What the XDP plane counts of backends' first answers to clients: which packets are one, and how long they took; and that
// counters stay with their backend when maps grow, owners change and ids are given to others. Time is the kernel's, and
// what was waited lies between two readings of the same clock.

import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { deleteOwn } from "../../scripts/namespaces.ts";
import { detachInstance } from "../../src/dataplane/xdp/detach.ts";
import { decodeNatFlow, encodeFlowKey, encodeNatFlow } from "../../src/dataplane/xdp/nat_values.ts";
import type { XdpPlane } from "../../src/dataplane/xdp/xdp_plane.ts";
import type { Config } from "../../src/model/config.ts";
import { flowKeyOf, parsePacket, type FlowTuple } from "../../src/model/packet.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { frameOf, ipv4, TCP, UDP } from "../support/packets.ts";
import { config, createWire, env, freshInstance, native, open, REDIRECT, tableOf, until } from "./fixtures/plane_fixture.ts";

const [SYN, RST_ACK, ACK, SYN_ACK] = [2, 20, 16, 18];
const MAX_MS = 3000;
const SERVICES = "[{ name: web, address: 203.0.113.10, port: 80, protocol: tcp, forwarding: fullnat, pool: web },"
  + " { name: dns, address: 203.0.113.10, port: 53, protocol: udp, forwarding: fullnat, pool: web }]";

interface Counted {
  readonly answers: number;
  readonly waitedMs: number;
}

describeKernel("first answers", KERNEL, () => {
  const opened: { readonly instance: string; readonly plane: XdpPlane }[] = [];
  beforeAll(() => { createWire("answers"); });
  afterEach(async () => {
    for (const { plane } of opened) await plane.close({ detach: true, drainMs: 0 });
    for (const { instance } of opened.splice(0)) detachInstance(native(), env, instance);
  });
  afterAll(() => { deleteOwn(); });

  function sketch(instance: string, more: { readonly backends?: string; readonly limits?: string } = {}): Config {
    return config({
      instance, services: SERVICES, dataplane: ', nat: { sources: [10.1.0.1], ports: "20000-40000" }',
      limits: "{ services: 4, backends: 4, flows: 64, natFlows: 256 }", backends: "[{ name: a, address: 10.1.0.11 }]", ...more,
    });
  }

  async function serving(of: Config): Promise<XdpPlane> {
    const plane = await open(of);
    opened.push({ instance: of.instance, plane });
    await apply(plane, of);
    return plane;
  }

  async function apply(plane: XdpPlane, of: Config): Promise<void> {
    await plane.apply(tableOf(of, plane.ledger()));
    await until("next hops resolved", () => [...plane.status().neighbours.values()].every((text) => text.startsWith("resolved")));
    plane.refresh();
    await plane.settled();
    // Where test runs come from is where answers go.
    plane.inside.maps.addDevice(native().interfaceIndex("lo"));
  }

  function run(plane: XdpPlane, frame: Uint8Array): { readonly action: number; readonly tuple: FlowTuple } {
    const { action, output } = plane.testRun(frame, { repeat: 1, flags: 0, context: null, outputSizeMax: 2048, batchSize: 0 });
    const packet = parsePacket(output!);
    if (typeof packet === "string") throw new Error(packet);
    return { action, tuple: flowKeyOf(packet) };
  }

  /** From a client to the service: how its backend sees the flow. */
  function ask(plane: XdpPlane, sourcePort: number, { protocol = TCP, flags = SYN } = {}): FlowTuple {
    const { action, tuple } = run(plane, frameOf({
      source: ipv4(198, 51, 100, 7), destination: ipv4(203, 0, 113, 10), protocol, sourcePort, flags,
      destinationPort: protocol === TCP ? 80 : 53,
    }));
    expect(action).toBe(REDIRECT);
    return tuple;
  }

  /** From its backend. */
  function answer(plane: XdpPlane, { source, sourcePort, destination, destinationPort, protocol }: FlowTuple, flags = SYN_ACK): void {
    const back = { source: destination, sourcePort: destinationPort, destination: source, destinationPort: sourcePort, protocol, flags };
    expect(run(plane, frameOf(back)).action).toBe(REDIRECT);
  }

  const counted = (plane: XdpPlane, name = "web/a"): Counted | undefined => plane.counters().nat?.answers.get(name);
  const nowMs = (): number => Number(process.hrtime.bigint()) / 1e6;

  /** Both entries of a flow as if it had begun so much earlier. */
  function age(plane: XdpPlane, { source, sourcePort, destination, destinationPort, protocol }: FlowTuple, ms: number): void {
    const { nat_flows: map } = plane.inside.maps.maps;
    const reply = { source: destination, sourcePort: destinationPort, destination: source, destinationPort: sourcePort, protocol };
    for (const key of [reply, decodeNatFlow(map.lookup(encodeFlowKey(reply))!).other]) {
      const entry = decodeNatFlow(map.lookup(encodeFlowKey(key))!);
      map.update(encodeFlowKey(key), encodeNatFlow({ ...entry, lastSeenNs: entry.lastSeenNs - BigInt(ms) * 1_000_000n }), 0);
    }
  }

  it.each([["a SYN by a SYN-ACK", TCP], ["a datagram by one", UDP]])("%s is counted once, with what it took", async (_, protocol) => {
    const plane = await serving(sketch(freshInstance()));
    const [startMs, flow, sentMs] = [nowMs(), ask(plane, 1000, { protocol }), nowMs()];
    // Part of a tick of the coarse clock.
    while (nowMs() - sentMs < 1);
    const answerMs = nowMs();
    answer(plane, flow);
    const endMs = nowMs();
    const { answers, waitedMs } = counted(plane)!;
    expect(answers).toBe(1);
    expect(waitedMs).toBeGreaterThanOrEqual(answerMs - sentMs);
    expect(waitedMs).toBeLessThanOrEqual(endMs - startMs);
    for (const flags of [SYN_ACK, ACK]) answer(plane, flow, flags);
    ask(plane, 1000, { protocol, flags: ACK });
    answer(plane, flow, ACK);
    expect(counted(plane)).toEqual({ answers, waitedMs });
  });

  it("what is no answer to a SYN is not counted, and a connection that opens again is not either", async () => {
    const plane = await serving(sketch(freshInstance()));
    answer(plane, ask(plane, 1000), RST_ACK);
    answer(plane, ask(plane, 1000));
    // One that was there before: nobody knows when it asked what.
    answer(plane, ask(plane, 1001, { flags: ACK }), ACK);
    answer(plane, ask(plane, 1001), SYN_ACK);
    expect(counted(plane)).toEqual({ answers: 0, waitedMs: 0 });
  });

  it("a SYN that was sent again has waited since the first, and three seconds at most", async () => {
    const plane = await serving(sketch(freshInstance()));
    const flow = ask(plane, 1000);
    age(plane, flow, 2000);
    ask(plane, 1000);
    answer(plane, flow);
    const again = counted(plane)!;
    expect(again.answers).toBe(1);
    expect(again.waitedMs).toBeGreaterThanOrEqual(2000);
    expect(again.waitedMs).toBeLessThan(MAX_MS);
    for (const [port, protocol] of [[1001, TCP], [1002, UDP]] as const) {
      const late = ask(plane, port, { protocol });
      age(plane, late, 100_000);
      answer(plane, late);
    }
    expect(counted(plane)!.answers).toBe(3);
    expect(counted(plane)!.waitedMs).toBeCloseTo(again.waitedMs + 2 * MAX_MS, 5);
  });

  it("what was counted stays when maps grow and when another supervisor takes over, and is nobody else's", async () => {
    const instance = freshInstance();
    const plane = await serving(sketch(instance));
    for (let port = 1000; port < 1010; port += 1) answer(plane, ask(plane, port));
    const before = counted(plane)!;
    expect(before.answers).toBe(10);
    // More than the object file says.
    const larger = sketch(instance, { limits: "{ services: 4, backends: 5000, flows: 64, natFlows: 256 }" });
    await plane.apply(tableOf(larger, plane.ledger()));
    await plane.close({ detach: false, drainMs: 0 });
    opened.pop();
    const adopted = await serving(larger);
    expect(adopted.inside.maps.maps.answer_counts.info().maxEntries).toBeGreaterThanOrEqual(5000);
    expect(counted(adopted)).toEqual(before);
    // What an earlier process counted is old.
    expect(adopted.handshakeMs("web/a")).toBeNull();
    answer(adopted, ask(adopted, 1010));
    expect(counted(adopted)!.answers).toBe(11);
  });

  it("an id that is given to another backend has counted nothing, and late answers of the first are not the other's", async () => {
    const instance = freshInstance();
    const plane = await serving(sketch(instance));
    const idsOf = (): number[] => [...plane.inside.state.destinations].filter(([, { given }]) => given).map(([id]) => id);
    const first = new Set(idsOf());
    const late = ask(plane, 2000, { protocol: UDP });
    answer(plane, ask(plane, 1000));
    let name = "";
    const all = (id: number): bigint => plane.inside.maps.maps.answer_counts.lookup(Uint8Array.of(id, 0, 0, 0))!
      .reduce((sum, byte) => sum + BigInt(byte), 0n);
    expect([...first].some((id) => all(id) > 0n)).toBe(true);
    for (let round = 0; name === ""; round += 1) {
      expect(round).toBeLessThan(50);
      await apply(plane, sketch(instance, { backends: `[{ name: b${round}, address: 10.1.0.${round % 2 === 0 ? 12 : 13} }]` }));
      if (idsOf().every((id) => first.has(id))) name = `web/b${round}`;
    }
    expect(counted(plane, name)).toEqual({ answers: 0, waitedMs: 0 });
    answer(plane, late);
    expect(counted(plane, name)).toEqual({ answers: 0, waitedMs: 0 });
    answer(plane, ask(plane, 1001));
    expect(counted(plane, name)!.answers).toBe(1);
  });
});
