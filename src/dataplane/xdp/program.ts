// The program with its maps: loaded with the switches and the room that a plane needs, over maps that are
// there already where there are some. A map that is too small is replaced by a larger one with the same
// contents. Knows the object file; knows no interface and no pin.

import { Failure } from "../../errors.ts";
import { ABI_FINGERPRINT, POINTSMAN_MAPS, POINTSMAN_PROGRAMS, PointsmanRodata } from "./abi.gen.ts";
import { fingerprintOfObject } from "./fingerprint.ts";
import type { Feature } from "./program_features.ts";
import { PlaneMaps, type MapName, type MapSet } from "./maps.ts";
import type { BpfMap, BpfObject, Native } from "./native.ts";
import { ringsMax, type Capacities } from "./steps.ts";
import { TUNNEL_ENDS_PER_DESTINATION } from "./tunnel_ends.ts";

export const PROGRAM = POINTSMAN_PROGRAMS[0];

export interface ProgramSource {
  readonly native: Native;
  readonly path: string;
  /** The object file. */
  readonly bytes: Uint8Array;
}

export interface LoadOptions {
  readonly features: ReadonlySet<Feature>;
  readonly capacities: Capacities;
  /** XDP_TX does not work on this kind of interface. */
  readonly transmitByRedirect: boolean;
  /** Live maps to take over, as far as they are large enough. */
  readonly reuse: Partial<MapSet>;
  /** Makes the maps and leaves out the program. */
  readonly mapsOnly?: true;
}

export interface LoadedProgram {
  readonly object: BpfObject;
  readonly maps: PlaneMaps;
  /** Maps that are new: made, or made larger. */
  readonly created: readonly MapName[];
}

/** Tables that lead to a service of a region at one time: of now, of before, and those of a change that is under way. */
const REGION_TABLES_MAX = 4;

/** Entries of each map whose size follows from the capacities. */
export function mapSizes(capacities: Capacities): Partial<Record<MapName, number>> {
  const { services, destinations, flows, fragments, policies, groupEntries, quicConfigs, quicServers, natFlows, affinities } = capacities;
  const rings = ringsMax(capacities);
  return {
    services, virtual_addresses: services, service_active: services, service_versions: services * 2,
    service_traffic: services, service_pace: services * 2, pick_states: services, service_flows: services,
    rings_small: rings, rings_medium: rings, rings_large: rings,
    destinations, destination_traffic: destinations, destination_flows: destinations, answer_counts: destinations,
    tunnel_ends: destinations * TUNNEL_ENDS_PER_DESTINATION, flows, fragments, policies,
    // Old and new prefixes stand side by side during a change.
    region_tables: rings, region_services: services * REGION_TABLES_MAX, region_names: services,
    wildcards: services, address_groups: services * 2, group_services: groupEntries,
    quic_configs: quicConfigs, quic_servers: quicServers, nat_flows: natFlows * 2,
    affinities,
  };
}

/** What the live maps hold; the smaller one where a change of size was broken off. Null: a map is missing. */
export function capacitiesOf(maps: Partial<MapSet>): Capacities | null {
  const found = roomIn(maps);
  return Object.values(found).every(Number.isFinite) ? found : null;
}

/** The same of maps some of which are missing: Infinity where nothing tells. */
export function roomIn(maps: Partial<MapSet>): Capacities {
  const size = (name: MapName): number => maps[name]?.info().maxEntries ?? Infinity;
  const services = Math.min(
    size("services"), size("virtual_addresses"), size("service_active"), size("service_versions") / 2,
    size("service_traffic"), size("service_pace") / 2, size("pick_states"), size("service_flows"),
    size("wildcards"), size("address_groups") / 2, size("region_names"), size("region_services") / REGION_TABLES_MAX,
    size("region_tables") / REGION_TABLES_MAX,
    ...(["small", "medium", "large"] as const).map((each) => size(`rings_${each}`) / 4),
  );
  const destinations = Math.min(
    size("destinations"), size("destination_traffic"), size("destination_flows"), size("answer_counts"),
    size("tunnel_ends") / TUNNEL_ENDS_PER_DESTINATION,
  );
  return {
    services, destinations, flows: size("flows"), fragments: size("fragments"), policies: size("policies"),
    groupEntries: size("group_services"),
    quicConfigs: size("quic_configs"), quicServers: size("quic_servers"), natFlows: size("nat_flows") / 2,
    affinities: size("affinities"),
  };
}

/** The object file, checked against the ABI that this build was made for; `remedy` when it is another. */
export function openSource(
  native: Native, path: string, bytes: Uint8Array, remedy: string,
): ProgramSource {
  const found = fingerprintOfObject(bytes);
  if (found !== ABI_FINGERPRINT) {
    throw new Failure("ADDON_UNAVAILABLE", { path },
      `${path} was compiled from another version of bpf/abi.h (ABI ${hex(found)}, this build has`
      + ` ${hex(ABI_FINGERPRINT)}): ${remedy}`);
  }
  return { native, path, bytes };
}

export function hex(value: bigint): string {
  return value.toString(16).padStart(16, "0");
}

/** Loads the program. Nothing that is live changes: the maps it shares are as they were, and no link uses it yet. */
export function loadProgram({ native, path }: ProgramSource, options: LoadOptions): LoadedProgram {
  const object = native.BpfObject.open(path);
  try {
    const sizes = mapSizes(options.capacities);
    const created: MapName[] = [];
    for (const name of POINTSMAN_MAPS) {
      const live = options.reuse[name];
      const wanted = sizes[name];
      if (live !== undefined && (wanted === undefined || live.info().maxEntries >= wanted)) {
        object.reuseMap(name, live);
        continue;
      }
      if (wanted !== undefined) object.setMaxEntries(name, wanted);
      created.push(name);
    }
    if (options.mapsOnly) for (const name of POINTSMAN_PROGRAMS) object.setAutoload(name, false);
    object.setSection(PointsmanRodata.section, rodata(object, options));
    object.load();
    const maps = Object.fromEntries(POINTSMAN_MAPS.map((name) => [name, object.map(name)])) as Record<MapName, BpfMap>;
    return { object, maps: new PlaneMaps(native, maps), created };
  } catch (error) {
    object.close();
    throw error;
  }
}

function rodata(object: BpfObject, { features, transmitByRedirect }: LoadOptions): Uint8Array {
  const initial = object.section(PointsmanRodata.section);
  if (initial === null) throw new RangeError(`the object has no section ${PointsmanRodata.section}`);
  // Every switch by name: one that is added to the program, and that no feature turns off, must not compile.
  const switches: PointsmanRodata = {
    featureL2: features.has("featureL2"),
    featureIpip: features.has("featureIpip"),
    featureGue: features.has("featureGue"),
    featureGre: features.has("featureGre"),
    featureMssClamp: features.has("featureMssClamp"),
    featureNat: features.has("featureNat"),
    featureTunnelVariation: features.has("featureTunnelVariation"),
    featureWildcard: features.has("featureWildcard"),
    featureRegions: features.has("featureRegions"),
    featureTracking: features.has("featureTracking"),
    featurePick: features.has("featurePick"),
    featureAffinity: features.has("featureAffinity"),
    featureMinimal: features.has("featureMinimal"),
    featureSample: features.has("featureSample"),
    featureSecondChance: features.has("featureSecondChance"),
    featurePolicy: features.has("featurePolicy"),
    featureSourceHash: features.has("featureSourceHash"),
    featureOrphan: features.has("featureOrphan"),
    featureQuicLb: features.has("featureQuicLb"),
    featureIcmpErrors: features.has("featureIcmpErrors"),
    featureTunnelErrors: features.has("featureTunnelErrors"),
    ringClassSmall: features.has("ringClassSmall"),
    ringClassMedium: features.has("ringClassMedium"),
    ringClassLarge: features.has("ringClassLarge"),
    transmitByRedirect,
  };
  return PointsmanRodata.encode(initial, switches);
}
