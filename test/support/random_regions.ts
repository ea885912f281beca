// Services with regions, drawn at random: each region has a service of its own, with another ring, and clients may have
// been in other regions until lately. Knows the model's types; knows no map.

import { regionColumns } from "../../src/geo/prefixes.ts";
import { digestOf } from "../../src/model/region_changes.ts";
import { RegionPrefixes, regionalName } from "../../src/model/regions.ts";
import type { Service } from "../../src/model/table.ts";
import type { Draws } from "./random.ts";

const HOUR_NS = 3_600_000_000_000n;
/** Around the clients that flows are drawn from, and everybody; the bits of one may lie in another. */
const NETWORKS = [
  "10.0.0.0/8", "10.0.0.0/16", "10.0.1.0/24", "10.1.0.0/23", "10.0.0.2/32", "10.0.0.3/32", "192.0.0.0/8", "192.1.1.0/30", "0.0.0.0/0",
  "2001:db8::/32", "2001:db8:1::/48", "2001:db8:100::/40", "2001:db8:101::2/128", "2001:db8::2/127", "2001:db8::/126", "::/0", "fd00::/8",
];

/** Prefixes in so many regions. Many of them, now and then, so that a tree has several levels. */
export function randomPrefixes(draws: Draws, regions: number): RegionPrefixes {
  const networks: string[][] = Array.from({ length: regions }, () => []);
  for (const network of NETWORKS) if (draws.chance(0.4)) networks[draws.below(regions)]!.push(network);
  const hosts = draws.chance(0.05) ? draws.between(20, 300) : 0;
  for (let host = 0; host < hosts; host += 1) {
    const text = draws.chance(0.5) ? `10.${draws.below(3)}.${draws.below(3)}.${draws.below(256)}/32`
      : `2001:db8:${(draws.below(2) * 256 + draws.below(2)).toString(16)}::${draws.below(64).toString(16)}/128`;
    if (!networks.some((each) => each.includes(text))) networks[draws.below(regions)]!.push(text);
  }
  const key = networks.map((each) => each.join(" ")).join(";");
  return new RegionPrefixes(key, null, regionColumns(null, networks.map((each) => ({ countries: [], continents: [], networks: each }))));
}

export interface RegionalDraw {
  readonly draws: Draws;
  readonly nowNs: bigint;
  /** An index that no service has, or null. */
  readonly freeIndex: () => number | null;
  /** The same service with a ring and states of its own. */
  readonly again: (service: Service) => Service;
}

/** The service, with regions and their services where it gets some. */
export function withRandomRegions(service: Service, { draws, nowNs, freeIndex, again }: RegionalDraw): Service[] {
  if (service.quicLb !== null || draws.chance(0.5)) return [service];
  const names = ["eu", "us", "lab"].slice(0, draws.between(1, 3));
  const regional = names.flatMap((name): Service[] => {
    const index = freeIndex();
    if (index === null) return [];
    const config = { ...service.config, name: regionalName(service.name, name), region: { service: service.name, name } };
    return [{ ...again(service), index, name: config.name, config, regions: null }];
  });
  if (regional.length === 0) return [service];
  const services = regional.map(({ index }) => index);
  const prefixes = randomPrefixes(draws, services.length);
  return [{ ...service, regions: { prefixes, services, before: randomBefore(draws, services, nowNs) } }, ...regional];
}

function randomBefore(draws: Draws, now: readonly number[], nowNs: bigint): NonNullable<Service["regions"]>["before"] {
  if (draws.chance(0.3)) return null;
  const untilNs = draws.chance(0.8) ? nowNs + HOUR_NS : 1n;
  const deadlineMs = Number(untilNs / 1_000_000n);
  if (draws.chance(0.25)) return { digest: 0n, prefixes: null, services: [], untilNs, deadlineMs };
  const services = Array.from({ length: draws.between(1, 3) }, () => (draws.chance(0.15) ? null : draws.pick(now)));
  const prefixes = randomPrefixes(draws, services.length);
  return { digest: digestOf(prefixes, []), prefixes, services, untilNs, deadlineMs };
}
