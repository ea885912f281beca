// Bonds: an interface without wires of its own. Programs go to its ports, and next hops leave by one of them: a
// bond takes programs and redirected frames itself only in some modes, and only where every port does
// (bond_xdp_check() and bond_xdp_set_features() in drivers/net/bonding/bond_main.c). Pure; knows links alone.

import type { Address } from "../../model/address.ts";
import type { Link } from "./netlink/rtnetlink.ts";

export function isBond({ kind }: Link): boolean {
  return kind === "bond";
}

/** The ports of a bond or bridge, in the order of their indexes. */
export function portsOf({ ifindex }: Link, links: readonly Link[]): Link[] {
  return links.filter(({ master }) => master === ifindex).sort((a, b) => a.ifindex - b.ifindex);
}

/** Where a program for this interface goes: to itself, or to the ports of a bond, of which there may be none. */
export function attachable(link: Link, links: readonly Link[]): Link[] {
  return isBond(link) ? portsOf(link, links) : [link];
}

/** Who has the addresses of this interface: the bond above it, else itself. */
export function addressHolder(link: Link, links: readonly Link[]): Link {
  const above = links.find(({ ifindex }) => ifindex === link.master);
  return above !== undefined && isBond(above) ? above : link;
}

/**
 * What frames to this neighbour leave by: the interface itself, or of a bond one of the ports that it uses now,
 * so that neighbours are spread over them and each keeps its own; null: it uses none.
 */
export function leavesBy(link: Link, links: readonly Link[], neighbour: Address): Link | null {
  if (!isBond(link)) return link;
  const usable = portsOf(link, links).filter(({ up, mac, isBackup }) => up && mac !== null && !isBackup);
  const sum = neighbour.bytes.reduce((total, byte) => total + byte, 0);
  return usable[sum % usable.length] ?? null;
}
