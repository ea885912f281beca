// The road of an instance's health probes: a pair of veth, and for each family that is probed a rule and a
// route by which the kernel sends marked packets there. Lays it, finds what a dead owner left of it, and
// takes it away. Knows rtnetlink and names; knows no service and no program.
//
// The near end's alias says which mark and table belong to it, so that it can be taken away by somebody
// who has no config.

import { addressMetric } from "../address_mark.ts";
import type { Native } from "./native.ts";
import { turnChecksumsOff } from "./netlink/offloads.ts";
import type { MarkRule } from "./netlink/policy_routing.ts";
import { NetlinkError, type Requests } from "./netlink/requests.ts";
import { xxh64 } from "../../model/xxh64.ts";

/** FRA_PROTOCOL and RTA_PROTOCOL of what is ours, as IFA_PROTO 0x70 marks our addresses. */
export const ROAD_PROTOCOL = 0x70;
/** Behind the table `local` (0), before those of routing daemons, VRFs (1000) and `main` (32766). */
export const RULE_PRIORITY = 90;
/** What every IPv6 link carries (RFC 8200, 5): a probe fits any way to a backend, headers included. */
const MTU = 1280;

/** EACCES, ENODEV, EINVAL: what routes to an interface without IPv6 are answered with, by version. */
const NO_IPV6: ReadonlySet<number> = new Set([13, 19, 22]);

export interface RoadMarks {
  /** SO_MARK of the probes' sockets. */
  readonly mark: number;
  /** Routing table that the mark leads to. */
  readonly table: number;
}

export interface Road extends RoadMarks {
  /** Where the kernel sends probes to. */
  readonly nearIfindex: number;
  /** Where they come out. */
  readonly farIfindex: number;
}

/** Both from the instance's name, so that several instances of a host do not meet. */
export function defaultMark(instance: string): number {
  return addressMetric(instance);
}

export function roadNames(instance: string): { readonly near: string; readonly far: string } {
  const id = (xxh64(instance, 0) & 0xfff_ffffn).toString(16).padStart(7, "0");
  return { near: `probe-${id}`, far: `probex-${id}` };
}

function aliasOf(instance: string, { mark, table }: RoadMarks): string {
  return `pointsman ${instance}: probes, mark ${mark}, table ${table}`;
}

function marksIn(alias: string): RoadMarks | null {
  const match = /^pointsman \S+: probes, mark (\d+), table (\d+)$/.exec(alias);
  return match === null ? null : { mark: Number(match[1]), table: Number(match[2]) };
}

/** The interfaces. Throws NetlinkError or NativeError; nothing is left behind then. */
export function layRoad(native: Native, requests: Requests, instance: string, marks: RoadMarks): Road {
  removeRoad(requests, instance, marks);
  const { near, far } = roadNames(instance);
  try {
    requests.addVethPair({ name: near, peer: far, mtu: MTU });
    const nearIfindex = native.interfaceIndex(near);
    const farIfindex = native.interfaceIndex(far);
    requests.setAlias(nearIfindex, aliasOf(instance, marks));
    // A frame that XDP redirects has lost what it would need to have its checksum completed later.
    turnChecksumsOff(native, nearIfindex);
    for (const ifindex of [farIfindex, nearIfindex]) requests.setUp(ifindex);
    return { ...marks, nearIfindex, farIfindex };
  } catch (error) {
    removeRoad(requests, instance, marks);
    throw error;
  }
}

/**
 * Once for each family. Null, or why there is no way and nothing of it: the host has the family switched
 * off, or somebody else has the table. Throws NetlinkError.
 */
export function leadThere(requests: Requests, family: 4 | 6, { nearIfindex, mark, table }: Road): string | null {
  const rule = { family, priority: RULE_PRIORITY, mark, table, protocol: ROAD_PROTOCOL };
  requests.addRule(rule);
  try {
    if (requests.addDefaultRoute({ family, table, ifindex: nearIfindex, protocol: ROAD_PROTOCOL })) return null;
  } catch (error) {
    requests.removeRule(rule);
    if (family === 6 && error instanceof NetlinkError && NO_IPV6.has(error.errno)) {
      return "IPv6 is switched off for new interfaces (net.ipv6.conf.default.disable_ipv6)";
    }
    throw error;
  }
  requests.removeRule(rule);
  return `routing table ${table} has a default route of somebody else: set dataplane.probes.table`;
}

/**
 * Takes away what was made for this instance, by whichever process; with these marks too, where they are
 * known. Safe to repeat.
 */
export function removeRoad(requests: Requests, instance: string, marks: RoadMarks | null = null): void {
  const { near } = roadNames(instance);
  const alias = requests.aliases().find(({ name }) => name === near)?.alias;
  const mark = defaultMark(instance);
  const known = [{ mark, table: mark }, alias === undefined ? null : marksIn(alias), marks];
  for (const rule of requests.rules()) {
    if (known.some((each) => each !== null && isOurs(rule, each))) requests.removeRule(rule);
  }
  const link = requests.links().find(({ name, kind }) => name === near && kind === "veth");
  // The routes and the far end go with it.
  if (link !== undefined) requests.removeLink(link.ifindex);
}

function isOurs(rule: MarkRule, { mark, table }: RoadMarks): boolean {
  return rule.protocol === ROAD_PROTOCOL && rule.mark === mark && rule.table === table;
}
