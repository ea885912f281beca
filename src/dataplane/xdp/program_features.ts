// Which parts of the program a table needs: what is not needed is left out when it is loaded. Pure; knows
// the switches of bpf/maps.h by name.

import type { Prefix } from "../../model/address.ts";
import type { Forwarding, OrphanAction } from "../../model/config.ts";
import { isExact, type ServiceAddress } from "../../model/service_address.ts";
import { hashMask } from "../../model/tunnel_source.ts";
import type { PickImage, SchemeImage, VersionImage } from "./image.ts";
import { ringClassOf } from "./ring_class.ts";

/** Switches of the program: what no table needs is left out when it is loaded. */
export type Feature =
  | "featureL2" | "featureNat" | "featureIpip" | "featureGue" | "featureGre" | "featureTunnelVariation"
  | "featureTracking" | "featurePick" | "featureAffinity" | "featureMinimal" | "featureSample"
  | "featureSecondChance" | "featurePolicy" | "featureSourceHash"
  | "featureOrphan" | "featureIcmpErrors"
  | "featureWildcard" | "featureRegions" | "featureMssClamp"
  | "featureQuicLb" | "featureTunnelErrors"
  | "ringClassSmall" | "ringClassMedium" | "ringClassLarge";

const RING_FEATURES = {
  small: "ringClassSmall", medium: "ringClassMedium", large: "ringClassLarge",
} as const;

const FORWARDING_FEATURES = {
  l2: "featureL2", ipip: "featureIpip", gue: "featureGue", gre: "featureGre",
  nat: "featureNat", fullnat: "featureNat",
} as const satisfies Readonly<Record<Forwarding, Feature>>;
const TUNNEL_FEATURES = ["featureIpip", "featureGue", "featureGre"] as const;

/** What of a scheme says which parts of the program are needed. */
type SchemeShape = Pick<SchemeImage, "ringSize" | "hashInput">;

/** What decides which parts of the program are needed: of an image, or of what the kernel holds. */
export interface FeatureSource {
  readonly keys: Iterable<ServiceAddress>;
  readonly versions: Iterable<
    Pick<VersionImage, "tracking" | "affinity" | "hasNat" | "hasPolicy" | "hasQuicLb" | "hasSecondChance" | "mssMax">
    & {
      readonly pick: Pick<PickImage, "by">; readonly regions: object | null;
      readonly scheme: SchemeShape; readonly predecessor: SchemeShape | null;
    }>;
  readonly forwardings: Iterable<Forwarding>;
  readonly tunnelSources: Iterable<Prefix | null>;
  readonly action: OrphanAction;
  readonly icmpIntervalNs: bigint;
  readonly hasTunnelEnds: boolean;
}

export function featuresOf(source: FeatureSource): Set<Feature> {
  const { keys, versions, forwardings, tunnelSources, action, icmpIntervalNs: interval } = source;
  const features = new Set<Feature>();
  for (const version of versions) {
    const { scheme, predecessor, tracking, hasNat, hasPolicy, hasQuicLb, hasSecondChance, mssMax, pick, affinity, regions } = version;
    if (regions !== null) features.add("featureRegions");
    if (affinity !== null) features.add("featureAffinity");
    if (pick.by !== null) features.add("featurePick");
    if (mssMax > 0) features.add("featureMssClamp");
    for (const each of predecessor === null ? [scheme] : [scheme, predecessor]) {
      features.add(RING_FEATURES[ringClassOf(each.ringSize)]);
      if (each.hashInput === "source-ip") features.add("featureSourceHash");
    }
    if (tracking === "full") features.add("featureTracking");
    if (tracking === "minimal") features.add("featureMinimal");
    if (tracking !== "full" && !hasNat) features.add("featureSample");
    if (hasPolicy) features.add("featurePolicy");
    if (hasSecondChance) features.add("featureSecondChance");
    if (hasQuicLb) features.add("featureQuicLb");
  }
  for (const forwarding of forwardings) features.add(FORWARDING_FEATURES[forwarding]);
  const varies = [...tunnelSources].some((prefix) => prefix !== null && hashMask(prefix) !== 0);
  if (varies && TUNNEL_FEATURES.some((tunnel) => features.has(tunnel))) features.add("featureTunnelVariation");
  if (action !== "keep") features.add("featureOrphan");
  if (![...keys].every(isExact)) features.add("featureWildcard");
  if (interval > 0n) features.add("featureIcmpErrors");
  if (source.hasTunnelEnds) features.add("featureTunnelErrors");
  return features;
}
