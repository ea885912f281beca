// Links, addresses, neighbours and routes as rtnetlink(7) says them: requests to bytes, answers and
// events to values. Pure; knows the layouts of include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h and
// neighbour.h; must never open a socket.

import { addressFromBytes, type Address } from "../../../model/address.ts";
import {
  attributeText, attributeU32, attributeU8, concatenated, decodeAttributes, encodeAttribute, u32Bytes, viewOf,
  type Attributes, type Message,
} from "./message.ts";

export const RTM = {
  NEWLINK: 16, DELLINK: 17, GETLINK: 18, SETLINK: 19,
  NEWADDR: 20, DELADDR: 21, GETADDR: 22,
  NEWROUTE: 24, DELROUTE: 25, GETROUTE: 26,
  NEWNEIGH: 28, DELNEIGH: 29, GETNEIGH: 30,
  NEWRULE: 32, DELRULE: 33,
} as const;

/** RTMGRP_LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, and nexthops. */
export const GROUPS = (0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x40000000) >>> 0;

/** RTMGRP_IPV4_IFADDR and IPV6_IFADDR. */
export const ADDRESS_GROUPS = 0x10 | 0x100;

const AF_INET = 2;
const AF_INET6 = 10;
const IFF_UP = 0x1;
const IFF_LOOPBACK = 0x8;
const IFF_RUNNING = 0x40;
const IFF_NOARP = 0x80;

export interface Link {
  readonly ifindex: number;
  readonly name: string;
  /** Null where the interface has none of six bytes. */
  readonly mac: string | null;
  readonly mtu: number;
  /** Administratively up, and with a carrier. */
  readonly up: boolean;
  readonly loopback: boolean;
  /** False: it has no neighbours to resolve. */
  readonly arp: boolean;
  /** "veth", "vlan", "bridge", …; null for hardware. */
  readonly kind: string | null;
  /** Of hardware: "pci", "virtio", …; null where the kernel does not say. */
  readonly bus: string | null;
  /**
   * Interface at the other end of a veth, or below a vlan or macvlan; 0: none, or in another
   * namespace.
   */
  readonly peer: number;
  /** Of the bridge or bond that it is a port of; 0: none. */
  readonly master: number;
  /** Number of a vlan's tag; 0 for what is none, or adds tags of another type than 802.1Q. */
  readonly vlan: number;
  /** A port that its bond does not use now: the other one of active-backup, or one without a link. */
  readonly isBackup: boolean;
  readonly xdp: { readonly mode: "none" | "native" | "generic" | "other"; readonly programId: number };
}

export interface InterfaceAddress {
  readonly ifindex: number;
  readonly address: Address;
  readonly length: number;
  /** Who put it there (IFA_PROTO); 0: unknown. */
  readonly protocol: number;
  /** Of the route to the network around it (IFA_RT_PRIORITY); 0: the kernel's. */
  readonly metric: number;
}

/** Bits of ndmsg.ndm_state. */
export const NUD = {
  INCOMPLETE: 0x01, REACHABLE: 0x02, STALE: 0x04, DELAY: 0x08, PROBE: 0x10, FAILED: 0x20,
  NOARP: 0x40, PERMANENT: 0x80,
} as const;

export interface Neighbour {
  readonly ifindex: number;
  readonly address: Address;
  readonly mac: string | null;
  /** One of NUD. */
  readonly state: number;
}

/** rtmsg.rtm_type. */
export const ROUTE_TYPES = {
  UNICAST: 1, LOCAL: 2, BROADCAST: 3, ANYCAST: 4, MULTICAST: 5, BLACKHOLE: 6, UNREACHABLE: 7, PROHIBIT: 8,
} as const;

/** What the kernel answers when asked the way to an address. */
export interface RouteAnswer {
  readonly type: number;
  readonly ifindex: number;
  readonly gateway: Address | null;
  readonly source: Address | null;
  /** Of the route; 0: that of the interface. */
  readonly mtu: number;
}

export type Event =
  | { readonly kind: "link"; readonly gone: boolean; readonly link: Link }
  | { readonly kind: "address"; readonly gone: boolean; readonly address: InterfaceAddress }
  | { readonly kind: "neighbour"; readonly gone: boolean; readonly neighbour: Neighbour }
  /** What this prefix covers may go another way; null: a rule or a nexthop object, which may be anything. */
  | { readonly kind: "route"; readonly gone: boolean; readonly prefix: RoutePrefix | null };

export interface RoutePrefix {
  readonly family: 4 | 6;
  /** Null: the default route. */
  readonly address: Address | null;
  readonly length: number;
}

/** What a message says, or null when it is nothing of ours. */
export function decodeEvent({ type, payload }: Message): Event | null {
  switch (type) {
    case RTM.NEWLINK: case RTM.DELLINK: {
      const link = decodeLink(payload);
      return link === null ? null : { kind: "link", gone: type === RTM.DELLINK, link };
    }
    case RTM.NEWADDR: case RTM.DELADDR: {
      const address = decodeAddress(payload);
      return address === null ? null : { kind: "address", gone: type === RTM.DELADDR, address };
    }
    case RTM.NEWNEIGH: case RTM.DELNEIGH: {
      const neighbour = decodeNeighbour(payload);
      return neighbour === null ? null : { kind: "neighbour", gone: type === RTM.DELNEIGH, neighbour };
    }
    case RTM.NEWROUTE: case RTM.DELROUTE: {
      const prefix = decodeRoutePrefix(payload);
      return prefix === null ? null : { kind: "route", gone: type === RTM.DELROUTE, prefix };
    }
    case RTM.NEWRULE: case RTM.DELRULE: case NEXTHOP.NEW: case NEXTHOP.DELETE:
      return { kind: "route", gone: type % 2 === 1, prefix: null };
    default: return null;
  }
}

const NEXTHOP = { NEW: 104, DELETE: 105 } as const;

/** "aa:bb:cc:dd:ee:ff", or null for anything but six bytes. */
export function macText(bytes: Uint8Array | undefined): string | null {
  if (bytes?.length !== 6) return null;
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

export function macBytes(text: string): Uint8Array {
  const bytes = Uint8Array.from(text.split(":"), (part) => Number.parseInt(part, 16));
  if (bytes.length !== 6) throw new RangeError(`"${text}" is no link address of six bytes`);
  return bytes;
}

const IFLA = {
  ADDRESS: 1, IFNAME: 3, MTU: 4, LINK: 5, MASTER: 10, LINKINFO: 18, LINK_NETNSID: 37, XDP: 43,
  PARENT_DEV_BUS_NAME: 57,
} as const;
const IFLA_INFO = { KIND: 1, DATA: 2, SLAVE_KIND: 4, SLAVE_DATA: 5 } as const;
const IFLA_VLAN = { ID: 1, PROTOCOL: 5 } as const;
const ETH_P_8021Q = 0x8100;
/** Of the ports of bonds: 1 is backup, and 0 is a link that is up (uapi/linux/if_bonding.h). */
const IFLA_BOND_SLAVE = { STATE: 1, MII_STATUS: 2 } as const;
const IFLA_XDP = { ATTACHED: 2, PROGRAM_ID: 4 } as const;
const XDP_MODES = ["none", "native", "generic"] as const;
/** AF_BRIDGE messages about the same links say less: they are none of ours. */
const AF_UNSPEC = 0;

export function decodeLink(payload: Uint8Array): Link | null {
  if (payload.length < 16 || payload[0] !== AF_UNSPEC) return null;
  const view = viewOf(payload);
  const attributes = decodeAttributes(payload.subarray(16));
  const flags = view.getUint32(8, true);
  const running = IFF_UP | IFF_RUNNING;
  const mac = macText(attributes.get(IFLA.ADDRESS));
  const info = nested(attributes, IFLA.LINKINFO);
  return {
    ifindex: view.getInt32(4, true),
    name: attributeText(attributes, IFLA.IFNAME) ?? "",
    mac: mac === "00:00:00:00:00:00" ? null : mac,
    mtu: attributeU32(attributes, IFLA.MTU) ?? 0,
    up: (flags & running) === running,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    arp: (flags & IFF_NOARP) === 0,
    kind: attributeText(info, IFLA_INFO.KIND),
    bus: attributeText(attributes, IFLA.PARENT_DEV_BUS_NAME),
    peer: attributes.has(IFLA.LINK_NETNSID) ? 0 : attributeU32(attributes, IFLA.LINK) ?? 0,
    master: attributeU32(attributes, IFLA.MASTER) ?? 0,
    vlan: vlanOf(info),
    isBackup: isBackup(info),
    xdp: xdpOf(nested(attributes, IFLA.XDP)),
  };
}

function vlanOf(info: Attributes): number {
  if (attributeText(info, IFLA_INFO.KIND) !== "vlan") return 0;
  const data = nested(info, IFLA_INFO.DATA);
  const [id, protocol] = [data.get(IFLA_VLAN.ID), data.get(IFLA_VLAN.PROTOCOL)];
  const isQ = protocol?.length === 2 && viewOf(protocol).getUint16(0) === ETH_P_8021Q;
  return isQ && id?.length === 2 ? viewOf(id).getUint16(0, true) : 0;
}

function isBackup(info: Attributes): boolean {
  if (attributeText(info, IFLA_INFO.SLAVE_KIND) !== "bond") return false;
  const port = nested(info, IFLA_INFO.SLAVE_DATA);
  return attributeU8(port, IFLA_BOND_SLAVE.STATE) === 1 || (attributeU8(port, IFLA_BOND_SLAVE.MII_STATUS) ?? 0) !== 0;
}

function xdpOf(attributes: Attributes): Link["xdp"] {
  const mode = XDP_MODES[attributeU8(attributes, IFLA_XDP.ATTACHED) ?? 0] ?? "other";
  return { mode, programId: attributeU32(attributes, IFLA_XDP.PROGRAM_ID) ?? 0 };
}

function nested(attributes: Attributes, type: number): Attributes {
  const value = attributes.get(type);
  return value === undefined ? new Map() : decodeAttributes(value);
}

/** Four or sixteen bytes to an address; null for another length, and for a family that is not IP. */
function addressOf(bytes: Uint8Array | undefined): Address | null {
  if (bytes?.length === 16) return addressFromBytes(bytes);
  if (bytes?.length !== 4) return null;
  return addressFromBytes(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...bytes));
}

/** As the kernel wants it: four or sixteen bytes. */
export function addressBytes(address: Address): Uint8Array {
  return address.family === 4 ? address.bytes.slice(12) : address.bytes;
}

function familyOf(address: Address): number {
  return address.family === 4 ? AF_INET : AF_INET6;
}

function isIp(family: number | undefined): boolean {
  return family === AF_INET || family === AF_INET6;
}

const IFA = { ADDRESS: 1, LOCAL: 2, CACHEINFO: 6, FLAGS: 8, METRIC: 9, PROTO: 11 } as const;
const IFA_F_NODAD = 0x02;
const IFA_F_NOPREFIXROUTE = 0x200;

export function decodeAddress(payload: Uint8Array): InterfaceAddress | null {
  if (payload.length < 8 || !isIp(payload[0])) return null;
  const attributes = decodeAttributes(payload.subarray(8));
  // LOCAL is this end of a point-to-point address; IPv6 says ADDRESS only, unless it has a peer.
  const address = addressOf(attributes.get(IFA.LOCAL) ?? attributes.get(IFA.ADDRESS));
  if (address === null) return null;
  return {
    ifindex: viewOf(payload).getUint32(4, true), address, length: payload[1]!,
    protocol: attributeU8(attributes, IFA.PROTO) ?? 0,
    metric: attributeU32(attributes, IFA.METRIC) ?? 0,
  };
}

/** The payload of NEWADDR and DELADDR for one address alone, without a route to a network around it. */
export function encodeAddress(
  { ifindex, address, length, protocol }: Omit<InterfaceAddress, "metric">,
): Uint8Array {
  const header = new Uint8Array(8);
  header.set([familyOf(address), length]);
  viewOf(header).setUint32(4, ifindex, true);
  const bytes = addressBytes(address);
  // Nobody else on the segment may have a virtual address, but another balancer does: no detection.
  const flags = address.family === 6 ? IFA_F_NODAD | IFA_F_NOPREFIXROUTE : IFA_F_NOPREFIXROUTE;
  // Valid for ever and preferred never: this host shall not speak from it of its own accord (RFC 6724).
  const forever = u32Bytes(0xffff_ffff);
  const lifetimes = concatenated(address.family === 6 ? u32Bytes(0) : forever, forever, new Uint8Array(8));
  return concatenated(
    header, encodeAttribute(IFA.LOCAL, bytes), encodeAttribute(IFA.ADDRESS, bytes),
    encodeAttribute(IFA.CACHEINFO, lifetimes),
    encodeAttribute(IFA.FLAGS, u32Bytes(flags)), encodeAttribute(IFA.PROTO, Uint8Array.of(protocol)),
  );
}

const NDA = { DST: 1, LLADDR: 2 } as const;
const NTF_USE = 0x1;
const NTF_PROXY = 0x8;

export function decodeNeighbour(payload: Uint8Array): Neighbour | null {
  if (payload.length < 12 || !isIp(payload[0])) return null;
  const view = viewOf(payload);
  // Proxy entries are addresses that this host answers for, not neighbours.
  if ((payload[10]! & NTF_PROXY) !== 0) return null;
  const attributes = decodeAttributes(payload.subarray(12));
  const address = addressOf(attributes.get(NDA.DST));
  if (address === null) return null;
  return {
    ifindex: view.getInt32(4, true), address, mac: macText(attributes.get(NDA.LLADDR)), state: view.getUint16(8, true),
  };
}

/** The payload of NEWNEIGH that makes the kernel resolve a neighbour, or prove one that it has. */
export function encodeNeighbourUse(ifindex: number, address: Address): Uint8Array {
  const header = new Uint8Array(12);
  header[0] = familyOf(address);
  viewOf(header).setInt32(4, ifindex, true);
  header[10] = NTF_USE;
  return concatenated(header, encodeAttribute(NDA.DST, addressBytes(address)));
}

const RTA = { DST: 1, OIF: 4, GATEWAY: 5, PREFSRC: 7, METRICS: 8, VIA: 18 } as const;
const RTAX_MTU = 2;

export function decodeRoute(payload: Uint8Array): RouteAnswer | null {
  if (payload.length < 12 || !isIp(payload[0])) return null;
  const attributes = decodeAttributes(payload.subarray(12));
  // VIA is a gateway of the other family, behind two bytes that say which.
  const via = attributes.get(RTA.VIA)?.subarray(2);
  return {
    type: payload[7]!,
    ifindex: attributeU32(attributes, RTA.OIF) ?? 0,
    gateway: addressOf(attributes.get(RTA.GATEWAY) ?? via),
    source: addressOf(attributes.get(RTA.PREFSRC)),
    mtu: attributeU32(nested(attributes, RTA.METRICS), RTAX_MTU) ?? 0,
  };
}

function decodeRoutePrefix(payload: Uint8Array): RoutePrefix | null {
  if (payload.length < 12 || !isIp(payload[0])) return null;
  const address = addressOf(decodeAttributes(payload.subarray(12)).get(RTA.DST));
  return { family: payload[0] === AF_INET ? 4 : 6, address, length: payload[1]! };
}

/** Whether packets to this address may follow a route to that prefix. */
export function covers({ family, address: network, length }: RoutePrefix, address: Address): boolean {
  if (address.family !== family) return false;
  if (network === null || length === 0) return true;
  const bits = family === 4 ? 96 + length : length;
  const whole = bits >> 3;
  for (let at = 0; at < whole; at++) if (network.bytes[at] !== address.bytes[at]) return false;
  const mask = (0xff00 >> (bits & 7)) & 0xff;
  return mask === 0 || (network.bytes[whole]! & mask) === (address.bytes[whole]! & mask);
}

/** The payload of GETROUTE: the way to one address. */
export function encodeRouteRequest(address: Address): Uint8Array {
  const header = new Uint8Array(12);
  const bytes = addressBytes(address);
  header.set([familyOf(address), bytes.length * 8]);
  return concatenated(header, encodeAttribute(RTA.DST, bytes));
}

/** The payload of a dump request: all families. */
export function encodeDumpRequest(type: number): Uint8Array {
  return new Uint8Array(type === RTM.GETLINK ? 16 : type === RTM.GETADDR ? 8 : 12);
}
