// The Internet checksum, checked by arithmetic that has nothing in common with the program's: sums
// of 16-bit numbers modulo 65535 (RFC 1071, 2), taken over whole packets. Knows where the sums of
// IPv4, TCP, UDP, ICMP and ICMPv6 are and follows tunnels inwards; knows no verdict and no service.

/**
 * How far each sum in a frame is from right: 0 is right. Outermost first; null: there is none to
 * check.
 */
export interface Residues {
  /** Of the IPv4 headers, or null for IPv6. */
  readonly headers: readonly (number | null)[];
  /** Of the innermost TCP, UDP, ICMP or ICMPv6. */
  readonly transport: number | null;
}

/**
 * What a right checksum leaves, in [0, 65535): all the words, the sum among them, make a multiple.
 */
export function residue(bytes: Uint8Array, initial = 0): number {
  let total = initial;
  for (let at = 0; at < bytes.length; at += 1) total += bytes[at]! * (at % 2 === 0 ? 256 : 1);
  return total % 65535;
}

/** The residues of a frame that starts with an Ethernet header; VLAN tags are skipped. */
export function residuesOf(frame: Uint8Array): Residues {
  let at = 12;
  while (word(frame, at) === 0x8100 || word(frame, at) === 0x88a8) at += 4;
  const headers: (number | null)[] = [];
  let packet = frame.subarray(at + 2);
  for (;;) {
    const isIpv4 = packet[0]! >> 4 === 4;
    const { protocol, start, stop } = isIpv4 ? ipv4Body(packet) : ipv6Body(packet);
    headers.push(isIpv4 ? residue(packet.subarray(0, (packet[0]! & 15) * 4)) : null);
    if (start === null) return { headers, transport: null };
    const body = packet.subarray(start, stop);
    const inside = insideOf(protocol, body);
    if (inside === null) {
      return { headers, transport: transportResidue(packet, isIpv4, protocol, body) };
    }
    packet = inside;
  }
}

/** Ports that the tests give GUE. */
const GUE_PORTS: readonly number[] = [6080, 6081];

/** Of a GRE header with four bytes more (RFC 2890). */
const GRE_KEY = 0x2000;

/** The packet that a tunnel carries, or null where there is none. */
function insideOf(protocol: number, body: Uint8Array): Uint8Array | null {
  if (protocol === 4 || protocol === 41) return body;
  if (protocol === 47) {
    const flags = word(body, 0);
    const isTunnel = (flags === 0 || flags === GRE_KEY) && [0x0800, 0x86dd].includes(word(body, 2));
    return isTunnel ? body.subarray(flags === GRE_KEY ? 8 : 4) : null;
  }
  if (protocol !== 17 || !GUE_PORTS.includes(word(body, 2)) || word(body, 6) !== 0) return null;
  const first = body[8] ?? 0;
  if (first >> 6 === 1) return body.subarray(8);
  return first >> 6 === 0 ? body.subarray(12 + (first & 31) * 4) : null;
}

interface Body {
  readonly protocol: number;
  /** null: a fragment, or headers that cannot be followed. */
  readonly start: number | null;
  readonly stop: number;
}

function ipv4Body(packet: Uint8Array): Body {
  const fragment = word(packet, 6) & 0x3fff;
  const stop = word(packet, 2);
  return { protocol: packet[9]!, start: fragment === 0 ? (packet[0]! & 15) * 4 : null, stop };
}

function ipv6Body(packet: Uint8Array): Body {
  const stop = 40 + word(packet, 4);
  let protocol = packet[6]!;
  let start = 40;
  while ([0, 43, 44, 60].includes(protocol)) {
    if (start + 8 > stop) return { protocol, start: null, stop };
    if (protocol === 44 && (word(packet, start + 2) & 0xfff9) !== 0)
      return { protocol, start: null, stop };
    // The pseudo-header wants the last address of the route, which is not the one in the header.
    if (protocol === 43 && packet[start + 3] !== 0) return { protocol, start: null, stop };
    const length = protocol === 44 ? 8 : 8 + packet[start + 1]! * 8;
    protocol = packet[start]!;
    start += length;
  }
  return { protocol, start: start <= stop ? start : null, stop };
}

/** RFC 793, 768, 792 and RFC 8200, 8.1: ICMP alone has no pseudo-header. */
function transportResidue(
  packet: Uint8Array,
  isIpv4: boolean,
  protocol: number,
  body: Uint8Array,
): number | null {
  if (isIpv4 && protocol === 1) return residue(body);
  if (![6, 17, isIpv4 ? -1 : 58].includes(protocol)) return null;
  // None was made: IPv6 has that too (RFC 6935), and who translates it makes none either.
  if (protocol === 17 && word(body, 6) === 0) return null;
  const addresses = isIpv4 ? packet.subarray(12, 20) : packet.subarray(8, 40);
  return residue(body, residue(addresses) + body.length + protocol);
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0);
}
