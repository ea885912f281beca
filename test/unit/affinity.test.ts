// Where clients go that have been here: what they are remembered under, what counts, and what is written.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { affineDestination, affinityKey, affinityOf, beginAffinity } from "../../src/model/affinity.ts";
import { serviceKey } from "../../src/model/service_address.ts";
import type { ServiceConfig } from "../../src/model/config.ts";
import { decide, type Decision, type FlowEntry, type Packet, type State } from "../../src/model/decide.ts";
import { explain } from "../../src/model/explain.ts";
import type { Destination, ForwardingTable, Service } from "../../src/model/table.ts";
import { assertProperty } from "../support/counts.ts";
import { address, config, service, TableMaker, type ServiceChange } from "../support/proxy_world.ts";

const SECOND_NS = 1_000_000_000n;
const NOW_NS = 1000n * SECOND_NS;
const TIMEOUT_MS = 60_000;
const NAMES = ["a", "b", "c"];

function tableOf(change: ServiceChange = {}, down: readonly string[] = [], admissions: Record<string, number> = {}): ForwardingTable {
  const pool = Object.fromEntries(NAMES.map((name, at) => [name, { address: `10.0.0.${at + 1}`, port: 80 }]));
  return new TableMaker().make(
    config([service({ affinityTimeoutMs: TIMEOUT_MS, address: "203.0.113.1", ...change })], { web: pool }), down, admissions);
}

function only(table: ForwardingTable): Service {
  return table.services[0]!;
}

function named(table: ForwardingTable, name: string): Destination {
  return [...table.destinations.values()].find((each) => each.name === `web/${name}`)!;
}

function packetFrom(client: string, change: Partial<Packet> = {}): Packet {
  const { bytes, family } = address(client);
  return {
    kind: "flow", family, protocol: 6, source: bytes, sourcePort: 4000, destination: address("203.0.113.1").bytes,
    destinationPort: 80, syn: true, ack: false, fin: false, rst: false, tellable: false, ttl: 64, ...change,
  };
}

const MIDDLE: Partial<Packet> = { syn: false, ack: true };

function entryOf({ id, generation }: Destination, ageNs = 0n): FlowEntry {
  return { destination: id, generation, lastSeenNs: NOW_NS - ageNs };
}

function decided(table: ForwardingTable, packet: Packet, held: FlowEntry | null, state: Partial<State> = {}): Decision {
  return decide(table, { flow: null, nowNs: NOW_NS, heartbeatNs: null, neighbour: () => true, affinity: () => held, ...state }, packet);
}

function nameOf({ destination, how }: Decision): string {
  return `${destination?.backend ?? "nobody"} by ${how?.by ?? "nothing"}`;
}

describe("what a client is remembered under", () => {
  const idOf = (change: Partial<ServiceConfig>, key = "tcp 203.0.113.1:80"): bigint | undefined =>
    affinityOf({ ...service({ affinityTimeoutMs: TIMEOUT_MS }), ...change }, key)?.id;

  it("is the service's own while what it leads to may be the service's", () => {
    const own = idOf({});
    expect(idOf({ affinityTimeoutMs: null })).toBeUndefined();
    expect(idOf({ affinityTimeoutMs: 5000, algorithm: "round-robin", ringSize: 7 })).toBe(own);
    expect(idOf({ gue: { port: 1, variant: 1 } })).toBe(own);
    const others = [
      idOf({}, "udp 203.0.113.1:80"), idOf({ pool: "other" }), idOf({ forwarding: "nat" }), idOf({ forwarding: "gue" }),
      idOf({ forwarding: "gue", gue: { port: 1, variant: 0 } }),
      idOf({ pool: null, split: [{ name: "x", pool: "web", hundredths: 10_000 }, { name: "y", pool: "y", hundredths: 0 }] }),
    ];
    expect(new Set([own, ...others]).size).toBe(others.length + 1);
  });

  it("does not depend on the percentages of a split, nor on its order", () => {
    const [one, other] = [{ name: "x", pool: "x", hundredths: 9000 }, { name: "y", pool: "y", hundredths: 1000 }];
    expect(idOf({ pool: null, split: [one, other] })).toBe(idOf({ pool: null, split: [{ ...other, hundredths: 5000 }, one] }));
  });

  it("is as much of the address as counts, of either family", () => {
    const key = (client: string, ipv4: number, ipv6: number): string => {
      const { client: masked } = affinityKey({ id: 1n, timeoutMs: 1 }, { sourcePrefix: { ipv4, ipv6 } }, { source: address(client).bytes });
      return Buffer.from(masked).toString("hex");
    };
    expect(key("10.1.2.3", 24, 1)).toBe("00000000000000000000ffff0a010200");
    expect(key("10.1.2.3", 32, 1)).toBe("00000000000000000000ffff0a010203");
    expect(key("2001:db8:1:2:3::4", 1, 56)).toBe("20010db8000100000000000000000000");
    expect(key("2001:db8:1:2:3::4", 1, 128)).toBe("20010db8000100020003000000000004");
  });
});

describe("a packet of a client that has been here", () => {
  it("goes where the client has been, whatever places new flows, and its flow is remembered", () => {
    for (const algorithm of ["maglev", "round-robin", "least-connections", "random"] as const) {
      const table = tableOf({ algorithm });
      for (const name of NAMES) {
        const there = named(table, name);
        const decision = decided(table, packetFrom("198.18.0.9"), entryOf(there), {
          pick: () => ({ draw: 1, turn: 0, load: () => 0, loadTotal: () => 0 }),
        });
        expect(nameOf(decision)).toBe(`${name} by affinity`);
        const to = { destination: there.id, generation: there.generation };
        expect(decision.effects).toEqual([{ kind: "remember", ...to }, { kind: "keep-affinity", ...to }]);
      }
    }
  });

  it("does so to the last nanosecond of the timeout, and no longer", () => {
    const table = tableOf();
    const away = NAMES.find((name) => nameOf(decided(table, packetFrom("198.18.0.9"), null)) !== `${name} by ring`)!;
    const timeoutNs = BigInt(TIMEOUT_MS) * 1_000_000n;
    expect(nameOf(decided(table, packetFrom("198.18.0.9"), entryOf(named(table, away), timeoutNs)))).toBe(`${away} by affinity`);
    expect(decided(table, packetFrom("198.18.0.9"), entryOf(named(table, away), timeoutNs + 1n)).how?.by).toBe("ring");
  });

  it("does not where the backend is somebody else now, is down, or takes no new flows", () => {
    const up = tableOf();
    const held = entryOf(named(up, "b"));
    expect(decided(up, packetFrom("198.18.0.9"), { ...held, generation: held.generation + 1 }).how?.by).toBe("ring");
    const down = tableOf({}, ["web/b"]);
    expect(decided(down, packetFrom("198.18.0.9"), entryOf(named(down, "b"))).how?.by).toBe("ring");
    expect(decided(down, packetFrom("198.18.0.9", MIDDLE), entryOf(named(down, "b"))).how?.by).toBe("ring");
    const drained = tableOf({}, [], { "web/b": 0 });
    expect(decided(drained, packetFrom("198.18.0.9"), entryOf(named(drained, "b"))).how?.by).toBe("ring");
  });

  it("of a connection that nobody remembers goes there even if that takes no new ones, and of a datagram not", () => {
    const drained = tableOf({}, [], { "web/b": 0 });
    expect(nameOf(decided(drained, packetFrom("198.18.0.9", MIDDLE), entryOf(named(drained, "b"))))).toBe("b by affinity");
    const datagrams = tableOf({ protocol: "udp" }, [], { "web/b": 0 });
    const held = entryOf(named(datagrams, "b"));
    expect(decided(datagrams, packetFrom("198.18.0.9", { protocol: 17 }), held).how?.by).toBe("ring");
    expect(affineDestination(datagrams, only(datagrams), packetFrom("198.18.0.9", { protocol: 17, kind: "icmp-error" }), held, NOW_NS))
      .toBe(named(datagrams, "b"));
  });

  it("goes to one that is down where all get flows", () => {
    const failed = tableOf({ failOpen: true }, NAMES.map((name) => `web/${name}`));
    expect(nameOf(decided(failed, packetFrom("198.18.0.9"), entryOf(named(failed, "b"))))).toBe("b by affinity");
  });
});

describe("what is remembered of a client", () => {
  it("is where its newest flow began, and touched by flows that are there", () => {
    const table = tableOf();
    const [a, b] = [named(table, "a"), named(table, "b")];
    const flowOf = (to: Destination): FlowEntry => ({ ...entryOf(to, 5n * SECOND_NS), other: 0 });
    const kept = (held: FlowEntry | null, flow: FlowEntry): number | null =>
      decided(table, packetFrom("198.18.0.9", MIDDLE), held, { flow }).effects
        .flatMap((effect) => (effect.kind === "keep-affinity" ? [effect.destination] : []))[0] ?? null;
    expect(kept(entryOf(b), flowOf(b))).toBe(b.id);
    // The client went to b since then.
    expect(kept(entryOf(b), flowOf(a))).toBeNull();
    expect(kept(null, flowOf(a))).toBeNull();
    // Not due: nothing is written.
    expect(kept(entryOf(b), entryOf(b))).toBeNull();
  });

  it("is nothing of a packet that did not get away", () => {
    const table = tableOf();
    const decision = decided(table, packetFrom("198.18.0.9"), null, { neighbour: () => false });
    expect(decision).toMatchObject({ verdict: "DROP_NO_NEIGHBOUR", effects: [] });
    const { destination } = decided(table, packetFrom("198.18.0.9"), null);
    const dropped: Decision = { verdict: "DROP_NO_ROOM", service: only(table), destination, effects: [], how: null };
    expect(beginAffinity(dropped)).toBe(dropped);
    expect(beginAffinity({ ...dropped, verdict: "PASS_LOCAL" }).effects).toHaveLength(1);
  });

  it("keeps a client together whatever its ports are, and clients of a prefix too", () => {
    const table = tableOf({ sourcePrefix: { ipv4: 24, ipv6: 64 }, algorithm: "random" });
    const memory = new Map<string, FlowEntry>();
    const hosts = fc.array(fc.record({ host: fc.integer({ min: 1, max: 254 }), port: fc.nat(65_535), draw: fc.nat(0xffff_ffff) }),
      { minLength: 2, maxLength: 20 });
    assertProperty("pick", fc.property(fc.nat(255), hosts, (net, flows) => {
      memory.clear();
      const met = flows.map(({ host, port, draw }) => {
        const packet = packetFrom(`198.18.${net}.${host}`, { sourcePort: port });
        const key = String(affinityKey(only(table).affinity!, only(table).config, packet).client);
        const decision = decided(table, packet, memory.get(key) ?? null, {
          pick: () => ({ draw, turn: 0, load: () => 0, loadTotal: () => 0 }),
        });
        for (const effect of decision.effects) if (effect.kind === "keep-affinity") memory.set(key, { ...effect, lastSeenNs: NOW_NS });
        return decision.destination?.name;
      });
      expect(new Set(met).size).toBe(1);
    }));
  });
});

describe("explain", () => {
  it("says whom the service remembers, and that it does not know whether it does", () => {
    const wanted = config([service({ affinityTimeoutMs: TIMEOUT_MS, address: "203.0.113.1", sourcePrefix: { ipv4: 24, ipv6: 128 } })],
      { web: { a: { address: "10.0.0.1", port: 80 } } });
    const table = new TableMaker().make(wanted);
    const { steps } = explain(table, wanted, only(table), { address: address("198.18.0.9"), port: 1 }, { address: address("203.0.113.1"), port: 80 });
    expect(steps.find(({ step }) => step === "affinity")?.detail).toContain("the first 24 bits of its address is remembered (affinityTimeout 60 s)");
    expect(serviceKey(only(table).config)).toBe("tcp 203.0.113.1:80");
  });
});
