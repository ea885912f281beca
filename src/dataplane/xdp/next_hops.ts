// The way to each destination, from what the kernel says of links, routes and neighbours. Pure: the same
// network gives the same answer. Knows which states of a neighbour count as resolved and why one does
// not; must never ask the kernel (watch.ts does).

import type { Address, Prefix } from "../../model/address.ts";
import type { Forwarding } from "../../model/config.ts";
import { translates } from "../../model/nat.ts";
import { fixedSource, usedPrefix } from "../../model/tunnel_source.ts";
import { leavesBy } from "./bonds.ts";
import { LOCAL, NO_MAC, UNRESOLVED, type NextHop, type Route } from "./image.ts";
import { NUD, ROUTE_TYPES, type Link, type Neighbour, type RouteAnswer } from "./netlink/rtnetlink.ts";
import { knowsTags } from "./vlans.ts";

/** Where packets shall go, as far as the way there depends on it. */
export interface Target {
  readonly address: Address;
  /** A static next hop, or null. */
  readonly mac: string | null;
  readonly forwarding: Forwarding;
}

export interface Network {
  link(ifindex: number): Link | null;
  links(): readonly Link[];
  /** The kernel's answer, or the errno of its refusal. */
  route(address: Address): RouteAnswer | number;
  neighbour(ifindex: number, address: Address): Neighbour | null;
}

export interface WayOptions {
  /** Outer sources that the config names, by family. */
  readonly tunnelSource: { readonly ipv4: Prefix | null; readonly ipv6: Prefix | null };
  /** Interface of static next hops to which there is no route. */
  readonly fallbackIfindex: number;
  /** Names of those that packets arrive on. */
  readonly interfaces: readonly string[];
}

export interface Way {
  readonly route: Route;
  /** "resolved" and where to, or why not. */
  readonly text: string;
  /** Neighbour on which it depends, or null. */
  readonly neighbour: { readonly ifindex: number; readonly address: Address; readonly state: number } | null;
}

const RESOLVED = NUD.REACHABLE | NUD.STALE | NUD.DELAY | NUD.PROBE | NUD.PERMANENT | NUD.NOARP;
/** struct next_hop has 16 bits for it; a loopback interface carries more than IP can say. */
const MTU_MAX = 65_535;

/** True for entries whose link address may be used. */
export function isResolved(neighbour: Neighbour): boolean {
  return (neighbour.state & RESOLVED) !== 0 && neighbour.mac !== null && neighbour.mac !== NO_MAC;
}

/** True for entries that the kernel would let age: it does not see that packets go there. */
export function needsProof(state: number): boolean {
  return (state & (NUD.PERMANENT | NUD.NOARP | NUD.REACHABLE | NUD.DELAY | NUD.PROBE)) === 0;
}

export function wayTo(target: Target, network: Network, options: WayOptions): Way {
  const found = network.route(target.address);
  // Before a link address of the config: where the backends are the balancers, all have one file,
  // and a frame to this host's own link address reaches nobody.
  if (typeof found !== "number" && found.type === ROUTE_TYPES.LOCAL) return localWay(target);
  if (target.mac !== null) return staticWay({ ...target, mac: target.mac }, found, network, options);
  const configured = configuredSource(target, options.tunnelSource);
  if (typeof found === "number") return unresolved(refusedRoute(found), configured);
  const tunnelSource = configured ?? sourceFor(target.address, found);
  if (found.type !== ROUTE_TYPES.UNICAST) return unresolved(`a route of type ${found.type}, not unicast`, tunnelSource);
  const via = found.gateway ?? target.address;
  const exit = exitBy(found.ifindex, via, network, options.interfaces);
  if (typeof exit === "string") return unresolved(exit, tunnelSource);
  const neighbour = network.neighbour(found.ifindex, via);
  const state = neighbour?.state ?? 0;
  const needs = { ifindex: found.ifindex, address: via, state };
  const name = nameOf(exit);
  const where = found.gateway === null ? name : `${via.text} on ${name}`;
  if (neighbour === null || !isResolved(neighbour)) {
    return { ...unresolved(`${stateText(state)} by way of ${where}`, tunnelSource), neighbour: needs };
  }
  const mac = neighbour.mac ?? NO_MAC;
  return {
    route: { nextHop: nextHop(mac, exit, found.mtu), tunnelSource },
    text: `resolved: ${mac} by way of ${where}`,
    neighbour: needs,
  };
}

/**
 * To this host itself, by whatever forwarding: a tunnel would begin and end here. Answers to what was
 * translated would not come by: the host sends them without asking the program.
 */
function localWay({ forwarding }: Target): Way {
  if (translates(forwarding)) {
    return unresolved("local: this host has the address itself, and its answers would not be translated", null);
  }
  return {
    route: { nextHop: LOCAL, tunnelSource: null },
    text: "local: this host has the address itself; packets are passed to its own stack",
    neighbour: null,
  };
}

/** By which interface packets leave for somewhere, whether its link address is known or not. */
export interface Egress {
  readonly link: Link;
  /** The least of the interface's and the route's. */
  readonly mtu: number;
}

/** Null: there is no way. */
export function egressTo(
  { address, mac }: Pick<Target, "address" | "mac">, network: Pick<Network, "link" | "links" | "route">, fallbackIfindex: number,
): Egress | null {
  const found = network.route(address);
  const isRoute = typeof found !== "number" && found.type === ROUTE_TYPES.UNICAST;
  if (!isRoute && mac === null) return null;
  const link = network.link(isRoute ? found.ifindex : fallbackIfindex);
  if (link === null) return null;
  const exit = exitBy(link.ifindex, isRoute ? found.gateway ?? address : address, network, []);
  return { link: typeof exit === "string" ? link : exit.port, mtu: mtuBy(link, isRoute ? found.mtu : 0) };
}

/** A link address from the config wins; the interface is still the route's, if there is one. */
function staticWay(
  target: Target & { readonly mac: string }, found: RouteAnswer | number, network: Network,
  options: WayOptions,
): Way {
  const { address, mac } = target;
  const isRoute = typeof found !== "number" && found.type === ROUTE_TYPES.UNICAST;
  const ifindex = isRoute ? found.ifindex : options.fallbackIfindex;
  const tunnelSource = configuredSource(target, options.tunnelSource)
    ?? (isRoute ? sourceFor(address, found) : null);
  const exit = exitBy(ifindex, isRoute ? found.gateway ?? address : address, network, options.interfaces);
  if (typeof exit === "string") return unresolved(exit, tunnelSource);
  // Without a route nobody says in which VLAN it is.
  const vlan = isRoute || exit.by.kind === "vlan" ? exit.vlan : 0;
  return {
    route: { nextHop: nextHop(mac, { ...exit, vlan }, isRoute ? found.mtu : 0), tunnelSource },
    text: `resolved: ${mac} by way of ${nameOf(exit)}, from the config`,
    neighbour: null,
  };
}

/** An outer source has to be of the destination's family; behind a gateway of the other one it may not be. */
function sourceFor(address: Address, { source }: RouteAnswer): Prefix | null {
  return source?.family === address.family ? fixedSource(source) : null;
}

/**
 * The outer source that the config names for tunnels to this address, as the kernel holds it. What is
 * translated comes from this host itself, or from addresses of its own list.
 */
export function configuredSource(
  { address: { family }, forwarding }: Target, { ipv4, ipv6 }: WayOptions["tunnelSource"],
): Prefix | null {
  if (translates(forwarding)) return null;
  const prefix = family === 4 ? ipv4 : ipv6;
  return prefix === null ? null : usedPrefix(prefix);
}

/** How frames leave: the route's interface, and what is below it. */
interface Exit {
  readonly by: Link;
  /** What frames are handed to: the interface itself, what a vlan is on, a port of a bond. */
  readonly port: Link;
  readonly vlan: NextHop["vlan"];
}

/** Or why they cannot. `address`: of the neighbour; `arriving`: names of interfaces that packets arrive on. */
function exitBy(
  ifindex: number, address: Address, network: Pick<Network, "link" | "links">, arriving: readonly string[],
): Exit | string {
  const link = network.link(ifindex);
  if (link === null) return `interface ${ifindex} is gone`;
  if (!link.up) return `${link.name} is down`;
  if (link.mac === null) return `${link.name} has no link address: packets cannot leave by it`;
  const below = link.kind === "vlan" ? network.link(link.peer) : link;
  if (below === null) return `${link.name} is on an interface of another namespace`;
  if (below.kind === "vlan" && below !== link) return `${link.name} is a VLAN within another one`;
  if (link.kind === "vlan" && link.vlan === 0) return `${link.name} adds tags of another type than 802.1Q`;
  const port = leavesBy(below, network.links(), address);
  if (port === null) return `${below.name} has no port that is up`;
  if (link.kind === "vlan") return { by: link, port, vlan: link.vlan };
  // A host that has VLANs there means by another interface: without a tag. Where it has none, tags are nothing
  // that it knows of.
  return { by: link, port, vlan: knowsTags([below, port], arriving, network.links()) ? "none" : 0 };
}

function nameOf({ by, port }: Exit): string {
  return by === port ? by.name : `${by.name} (${by.kind === "vlan" ? "on" : "port"} ${port.name})`;
}

function nextHop(destinationMac: string, { by, port, vlan }: Exit, routeMtu: number): NextHop {
  // The ports of a bond may have addresses of their own, which switches expect there.
  const sourceMac = (by.kind === "vlan" ? by.mac : port.mac) ?? NO_MAC;
  return {
    resolved: true, local: false, destinationMac, sourceMac, ifindex: port.ifindex, mtu: mtuBy(by, routeMtu),
    vlan,
  };
}

/** `routeMtu` 0: the route says nothing. */
function mtuBy(link: Link, routeMtu: number): number {
  return Math.min(link.mtu, routeMtu === 0 ? MTU_MAX : routeMtu, MTU_MAX);
}

function unresolved(text: string, tunnelSource: Prefix | null): Way {
  return { route: { nextHop: UNRESOLVED, tunnelSource }, text: `unresolved: ${text}`, neighbour: null };
}

/** EINVAL, EACCES, EHOSTUNREACH: what blackhole, prohibit and unreachable routes answer. */
function refusedRoute(errno: number): string {
  switch (errno) {
    case 22: return "a blackhole route leads there";
    case 13: return "a route prohibits it";
    case 113: return "a route says it is unreachable";
    default: return `no route (errno ${errno})`;
  }
}

function stateText(state: number): string {
  if ((state & NUD.FAILED) !== 0) return "nobody answers for it";
  if ((state & NUD.INCOMPLETE) !== 0) return "being resolved";
  return "not known yet";
}
