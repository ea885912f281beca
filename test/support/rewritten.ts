// What a frame has to look like when it leaves, written from the RFCs. Knows wire formats; shares
// nothing with the program. Checksums are not made here: the bytes that hold them are named, so
// that the sums can be checked by themselves; so are those that are new with each packet.

import type { Address } from "../../src/model/address.ts";
import type { Gue } from "../../src/model/config.ts";
import type { FlowTuple, ParsedPacket } from "../../src/model/packet.ts";
import type { Destination } from "../../src/model/table.ts";
import type { Hop } from "./bpf_world.ts";
import { put16 } from "./packets.ts";

export interface Expected {
  readonly frame: Uint8Array;
  /** Offsets of the 16-bit sums, and of fresh identifications, that may differ from `frame`. */
  readonly sums: readonly number[];
}

/** Rewritten link-layer addresses, one hop less. */
export function forwardedByL2(
  frame: Uint8Array, packet: ParsedPacket, hop: Pick<Hop, "destinationMac" | "sourceMac">,
): Expected {
  const expected = Uint8Array.from(frame);
  expected.set(hop.destinationMac, 0);
  expected.set(hop.sourceMac, 6);
  expected[packet.ipOffset + (packet.family === 4 ? 8 : 7)] = packet.ttl - 1;
  return { frame: expected, sums: packet.family === 4 ? [packet.ipOffset + 10] : [] };
}

/** The same in the VLAN of the next hop: with one tag, of the priority that the outermost one had, or none. */
export function inVlanOf({ vlan }: Hop, packet: ParsedPacket, { frame, sums }: Expected): Expected {
  if (vlan === 0) return { frame, sums };
  const priority = packet.ipOffset === 14 ? 0 : frame[14]! & 0xf0;
  const tag = Uint8Array.of(0x81, 0, priority | (vlan >> 8), vlan & 255);
  return withTags({ frame, sums }, packet, vlan === UNTAGGED ? new Uint8Array(0) : tag);
}

/** next_hop.vlan of what leaves without tags. */
const UNTAGGED = 4096;

/** The same with these tags, whatever it came with. */
export function withTags({ frame, sums }: Expected, packet: ParsedPacket, tags: Uint8Array): Expected {
  const tagBytes = packet.ipOffset - 14;
  const rest = frame.subarray(12 + tagBytes);
  const expected = new Uint8Array(12 + tags.length + rest.length);
  expected.set(frame.subarray(0, 12));
  expected.set(tags, 12);
  expected.set(rest, 12 + tags.length);
  return { frame: expected, sums: sums.map((at) => at + tags.length - tagBytes) };
}

/** Those that it came with, two at most. */
export function tagsOf(frame: Uint8Array): Uint8Array {
  let end = 12;
  while (end < 20 && isTag(frame, end)) end += 4;
  return frame.slice(12, end);
}

function isTag(frame: Uint8Array, at: number): boolean {
  return [0x8100, 0x88a8].includes((frame[at]! << 8) | frame[at + 1]!);
}

/** Link-layer addresses of a frame that leaves. */
type Macs = Pick<Hop, "destinationMac" | "sourceMac">;

/**
 * The same with other addresses and ports (RFC 3022, 4): from where packets of the other direction
 * arrive, to where they come from. What an error quotes goes the other way.
 */
export function translatedTo(frame: Uint8Array, packet: ParsedPacket, macs: Macs, to: FlowTuple): Expected {
  const { frame: expected, sums: hopSums } = forwardedByL2(frame, packet, macs);
  const sums = [...hopSums];
  const at = packet.ipOffset;
  const isError = packet.kind === "icmp-error";
  const keeps = isError && Buffer.compare(to.destination, packet.source) === 0;
  putAddresses(expected, at, packet.family, keeps ? null : to.destination, to.source);
  const transport = transportOf(frame, at, packet.family);
  if (transport === null) return { frame: expected, sums };
  if (!isError) {
    put16(expected, transport, to.destinationPort);
    put16(expected, transport + 2, to.sourcePort);
    const sum = transport + (packet.protocol === 6 ? 16 : 6);
    // UDP without a sum has none afterwards (RFC 768).
    const isNone = packet.protocol === 17 && frame[sum] === 0 && frame[sum + 1] === 0;
    return { frame: expected, sums: isNone ? sums : [...sums, sum] };
  }
  const quoted = transport + 8;
  putAddresses(expected, quoted, packet.family, to.source, to.destination);
  const ports = transportOf(frame, quoted, packet.family)!;
  put16(expected, ports, to.sourcePort);
  put16(expected, ports + 2, to.destinationPort);
  const sum = ports + (packet.protocol === 6 ? 16 : 6);
  if (packet.family === 4) sums.push(quoted + 10);
  const isThere = sum + 2 <= at + packet.ipLength;
  const isNone = packet.protocol === 17 && frame[sum] === 0 && frame[sum + 1] === 0;
  if (isThere && !isNone) sums.push(sum);
  return { frame: expected, sums: [...sums, transport + 2] };
}

/**
 * A SYN that asks for larger segments than it may (RFC 9293, 3.7.1), asking for the largest it may; any
 * other frame as it is. The sum of its TCP header is another one then.
 */
export function clampedMss(frame: Uint8Array, packet: ParsedPacket, mssMax: number | null): Expected {
  const untouched = { frame, sums: [] };
  if (mssMax === null || packet.kind !== "flow" || !packet.syn || packet.protocol !== 6) return untouched;
  const transport = transportOf(frame, packet.ipOffset, packet.family)!;
  const end = transport + (frame[transport + 12]! >> 4) * 4;
  if (end > packet.ipOffset + packet.ipLength) return untouched;
  // Of the first eight options.
  for (let at = transport + 20, seen = 0; at + 2 <= end && seen < 8; seen += 1) {
    const [kind, length] = [frame[at]!, frame[at + 1]!];
    if (kind === 0 || (kind > 1 && length < 2)) return untouched;
    if (kind === 2) {
      if (length !== 4 || at + 4 > end || ((frame[at + 2]! << 8) | frame[at + 3]!) <= mssMax) return untouched;
      const clamped = Uint8Array.from(frame);
      put16(clamped, at + 2, mssMax);
      return { frame: clamped, sums: [transport + 16] };
    }
    at += kind === 1 ? 1 : length;
  }
  return untouched;
}

function putAddresses(
  frame: Uint8Array, at: number, family: 4 | 6, source: Uint8Array | null, destination: Uint8Array,
): void {
  const [first, from, length] = family === 4 ? ([12, 12, 4] as const) : ([8, 0, 16] as const);
  if (source !== null) frame.set(source.subarray(from), at + first);
  frame.set(destination.subarray(from), at + first + length);
}

/** Where the transport header of the IP packet there begins; null: a later fragment has none. */
function transportOf(frame: Uint8Array, at: number, family: 4 | 6): number | null {
  if (family === 4)
    return ((frame[at + 6]! & 31) | frame[at + 7]!) === 0 ? at + (frame[at]! & 15) * 4 : null;
  let next = frame[at + 6]!;
  let here = at + 40;
  while ([0, 43, 44, 60].includes(next)) {
    if (next === 44 && ((frame[here + 2]! << 8) | frame[here + 3]!) >> 3 !== 0) return null;
    const length = next === 44 ? 8 : 8 + frame[here + 1]! * 8;
    next = frame[here]!;
    here += length;
  }
  return here;
}

/** What a way of forwarding adds: the sizes of RFC 791, 8200, 2784, 768 and GUE's first word. */
export function outerBytes({ forwarding, gue, address }: Destination, hasSecondChance = false): number {
  if (forwarding === "l2" || forwarding === "nat" || forwarding === "fullnat") return 0;
  const shim = { ipip: 0, gre: 4, gue: gue?.variant === 1 ? 8 : 12 }[forwarding];
  const isIpv4 = address.family === 4;
  // The names of two, or one as a key, whether this packet names anybody or not.
  const names = { ipip: 0, gre: isIpv4 ? 4 : 0, gue: gue?.variant === 1 ? 0 : isIpv4 ? 12 : 36 }[forwarding];
  return shim + (isIpv4 ? 20 : 40) + (hasSecondChance ? names : 0);
}

/** What the outer headers of a tunnel are made of. */
export interface Tunnel {
  readonly source: Uint8Array;
  readonly destination: Address;
  readonly forwarding: "ipip" | "gue" | "gre";
  readonly gue: Gue | null;
  /** Of the flow: the source port of gue is made of it. */
  readonly hash: number;
  /** Who else may have it, of the family of `destination`; of how many nobody is asked any more. Absent: nobody. */
  readonly alternates?: { readonly addresses: readonly Address[]; readonly asked: number };
}

/** What names them, behind the header of GUE or GRE: docs/second-chance.md says what is where. */
function alternatesField({ forwarding, alternates, destination: { family } }: Tunnel): number[] {
  if (alternates === undefined) return [];
  const { addresses, asked } = alternates;
  const bytes = addresses.map((address) => [...address.bytes.subarray(family === 4 ? 12 : 0)]);
  return forwarding === "gre" ? bytes[asked] ?? [0, 0, 0, 0] : [0x51, addresses.length, asked, 0, ...bytes.flat()];
}

/** The same, within outer headers (RFC 2003, RFC 2473, RFC 2784, draft-ietf-intarea-gue-09). */
export function forwardedByTunnel(
  frame: Uint8Array,
  packet: ParsedPacket,
  hop: Hop,
  tunnel: Tunnel,
): Expected {
  const inner = forwardedByL2(frame, packet, hop);
  const at = packet.ipOffset;
  const shim = shimOf(packet, tunnel);
  const isIpv4 = tunnel.destination.family === 4;
  const header = isIpv4
    ? outerIpv4(frame, packet, tunnel, shim.length)
    : outerIpv6(frame, packet, tunnel, shim.length);
  const outerBytes = header.length + shim.length;
  const expected = new Uint8Array(frame.length + outerBytes);
  expected.set(inner.frame.subarray(0, at), 0);
  put16(expected, at - 2, isIpv4 ? 0x0800 : 0x86dd);
  expected.set(header, at);
  expected.set(shim, at + header.length);
  expected.set(inner.frame.subarray(at), at + outerBytes);
  const sums = inner.sums.map((sum) => sum + outerBytes);
  const fresh = isIpv4 && mayFragment(frame, packet) ? [at + 4] : [];
  return { frame: expected, sums: isIpv4 ? [at + 10, ...fresh, ...sums] : sums };
}

/** Whether somebody may cut the packet, and so the outer one, to pieces: IPv6 says no. */
function mayFragment(frame: Uint8Array, packet: ParsedPacket): boolean {
  return packet.family === 4 && (frame[packet.ipOffset + 6]! & 0x40) === 0;
}

/** What stands between the outer IP header and the packet: nothing, GRE, or UDP and perhaps GUE. */
function shimOf(packet: ParsedPacket, tunnel: Tunnel): Uint8Array {
  const { forwarding, gue, hash } = tunnel;
  const isIpv4 = packet.family === 4;
  const field = alternatesField(tunnel);
  if (forwarding === "gre")
    return Uint8Array.of(field.length > 0 ? 0x20 : 0, 0, isIpv4 ? 0x08 : 0x86, isIpv4 ? 0 : 0xdd, ...field);
  if (forwarding !== "gue" || gue === null) return new Uint8Array(0);
  const header = gue.variant === 0 ? [field.length / 4, isIpv4 ? 4 : 41, 0, 0, ...field] : [];
  const shim = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, ...header);
  put16(shim, 0, 49_152 + (hash % 16_384));
  put16(shim, 2, gue.port);
  put16(shim, 4, shim.length + packet.ipLength);
  return shim;
}

function outerProtocol(packet: ParsedPacket, { forwarding }: Tunnel): number {
  if (forwarding === "gue") return 17;
  if (forwarding === "gre") return 47;
  return packet.family === 4 ? 4 : 41;
}

/** The outer source of a flow: the hash under the mask, but neither of the prefix's two ends. */
export function variedSource(
  { tunnelSource, tunnelSourceMask: mask }: Hop,
  hash: number,
): Uint8Array {
  if (mask === 0) return tunnelSource;
  const wanted = (hash & mask) >>> 0;
  const host = wanted === 0 ? 1 : wanted === mask ? mask - 1 : wanted;
  const source = Uint8Array.from(tunnelSource);
  for (let at = 0; at < 4; at += 1) source[15 - at]! |= (host >>> (8 * at)) & 255;
  return source;
}

function outerIpv4(
  frame: Uint8Array,
  packet: ParsedPacket,
  tunnel: Tunnel,
  shimBytes: number,
): Uint8Array {
  const header = new Uint8Array(20);
  header[0] = 0x45;
  header[1] = trafficClass(frame, packet);
  put16(header, 2, packet.ipLength + shimBytes + 20);
  if (!mayFragment(frame, packet)) header[6] = 0x40;
  header[8] = 64;
  header[9] = outerProtocol(packet, tunnel);
  header.set(tunnel.source.subarray(12), 12);
  header.set(tunnel.destination.bytes.subarray(12), 16);
  return header;
}

function outerIpv6(
  frame: Uint8Array,
  packet: ParsedPacket,
  tunnel: Tunnel,
  shimBytes: number,
): Uint8Array {
  const header = new Uint8Array(40);
  put16(header, 0, 0x6000 | (trafficClass(frame, packet) << 4));
  put16(header, 4, packet.ipLength + shimBytes);
  header[6] = outerProtocol(packet, tunnel);
  header[7] = 64;
  header.set(tunnel.source, 8);
  header.set(tunnel.destination.bytes, 24);
  return header;
}

function trafficClass(frame: Uint8Array, packet: ParsedPacket): number {
  const at = packet.ipOffset;
  return packet.family === 4 ? frame[at + 1]! : ((frame[at]! & 15) << 4) | (frame[at + 1]! >> 4);
}

/** The reply to an echo request without options. */
export function echoed(frame: Uint8Array, packet: ParsedPacket): Expected {
  const expected = Uint8Array.from(frame);
  expected.set(frame.subarray(6, 12), 0);
  expected.set(frame.subarray(0, 6), 6);
  const at = packet.ipOffset;
  const [source, length, header, ttl] =
    packet.family === 4 ? ([12, 4, 20, 8] as const) : ([8, 16, 40, 7] as const);
  expected.set(frame.subarray(at + source, at + source + length), at + source + length);
  expected.set(frame.subarray(at + source + length, at + source + 2 * length), at + source);
  expected[at + ttl] = 64;
  expected[at + header] = packet.family === 4 ? 0 : 129;
  const sums = [at + header + 2];
  return { frame: expected, sums: packet.family === 4 ? [at + 10, ...sums] : sums };
}

/**
 * What the sender of a packet that is too big gets (RFC 1191, 4; RFC 4443, 3.2): the packet, as it
 * came and no longer than needed, behind ICMP and an IP header of the virtual address.
 */
export function toldTooBig(frame: Uint8Array, packet: ParsedPacket, mtu: number): Expected {
  const at = packet.ipOffset;
  const quoted = packet.ipLength < 504 ? 68 : 504;
  const headerBytes = packet.family === 4 ? 20 : 40;
  const expected = new Uint8Array(at + headerBytes + 8 + quoted);
  expected.set(frame.subarray(6, 12), 0);
  expected.set(frame.subarray(0, 6), 6);
  expected.set(frame.subarray(12, at), 12);
  const icmp = at + headerBytes;
  if (packet.family === 4) {
    expected.set([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 1], at);
    put16(expected, at + 2, 28 + quoted);
    expected.set(packet.destination.subarray(12), at + 12);
    expected.set(packet.source.subarray(12), at + 16);
    expected.set([3, 4], icmp);
    put16(expected, icmp + 6, mtu);
  } else {
    expected.set([0x60, 0, 0, 0, 0, 0, 58, 64], at);
    put16(expected, at + 4, 8 + quoted);
    expected.set(packet.destination, at + 8);
    expected.set(packet.source, at + 24);
    expected[icmp] = 2;
    put16(expected, icmp + 6, mtu);
  }
  expected.set(frame.subarray(at, at + quoted), icmp + 8);
  return { frame: expected, sums: packet.family === 4 ? [at + 10, icmp + 2] : [icmp + 2] };
}

/**
 * What the sender of a segment gets whose connection was ended (RFC 9293, 3.5.2): a header of 20 bytes with RST
 * alone, at the number that the segment acknowledged, behind an IP header of whom it was sent to.
 */
export function toldReset(frame: Uint8Array, packet: ParsedPacket): Expected {
  const at = packet.ipOffset;
  const headerBytes = packet.family === 4 ? 20 : 40;
  const tcp = at + headerBytes;
  const expected = new Uint8Array(tcp + 20);
  expected.set(frame.subarray(6, 12), 0);
  expected.set(frame.subarray(0, 6), 6);
  expected.set(frame.subarray(12, at), 12);
  if (packet.family === 4) {
    expected.set([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6], at);
    expected.set(packet.destination.subarray(12), at + 12);
    expected.set(packet.source.subarray(12), at + 16);
  } else {
    expected.set([0x60, 0, 0, 0, 0, 20, 6, 64], at);
    expected.set(packet.destination, at + 8);
    expected.set(packet.source, at + 24);
  }
  put16(expected, tcp, packet.destinationPort);
  put16(expected, tcp + 2, packet.sourcePort);
  const received = transportOf(frame, at, packet.family)!;
  expected.set(frame.subarray(received + 8, received + 12), tcp + 4);
  expected.set([0x50, 4], tcp + 12);
  return { frame: expected, sums: packet.family === 4 ? [at + 10, tcp + 16] : [tcp + 16] };
}

/** Whether the frames are the same but for the sums. */
export function isAsExpected(found: Uint8Array, expected: Expected): boolean {
  if (found.length !== expected.frame.length) return false;
  return expected.frame.every(
    (byte, at) =>
      byte === found[at] || expected.sums.includes(at) || expected.sums.includes(at - 1),
  );
}
