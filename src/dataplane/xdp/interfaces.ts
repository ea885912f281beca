// What the program is told of interfaces: those that packets may leave by, and, of those that it is
// attached to, the destinations that frames for this host have. Pure. Knows which links stand on which;
// isForThisHost() in src/model/link_address.ts is the rule that they are for.

import { LinkPlaces, LinkAddress as LinkAddressKey } from "./abi.gen.ts";
import { portsOf } from "./bonds.ts";
import type { Finding } from "./finding.ts";
import { macBytes, macText, type Link } from "./netlink/rtnetlink.ts";
import type { Survey } from "./survey.ts";
import type { Planner } from "./planner.ts";

/** A destination that frames for this host have when they come by this interface. */
export interface LinkAddress {
  readonly ifindex: number;
  /** Null: the interface has no others. Without such an element, every frame is for this host. */
  readonly mac: string | null;
}

export interface Interfaces {
  /** Indexes of those that the program is attached to. */
  readonly attached: readonly number[];
  /** By linkAddressText(). Absent: none are known. */
  readonly linkAddresses?: ReadonlyMap<string, LinkAddress>;
}

export function linkAddressText({ ifindex, mac }: LinkAddress): string {
  return `${mac ?? "nothing else"} on ${ifindex}`;
}

export function encodeLinkAddress({ ifindex, mac }: LinkAddress): Uint8Array {
  return mac === null ? LinkAddressKey.encode({ ifindex, mac: new Uint8Array(6), isInterface: 1 })
    : LinkAddressKey.encode({ ifindex, mac: macBytes(mac), isInterface: 0 });
}

/** What an empty place holds. */
export const NO_LINK_ADDRESS = new Uint8Array(LinkAddressKey.size);

export function decodeLinkAddress(bytes: Uint8Array): LinkAddress {
  const { ifindex, mac, isInterface } = LinkAddressKey.decode(bytes);
  return { ifindex, mac: isInterface === 1 ? null : macText(mac) };
}

/** `macs`: those that the config adds, on every interface. */
export function interfacesOf(
  attached: readonly number[], links: readonly Link[], macs: readonly string[],
): Interfaces {
  const addresses = attached.flatMap((ifindex): LinkAddress[] => {
    const link = links.find((each) => each.ifindex === ifindex);
    if (link === undefined || link.mac === null) return [];
    return [...ownMacs(link, links), ...macs, null].map((mac) => ({ ifindex, mac }));
  });
  return { attached, linkAddresses: new Map(addresses.map((each) => [linkAddressText(each), each])) };
}

/** Whose ports hand them their frames. */
const ABOVE_PORTS: ReadonlySet<string | null> = new Set(["bond", "bridge", "team"]);
/** Whose ports keep their frames: it has routes of its own, and link addresses have no part in it. */
const BESIDE_PORTS: ReadonlySet<string | null> = new Set(["vrf"]);

/**
 * The link addresses of an interface, of the bond, team or bridge that it is a port of, and of the VLAN and
 * macvlan interfaces on any of these. A bridge takes frames to any of its ports' addresses for this host, by
 * whatever port they come (they are local entries of its table). What stands in another namespace is another
 * host here, and so is a machine behind a macvtap.
 */
function ownMacs(link: Link, links: readonly Link[]): Set<string> {
  const own = new Set([link]);
  const ports: Link[] = [];
  for (const below of own) {
    if (below.kind === "bridge") ports.push(...portsOf(below, links));
    for (const each of links) {
      const isAbove = each.ifindex === below.master && ABOVE_PORTS.has(each.kind);
      const isOn = each.peer === below.ifindex && (each.kind === "vlan" || (each.kind === "macvlan" && each.up));
      if (isAbove || isOn) own.add(each);
    }
  }
  return new Set([...own, ...ports].flatMap(({ mac }) => mac ?? []));
}

/** Interfaces whose frames may be for this host by addresses that nobody here knows of, where the config adds none. */
export function addressFindings({ ingress }: Pick<Survey, "ingress">, macs: readonly string[]): Finding[] {
  if (macs.length > 0) return [];
  return ingress.flatMap(({ link: { name, mac }, above }): Finding[] => {
    if (above === null || ABOVE_PORTS.has(above.kind) || BESIDE_PORTS.has(above.kind)) return [];
    return [{
      level: "warning", name: `link addresses on ${name}`,
      found: `${name} is a port of ${above.name} (${above.kind ?? "unknown"}), where this host may have link addresses that are `
        + "not known here: frames to them pass by all services (PASS_OTHER_HOST)",
      remedy: `list in dataplane.macs the addresses by which others reach this host here, be it ${mac ?? "none"} alone`,
    }];
  });
}

/** By place, what the program compares before it looks up: one of each interface, of those it has places for. */
export function firstLinkAddresses(linkAddresses: ReadonlyMap<string, LinkAddress>): Map<number, LinkAddress> {
  const firsts = new Map<number, LinkAddress>();
  for (const address of linkAddresses.values()) {
    if (address.mac !== null && !firsts.has(address.ifindex)) firsts.set(address.ifindex, address);
  }
  return new Map([...firsts.values()].slice(0, LinkPlaces.FIRST_LINK_ADDRESSES).entries());
}

interface Wanted {
  readonly devices: ReadonlySet<number>;
  readonly linkAddresses: ReadonlyMap<string, LinkAddress>;
}

/** That there are no others is said last, and taken back first: no frame for this host is turned away. */
export function addInterfaces({ state, take }: Pick<Planner, "state" | "take">, { devices, linkAddresses }: Wanted): void {
  for (const ifindex of devices) if (!state.devices.has(ifindex)) take({ kind: "add-device", ifindex });
  const added = [...linkAddresses].filter(([text]) => !state.linkAddresses.has(text)).map(([, each]) => each);
  for (const address of added) if (address.mac !== null) take({ kind: "add-link-address", address });
  for (const address of added) if (address.mac === null) take({ kind: "add-link-address", address });
  setFirsts({ state, take }, firstLinkAddresses(linkAddresses));
}

/** Emptied in between: no packet meets one half of each. */
function setFirsts({ state, take }: Pick<Planner, "state" | "take">, firsts: ReadonlyMap<number, LinkAddress>): void {
  for (let place = 0; place < LinkPlaces.FIRST_LINK_ADDRESSES; place++) {
    const held = state.firstLinkAddresses.get(place);
    const first = firsts.get(place);
    if (held?.ifindex === first?.ifindex && held?.mac === first?.mac) continue;
    if (held !== undefined) take({ kind: "set-first-link-address", place, address: null });
    if (first !== undefined) take({ kind: "set-first-link-address", place, address: first });
  }
}

export function removeInterfaces({ state, take }: Pick<Planner, "state" | "take">, { devices, linkAddresses }: Wanted): void {
  for (const ifindex of [...state.devices]) if (!devices.has(ifindex)) take({ kind: "remove-device", ifindex });
  const removed = [...state.linkAddresses].filter(([text]) => !linkAddresses.has(text)).map(([, each]) => each);
  for (const address of removed) if (address.mac === null) take({ kind: "remove-link-address", address });
  for (const address of removed) if (address.mac !== null) take({ kind: "remove-link-address", address });
}
