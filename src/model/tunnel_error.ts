// ICMP errors about our own tunnels: which they are, and what they say. The specification of bpf/tunnel_error.h,
// which is its twin. Knows what a packet quotes and where destinations are; knows no map and no clock.

import { isSameAddress } from "./address.ts";
import type { Effect, Packet, State } from "./decide.ts";
import type { Destination, ForwardingTable } from "./table.ts";

/** What an ICMP error says, as it stands there. */
export interface IcmpError {
  readonly type: number;
  readonly code: number;
  /** Of "fragmentation needed" and "packet too big" the MTU; nothing in others. */
  readonly mtu: number;
  /** Length of the quoted packet, as its header says. */
  readonly quotedLength: number;
  /** Whether its checksum is right. */
  readonly sound: boolean;
}

/** Where tunnels begin: an address, and the bits of its last word that flows set. */
export interface TunnelSource {
  readonly address: Uint8Array;
  readonly mask: number;
}

const IPIP = 4, UDP = 17, IPV6 = 41, GRE = 47;
/** The least that tunnels of ours have (RFC 6335, 6). */
const QUOTED_SOURCE_PORT_MIN = 0xc000;
/** Nothing that carries less is taken for a link (RFC 791, 3.1; RFC 8200, 5). */
export const PATH_MTU_MIN = { 4: 576, 6: 1280 } as const;
/** What routers of before RFC 1191, which name no MTU, may have meant (RFC 1191, 7.1). */
const PLATEAUS = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006] as const;

/** Protocols that an outer header of this tunnel names, by what is inside. */
export function outerProtocols({ forwarding }: Pick<Destination, "forwarding">): readonly number[] {
  switch (forwarding) {
    case "ipip": return [IPIP, IPV6];
    case "gre": return [GRE];
    case "gue": return [UDP];
    default: return [];
  }
}

export function isTunnelProtocol(protocol: number): boolean {
  return protocol === IPIP || protocol === IPV6 || protocol === GRE;
}

/** The destination that an error's quoted packet was for, of the lowest id; null: it was none of ours. */
export function tunnelEndOf(
  table: ForwardingTable, sourceOf: NonNullable<State["tunnelSource"]>, packet: Packet,
): Destination | null {
  const { protocol, source, sourcePort, destination, destinationPort } = packet;
  if (protocol === UDP && destinationPort < QUOTED_SOURCE_PORT_MIN) return null;
  for (const each of table.destinations.values()) {
    if (!outerProtocols(each).includes(protocol) || (each.gue?.port ?? 0) !== sourcePort) continue;
    if (!isSameAddress(each.address.bytes, source)) continue;
    const tunnelSource = sourceOf(each.id);
    return tunnelSource !== null && isWithin(destination, tunnelSource) ? each : null;
  }
  return null;
}

function isWithin(address: Uint8Array, { address: first, mask }: TunnelSource): boolean {
  const last = new DataView(address.buffer, address.byteOffset).getUint32(12);
  const begins = new DataView(first.buffer, first.byteOffset).getUint32(12);
  return isSameAddress(address.subarray(0, 12), first.subarray(0, 12)) && ((last & ~mask) >>> 0) === begins;
}

/** What the error tells, where that is news: an MTU below the one in force (0: none), or that somebody could not deliver. */
export function tunnelErrorEffects(family: 4 | 6, error: IcmpError, inForce: number): readonly Effect[] {
  const { type, code } = error;
  const isTooBig = family === 4 ? type === 3 && code === 4 : type === 2;
  if (!isTooBig) return [{ kind: "note-unreachable", type, code }];
  const mtu = toldMtu(family, error);
  return mtu === null || (inForce !== 0 && mtu >= inForce) ? [] : [{ kind: "note-mtu", mtu }];
}

function toldMtu(family: 4 | 6, { mtu, quotedLength }: IcmpError): number | null {
  // A false one (RFC 8201, 4).
  if (family === 6) return mtu < PATH_MTU_MIN[6] ? null : mtu;
  const told = mtu === 0 ? PLATEAUS.find((plateau) => quotedLength > plateau) ?? 0 : mtu;
  return Math.max(told, PATH_MTU_MIN[4]);
}
