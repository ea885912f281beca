// ICMP errors that quote a packet of a service: what parsePacket() makes of a quote at every length,
// and where decide() sends it. Written from RFC 792, 1122 (3.2.2), 4443 and 4884; golden packets
// have the rest.

import { describe, expect, it } from "vitest";
import { decide } from "../../src/model/decide.ts";
import type { Decision, FlowEntry, Packet, State } from "../../src/model/decide.ts";
import { parsePacket } from "../../src/model/packet.ts";
import type { ForwardingTable } from "../../src/model/table.ts";
import { readGolden } from "../support/golden_packets.ts";
import { ICMP, ICMPV6, TCP, UDP, frameOf, ipv4 } from "../support/packets.ts";
import type { FrameSpec } from "../support/packets.ts";

const golden = readGolden();
const NOW_NS = 10n ** 15n;
const ADDRESSES = {
  4: { client: ipv4(192, 0, 2, 7), virtual: ipv4(203, 0, 113, 10), router: ipv4(192, 0, 2, 129) },
  6: { client: v6(0x20, 7), virtual: v6(0xfd, 0x10), router: v6(0x20, 0x81) },
} as const;
const HEADER_BYTES = { 4: 20, 6: 40 } as const;
/** RFC 792 and RFC 4443: what is an error about a packet, and not a question or an answer. */
const ERROR_TYPES = { 4: [3, 11, 12], 6: [1, 2, 3, 4] } as const;
type Family = 4 | 6;

function v6(first: number, last: number): Uint8Array {
  const address = new Uint8Array(16);
  address[0] = first;
  address[15] = last;
  return address;
}

/** What a backend sent to the client: an IP packet without a frame. */
function sent(family: Family, changes: Partial<FrameSpec> = {}): Uint8Array {
  const { client, virtual } = ADDRESSES[family];
  return frameOf({
    family, source: virtual, destination: client, protocol: TCP, sourcePort: 443,
    destinationPort: 40_000, flags: 0x10, payload: new Uint8Array(64).fill(0xaa), ...changes,
  }).subarray(14);
}

function about(family: Family, quote: Uint8Array, changes: Partial<FrameSpec> = {}): Packet {
  const { router, virtual } = ADDRESSES[family];
  const packet = parsePacket(frameOf({
    family, source: router, destination: virtual, protocol: family === 4 ? ICMP : ICMPV6,
    flags: ERROR_TYPES[family][0], code: 0, payload: quote, ...changes,
  }));
  if (typeof packet === "string") throw new Error(packet);
  return packet;
}

describe.each([4, 6] as const)("a quote in ICMP for IPv%i", (family) => {
  const least = HEADER_BYTES[family] + 8;

  it("is read as the flow that the client sends", () => {
    for (const protocol of [TCP, UDP]) {
      expect(about(family, sent(family, { protocol }))).toMatchObject({
        kind: "icmp-error", family, protocol, sourcePort: 40_000, destinationPort: 443,
        source: ADDRESSES[family].client, destination: ADDRESSES[family].virtual,
        syn: false, ack: false, fin: false, rst: false, tellable: false, ttl: 64,
      });
    }
  });

  it("needs eight bytes of TCP and not one more, at every length", () => {
    const whole = sent(family);
    for (let length = 0; length <= whole.length; length += 1) {
      const kind = length < least ? "icmp" : "icmp-error";
      expect(about(family, whole.subarray(0, length)).kind, `${length} bytes`).toBe(kind);
    }
  });

  it("is sound when its sum is right, at every length up to the longest", () => {
    const whole = new Uint8Array(1300).map((_, at) => at * 7);
    whole.set(sent(family));
    for (let length = least; length <= 1273; length += length < 100 || length > 1250 ? 1 : 37) {
      expect(about(family, whole.subarray(0, length)).error!.sound, `${length} bytes`).toBe(length <= 1272);
    }
    const frame = frameOf({
      family, source: ADDRESSES[family].router, destination: ADDRESSES[family].virtual, protocol: family === 4 ? ICMP : ICMPV6,
      flags: ERROR_TYPES[family][0], code: 0, payload: whole.subarray(0, least), padding: 3,
    });
    const at = family === 4 ? 34 : 54;
    for (let place = at + 1; place < frame.length; place += 1) {
      const damaged = Uint8Array.from(frame);
      damaged[place]! ^= 0x10;
      const packet = parsePacket(damaged);
      if (typeof packet !== "string" && packet.error !== undefined)
        expect(packet.error.sound, `byte ${place}`).toBe(place >= frame.length - 3);
    }
  });

  it("ends where the ICMP message ends, whatever pads the frame", () => {
    const short = sent(family).subarray(0, least - 1);
    expect(about(family, short, { padding: 20 }).kind).toBe("icmp");
    expect(about(family, sent(family).subarray(0, least), { padding: 20 }).kind).toBe("icmp-error");
  });

  it("counts in errors alone", () => {
    const isError = (type: number): boolean =>
      about(family, sent(family), { flags: type, code: 1 }).kind === "icmp-error";
    const errors = Array.from({ length: 256 }, (_, type) => type).filter(isError);
    expect(errors).toEqual(ERROR_TYPES[family]);
  });

  it("is of whoever got the error, and of nobody else", () => {
    const { router, virtual, client } = ADDRESSES[family];
    expect(about(family, sent(family, { source: router })).kind).toBe("icmp");
    expect(about(family, sent(family, { source: client, destination: virtual })).kind).toBe("icmp");
    expect(about(family, sent(family), { destination: router }).kind).toBe("icmp");
    for (const byte of [0, 10, 15].filter((at) => family === 6 || at > 11)) {
      const source = Uint8Array.from(virtual);
      source[byte]! ^= 1;
      expect(about(family, sent(family, { source })).kind, `byte ${byte}`).toBe("icmp");
    }
  });

  it("has ports in TCP and UDP, none in a tunnel, and is not in a later fragment", () => {
    for (const protocol of [ICMP, ICMPV6, 50])
      expect(about(family, sent(family, { protocol })).kind, `${protocol}`).toBe("icmp");
    for (const protocol of [4, 41, 47])
      expect(about(family, sent(family, { protocol }))).toMatchObject({
        kind: "icmp-error", protocol, sourcePort: 0, destinationPort: 0,
      });
    const piece = (offset: number, more: boolean): Partial<FrameSpec> => (family === 4
      ? { fragmentOffset: offset, more }
      : { extensions: [{ type: 44, length: 8, segmentsLeft: 0, fragment: { offset, more } }] });
    expect(about(family, sent(family, piece(0, true))).kind).toBe("icmp-error");
    expect(about(family, sent(family, piece(1, true))).kind).toBe("icmp");
    expect(about(family, sent(family, piece(1, false))).kind).toBe("icmp");
    // The error itself in pieces: its other half is not here.
    expect(about(family, sent(family), piece(0, true)).kind).toBe("icmp");
  });

  it("is found behind options and extension headers, its own and the error's", () => {
    const fragment = { offset: 0, more: false };
    const extension = { type: 60, length: 16, segmentsLeft: 0, fragment };
    const more: Partial<FrameSpec> = family === 4
      ? { optionBytes: 40 } : { extensions: [extension, { ...extension, type: 0 }] };
    expect(about(family, sent(family, more), more)).toMatchObject({
      kind: "icmp-error", sourcePort: 40_000, destinationPort: 443, protocol: TCP,
    });
    const room = family === 4 ? 40 : 32;
    expect(about(family, sent(family, more).subarray(0, least + room - 1)).kind).toBe("icmp");
    expect(about(family, sent(family, more).subarray(0, least + room)).kind).toBe("icmp-error");
  });

  it("is no quote when its first byte says otherwise", () => {
    for (const first of family === 4 ? [0x44, 0x55, 0x65, 0x4f] : [0x40, 0x50, 0x70]) {
      const quote = Uint8Array.from(sent(family).subarray(0, least));
      quote[0] = first;
      expect(about(family, quote).kind, first.toString(16)).toBe("icmp");
    }
  });
});

it("takes no quoted IPv4 client in the disguise of IPv6", () => {
  expect(about(6, sent(6, { destination: ipv4(192, 0, 2, 7) })).kind).toBe("icmp");
});

/** The golden table, its services tracking flows, and everything in order. */
function tracking(changes: Partial<ForwardingTable> = {}): ForwardingTable {
  const table = golden.table("keep");
  const services = table.services.map((service) =>
    ({ ...service, config: { ...service.config, tracking: "full", flowIdleMs: 60_000 } as const }));
  return { ...table, services, orphan: { afterMs: 0, action: "keep" }, ...changes };
}

const PORT = golden.table("keep").services[0]!.config.ports.from;
/** A backend that no ring here has for that port. */
const ELSEWHERE = 2;

function decided(
  flow: FlowEntry | null, table = tracking(), changes: Partial<Packet> = {},
): Decision {
  const state: State = { flow, nowNs: NOW_NS, heartbeatNs: NOW_NS, neighbour: () => true };
  const packet = about(4, sent(4, { sourcePort: PORT }).subarray(0, 28));
  return decide(table, state, { ...packet, ...changes });
}

function entry(changes: Partial<FlowEntry> = {}): FlowEntry {
  return { destination: ELSEWHERE, generation: 1, lastSeenNs: NOW_NS, ...changes };
}

describe("an error about a flow", () => {
  it("goes to the backend that has the flow, else to the one that the ring has for it", () => {
    expect(decided(entry())).toMatchObject({
      verdict: "TX_ICMP_ERROR", destination: { id: ELSEWHERE }, how: { by: "flow" },
    });
    expect(decided(null)).toMatchObject({
      verdict: "TX_ICMP_ERROR", destination: { id: 1 }, how: { by: "ring" },
    });
  });

  it("goes where the flow's own packets go, by both hashes", () => {
    for (const hash of ["5-tuple", "source-ip"] as const) {
      const table = tracking();
      const slots = Uint16Array.from({ length: 251 }, (_, slot) => 1 + (slot % 3));
      const services = table.services.map((service) => ({
        ...service, ring: { key: "", size: 251, slots, configured: slots },
        config: { ...service.config, hash },
      }));
      for (let port = 1024; port < 1056; port += 1) {
        const error = decided(null, { ...table, services }, { sourcePort: port });
        const own = decided(null, { ...table, services }, { sourcePort: port, kind: "flow" });
        expect([error.verdict, own.verdict]).toEqual(["TX_ICMP_ERROR", "TX_FORWARDED"]);
        expect([error.destination, error.how]).toEqual([own.destination, own.how]);
      }
    }
  });

  it("leaves no trace: nothing remembered, touched or forgotten", () => {
    const table = tracking();
    const own = { kind: "flow" } as const;
    const old = entry({ lastSeenNs: NOW_NS - 30_000_000_000n });
    expect(decided(old, table, own).effects).toEqual([{ kind: "touch" }]);
    const services = table.services.map((service) => ({
      ...service, ring: { ...service.ring, slots: new Uint16Array(7) },
    }));
    const nobody = { ...table, services };
    const gone = entry({ generation: 9 });
    expect(decided(gone, nobody, own).effects).toEqual([{ kind: "forget" }]);
    expect(decided(gone, nobody)).toMatchObject({ verdict: "DROP_NO_BACKEND", effects: [] });
    for (const flow of [null, old, gone]) expect(decided(flow).effects).toEqual([]);
  });

  it("follows a flow to a backend that takes no new ones", () => {
    const table = tracking();
    const destinations = new Map([...table.destinations].map(([id, destination]) =>
      [id, { ...destination, admission: 0 }] as const));
    expect(decided(entry(), { ...table, destinations }).destination?.id).toBe(ELSEWHERE);
  });

  it("stays with this host where no service is quoted", () => {
    expect(decided(null, tracking(), { destinationPort: 9 }).verdict).toBe("PASS_ICMP");
    const foreign = ipv4(203, 0, 113, 99);
    expect(decided(null, tracking(), { destination: foreign }).verdict).toBe("PASS_NOT_OURS");
  });
});
