// What is known of the ways that tunnels take: the path MTUs that routers told, as long as they count, and who could
// not be reached. Made of what the packet program noted, so a new supervisor knows what the last one did. Pure; knows
// no map: xdp_plane.ts reads and asks.

import type { Destination, ForwardingTable } from "../../model/table.ts";
import { outerProtocols, PATH_MTU_MIN } from "../../model/tunnel_error.ts";
import { tunnelOverhead } from "../../model/tunnel_overhead.ts";
import type { NextHop, Route } from "./image.ts";
import type { TunnelReport } from "./tunnel_ends.ts";

export interface LearnedMtu {
  readonly mtu: number;
  /** CLOCK_MONOTONIC. */
  readonly untilNs: bigint;
}

/** By the text of a backend's address. */
export type PathMtus = ReadonlyMap<string, LearnedMtu>;

/** Of several ways of forwarding to one address the least: their packets take one way. */
export function pathMtusOf(reports: Iterable<TunnelReport>, nowNs: bigint, ageNs: bigint): PathMtus {
  const found = new Map<string, LearnedMtu>();
  for (const { address, mtu, mtuNs } of reports) {
    const untilNs = mtuNs + ageNs;
    if (mtuNs === 0n || untilNs <= nowNs) continue;
    const before = found.get(address.text);
    if (before === undefined || mtu < before.mtu) found.set(address.text, { mtu, untilNs });
  }
  return found;
}

export function samePathMtus(a: PathMtus, b: PathMtus): boolean {
  return a.size === b.size && [...a].every(([address, { mtu, untilNs }]) => {
    const other = b.get(address);
    return other?.mtu === mtu && other.untilNs === untilNs;
  });
}

/** When the first of them no longer counts, or null. */
export function firstExpiryNs(mtus: PathMtus): bigint | null {
  let first: bigint | null = null;
  for (const { untilNs } of mtus.values()) if (first === null || untilNs < first) first = untilNs;
  return first;
}

/** The way of a tunnel's packets, with what is known of it. */
export function withPathMtu(route: Route, learned: LearnedMtu | undefined): Route {
  const { nextHop } = route;
  if (learned === undefined || !nextHop.resolved || (nextHop.mtu !== 0 && nextHop.mtu <= learned.mtu)) return route;
  const narrowed: NextHop = { ...nextHop, mtu: learned.mtu };
  return { ...route, nextHop: narrowed };
}

/** Services of IPv6 that a learned path MTU leaves less than every IPv6 sender uses (RFC 8200, 5): "web to pool/a: 1260 bytes". */
export function tooNarrowForIpv6({ services, destinations }: ForwardingTable, mtus: PathMtus): string[] {
  return services.filter(({ config }) => config.network.address.family === 6).flatMap(({ name, config, destinations: ids }) =>
    ids.flatMap((id) => {
      const to = destinations.get(id);
      const learned = to === undefined ? undefined : mtus.get(to.address.text);
      const overhead = to === undefined ? 0 : tunnelOverhead(config, to.address.family);
      if (to === undefined || learned === undefined || overhead === 0 || learned.mtu - overhead >= PATH_MTU_MIN[6]) return [];
      return [`${name} to ${to.name}: ${learned.mtu - overhead} bytes`];
    }));
}

/** The last error of each address that is newer than `sinceNs`. */
export function unreachableSince(reports: Iterable<TunnelReport>, sinceNs: bigint): Map<string, TunnelReport> {
  const found = new Map<string, TunnelReport>();
  for (const report of reports) {
    const before = found.get(report.address.text);
    if (report.unreachableNs > sinceNs && report.unreachableNs > (before?.unreachableNs ?? 0n)) found.set(report.address.text, report);
  }
  return found;
}

/** RFC 792, RFC 4443. */
const WORDS: Readonly<Record<string, string>> = {
  "4 3 0": "network unreachable", "4 3 1": "host unreachable", "4 3 2": "protocol unreachable: it unwraps no such tunnel",
  "4 3 3": "port unreachable: it unwraps no such tunnel", "4 11 0": "time to live exceeded",
  "6 1 0": "no route", "6 1 3": "address unreachable", "6 1 4": "port unreachable: it unwraps no such tunnel",
  "6 3 0": "hop limit exceeded", "6 4 1": "next header unknown: it unwraps no such tunnel",
};

export function unreachableText({ address, type, code }: TunnelReport): string {
  const words = WORDS[`${address.family} ${type} ${code}`] ?? `ICMP type ${type} code ${code}`;
  return `its tunnel was answered: ${words}`;
}

/** The backends that are sent to by these tunnels, and why they are doubted. */
export function doubtsOf(
  reports: ReadonlyMap<string, TunnelReport>, targets: readonly Destination[],
): (readonly [backends: readonly string[], reason: string])[] {
  return [...reports].map(([address, report]) => {
    const names = targets.filter((each) => each.address.text === address && outerProtocols(each).length > 0).map(({ name }) => name);
    return [[...new Set(names)], unreachableText(report)];
  });
}
