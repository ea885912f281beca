// What a frame has to look like when it leaves, written from the RFCs. Knows wire formats; shares
// nothing with the program. Checksums are not made here: the bytes that hold them are named, so
// that the sums can be checked by themselves.

import type { ParsedPacket } from "../../src/model/packet.ts";
import type { Hop } from "./bpf_world.ts";
import { put16 } from "./packets.ts";

export interface Expected {
  readonly frame: Uint8Array;
  /** Offsets of the 16-bit sums that may differ from `frame`. */
  readonly sums: readonly number[];
}

/** Rewritten link-layer addresses, one hop less. */
export function forwardedByL2(frame: Uint8Array, packet: ParsedPacket, hop: Hop): Expected {
  const expected = Uint8Array.from(frame);
  expected.set(hop.destinationMac, 0);
  expected.set(hop.sourceMac, 6);
  expected[packet.ipOffset + (packet.family === 4 ? 8 : 7)] = packet.ttl - 1;
  return { frame: expected, sums: packet.family === 4 ? [packet.ipOffset + 10] : [] };
}

/** The same, within an outer header (RFC 2003, RFC 2473). */
export function forwardedByIpip(
  frame: Uint8Array,
  packet: ParsedPacket,
  hop: Hop,
  outerDestination: Uint8Array,
  outerFamily: 4 | 6,
): Expected {
  const inner = forwardedByL2(frame, packet, hop);
  const at = packet.ipOffset;
  const outer =
    outerFamily === 4
      ? outerIpv4(frame, packet, hop.tunnelSource, outerDestination)
      : outerIpv6(frame, packet, hop.tunnelSource, outerDestination);
  const expected = new Uint8Array(frame.length + outer.length);
  expected.set(inner.frame.subarray(0, at), 0);
  put16(expected, at - 2, outerFamily === 4 ? 0x0800 : 0x86dd);
  expected.set(outer, at);
  expected.set(inner.frame.subarray(at), at + outer.length);
  const sums = inner.sums.map((sum) => sum + outer.length);
  return { frame: expected, sums: outerFamily === 4 ? [at + 10, ...sums] : sums };
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
  source: Uint8Array,
  destination: Uint8Array,
): Uint8Array {
  const at = packet.ipOffset;
  const header = new Uint8Array(20);
  header[0] = 0x45;
  header[1] = trafficClass(frame, packet);
  put16(header, 2, packet.ipLength + 20);
  const mayFragment = packet.family === 4 && (frame[at + 6]! & 0x40) === 0;
  if (mayFragment) header.set(frame.subarray(at + 4, at + 6), 4);
  else header[6] = 0x40;
  header[8] = 64;
  header[9] = packet.family === 4 ? 4 : 41;
  header.set(source.subarray(12), 12);
  header.set(destination.subarray(12), 16);
  return header;
}

function outerIpv6(
  frame: Uint8Array,
  packet: ParsedPacket,
  source: Uint8Array,
  destination: Uint8Array,
): Uint8Array {
  const header = new Uint8Array(40);
  put16(header, 0, 0x6000 | (trafficClass(frame, packet) << 4));
  put16(header, 4, packet.ipLength);
  header[6] = packet.family === 4 ? 4 : 41;
  header[7] = 64;
  header.set(source, 8);
  header.set(destination, 24);
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

/** Whether the frames are the same but for the sums. */
export function isAsExpected(found: Uint8Array, expected: Expected): boolean {
  if (found.length !== expected.frame.length) return false;
  return expected.frame.every(
    (byte, at) =>
      byte === found[at] || expected.sums.includes(at) || expected.sums.includes(at - 1),
  );
}
