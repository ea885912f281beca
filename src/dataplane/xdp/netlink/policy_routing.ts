// What it takes to send marked packets to an interface of one's own, as rtnetlink(7) says it: a pair of
// veth, an alias that says whose it is, rules for a mark, a default route in a table of its own. Pure;
// knows the layouts of include/uapi/linux/if_link.h, veth.h, fib_rules.h and rtnetlink.h; must never open
// a socket.

import type { Address } from "../../../model/address.ts";
import {
  attributeText, attributeU32, attributeU8, concatenated, decodeAttributes, encodeAttribute, u32Bytes, viewOf,
} from "./message.ts";
import { addressBytes } from "./rtnetlink.ts";

export const RTM_RULE = { NEW: 32, DELETE: 33, GET: 34 } as const;

const AF_INET = 2;
const AF_INET6 = 10;
const IFF_UP = 0x1;
const IFF_NOARP = 0x80;
const IFLA = { IFNAME: 3, MTU: 4, LINKINFO: 18, IFALIAS: 20 } as const;
const IFLA_INFO = { KIND: 1, DATA: 2 } as const;
const VETH_INFO_PEER = 1;

export interface VethPair {
  readonly name: string;
  readonly peer: string;
  readonly mtu: number;
}

/** struct ifinfomsg; the flags are those to be set. */
function linkHeader(ifindex: number, flags: number): Uint8Array {
  const header = new Uint8Array(16);
  const view = viewOf(header);
  view.setInt32(4, ifindex, true);
  view.setUint32(8, flags, true);
  view.setUint32(12, flags, true);
  return header;
}

function text(value: string): Uint8Array {
  return Buffer.from(`${value}\0`);
}

/**
 * The payload of NEWLINK for both ends at once, on which nobody is asked for a neighbour. A veth cannot be
 * up before it has its peer.
 */
export function encodeVethPair({ name, peer, mtu }: VethPair): Uint8Array {
  const end = (named: string): Uint8Array => concatenated(
    linkHeader(0, IFF_NOARP),
    encodeAttribute(IFLA.IFNAME, text(named)), encodeAttribute(IFLA.MTU, u32Bytes(mtu)),
  );
  const info = concatenated(
    encodeAttribute(IFLA_INFO.KIND, Buffer.from("veth")),
    encodeAttribute(IFLA_INFO.DATA, encodeAttribute(VETH_INFO_PEER, end(peer))),
  );
  return concatenated(end(name), encodeAttribute(IFLA.LINKINFO, info));
}

/** The payload of SETLINK. */
export function encodeAlias(ifindex: number, alias: string): Uint8Array {
  return concatenated(linkHeader(ifindex, 0), encodeAttribute(IFLA.IFALIAS, Buffer.from(alias)));
}

/** The payload of SETLINK. */
export function encodeLinkUp(ifindex: number): Uint8Array {
  return linkHeader(ifindex, IFF_UP);
}

/** The payload of DELLINK; of a pair, both go. */
export function encodeLinkRemoval(ifindex: number): Uint8Array {
  return linkHeader(ifindex, 0);
}

/** What a NEWLINK says that encodeAlias() wrote, or null. */
export function decodeAlias(payload: Uint8Array): { readonly name: string; readonly alias: string } | null {
  const attributes = decodeAttributes(payload.subarray(16));
  const alias = attributeText(attributes, IFLA.IFALIAS);
  const name = attributeText(attributes, IFLA.IFNAME);
  return alias === null || name === null ? null : { name, alias };
}

/** Packets with this mark are routed by this table. */
export interface MarkRule {
  readonly family: 4 | 6;
  readonly priority: number;
  readonly mark: number;
  readonly table: number;
  /** Who put it there (FRA_PROTOCOL); 0: unknown. */
  readonly protocol: number;
}

const FRA = { PRIORITY: 6, FWMARK: 10, TABLE: 15, FWMASK: 16, PROTOCOL: 21 } as const;
const FR_ACT_TO_TBL = 1;
const ALL_BITS = 0xffff_ffff;

function familyNumber(family: 4 | 6): number {
  return family === 4 ? AF_INET : AF_INET6;
}

/** The payload of NEWRULE and DELRULE. */
export function encodeRule({ family, priority, mark, table, protocol }: MarkRule): Uint8Array {
  const header = new Uint8Array(12);
  header[0] = familyNumber(family);
  header[7] = FR_ACT_TO_TBL;
  return concatenated(
    header, encodeAttribute(FRA.PRIORITY, u32Bytes(priority)), encodeAttribute(FRA.FWMARK, u32Bytes(mark)),
    encodeAttribute(FRA.FWMASK, u32Bytes(ALL_BITS)), encodeAttribute(FRA.TABLE, u32Bytes(table)),
    encodeAttribute(FRA.PROTOCOL, Uint8Array.of(protocol)),
  );
}

/** Null for a rule that is not for one mark, or not for IP. */
export function decodeRule(payload: Uint8Array): MarkRule | null {
  if (payload.length < 12 || (payload[0] !== AF_INET && payload[0] !== AF_INET6)) return null;
  const attributes = decodeAttributes(payload.subarray(12));
  const mark = attributeU32(attributes, FRA.FWMARK);
  if (mark === null || attributeU32(attributes, FRA.FWMASK) !== ALL_BITS) return null;
  return {
    family: payload[0] === AF_INET ? 4 : 6,
    priority: attributeU32(attributes, FRA.PRIORITY) ?? 0,
    mark,
    table: attributeU32(attributes, FRA.TABLE) ?? payload[4]!,
    protocol: attributeU8(attributes, FRA.PROTOCOL) ?? 0,
  };
}

export interface DefaultRoute {
  readonly family: 4 | 6;
  readonly table: number;
  readonly ifindex: number;
  readonly protocol: number;
}

const RTA = { DST: 1, OIF: 4, TABLE: 15, MARK: 16 } as const;
const RT_SCOPE_LINK = 253;
const RTN_UNICAST = 1;

/** The payload of NEWROUTE: everything that this table is asked for goes there. */
export function encodeDefaultRoute({ family, table, ifindex, protocol }: DefaultRoute): Uint8Array {
  const header = new Uint8Array(12);
  header[0] = familyNumber(family);
  header[5] = protocol;
  header[6] = family === 4 ? RT_SCOPE_LINK : 0;
  header[7] = RTN_UNICAST;
  return concatenated(
    header, encodeAttribute(RTA.TABLE, u32Bytes(table)), encodeAttribute(RTA.OIF, u32Bytes(ifindex)),
  );
}

/** The payload of GETROUTE: the way of packets with this mark. */
export function encodeMarkedRouteRequest(address: Address, mark: number): Uint8Array {
  const header = new Uint8Array(12);
  const bytes = addressBytes(address);
  header.set([familyNumber(address.family), bytes.length * 8]);
  return concatenated(
    header, encodeAttribute(RTA.DST, bytes), encodeAttribute(RTA.MARK, u32Bytes(mark)),
  );
}
