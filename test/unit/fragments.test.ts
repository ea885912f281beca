// Fragments by themselves: what parsePacket() finds in each of them, under which key their datagram
// is remembered, and how decide() lets the later ones follow the first. From RFC 791, 6946 and 8200
// (4.5).

import { describe, expect, it } from "vitest";
import { decide } from "../../src/model/decide.ts";
import type { Decision, FlowEntry, State } from "../../src/model/decide.ts";
import { withPorts } from "../../src/model/fragment.ts";
import type { FragmentEntry } from "../../src/model/fragment.ts";
import { flowKeyOf, fragmentKeyOf, parsePacket } from "../../src/model/packet.ts";
import type { ParsedPacket } from "../../src/model/packet.ts";
import type { ForwardingTable } from "../../src/model/table.ts";
import { readGolden } from "../support/golden_packets.ts";
import { TCP, UDP, frameOf, ipv4 } from "../support/packets.ts";
import type { Extension, FrameSpec } from "../support/packets.ts";

const golden = readGolden();
const PORT = golden.table("keep").services[0]!.config.ports.from;
const NOW_NS = 10n ** 15n;
const LIFE_NS = 30_000_000_000n;
const V6 = { family: 6, source: v6(0x20, 7), destination: v6(0xfd, 0x10) } as const;
const V4 = { family: 4, source: ipv4(192, 0, 2, 7), destination: ipv4(203, 0, 113, 10) } as const;

function v6(first: number, last: number): Uint8Array {
  const address = new Uint8Array(16);
  address[0] = first;
  address[15] = last;
  return address;
}

function parsed(changes: Partial<FrameSpec>): ParsedPacket {
  const packet = parsePacket(frameOf({ destinationPort: PORT, sourcePort: 40_000, ...changes }));
  if (typeof packet === "string") throw new Error(packet);
  return packet;
}

function header(offset: number, more: boolean, id: number): Extension {
  return { type: 44, length: 8, segmentsLeft: 0, fragment: { offset, more, id } };
}

function piece4(offset: number, more: boolean, id = 0xabcd, protocol = UDP): ParsedPacket {
  return parsed({ ...V4, protocol, fragmentOffset: offset, more, id, dontFragment: false });
}

function piece6(offset: number, more: boolean, id = 0xabcd_1234, protocol = UDP): ParsedPacket {
  return parsed({ ...V6, protocol, extensions: [header(offset, more, id)] });
}

describe("the key of a datagram", () => {
  it("is the same for each of its fragments", () => {
    for (const piece of [piece4, piece6]) {
      const [first, middle, last] = [piece(0, true), piece(8, true), piece(16, false)];
      expect([first, middle, last].map(({ kind }) => kind))
        .toEqual(["first-fragment", "later-fragment", "later-fragment"]);
      expect(fragmentKeyOf(middle)).toEqual(fragmentKeyOf(first));
      expect(fragmentKeyOf(last)).toEqual(fragmentKeyOf(first));
    }
    expect(fragmentKeyOf(piece4(0, true))).toEqual({
      source: V4.source, destination: V4.destination, identification: 0xabcd, protocol: UDP,
    });
    expect(fragmentKeyOf(piece6(0, true))).toEqual({
      source: V6.source, destination: V6.destination, identification: 0xabcd_1234, protocol: 0,
    });
  });

  it("tells datagrams apart by number, and in IPv4 by protocol", () => {
    expect(fragmentKeyOf(piece4(8, true, 1))).not.toEqual(fragmentKeyOf(piece4(0, true, 2)));
    expect(fragmentKeyOf(piece6(8, true, 1 << 16)))
      .not.toEqual(fragmentKeyOf(piece6(0, true, 2 << 16)));
    expect(fragmentKeyOf(piece4(8, true, 1, TCP)))
      .not.toEqual(fragmentKeyOf(piece4(0, true, 1, UDP)));
    // RFC 8200, 4.5: the next headers of the fragments of one packet may differ.
    expect(fragmentKeyOf(piece6(8, true, 1, 59))).toEqual(fragmentKeyOf(piece6(0, true, 1, UDP)));
  });

  it("is of fragments alone: an atomic one is a whole packet", () => {
    expect(parsed(V4)).toMatchObject({ kind: "flow", identification: 0 });
    expect(parsed({ ...V4, id: 77 })).toMatchObject({ kind: "flow", identification: 0 });
    expect(piece6(0, false)).toMatchObject({ kind: "flow", identification: 0 });
    // An atomic header before the one that counts.
    const both = parsed({ ...V6, extensions: [header(0, false, 1), header(0, true, 2)] });
    expect(both).toMatchObject({ kind: "first-fragment", identification: 2 });
  });
});

function tableOf(tracking: "none" | "full" = "full"): ForwardingTable {
  const table = golden.table("keep");
  const services = table.services.map((service) =>
    ({ ...service, config: { ...service.config, tracking, flowIdleMs: 60_000 } }));
  return { ...table, services, orphan: { afterMs: 0, action: "keep" } };
}

function entry(changes: Partial<FragmentEntry> = {}): FragmentEntry {
  const ports = { sourcePort: 40_000, destinationPort: PORT, protocol: UDP };
  return { ...ports, rememberedNs: NOW_NS, ...changes };
}

function decided(packet: ParsedPacket, changes: Partial<State> = {}, table = tableOf()): Decision {
  const state = { flow: null, nowNs: NOW_NS, heartbeatNs: NOW_NS, neighbour: () => true };
  return decide(table, { ...state, ...changes }, packet);
}

describe("a first fragment", () => {
  it("is forwarded as any packet of its flow, and leaves its ports", () => {
    for (const piece of [piece4, piece6]) {
      const { verdict, effects } = decided(piece(0, true));
      expect(verdict).toBe("TX_FORWARDED");
      expect(effects.map(({ kind }) => kind)).toEqual(["remember", "remember-fragment"]);
      const untracked = decided(piece(0, true), {}, tableOf("none"));
      expect(untracked.effects).toEqual([{ kind: "remember-fragment" }]);
    }
  });

  it("leaves nothing when it does not get away", () => {
    expect(decided(piece4(0, true), { neighbour: () => false })).toMatchObject({
      verdict: "DROP_NO_NEIGHBOUR", effects: [],
    });
    expect(decided({ ...piece4(0, true), ttl: 1 })).toMatchObject({
      verdict: "DROP_TTL_EXPIRED", effects: [],
    });
  });
});

describe("a later fragment", () => {
  it("goes where the flow goes, by table and by ring, and counts as its packet", () => {
    for (const piece of [piece4, piece6]) {
      const [first, later] = [piece(0, true), piece(8, false)];
      expect(flowKeyOf(withPorts(later, { fragment: entry(), nowNs: NOW_NS })))
        .toEqual(flowKeyOf(first));
      const byRing = decided(later, { fragment: entry() });
      expect(byRing).toMatchObject({ verdict: "TX_FORWARDED", how: decided(first).how });
      expect(byRing.effects.map(({ kind }) => kind)).toEqual(["remember"]);
      const flow: FlowEntry = { destination: 2, generation: 1, lastSeenNs: NOW_NS };
      expect(decided(later, { fragment: entry(), flow })).toMatchObject({
        verdict: "TX_FORWARDED", destination: { id: 2 }, how: { by: "flow" }, effects: [],
      });
    }
  });

  it("opens no connection, whatever the first one did", () => {
    const fragment = entry({ protocol: TCP });
    const later = withPorts(piece4(8, false, 1, TCP), { fragment, nowNs: NOW_NS });
    expect(later).toMatchObject({ kind: "flow", protocol: TCP, syn: false });
  });

  it("is nobody's without a first one, or long after it", () => {
    const verdict = (fragment: FragmentEntry | null): string =>
      decided(piece4(8, false), { fragment }).verdict;
    expect(decided(piece4(8, false)).verdict).toBe("PASS_FRAGMENT");
    expect(verdict(null)).toBe("PASS_FRAGMENT");
    expect(verdict(entry({ rememberedNs: NOW_NS - LIFE_NS }))).toBe("TX_FORWARDED");
    expect(verdict(entry({ rememberedNs: NOW_NS - LIFE_NS - 1n }))).toBe("PASS_FRAGMENT");
    // Another CPU's clock may be a little ahead.
    expect(verdict(entry({ rememberedNs: NOW_NS + 1n }))).toBe("TX_FORWARDED");
  });

  it("is measured against its service as it stands now", () => {
    const gone = decided(piece4(8, false), { fragment: entry({ destinationPort: 9 }) });
    expect(gone.verdict).toBe("PASS_NOT_OURS");
    const late = decided({ ...piece4(8, false), ttl: 1 }, { fragment: entry() });
    expect(late.verdict).toBe("DROP_TTL_EXPIRED");
  });

  it("has no say in the ports of other packets", () => {
    const whole = parsed({ ...V4, protocol: UDP, destinationPort: 9 });
    expect(withPorts(whole, { fragment: entry(), nowNs: NOW_NS })).toBe(whole);
    expect(withPorts(piece4(0, true), { fragment: entry({ destinationPort: 9 }), nowNs: NOW_NS }))
      .toMatchObject({ kind: "first-fragment", destinationPort: PORT });
  });
});
