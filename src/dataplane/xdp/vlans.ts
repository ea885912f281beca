// On which interfaces there are VLANs, and which interfaces share their wires. Pure; knows links alone.

import type { Link } from "./netlink/rtnetlink.ts";
import { portsOf } from "./bonds.ts";

/** Those that have wires of another one below them; of veth the other end is another host. */
const ON_OTHERS: ReadonlySet<string | null> = new Set(["macvlan", "macvtap", "ipvlan", "ipvtap"]);

/** Whether a VLAN interface is on one of these. */
export function hasVlanOn(ifindexes: readonly number[], links: readonly Link[]): boolean {
  return links.some(({ kind, peer }) => kind === "vlan" && peer !== 0 && ifindexes.includes(peer));
}

/** An interface, what it is on, what it is a port of, and the ports that it has: 0 stands for none. */
export function sharesWires(link: Link, links: readonly Link[]): number[] {
  return [
    link.ifindex, ON_OTHERS.has(link.kind) ? link.peer : 0, link.master, ...portsOf(link, links).map(({ ifindex }) => ifindex),
  ];
}

/**
 * Whether frames without a tag and with one are different networks on these wires, or on those by which
 * packets arrive: what is sent on from there must not keep the tag that it came with.
 */
export function knowsTags(exit: readonly Link[], arriving: readonly string[], links: readonly Link[]): boolean {
  const ways = [...exit, ...links.filter(({ name }) => arriving.includes(name))];
  return hasVlanOn(ways.flatMap((link) => sharesWires(link, links)), links);
}
