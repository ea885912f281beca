// Random frames: most are for the services of a random world, some are for its addresses without
// being for a service, some are foreign, and some are cut, bent or noise. Knows wire formats
// through packets.ts; knows no verdict.

import type { FlowTuple } from "../../src/model/packet.ts";
import { serviceOf } from "../../src/model/service_lookup.ts";
import { ICMP, ICMPV6, TCP, UDP, frameOf, ipv4, mac, put16 } from "./packets.ts";
import type { Extension, FrameSpec } from "./packets.ts";
import {
  IDENTIFICATIONS_MAX,
  familyOf,
  randomClient,
  randomVirtualAddress,
} from "./random_tables.ts";
import type { RandomWorld } from "./random_tables.ts";
import { randomDatagram } from "./random_quic.ts";
import type { Draws } from "./random.ts";

const ETHERNET_BYTES = 14;
const NOBODY = new Uint8Array(6);
const BROADCAST = new Uint8Array(6).fill(0xff);

export function randomFrame(draws: Draws, world: RandomWorld): Uint8Array {
  if (draws.chance(0.02)) return noise(draws);
  const spec = randomSpec(draws, world);
  const frame = frameOf(spec);
  if (draws.chance(0.03)) return frame.slice(0, draws.between(ETHERNET_BYTES, frame.length));
  if (draws.chance(0.05)) return shorten(draws, spec, frame);
  if (draws.chance(0.08)) bend(draws, spec, frame);
  return frame;
}

/**
 * One wrong byte or bit, or a few; half the time in the first bytes of IP, where each one counts.
 */
function bend(draws: Draws, spec: Partial<FrameSpec>, frame: Uint8Array): void {
  const ip = ETHERNET_BYTES + (spec.tags?.length ?? 0) * 4;
  for (let flips = draws.between(1, 3); flips > 0; flips -= 1) {
    const at = draws.chance(0.5)
      ? ip + draws.below(10)
      : draws.between(12, Math.min(frame.length, 80) - 1);
    frame[at] = draws.chance(0.5) ? draws.word() : frame[at]! ^ (1 << draws.below(8));
  }
}

/** The IP packet ends early and says so; what followed is padding now, or gone. */
function shorten(draws: Draws, spec: Partial<FrameSpec>, frame: Uint8Array): Uint8Array {
  const at = ETHERNET_BYTES + (spec.tags?.length ?? 0) * 4;
  const header = spec.family === 4 ? 20 + (spec.optionBytes ?? 0) : 40;
  const end = draws.between(header, Math.min(header + 60, frame.length - at));
  put16(frame, at + (spec.family === 4 ? 2 : 4), spec.family === 4 ? end : end - header);
  return draws.chance(0.5) ? frame : frame.slice(0, at + end);
}

function noise(draws: Draws): Uint8Array {
  const bytes = draws.bytes(draws.between(ETHERNET_BYTES, 100));
  const type = draws.pick([0x0800, 0x86dd, 0x8100, 0x88a8, 0x0806, 0x0026]);
  bytes[12] = type >> 8;
  bytes[13] = type;
  return bytes;
}

function randomSpec(draws: Draws, world: RandomWorld): Partial<FrameSpec> {
  const outside = {
    destinationMac: draws.chance(0.95) ? draws.pick([mac(1), mac(3)]) : draws.pick([mac(4), NOBODY, BROADCAST]),
    sourceMac: mac(2),
    tags: Array.from(
      { length: draws.pick([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3]) },
      () => draws.pick([0x8100, 0x88a8]),
    ),
    ttl: draws.chance(0.9) ? 64 : draws.below(4),
    trafficClass: draws.chance(0.8) ? 0 : draws.below(256),
    id: draws.below(65536),
    dontFragment: draws.chance(0.5),
    padding: draws.pick([0, 0, 0, 1, 6, 18]),
    payload: randomPayload(draws),
  };
  const replies = world.replies();
  if (replies.length > 0 && draws.chance(0.2)) {
    const reply = draws.pick(replies);
    return {
      ...outside, ...(draws.chance(0.8) ? ofTuple(draws, reply) : errorAbout(draws, reply)),
    };
  }
  if (draws.chance(0.1)) return { ...outside, ...errorAboutFlow(draws, world) };
  if (draws.chance(0.05)) return { ...outside, ...errorAboutTunnel(draws, world) };
  if (draws.chance(0.75)) return { ...outside, ...ofFlow(draws, world) };
  const destination = draws.chance(0.8)
    ? randomVirtualAddress(draws)
    : randomClient(draws, draws.pick([4, 6]));
  const family = familyOf(destination);
  const source = draws.chance(0.85) ? randomClient(draws, family) : oddSource(draws, destination);
  return {
    ...outside,
    ...ofAddress(draws, family),
    family,
    source,
    destination,
    ...randomHeaders(draws, family, 0.15),
  };
}

/** Of no single host, or of the one it goes to. */
function oddSource(draws: Draws, destination: Uint8Array): Uint8Array {
  const source = Uint8Array.from(destination);
  if (draws.chance(0.3)) return source;
  if (familyOf(destination) === 4) source[12] = draws.pick([0, 127, 224, 255]);
  else if (draws.chance(0.5)) source[0] = 0xff;
  else {
    source.fill(0);
    source[15] = draws.below(3);
  }
  return source;
}

function randomPayload(draws: Draws): Uint8Array {
  if (draws.chance(0.002)) return draws.bytes(draws.between(4000, 20_000));
  if (draws.chance(0.02)) return draws.bytes(draws.between(1380, 1500));
  return draws.bytes(draws.below(40));
}

/** A packet of one of the world's flows, or nearly. */
function ofFlow(draws: Draws, world: RandomWorld): Partial<FrameSpec> {
  const { tuple } = draws.pick(world.flows);
  const service = serviceOf(world.table, tuple.destination, tuple.destinationPort, tuple.protocol);
  const quic = service?.quicLb ?? null;
  // IPv6 with the mapped addresses of an IPv4 flow: the disguise that must not be taken for the
  // flow.
  const family = draws.chance(0.99) ? familyOf(tuple.destination) : 6;
  return {
    family,
    source: draws.chance(0.995) ? tuple.source : randomClient(draws, 4),
    destination: tuple.destination,
    protocol: tuple.protocol,
    sourcePort: draws.chance(0.9) ? tuple.sourcePort : draws.below(65536),
    destinationPort: draws.chance(0.97) ? tuple.destinationPort : draws.below(65536),
    flags: draws.pick([0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14, 0x00, 0xc2]),
    tcpOptions: randomTcpOptions(draws),
    ...(quic === null ? {} : { payload: randomDatagram(draws, quic) }),
    ...randomHeaders(draws, family, 0.06),
  };
}

/** Often with a segment size, at any place; sometimes nonsense. */
function randomTcpOptions(draws: Draws): Uint8Array {
  if (draws.chance(0.4)) return new Uint8Array(0);
  const mss = [2, draws.chance(0.95) ? 4 : draws.below(256), draws.below(16), draws.below(256)];
  const others = [[1], [1], [3, 3, 7], [4, 2], [8, 10, 1, 2, 3, 4, 5, 6, 7, 8], [0], [254, draws.below(8)]];
  const options: number[] = [];
  for (let count = draws.below(4); count > 0; count -= 1) options.push(...draws.pick(others));
  if (draws.chance(0.8)) options.push(...mss);
  if (draws.chance(0.5)) options.push(...draws.pick(others));
  return Uint8Array.from({ length: Math.min(40, Math.ceil(options.length / 4) * 4) }, (_, at) => options[at] ?? 0);
}

/** What a backend answers under this key. */
function ofTuple(draws: Draws, tuple: FlowTuple): Partial<FrameSpec> {
  const family = familyOf(tuple.destination);
  return {
    family,
    ...tuple,
    flags: draws.pick([0x12, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14]),
    tcpOptions: randomTcpOptions(draws),
    ...randomHeaders(draws, family, 0.06),
  };
}

const ERROR_TYPES = {
  4: [3, 3, 3, 3, 11, 12, 4, 5, 2, 10, 13],
  6: [2, 2, 2, 2, 1, 3, 4, 0, 5, 127, 133],
} as const;

/** An ICMP error, or nearly, that quotes what a backend sent to the client of a flow. */
function errorAboutFlow(draws: Draws, world: RandomWorld): Partial<FrameSpec> {
  return errorAbout(draws, draws.pick(world.flows).tuple);
}

function errorAbout(draws: Draws, tuple: FlowTuple): Partial<FrameSpec> {
  const family = familyOf(tuple.destination);
  const virtual = draws.chance(0.95) ? tuple.destination : randomVirtualAddress(draws);
  return {
    family,
    source: randomClient(draws, family),
    destination: draws.chance(0.97) ? virtual : randomVirtualAddress(draws),
    protocol: family === 4 ? ICMP : ICMPV6,
    flags: draws.pick(ERROR_TYPES[family]),
    code: draws.below(5),
    payload: quoteOf(draws, tuple, family),
    ...(draws.chance(0.3) ? randomHeaders(draws, family, 0.1) : {}),
  };
}

const OUTER_PROTOCOLS: Readonly<Record<string, readonly number[]>> = { ipip: [4, 41], gre: [47], gue: [17] };

/** An ICMP error, or nearly, that quotes an outer header of a destination's tunnel. */
function errorAboutTunnel(draws: Draws, world: RandomWorld): Partial<FrameSpec> {
  const { id, address, forwarding, gue } = draws.pick([...world.table.destinations.values()]);
  const { tunnelSource, tunnelSourceMask } = world.hops.get(id)!;
  const { family } = address;
  const source = Uint8Array.from(tunnelSource);
  const view = new DataView(source.buffer);
  view.setUint32(12, view.getUint32(12) | (draws.word() & tunnelSourceMask));
  if (draws.chance(0.05)) source[draws.between(family === 4 ? 12 : 0, 15)]! ^= 1;
  const protocols = draws.chance(0.95) ? OUTER_PROTOCOLS[forwarding] ?? [4] : [4, 41, 47, UDP, TCP];
  const outer = frameOf({
    family, source, destination: draws.chance(0.97) ? address.bytes : randomClient(draws, family),
    protocol: draws.pick(protocols), sourcePort: draws.between(0xc000, 0xffff),
    destinationPort: draws.chance(0.95) ? gue?.port ?? 0 : draws.below(65536),
    payload: draws.bytes(draws.pick([8, 40, 1000, 2100])), ...randomHeaders(draws, family, 0.05),
  }).subarray(ETHERNET_BYTES);
  return {
    family, source: randomClient(draws, family),
    destination: draws.chance(0.97) ? source : randomVirtualAddress(draws),
    protocol: family === 4 ? ICMP : ICMPV6,
    flags: draws.pick(ERROR_TYPES[family]),
    code: draws.pick([4, 4, 4, 0, 1, 2, 3]),
    sourcePort: draws.chance(0.95) ? 0 : draws.below(65536),
    mtu: draws.pick([0, 68, 80, 575, 576, 577, 1279, 1280, 1400, 1499, 1500, 9000, draws.below(65536)]),
    payload: outer.slice(0, draws.pick([(family === 4 ? 20 : 40) + 8, outer.length, draws.below(outer.length)])),
  };
}

/** As the router that refused it saw it, cut where it liked; bent now and then. */
function quoteOf(draws: Draws, tuple: FlowTuple, family: 4 | 6): Uint8Array {
  const whole = frameOf({
    family,
    source: tuple.destination,
    destination: draws.chance(0.99) ? tuple.source : ipv4(10, 0, 0, 1),
    protocol: draws.chance(0.97) ? tuple.protocol : draws.pick([ICMP, ICMPV6, 47, 59]),
    sourcePort: draws.chance(0.97) ? tuple.destinationPort : draws.below(65536),
    destinationPort: tuple.sourcePort,
    ttl: draws.below(65),
    flags: 0x10,
    payload: draws.bytes(draws.below(200)),
    ...randomHeaders(draws, family, 0.15),
  }).subarray(ETHERNET_BYTES);
  const header = family === 4 ? (whole[0]! & 15) * 4 : 40;
  const kept = draws.pick([header + 8, header + 8, whole.length, draws.below(whole.length)]);
  const quote = whole.slice(0, kept);
  if (draws.chance(0.1) && kept > 0) quote[draws.below(Math.min(kept, 48))] = draws.word();
  return quote;
}

/** Something for an address, with or without ports. */
function ofAddress(draws: Draws, family: 4 | 6): Partial<FrameSpec> {
  const echo = family === 4 ? 8 : 128;
  const icmp = family === 4 ? ICMP : ICMPV6;
  const protocol = draws.pick([
    icmp,
    icmp,
    icmp,
    icmp,
    icmp,
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    47,
    4,
    41,
    59,
    50,
  ]);
  return {
    protocol,
    flags: draws.pick([echo, echo, echo, 0, 129, 3, 135]),
    code: draws.chance(0.9) ? 0 : 1,
    sourcePort: draws.below(65536),
    destinationPort: draws.pick([53, 80, 443, 22]),
  };
}

function randomHeaders(draws: Draws, family: 4 | 6, probability: number): Partial<FrameSpec> {
  const headers: { -readonly [K in keyof FrameSpec]?: FrameSpec[K] } = {};
  if (draws.chance(probability)) headers.optionBytes = draws.pick([4, 8, 40]);
  if (draws.chance(probability)) {
    headers.more = draws.chance(0.5);
    headers.fragmentOffset = draws.pick([0, 0, 1, 185]);
    headers.id = draws.below(IDENTIFICATIONS_MAX);
  }
  if (family === 6 && draws.chance(probability * 3)) {
    headers.extensions = Array.from({ length: draws.between(1, 6) }, () => randomExtension(draws));
  }
  return headers;
}

function randomExtension(draws: Draws): Extension {
  return {
    type: draws.pick([0, 43, 44, 60, 60]),
    length: draws.pick([8, 8, 8, 16, 64]),
    segmentsLeft: draws.pick([0, 0, 0, 1]),
    fragment: {
      offset: draws.pick([0, 0, 0, 1, 100]),
      more: draws.chance(0.4),
      id: draws.below(IDENTIFICATIONS_MAX),
    },
  };
}
