// parsePacket() on frames built field by field, and on every golden packet, which decide() then
// judges: what the XDP program is tested against is itself tested against scapy's packets.

import { isDeepStrictEqual } from "node:util";
import { describe, expect, it } from "vitest";
import { decide } from "../../src/model/decide.ts";
import type { Decision, State } from "../../src/model/decide.ts";
import type { FragmentEntry } from "../../src/model/fragment.ts";
import type { NatFlow } from "../../src/model/nat.ts";
import { isForThisHost } from "../../src/model/link_address.ts";
import { isSameFlow } from "../../src/model/nat_decide.ts";
import type { NatState } from "../../src/model/nat_decide.ts";
import type { ForwardingTable } from "../../src/model/table.ts";
import { flowKeyOf, fragmentKeyOf, parsePacket } from "../../src/model/packet.ts";
import type { FlowTuple, ParsedPacket } from "../../src/model/packet.ts";
import { readGolden } from "../support/golden_packets.ts";
import { ICMP, ICMPV6, TCP, UDP, frameOf, ipv4, put16 } from "../support/packets.ts";
import { notesWanted } from "../support/tunnel_notes.ts";
import { outerBytes, tagsOf } from "../support/rewritten.ts";
import type { Extension, FrameSpec } from "../support/packets.ts";

const golden = readGolden();
const V6 = { family: 6, source: address(1), destination: address(2) } as const;

function address(last: number): Uint8Array {
  return Uint8Array.of(0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last);
}

function extension(type: number, changes: Partial<Extension> = {}): Extension {
  return { type, length: 8, segmentsLeft: 0, fragment: { offset: 0, more: false }, ...changes };
}

function parsed(changes: Partial<FrameSpec>): ParsedPacket {
  const packet = parsePacket(frameOf(changes));
  if (typeof packet === "string") throw new Error(packet);
  return packet;
}

function kindOf(changes: Partial<FrameSpec>): string {
  return parsed(changes).kind;
}

/** The frame with one byte changed, counted from the IP header of an untagged frame. */
function withByte(changes: Partial<FrameSpec>, at: number, value: number): Uint8Array {
  const frame = frameOf(changes);
  frame[14 + at] = value;
  return frame;
}

describe("parsePacket", () => {
  it("reads addresses, ports, flags and the time to live", () => {
    const packet = parsed({
      protocol: TCP,
      flags: 0x02,
      ttl: 7,
      sourcePort: 4660,
      destinationPort: 443,
    });
    expect(packet).toMatchObject({
      kind: "flow",
      family: 4,
      protocol: TCP,
      sourcePort: 4660,
      destinationPort: 443,
      ttl: 7,
      syn: true,
      ack: false,
      fin: false,
      rst: false,
      ipOffset: 14,
      ipLength: 40,
    });
    expect(packet.source).toEqual(ipv4(10, 0, 0, 1));
    expect(packet.destination).toEqual(ipv4(10, 0, 0, 2));
    expect(parsed({ ...V6, protocol: TCP, flags: 0x15 })).toMatchObject({
      kind: "flow",
      family: 6,
      source: V6.source,
      destination: V6.destination,
      fin: true,
      rst: true,
      ack: true,
      syn: false,
      ipLength: 60,
    });
  });

  it("its sender may be told that it is too big: it goes from one host to one, whether it may be fragmented or not", () => {
    const whole = { protocol: UDP, payload: new Uint8Array(40), dontFragment: true };
    const tellable = (spec: Partial<FrameSpec>): boolean => parsed(spec).tellable;
    expect(tellable(whole)).toBe(true);
    expect(tellable({ ...whole, ...V6, dontFragment: false })).toBe(true);
    expect(tellable({ ...whole, optionBytes: 8 })).toBe(true);
    expect(tellable({ ...whole, dontFragment: false })).toBe(true);
    expect(tellable({ ...whole, more: true })).toBe(true);
    for (const change of [
      { payload: new Uint8Array(39) }, { fragmentOffset: 185 },
      { destinationMac: new Uint8Array(6).fill(0xff) }, { source: ipv4(224, 0, 0, 1) },
      { source: ipv4(0, 0, 0, 0) }, { source: ipv4(10, 0, 0, 2) }, { protocol: 1, flags: 8 },
    ]) expect(tellable({ ...whole, ...change }), JSON.stringify(change)).toBe(false);
  });

  it("a key names the flow of a packet and nothing else", () => {
    expect(flowKeyOf(parsed({ protocol: UDP, sourcePort: 9, destinationPort: 8, ttl: 3 }))).toEqual(
      {
        source: ipv4(10, 0, 0, 1),
        sourcePort: 9,
        destination: ipv4(10, 0, 0, 2),
        destinationPort: 8,
        protocol: UDP,
      },
    );
  });

  it("looks behind two VLAN tags and not behind three", () => {
    for (const tags of [[], [0x8100], [0x88a8], [0x88a8, 0x8100]]) {
      expect(parsed({ tags }).ipOffset).toBe(14 + tags.length * 4);
    }
    expect(parsePacket(frameOf({ tags: [0x88a8, 0x8100, 0x8100] }))).toBe("PASS_NOT_IP");
  });

  it("passes what is cut, at every length", () => {
    for (const tags of [[], [0x8100], [0x88a8, 0x8100]]) {
      const frame = frameOf({ tags, protocol: UDP });
      const ip = 14 + tags.length * 4;
      for (let length = 0; length < frame.length; length += 1) {
        expect(parsePacket(frame.slice(0, length)), `${length}`).toBe(
          length < ip ? "PASS_NOT_IP" : "PASS_MALFORMED",
        );
      }
    }
  });

  it("takes no IPv4 header that contradicts itself", () => {
    expect(parsePacket(withByte({}, 0, 0x55))).toBe("PASS_MALFORMED");
    expect(parsePacket(withByte({}, 0, 0x44))).toBe("PASS_MALFORMED");
    expect(parsePacket(withByte({ optionBytes: 4 }, 0, 0x4f))).toBe("PASS_MALFORMED");
    expect(parsePacket(withByte({}, 3, 19))).toBe("PASS_MALFORMED");
    expect(parsePacket(withByte({}, 3, 29))).toBe("PASS_MALFORMED");
    expect(parsePacket(withByte({ ...V6 }, 0, 0x50))).toBe("PASS_MALFORMED");
    expect(parsePacket(withByte({ ...V6 }, 5, 9))).toBe("PASS_MALFORMED");
  });

  it("takes no IPv6 header with a mapped address", () => {
    expect(parsePacket(frameOf({ ...V6, source: ipv4(10, 0, 0, 1) }))).toBe("PASS_MALFORMED");
    expect(parsePacket(frameOf({ ...V6, destination: ipv4(10, 0, 0, 1) }))).toBe("PASS_MALFORMED");
  });

  it("reads ports behind options and extension headers", () => {
    expect(parsed({ optionBytes: 40, destinationPort: 99 })).toMatchObject({
      kind: "flow",
      destinationPort: 99,
    });
    const extensions = [
      extension(0),
      extension(60, { length: 64 }),
      extension(43),
      extension(44),
      extension(60),
    ];
    expect(parsed({ ...V6, extensions, destinationPort: 99 })).toMatchObject({
      kind: "flow",
      destinationPort: 99,
    });
    expect(kindOf({ ...V6, extensions: [...extensions, extension(60)] })).toBe("other-protocol");
    expect(kindOf({ ...V6, extensions: [extension(43, { segmentsLeft: 1 })] })).toBe(
      "other-protocol",
    );
  });

  it("takes no extension header from behind the packet", () => {
    const frame = frameOf({ ...V6, protocol: 59, extensions: [extension(60)], padding: 8 });
    expect(parsePacket(frame)).toMatchObject({ kind: "other-protocol" });
    put16(frame, 18, 7);
    expect(parsePacket(frame)).toMatchObject({ kind: "truncated" });
  });

  it("tells fragments apart", () => {
    for (const protocol of [TCP, UDP]) {
      expect(kindOf({ protocol, more: true })).toBe("first-fragment");
      expect(kindOf({ protocol, fragmentOffset: 1 })).toBe("later-fragment");
      const fragment = (offset: number, more: boolean) => ({
        ...V6,
        protocol,
        extensions: [extension(44, { fragment: { offset, more } })],
      });
      expect(kindOf(fragment(0, true))).toBe("first-fragment");
      expect(kindOf(fragment(0, false))).toBe("flow");
      expect(kindOf(fragment(1, false))).toBe("later-fragment");
    }
    expect(kindOf({ protocol: ICMP, flags: 8, more: true })).toBe("icmp");
  });

  it("a transport header has to be there as a whole, within the IP packet", () => {
    for (const [protocol, bytes] of [
      [TCP, 20],
      [UDP, 8],
      [ICMP, 8],
    ] as const) {
      for (const length of [0, bytes - 1, bytes]) {
        const frame = frameOf({ protocol, padding: 20 });
        put16(frame, 16, 20 + length);
        expect(parsePacket(frame), `${protocol} ${length}`).toMatchObject({
          kind: length < bytes ? "truncated" : protocol === ICMP ? "icmp" : "flow",
        });
      }
    }
    expect(kindOf({ protocol: 47 })).toBe("other-protocol");
    expect(kindOf({ protocol: ICMPV6 })).toBe("other-protocol");
    expect(kindOf({ ...V6, protocol: ICMP })).toBe("other-protocol");
  });

  it("an echo request is one that may be answered", () => {
    const v4 = { protocol: ICMP, flags: 8 };
    const v6 = { ...V6, protocol: ICMPV6, flags: 128 };
    for (const echo of [v4, v6]) {
      expect(kindOf(echo)).toBe("echo-request");
      expect(kindOf({ ...echo, code: 1 })).toBe("icmp");
      expect(kindOf({ ...echo, flags: 3 })).toBe("icmp");
      expect(kindOf({ ...echo, destinationMac: new Uint8Array(6).fill(0xff) })).toBe("icmp");
    }
    for (const first of [0, 127, 224, 239, 255])
      expect(kindOf({ ...v4, source: ipv4(first, 0, 0, 1) })).toBe("icmp");
    for (const first of [1, 126, 128, 223])
      expect(kindOf({ ...v4, source: ipv4(first, 0, 0, 1) })).toBe("echo-request");
    expect(kindOf({ ...v4, source: ipv4(10, 0, 0, 2) })).toBe("icmp");
    expect(kindOf({ ...v4, optionBytes: 4 })).toBe("icmp");
    expect(kindOf({ ...v6, source: V6.destination })).toBe("icmp");
    expect(kindOf({ ...v6, extensions: [extension(60)] })).toBe("icmp");
    const low = (last: number) => kindOf({ ...v6, source: new Uint8Array(16).fill(last, 15) });
    expect([low(0), low(1), low(2)]).toEqual(["icmp", "icmp", "echo-request"]);
    expect(kindOf({ ...v6, source: Uint8Array.from(V6.source).fill(0xff, 0, 1) })).toBe("icmp");
  });
});

/** Translated flows, as far as a golden case knows them: what came before, and this frame's own. */
class NatFlows {
  readonly #flows: { readonly key: FlowTuple; readonly entry: NatFlow | null }[] = [];

  state(frame: Uint8Array, isFull: boolean): NatState {
    return {
      find: (key) => this.#flows.findLast((one) => isSameFlow(one.key, key))?.entry ?? null,
      way: { ifindex: 1, clientMac: frame.slice(6, 12), ownMac: frame.slice(0, 6), tags: tagsOf(frame) },
      ownAddress: (id) => {
        const { tunnelSource } = golden.hops.get(id)!;
        return tunnelSource.every((byte) => byte === 0) ? null : tunnelSource;
      },
      obstacle: () => null,
      hasRoom: !isFull,
    };
  }

  write({ effects }: Decision): void {
    for (const effect of effects) if (effect.kind === "nat-write") this.#flows.push(effect);
  }
}

/** What a packet that came before leaves to this fragment. */
function portsLeftBy(
  frame: Uint8Array,
  fragment: ParsedPacket,
  table: ForwardingTable,
  flows: NatFlows,
): FragmentEntry | null {
  const first = parsePacket(frame);
  if (typeof first === "string") throw new Error(first);
  const neighbour = (id: number): boolean => golden.hops.get(id)!.resolved;
  const local = (id: number): boolean => golden.hops.get(id)!.local;
  const nat = flows.state(frame, false);
  const decision = decide(table, { flow: null, nowNs: 1n, heartbeatNs: null, neighbour, local, nat }, first);
  flows.write(decision);
  const remembers = decision.effects.some(({ kind }) => kind === "remember-fragment");
  const { sourcePort, destinationPort, protocol } = first;
  return remembers && isDeepStrictEqual(fragmentKeyOf(first), fragmentKeyOf(fragment))
    ? { sourcePort, destinationPort, protocol, rememberedNs: 1n }
    : null;
}

function withoutBackends(table: ForwardingTable): ForwardingTable {
  const destinations = [...table.destinations].map(([id, destination]) =>
    [id, { ...destination, alive: false, admission: 0, resets: true }] as const);
  return { ...table, destinations: new Map(destinations) };
}

describe("golden packets, by decide()", () => {
  for (const one of golden.cases) {
    it(`${one.verdict}: ${one.name}`, () => {
      const packet = parsePacket(one.frame);
      if (typeof packet === "string") {
        expect(packet).toBe(one.verdict);
        return;
      }
      const table = golden.table(one.orphan);
      const obstacle: State["obstacle"] = (id) => {
        const destination = table.destinations.get(id)!;
        const length = packet.ipLength + outerBytes(destination);
        const { mtu } = golden.hops.get(id)!;
        if (mtu > 0 && length > mtu) return "DROP_TOO_BIG";
        const { address } = destination;
        return outerBytes(destination) > 0 && length > 65535 + (address.family === 4 ? 0 : 40)
          ? "DROP_NO_ROOM"
          : null;
      };
      const flows = new NatFlows();
      const fragment = one.before === null ? null : portsLeftBy(one.before, packet, table, flows);
      const decision = decide(
        one.takenOut ? withoutBackends(table) : table,
        {
          fragment,
          nat: flows.state(one.frame, one.full),
          isForThisHost: isForThisHost(golden.linkAddresses, one.frame),
          flow: null,
          nowNs: 1_000_000_000n,
          heartbeatNs: 0n,
          neighbour: (id) => golden.hops.get(id)!.resolved,
          local: (id) => golden.hops.get(id)!.local,
          obstacle,
          tunnelSource: (id) => ({ address: golden.hops.get(id)!.tunnelSource, mask: 0 }),
          mtu: (id) => golden.hops.get(id)!.mtu,
        },
        packet,
      );
      expect(decision.verdict).toBe(one.verdict);
      const id = decision.destination?.id ?? 0;
      expect(notesWanted(id, decision.effects)).toEqual(one.noted === null ? [] : [`${id}: ${one.noted}`]);
    });
  }
});
