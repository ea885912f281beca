// decide(), step by step: each comparison from both of its sides, and what comes before what. Every
// test here has a mutant that it kills; the same cases meet the XDP program in test/kernel.

import { NO_NAT } from "../../src/model/nat.ts";
import { describe, expect, it } from "vitest";
import { VERDICT_NAMES } from "../../src/dataplane/xdp/abi.gen.ts";
import { parseAddress, parsePrefix } from "../../src/model/address.ts";
import type { Address } from "../../src/model/address.ts";
import type { ServiceConfig } from "../../src/model/config.ts";
import { decide } from "../../src/model/decide.ts";
import { slotFor } from "../../src/model/slot.ts";
import { isDenied } from "../../src/model/policy.ts";
import { isVirtualAddress, serviceOf } from "../../src/model/service_lookup.ts";
import type { Decision, FlowEntry, Packet, State, VerdictName } from "../../src/model/decide.ts";
import { flowHash, slotOf, sourceHash } from "../../src/model/flow_hash.ts";
import type { Destination, ForwardingTable, Service } from "../../src/model/table.ts";
import { readGolden } from "../support/golden_packets.ts";
import { serviceAt } from "../support/service_at.ts";

const SECOND_NS = 1_000_000_000n;
const NOW_NS = 1_000n * SECOND_NS;
const IDLE_MS = 60_000;
const base = readGolden().table("keep");

function at(text: string): Address {
  const address = parseAddress(text);
  if (address === null) throw new Error(text);
  return address;
}

const VIP = at("203.0.113.10");
const CLIENT = at("192.0.2.7");

function destinationOf(id: number, changes: Partial<Destination> = {}): Destination {
  return { ...base.destinations.get(1)!, id, generation: 3, ...changes };
}

interface Given {
  readonly config?: Partial<ServiceConfig>;
  readonly slots?: readonly number[];
  readonly destinations?: readonly Destination[];
  readonly orphan?: ForwardingTable["orphan"];
  readonly icmpErrorsPerSecond?: number;
  readonly state?: Partial<State>;
  readonly packet?: Partial<Packet>;
}

function tableOf(given: Given): ForwardingTable {
  const { config = {}, slots = [1], destinations, orphan, icmpErrorsPerSecond = 1000 } = given;
  const template = base.services[0]!;
  const ring = {
    key: "",
    size: slots.length,
    slots: Uint16Array.from(slots),
    configured: Uint16Array.from(slots),
  };
  const service: Service = {
    ...template,
    ring,
    config: {
      ...template.config,
      ...serviceAt(VIP.text, 443),
      protocol: "tcp",
      tracking: "full",
      flowIdleMs: IDLE_MS,
      ...config,
    },
  };
  return {
    ...base,
    services: [service],
    orphan: orphan ?? { afterMs: 0, action: "keep" },
    icmpErrorsPerSecond,
    pathMtuAgeMs: 600_000,
    nat: NO_NAT,
    destinations: new Map(
      (destinations ?? [destinationOf(1), destinationOf(2)]).map((one) => [one.id, one]),
    ),
  };
}

function packetOf(changes: Partial<Packet> = {}): Packet {
  return {
    kind: "flow",
    family: 4,
    source: CLIENT.bytes,
    destination: VIP.bytes,
    protocol: 6,
    sourcePort: 40_000,
    destinationPort: 443,
    syn: false,
    ack: true,
    fin: false,
    rst: false,
    tellable: true,
    ttl: 64,
    ...changes,
  };
}

function decided(given: Given): Decision {
  const state: State = {
    flow: null,
    nowNs: NOW_NS,
    heartbeatNs: NOW_NS,
    neighbour: () => true,
    ...given.state,
  };
  return decide(tableOf(given), state, packetOf(given.packet));
}

function entry(changes: Partial<FlowEntry> = {}): FlowEntry {
  return { destination: 2, generation: 3, lastSeenNs: NOW_NS, ...changes };
}

/** "flow 2", "ring 1", … or the verdict when it was not forwarded. */
function way(given: Given): string {
  const { verdict, destination, how } = decided(given);
  return verdict === "TX_FORWARDED" ? `${how!.by} ${destination!.id}` : verdict;
}

const SYN = { syn: true, ack: false };

describe("a service", () => {
  it("is found by address, port and protocol together", () => {
    const table = tableOf({});
    expect(serviceOf(table, VIP.bytes, 443, 6)).toBe(table.services[0]);
    expect(serviceOf(table, VIP.bytes, 443, 17)).toBeNull();
    expect(serviceOf(table, VIP.bytes, 444, 6)).toBeNull();
    expect(serviceOf(table, CLIENT.bytes, 443, 6)).toBeNull();
    expect(isVirtualAddress(table, VIP.bytes)).toBe(true);
    expect(isVirtualAddress(table, CLIENT.bytes)).toBe(false);
  });

  it("is all that a packet with ports is measured against", () => {
    expect(way({ packet: { destinationPort: 80 } })).toBe("PASS_NOT_OURS");
    expect(way({ packet: { protocol: 17 } })).toBe("PASS_NOT_OURS");
    expect(way({ packet: { kind: "first-fragment", destinationPort: 80 } })).toBe("PASS_NOT_OURS");
  });

  it("has no say over what has no ports, its address has", () => {
    const verdicts: Readonly<Record<string, VerdictName>> = {
      "echo-request": "TX_ECHO_REPLY",
      icmp: "PASS_ICMP",
      "later-fragment": "PASS_FRAGMENT",
      "other-protocol": "PASS_PROTOCOL",
      truncated: "PASS_TRUNCATED",
    };
    for (const [kind, verdict] of Object.entries(verdicts) as [Packet["kind"], VerdictName][]) {
      expect(way({ packet: { kind } })).toBe(verdict);
      expect(way({ packet: { kind, destination: CLIENT.bytes } })).toBe("PASS_NOT_OURS");
    }
  });

  it("hashes the whole tuple, or the client's network", () => {
    const packet = packetOf();
    const hashing = (config: Partial<ServiceConfig>): ReturnType<typeof slotFor> =>
      slotFor(tableOf({ config, slots: new Array<number>(251).fill(1) }).services[0]!, packet);
    const whole = flowHash(1n, packet.source, 40_000, packet.destination, 443, 6);
    expect(hashing({ hash: "5-tuple" })).toEqual({ hash: whole, slot: slotOf(whole, 251) });
    const prefix = { ipv4: 24, ipv6: 64 };
    const source = sourceHash(1n, packet.source, prefix);
    expect(hashing({ hash: "source-ip", sourcePrefix: prefix })).toEqual({
      hash: source,
      slot: slotOf(source, 251),
    });
  });
});

describe("a flow", () => {
  it("is followed while its destination is the one it was", () => {
    expect(way({ state: { flow: entry() } })).toBe("flow 2");
    expect(way({ state: { flow: entry({ generation: 2 }) } })).toBe("ring 1");
    expect(way({ state: { flow: entry({ generation: 4 }) } })).toBe("ring 1");
    expect(way({ state: { flow: entry({ destination: 9 }) } })).toBe("ring 1");
    expect(way({ state: { flow: null } })).toBe("ring 1");
  });

  it("ends with its destination's life, not with its admission", () => {
    const dead = [destinationOf(1), destinationOf(2, { alive: false })];
    const draining = [destinationOf(1), destinationOf(2, { admission: 0 })];
    const ramping = [destinationOf(1), destinationOf(2, { admission: 1 })];
    expect(way({ destinations: dead, state: { flow: entry() } })).toBe("ring 1");
    expect(way({ destinations: draining, state: { flow: entry() } })).toBe("flow 2");
    expect(way({ destinations: draining, state: { flow: entry() }, packet: SYN })).toBe("ring 1");
    expect(
      way({ destinations: draining, state: { flow: entry() }, packet: { syn: true, ack: true } }),
    ).toBe("flow 2");
    expect(way({ destinations: ramping, state: { flow: entry() }, packet: SYN })).toBe("flow 2");
  });

  it("is forgotten after its idle time and not at it", () => {
    const idle = BigInt(IDLE_MS) * 1_000_000n;
    expect(way({ state: { flow: entry({ lastSeenNs: NOW_NS - idle }) } })).toBe("flow 2");
    expect(way({ state: { flow: entry({ lastSeenNs: NOW_NS - idle - 1n }) } })).toBe("ring 1");
    expect(way({ state: { flow: entry({ lastSeenNs: NOW_NS + 1n }) } })).toBe("flow 2");
  });

  it("is touched once a second at most", () => {
    const effects = (lastSeenNs: bigint): Decision["effects"] =>
      decided({ state: { flow: entry({ lastSeenNs }) } }).effects;
    expect(effects(NOW_NS - SECOND_NS)).toEqual([]);
    expect(effects(NOW_NS - SECOND_NS - 1n)).toEqual([{ kind: "touch" }]);
    expect(effects(NOW_NS + SECOND_NS)).toEqual([]);
  });

  it("is marked once when its client closes it or breaks it off, and no more when it begins anew", () => {
    const effects = (packet: Partial<Packet>, changes: Partial<FlowEntry> = {}): Decision["effects"] =>
      decided({ state: { flow: entry({ lastSeenNs: NOW_NS, ...changes }) }, packet }).effects;
    const [fin, rst] = [{ syn: false, ack: true, fin: true }, { syn: false, rst: true }];
    const closes = [{ kind: "touch", closes: true }];
    expect([effects(fin), effects(rst), effects({ ...fin, rst: true })]).toEqual([closes, closes, closes]);
    expect([effects(fin, { closes: true }), effects({ syn: false, ack: true }, { closes: true })]).toEqual([[], []]);
    const old = { closes: true, lastSeenNs: NOW_NS - SECOND_NS - 1n };
    expect(effects({ syn: false, ack: true }, old)).toEqual([{ kind: "touch" }]);
    expect(effects(SYN, { closes: true })).toEqual([{ kind: "touch", closes: false }]);
    expect(effects({ ...SYN, fin: true }, { closes: true })).toEqual([{ kind: "touch", closes: false }]);
    // Of one that nobody remembers, it is the first that is seen.
    expect(decided({ packet: fin }).effects).toEqual([{ kind: "remember", destination: 1, generation: 3, closes: true }]);
    expect(decided({ packet: { ...SYN, fin: true } }).effects).toEqual([{ kind: "remember", destination: 1, generation: 3 }]);
  });

  it("is remembered with the generation of its destination, whatever was there", () => {
    const remembered = [{ kind: "remember", destination: 1, generation: 3 }];
    expect(decided({}).effects).toEqual(remembered);
    expect(decided({ state: { flow: entry({ generation: 9 }) } }).effects).toEqual(remembered);
  });

  it("is forgotten when nobody is left", () => {
    expect(decided({ slots: [0], state: { flow: entry({ generation: 9 }) } })).toMatchObject({
      verdict: "DROP_NO_BACKEND",
      destination: null,
      effects: [{ kind: "forget" }],
      how: { by: "ring", slot: 0 },
    });
    expect(decided({ slots: [0] }).effects).toEqual([]);
    expect(way({ slots: [7] })).toBe("DROP_NO_BACKEND");
  });

  it("is not looked at where nothing is tracked", () => {
    const config = { tracking: "none" } as const;
    expect(way({ config, state: { flow: entry() } })).toBe("ring 1");
    expect(decided({ config }).effects).toEqual([]);
    expect(decided({ config, slots: [0], state: { flow: entry() } }).effects).toEqual([]);
  });
});

describe("a packet on its way", () => {
  it("needs a hop to spare", () => {
    expect(["0", "1", "2"].map((ttl) => way({ packet: { ttl: Number(ttl) } }))).toEqual([
      "DROP_TTL_EXPIRED",
      "DROP_TTL_EXPIRED",
      "ring 1",
    ]);
  });

  it("needs a next hop, then room, and leaves no effect without", () => {
    const state: Partial<State> = { neighbour: () => false, obstacle: () => "DROP_NO_ROOM" };
    expect(decided({ state })).toMatchObject({
      verdict: "DROP_NO_NEIGHBOUR",
      destination: { id: 1 },
      effects: [],
    });
    expect(decided({ state: { obstacle: () => "DROP_NO_ROOM" } })).toMatchObject({
      verdict: "DROP_NO_ROOM",
      effects: [],
    });
    expect(decided({ state: { obstacle: () => null } }).verdict).toBe("TX_FORWARDED");
    expect(
      decided({
        state: { flow: entry({ lastSeenNs: 0n }), neighbour: (id) => id !== 2 },
        config: { flowIdleMs: 10 ** 9 },
      }),
    ).toMatchObject({ verdict: "DROP_NO_NEIGHBOUR", destination: { id: 2 }, effects: [] });
  });
});

describe("a backend on this host", () => {
  it("has its packets as they came, whatever their size and its neighbours, and keeps its flows", () => {
    const local: Partial<State> = {
      local: (id) => id === 1, neighbour: () => false, obstacle: () => "DROP_TOO_BIG",
    };
    expect(decided({ state: local })).toMatchObject({
      verdict: "PASS_LOCAL", destination: { id: 1 }, effects: [{ kind: "remember", destination: 1 }],
    });
    expect(decided({ state: { ...local, flow: entry({ destination: 2 }) } }).verdict).toBe("DROP_NO_NEIGHBOUR");
    expect(decided({ state: local, packet: { ttl: 1 } }))
      .toMatchObject({ verdict: "PASS_LOCAL", effects: [{ kind: "remember" }] });
  });
});

describe("an orphaned plane", () => {
  const silent = (
    afterMs: number,
    action: "keep" | "pass" | "drop",
    heartbeatNs: bigint | null,
  ): string => way({ orphan: { afterMs, action }, state: { heartbeatNs } });

  it("does what was chosen, after the time and not at it", () => {
    expect(silent(1000, "drop", NOW_NS - SECOND_NS)).toBe("ring 1");
    expect(silent(1000, "drop", NOW_NS - SECOND_NS - 1n)).toBe("DROP_ORPHANED");
    expect(silent(1000, "pass", NOW_NS - SECOND_NS - 1n)).toBe("PASS_ORPHANED");
    expect(silent(1000, "keep", NOW_NS - SECOND_NS - 1n)).toBe("ring 1");
  });

  it("is never orphaned without a limit, and always fresh for whoever has no heartbeat", () => {
    expect(silent(0, "drop", 0n)).toBe("ring 1");
    expect(silent(1000, "drop", null)).toBe("ring 1");
    expect(silent(1000, "drop", NOW_NS + SECOND_NS)).toBe("ring 1");
  });
});

describe("a policy", () => {
  const policy = (allow: string[], deny: string[]): ServiceConfig => ({
    ...base.services[0]!.config,
    policy: {
      allow: allow.map((text) => parsePrefix(text)!),
      deny: deny.map((text) => parsePrefix(text)!),
    },
  });
  const denies = (allow: string[], deny: string[], client = "192.0.2.7"): boolean =>
    isDenied(policy(allow, deny), at(client).bytes);

  it("admits everybody unless it says otherwise", () => {
    expect(denies([], [])).toBe(false);
    expect(denies(["192.0.2.0/24"], [])).toBe(false);
    expect(denies(["198.51.100.0/24"], [])).toBe(true);
    expect(denies([], ["192.0.2.0/24"])).toBe(true);
    expect(denies([], ["198.51.100.0/24"])).toBe(false);
  });

  it("lets the longer prefix decide, and denies on a tie", () => {
    expect(denies(["192.0.2.0/25"], ["192.0.2.0/24"])).toBe(false);
    expect(denies(["192.0.2.0/24"], ["192.0.2.0/25"])).toBe(true);
    expect(denies(["192.0.2.0/24"], ["192.0.2.0/24"])).toBe(true);
    expect(denies(["192.0.2.7/32"], ["0.0.0.0/0"])).toBe(false);
    expect(denies(["192.0.2.6/32"], ["0.0.0.0/0"])).toBe(true);
    expect(denies(["192.0.0.0/8", "192.0.2.0/25"], ["192.0.2.0/24"])).toBe(false);
  });

  it("counts in the mapped form, where IPv4 is a corner of IPv6", () => {
    expect(denies([], ["::/0"], "192.0.2.7")).toBe(true);
    expect(denies([], ["0.0.0.0/0"], "2001:db8::1")).toBe(false);
    expect(denies(["0.0.0.0/0"], ["::/0"], "192.0.2.7")).toBe(false);
    expect(denies(["0.0.0.0/0"], ["::/0"], "2001:db8::1")).toBe(true);
  });
});

describe("a packet that does not fit", () => {
  const big: Partial<State> = { flow: entry(), obstacle: () => "DROP_TOO_BIG" };

  it("is answered, when its sender may be told and the pace allows it", () => {
    expect(decided({ state: big }).verdict).toBe("TX_TOO_BIG");
    expect(decided({ state: { ...big, inPace: true } }).verdict).toBe("TX_TOO_BIG");
    expect(decided({ state: { ...big, inPace: false } }).verdict).toBe("DROP_TOO_BIG");
    expect(decided({ state: big, packet: { tellable: false } }).verdict).toBe("DROP_TOO_BIG");
    expect(decided({ state: big, icmpErrorsPerSecond: 0 }).verdict).toBe("DROP_TOO_BIG");
    expect(decided({ state: big, packet: { kind: "icmp-error", tellable: false } }).verdict)
      .toBe("DROP_TOO_BIG");
    expect(decided({ state: { ...big, obstacle: () => "DROP_NO_ROOM" } }).verdict).toBe("DROP_NO_ROOM");
  });

  it("leaves no trace", () => {
    expect(decided({ state: { ...big, flow: null } }).effects).toEqual([]);
    expect(decided({ state: { ...big, flow: entry({ lastSeenNs: NOW_NS - 2_000_000_000n }) } }).effects)
      .toEqual([]);
  });
});

describe("the order", () => {
  it("is this host or another, service, policy, orphan, ring, next hop, time to live", () => {
    const everything: Given = {
      config: { policy: { allow: [], deny: [parsePrefix("192.0.2.0/24")!] } },
      slots: [0],
      orphan: { afterMs: 1, action: "drop" },
      state: { isForThisHost: false, heartbeatNs: 0n, neighbour: () => false },
      packet: { ttl: 0, destinationPort: 80 },
    };
    const cured: readonly [VerdictName, Partial<Given>][] = [
      ["PASS_OTHER_HOST", { state: { heartbeatNs: 0n, neighbour: () => false } }],
      ["PASS_NOT_OURS", { packet: { ttl: 0 } }],
      ["DROP_DENIED", { config: {} }],
      ["DROP_ORPHANED", { orphan: { afterMs: 0, action: "drop" } }],
      ["DROP_NO_BACKEND", { slots: [1] }],
      ["DROP_NO_NEIGHBOUR", { state: {} }],
      ["DROP_TTL_EXPIRED", { packet: {} }],
    ];
    let given = everything;
    for (const [verdict, cure] of cured) {
      expect(decided(given).verdict).toBe(verdict);
      given = { ...given, ...cure };
    }
    expect(decided(given).verdict).toBe("TX_FORWARDED");
  });

  it("uses the names that the program counts by", () => {
    const named: Record<VerdictName, true> = {
      PASS_NOT_IP: true,
      PASS_MALFORMED: true,
      PASS_OTHER_HOST: true,
      PASS_NOT_OURS: true,
      PASS_TRUNCATED: true,
      PASS_FRAGMENT: true,
      PASS_ICMP: true,
      PASS_PROTOCOL: true,
      PASS_ORPHANED: true,
      PASS_LOCAL: true,
      TX_FORWARDED: true,
      TX_REPLY: true,
      DROP_NO_PORT: true,
      DROP_NAT_FULL: true,
      TX_ECHO_REPLY: true,
      TX_ICMP_ERROR: true,
      TX_TOO_BIG: true,
      TX_RESET: true,
      DROP_DENIED: true,
      DROP_ORPHANED: true,
      DROP_TTL_EXPIRED: true,
      DROP_NO_BACKEND: true,
      DROP_NO_NEIGHBOUR: true,
      DROP_NO_ROOM: true,
      DROP_TOO_BIG: true,
      DROP_TUNNEL_ERROR: true,
    };
    expect(Object.keys(named).sort()).toEqual(VERDICT_NAMES.slice(1, -1).sort());
  });
});
