// Frames for tests, written field by field from the RFCs. Knows wire formats and fills in right
// checksums; knows no program and no service, and shares nothing with src/model/packet.ts.

import { residue } from "./checksums.ts";

export interface Extension {
  /** Hop-by-hop 0, routing 43, fragment 44, destination options 60. */
  readonly type: number;
  /** For all but fragments: bytes, a multiple of 8. */
  readonly length: number;
  /** Byte 3: segments left of a routing header. */
  readonly segmentsLeft: number;
  readonly fragment: { readonly offset: number; readonly more: boolean; readonly id?: number };
}

export interface FrameSpec {
  readonly destinationMac: Uint8Array;
  readonly sourceMac: Uint8Array;
  /** Types of the tags, outermost first. */
  readonly tags: readonly number[];
  readonly family: 4 | 6;
  /** Sixteen bytes, IPv4 mapped. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Byte 13 of a TCP header; type of an ICMP message. */
  readonly flags: number;
  /** Behind a TCP header; a multiple of 4 bytes. */
  readonly tcpOptions: Uint8Array;
  /** Of an ICMP message. */
  readonly code: number;
  /** Of an ICMP error: the lower half of what follows the checksum. */
  readonly mtu: number;
  readonly payload: Uint8Array;
  readonly ttl: number;
  /** DSCP and ECN. */
  readonly trafficClass: number;
  /** IPv4 alone. */
  readonly id: number;
  readonly dontFragment: boolean;
  readonly more: boolean;
  /** In units of eight bytes. */
  readonly fragmentOffset: number;
  /** Bytes, a multiple of 4. */
  readonly optionBytes: number;
  /** IPv6 alone. */
  readonly extensions: readonly Extension[];
  /** Bytes behind the IP packet. */
  readonly padding: number;
}

export const TCP = 6;
export const UDP = 17;
export const ICMP = 1;
export const ICMPV6 = 58;

export function mac(last: number): Uint8Array {
  return Uint8Array.of(2, 0, 0, 0, 0, last);
}

export const PLAIN: FrameSpec = {
  destinationMac: mac(1),
  sourceMac: mac(2),
  tags: [],
  family: 4,
  source: ipv4(10, 0, 0, 1),
  destination: ipv4(10, 0, 0, 2),
  protocol: UDP,
  sourcePort: 1024,
  destinationPort: 53,
  flags: 0,
  tcpOptions: new Uint8Array(0),
  code: 0,
  mtu: 0,
  payload: new Uint8Array(0),
  ttl: 64,
  trafficClass: 0,
  id: 0,
  dontFragment: true,
  more: false,
  fragmentOffset: 0,
  optionBytes: 0,
  extensions: [],
  padding: 0,
};

export function ipv4(a: number, b: number, c: number, d: number): Uint8Array {
  return Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d);
}

/** The frame of a specification; what is left out is as in PLAIN. */
export function frameOf(changes: Partial<FrameSpec>): Uint8Array {
  const spec: FrameSpec = { ...PLAIN, ...changes };
  const transport = transportOf(spec);
  const packet = spec.family === 4 ? ipv4Packet(spec, transport) : ipv6Packet(spec, transport);
  const start = 14 + spec.tags.length * 4;
  const frame = new Uint8Array(start + packet.length + spec.padding);
  frame.set(spec.destinationMac, 0);
  frame.set(spec.sourceMac, 6);
  spec.tags.forEach((type, tag) => {
    put16(frame, 12 + tag * 4, type);
    put16(frame, 14 + tag * 4, 100 + tag);
  });
  put16(frame, start - 2, spec.family === 4 ? 0x0800 : 0x86dd);
  frame.set(packet, start);
  return frame;
}

function transportOf(spec: FrameSpec): Uint8Array {
  const { protocol, payload, family } = spec;
  const headerBytes = protocol === TCP ? 20 + spec.tcpOptions.length : protocol === UDP || isIcmp(spec) ? 8 : 0;
  const segment = new Uint8Array(headerBytes + payload.length);
  segment.set(payload, headerBytes);
  if (headerBytes === 0) return segment;
  if (isIcmp(spec)) {
    segment[0] = spec.flags;
    segment[1] = spec.code;
    put16(segment, 4, spec.sourcePort);
    put16(segment, 6, spec.mtu);
    const initial = family === 4 ? 0 : pseudoHeader(spec, segment.length);
    put16(segment, 2, complement(residue(segment, initial)));
    return segment;
  }
  put16(segment, 0, spec.sourcePort);
  put16(segment, 2, spec.destinationPort);
  if (protocol === TCP) {
    segment[12] = (headerBytes / 4) << 4;
    segment.set(spec.tcpOptions, 20);
    segment[13] = spec.flags;
    put16(segment, 14, 0xffff);
  } else put16(segment, 4, segment.length);
  const sum = complement(residue(segment, pseudoHeader(spec, segment.length)));
  // 0 would say that there is none (RFC 768).
  put16(segment, protocol === TCP ? 16 : 6, sum === 0 ? 0xffff : sum);
  return segment;
}

function isIcmp(spec: FrameSpec): boolean {
  return spec.protocol === (spec.family === 4 ? ICMP : ICMPV6);
}

function pseudoHeader(spec: FrameSpec, length: number): number {
  const from = spec.family === 4 ? 12 : 0;
  return (
    residue(spec.source.subarray(from)) +
    residue(spec.destination.subarray(from)) +
    length +
    spec.protocol
  );
}

function complement(sum: number): number {
  return 65535 - sum;
}

function ipv4Packet(spec: FrameSpec, body: Uint8Array): Uint8Array {
  const headerBytes = 20 + spec.optionBytes;
  const packet = new Uint8Array(headerBytes + body.length);
  packet[0] = (4 << 4) | (headerBytes / 4);
  packet[1] = spec.trafficClass;
  put16(packet, 2, packet.length);
  put16(packet, 4, spec.id);
  put16(
    packet,
    6,
    (spec.dontFragment ? 0x4000 : 0) | (spec.more ? 0x2000 : 0) | spec.fragmentOffset,
  );
  packet[8] = spec.ttl;
  packet[9] = spec.protocol;
  packet.set(spec.source.subarray(12), 12);
  packet.set(spec.destination.subarray(12), 16);
  // No operation (RFC 791).
  packet.fill(1, 20, headerBytes);
  put16(packet, 10, complement(residue(packet.subarray(0, headerBytes))));
  packet.set(body, headerBytes);
  return packet;
}

function ipv6Packet(spec: FrameSpec, body: Uint8Array): Uint8Array {
  const extensions = spec.extensions.map((extension, at) =>
    extensionOf(extension, spec.extensions[at + 1]?.type ?? spec.protocol),
  );
  const length = extensions.reduce((sum, extension) => sum + extension.length, body.length);
  const packet = new Uint8Array(40 + length);
  packet[0] = (6 << 4) | (spec.trafficClass >> 4);
  packet[1] = (spec.trafficClass << 4) | 5;
  put16(packet, 2, 0x4321);
  put16(packet, 4, length);
  packet[6] = spec.extensions[0]?.type ?? spec.protocol;
  packet[7] = spec.ttl;
  packet.set(spec.source, 8);
  packet.set(spec.destination, 24);
  let at = 40;
  for (const part of [...extensions, body]) {
    packet.set(part, at);
    at += part.length;
  }
  return packet;
}

function extensionOf(extension: Extension, next: number): Uint8Array {
  const bytes = new Uint8Array(extension.type === 44 ? 8 : extension.length);
  bytes[0] = next;
  if (extension.type === 44) {
    const { offset, more, id = 0 } = extension.fragment;
    put16(bytes, 2, (offset << 3) | (more ? 1 : 0));
    put16(bytes, 4, id >>> 16);
    put16(bytes, 6, id);
    return bytes;
  }
  bytes[1] = extension.length / 8 - 1;
  if (extension.type === 43) bytes[3] = extension.segmentsLeft;
  // Options are padded with one PadN (RFC 8200, 4.2).
  else bytes.set([1, Math.min(255, extension.length - 4)], 2);
  return bytes;
}

export function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8;
  bytes[at + 1] = value;
}
