// Bytes to a Packet: Ethernet, up to two VLAN tags, IPv4 or IPv6, and the first bytes of TCP, UDP
// or ICMP. Written from the RFCs as the second opinion on bpf/packet.h, not from its code. Knows
// wire formats; knows no table: whether a packet is for a service is decide()'s business.

import { isSameAddress } from "./address.ts";
import type { Packet, PacketKind } from "./decide.ts";
import { isIcmpSumRight } from "./icmp_sum.ts";
import { DATAGRAM_BYTES_SEEN } from "./quic_route.ts";
import { isTunnelProtocol } from "./tunnel_error.ts";

/** A packet that was read from a frame, and where things are in it. */
export interface ParsedPacket extends Packet {
  /** Where the IP header begins: 14, 18 or 22. */
  readonly ipOffset: number;
  /** The IP packet's own length, header included; the frame may be padded. */
  readonly ipLength: number;
  /** What the fragments of a datagram have in common; 0 for what is no fragment. */
  readonly identification: number;
}

/** Key of a fragment's datagram, as the table of fragments has it. */
export interface FragmentTuple {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly identification: number;
  /** Of IPv4; 0 for IPv6, where later fragments may say something else (RFC 8200, 4.5). */
  readonly protocol: number;
}

/** Key of a packet's flow, as the flow table has it. */
export interface FlowTuple {
  readonly source: Uint8Array;
  readonly sourcePort: number;
  readonly destination: Uint8Array;
  readonly destinationPort: number;
  readonly protocol: number;
}

const ETHERNET_BYTES = 14;
const VLAN_TAGS_MAX = 2;
const VLAN_TYPES: readonly number[] = [0x8100, 0x88a8];
const TYPE_IPV4 = 0x0800;
const TYPE_IPV6 = 0x86dd;
const IPV6_BYTES = 40;
const EXTENSIONS_MAX = 5;
const TCP = 6,
  UDP = 17,
  ICMP = 1,
  ICMPV6 = 58;
const UDP_BYTES = 8;
const HOP_BY_HOP = 0,
  ROUTING = 43,
  FRAGMENT = 44,
  DESTINATION_OPTIONS = 60;
const TCP_FIN = 0x01,
  TCP_SYN = 0x02,
  TCP_RST = 0x04,
  TCP_ACK = 0x10;

/** What the headers up to the transport header say. */
interface Network {
  readonly family: 4 | 6;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly ttl: number;
  readonly ipOffset: number;
  readonly ipLength: number;
  readonly identification: number;
}

/** Where the transport header is, or the kind of packet that has none we can read. */
interface Transport {
  readonly protocol: number;
  readonly at: number;
  /** This is the first of several fragments. */
  readonly first: boolean;
  /** Nothing but a plain header came before: an echo request may be answered. */
  readonly plain: boolean;
}

/** Reads a frame. A verdict: it is no packet at all, for reasons that need no table. */
export function parsePacket(frame: Uint8Array): ParsedPacket | "PASS_NOT_IP" | "PASS_MALFORMED" {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  let at = ETHERNET_BYTES;
  for (let tags = 0; ; tags += 1, at += 4) {
    if (frame.length < at) return "PASS_NOT_IP";
    if (tags === VLAN_TAGS_MAX || !VLAN_TYPES.includes(view.getUint16(at - 2))) break;
  }
  switch (view.getUint16(at - 2)) {
    case TYPE_IPV4:
      return parseIpv4(frame, view, at);
    case TYPE_IPV6:
      return parseIpv6(frame, view, at);
    default:
      return "PASS_NOT_IP";
  }
}

/** RFC 791. */
function parseIpv4(frame: Uint8Array, view: DataView, at: number): ParsedPacket | "PASS_MALFORMED" {
  if (frame.length < at + 20) return "PASS_MALFORMED";
  const headerBytes = (frame[at]! & 0x0f) * 4;
  const ipLength = view.getUint16(at + 2);
  if (frame[at]! >> 4 !== 4 || headerBytes < 20 || ipLength < headerBytes) return "PASS_MALFORMED";
  if (frame.length < at + ipLength) return "PASS_MALFORMED";
  const fragment = view.getUint16(at + 6);
  const network: Network = {
    family: 4,
    source: mapped(frame, at + 12),
    destination: mapped(frame, at + 16),
    ttl: frame[at + 8]!,
    ipOffset: at,
    ipLength,
    identification: (fragment & 0x3fff) === 0 ? 0 : view.getUint16(at + 4),
  };
  const protocol = frame[at + 9]!;
  if ((fragment & 0x1fff) !== 0) return without(network, "later-fragment", protocol);
  const first = (fragment & 0x2000) !== 0;
  const plain = !first && headerBytes === 20 && isToOneHost(frame);
  return parseTransport(frame, view, network, { protocol, at: at + headerBytes, first, plain });
}

/** RFC 8200. */
function parseIpv6(frame: Uint8Array, view: DataView, at: number): ParsedPacket | "PASS_MALFORMED" {
  if (frame.length < at + IPV6_BYTES) return "PASS_MALFORMED";
  const ipLength = IPV6_BYTES + view.getUint16(at + 4);
  if (frame[at]! >> 4 !== 6 || frame.length < at + ipLength) return "PASS_MALFORMED";
  const source = frame.slice(at + 8, at + 24);
  const destination = frame.slice(at + 24, at + 40);
  // In keys this is how IPv4 is written; on the wire it would be a disguise.
  if (isMapped(source) || isMapped(destination)) return "PASS_MALFORMED";
  const network: Network = {
    family: 6,
    source,
    destination,
    ttl: frame[at + 7]!,
    ipOffset: at,
    ipLength,
    identification: 0,
  };
  return walkExtensions(frame, view, network);
}

function walkExtensions(frame: Uint8Array, view: DataView, plainNetwork: Network): ParsedPacket {
  let network = plainNetwork;
  const start = { protocol: frame[network.ipOffset + 6]!, at: network.ipOffset + IPV6_BYTES };
  const reached = skipExtensions(frame, view, start, network.ipOffset + network.ipLength);
  network = { ...network, identification: reached.identification };
  if (reached.kind !== null) return without(network, reached.kind, reached.protocol);
  const { protocol, at, first, extensions } = reached;
  const plain = extensions === 0 && isToOneHost(frame);
  return parseTransport(frame, view, network, { protocol, at, first, plain });
}

/** Where the extension headers end, or the kind of packet that lets nobody look so far. */
type Reached = { readonly protocol: number; readonly identification: number } & (
  | {
      readonly kind: null;
      readonly at: number;
      readonly first: boolean;
      readonly extensions: number;
    }
  | { readonly kind: PacketKind }
);

/** Over the extension headers to the transport header (RFC 8200, 4). */
function skipExtensions(
  frame: Uint8Array,
  view: DataView,
  start: { readonly protocol: number; readonly at: number },
  stop: number,
): Reached {
  let { protocol, at } = start;
  let first = false;
  let identification = 0;
  let extensions = 0;
  for (; extensions < EXTENSIONS_MAX && isExtension(protocol); extensions += 1) {
    if (at + 8 > stop) return { kind: "truncated", protocol, identification };
    let length = 8;
    if (protocol === FRAGMENT) {
      const fragment = view.getUint16(at + 2);
      // Neither offset nor more to come: an atomic fragment is a whole packet (RFC 6946).
      if ((fragment & 0xfff9) !== 0) identification = view.getUint32(at + 4);
      if (fragment >> 3 !== 0)
        return { kind: "later-fragment", protocol: frame[at]!, identification };
      if ((fragment & 1) !== 0) first = true;
    } else {
      // With segments left the packet is on its way to somebody else.
      if (protocol === ROUTING && frame[at + 3] !== 0)
        return { kind: "other-protocol", protocol, identification };
      length += frame[at + 1]! * 8;
    }
    protocol = frame[at]!;
    at += length;
  }
  return { kind: null, protocol, at, first, extensions, identification };
}

function isExtension(protocol: number): boolean {
  return (
    protocol === HOP_BY_HOP ||
    protocol === ROUTING ||
    protocol === FRAGMENT ||
    protocol === DESTINATION_OPTIONS
  );
}

function parseTransport(
  frame: Uint8Array,
  view: DataView,
  network: Network,
  transport: Transport,
): ParsedPacket {
  const { protocol, at, first, plain } = transport;
  const isIcmp = protocol === (network.family === 4 ? ICMP : ICMPV6);
  if (protocol !== TCP && protocol !== UDP && !isIcmp)
    return without(network, "other-protocol", protocol);
  const needed = protocol === TCP ? 20 : 8;
  if (at + needed > network.ipOffset + network.ipLength)
    return without(network, "truncated", protocol);
  if (isIcmp) {
    const quoted = first ? null : quotedFlow(frame, view, network, at);
    if (quoted !== null) return quoted;
    const isRequest = frame[at] === (network.family === 4 ? 8 : 128) && frame[at + 1] === 0;
    return without(
      network,
      isRequest && plain && isAnswerable(network) ? "echo-request" : "icmp",
      protocol,
    );
  }
  const flags = protocol === TCP ? frame[at + 13]! : 0;
  const kind = first ? "first-fragment" : "flow";
  const tellable = isTellable(frame, network);
  const packet = {
    ...describe(network, kind, protocol, view.getUint32(at), flags), tellable,
  };
  if (protocol !== UDP) return packet;
  const end = Math.min(network.ipOffset + network.ipLength, at + UDP_BYTES + DATAGRAM_BYTES_SEEN);
  return { ...packet, datagram: frame.subarray(at + UDP_BYTES, end) };
}

/** Unreachable, time exceeded, parameter problem (RFC 792); and too big (RFC 4443, 3). */
const ERRORS: Readonly<Record<4 | 6, readonly number[]>> = { 4: [3, 11, 12], 6: [1, 2, 3, 4] };
const QUOTE_OFFSET = 8;
/** Of the transport header; RFC 792 and RFC 1122 (3.2.2) promise no more. */
const QUOTED_BYTES = 8;

/**
 * An ICMP error about something that the address it was sent to had sent: the flow that it quotes,
 * seen from the client's side. Null where it is no error or quotes no such flow. The quote may be
 * cut anywhere behind the ports, and its own length is that of the packet as it was. Extensions
 * (RFC 4884) come behind at least 128 bytes of quote; nothing here depends on where that ends.
 * The quoted checksum is not verified: whoever the error is for does that.
 */
function quotedFlow(
  frame: Uint8Array,
  view: DataView,
  network: Network,
  icmp: number,
): ParsedPacket | null {
  if (!ERRORS[network.family].includes(frame[icmp]!)) return null;
  const stop = network.ipOffset + network.ipLength;
  const at = icmp + QUOTE_OFFSET;
  if (at + (network.family === 4 ? 20 : IPV6_BYTES) > stop) return null;
  if (frame[at]! >> 4 !== network.family) return null;
  const quote =
    network.family === 4 ? quotedIpv4(frame, view, at) : quotedIpv6(frame, view, at, stop);
  if (quote === null || quote.source.some((byte, index) => byte !== network.destination[index]))
    return null;
  const { protocol, transport, destination } = quote;
  const hasPorts = protocol === TCP || protocol === UDP;
  if ((!hasPorts && !isTunnelProtocol(protocol)) || transport + QUOTED_BYTES > stop) return null;
  const ports = hasPorts ? view.getUint32(transport) : 0;
  const turned = ((ports << 16) | (ports >>> 16)) >>> 0;
  const error = {
    type: frame[icmp]!, code: frame[icmp + 1]!,
    mtu: network.family === 4 ? view.getUint16(icmp + 6) : view.getUint32(icmp + 4),
    quotedLength: network.family === 4 ? view.getUint16(at + 2) : IPV6_BYTES + view.getUint16(at + 4),
    sound: isIcmpSumRight({ ...network, bytes: frame.subarray(icmp, stop) }),
  };
  return { ...describe({ ...network, source: destination }, "icmp-error", protocol, turned, 0), error };
}

interface Quote {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly protocol: number;
  /** Where the transport header begins, if it was quoted. */
  readonly transport: number;
}

function quotedIpv4(frame: Uint8Array, view: DataView, at: number): Quote | null {
  const headerBytes = (frame[at]! & 0x0f) * 4;
  // A later fragment has no ports; the first one has.
  if (headerBytes < 20 || (view.getUint16(at + 6) & 0x1fff) !== 0) return null;
  return {
    source: mapped(frame, at + 12),
    destination: mapped(frame, at + 16),
    protocol: frame[at + 9]!,
    transport: at + headerBytes,
  };
}

function quotedIpv6(frame: Uint8Array, view: DataView, at: number, stop: number): Quote | null {
  const destination = frame.slice(at + 24, at + 40);
  if (isMapped(destination)) return null;
  const start = { protocol: frame[at + 6]!, at: at + IPV6_BYTES };
  const reached = skipExtensions(frame, view, start, stop);
  if (reached.kind !== null) return null;
  const { protocol, at: transport } = reached;
  return { source: frame.slice(at + 8, at + 24), destination, protocol, transport };
}

function without(network: Network, kind: PacketKind, protocol: number): ParsedPacket {
  return describe(network, kind, protocol, 0, 0);
}

/** `ports` are both of them, as they lie in the header; `flags` those of TCP. */
function describe(
  network: Network,
  kind: PacketKind,
  protocol: number,
  ports: number,
  flags: number,
): ParsedPacket {
  const { family, source, destination, ttl, ipOffset, ipLength, identification } = network;
  return {
    kind,
    family,
    source,
    destination,
    protocol,
    sourcePort: ports >>> 16,
    destinationPort: ports & 0xffff,
    syn: (flags & TCP_SYN) !== 0,
    ack: (flags & TCP_ACK) !== 0,
    fin: (flags & TCP_FIN) !== 0,
    rst: (flags & TCP_RST) !== 0,
    tellable: false,
    ttl,
    ipOffset,
    ipLength,
    identification,
  };
}

function mapped(frame: Uint8Array, at: number): Uint8Array {
  const address = new Uint8Array(16);
  address[10] = 0xff;
  address[11] = 0xff;
  for (let byte = 0; byte < 4; byte += 1) address[12 + byte] = frame[at + byte]!;
  return address;
}

function isMapped(address: Uint8Array): boolean {
  for (let at = 0; at < 10; at += 1) if (address[at] !== 0) return false;
  return address[10] === 0xff && address[11] === 0xff;
}

/** Not for a group of hosts: nobody answers an echo that was sent to all. */
function isToOneHost(frame: Uint8Array): boolean {
  return (frame[0]! & 1) === 0;
}

/**
 * Whether an answer would reach one host, and another one than its sender (RFC 1122, 3.2.2; RFC
 * 4443, 2.4).
 */
function isAnswerable({ family, source, destination }: Network): boolean {
  if (isSameAddress(source, destination)) return false;
  if (family === 4) return source[12] !== 0 && source[12] !== 127 && source[12]! < 224;
  if (source[0] === 0xff) return false;
  return source.some((byte, at) => byte !== 0 && (at < 15 || byte !== 1));
}

/** The key under which the flow of this packet is remembered. */
export function flowKeyOf(packet: Packet): FlowTuple {
  const { source, sourcePort, destination, destinationPort, protocol } = packet;
  return { source, sourcePort, destination, destinationPort, protocol };
}

/** The key under which the datagram of this fragment is remembered. */
export function fragmentKeyOf(packet: ParsedPacket): FragmentTuple {
  const { source, destination, identification, family } = packet;
  return { source, destination, identification, protocol: family === 4 ? packet.protocol : 0 };
}

/** What an answer quotes at least: the largest IPv4 header, or IPv6's and more, and eight bytes. */
const QUOTABLE_BYTES = 68;

function isTellable(frame: Uint8Array, network: Network): boolean {
  return network.ipLength >= QUOTABLE_BYTES && isToOneHost(frame) && isAnswerable(network);
}
