// Versions of services: whether the one that counts is the wanted one, where the rings of another one go,
// and what is left of an image without certain destinations. Pure; part of planning a change.

import { isDeepStrictEqual } from "node:util";
import { SlotWord } from "./abi.gen.ts";
import { serviceKeyText, type Image, type RingImage, type SchemeImage, type ServiceImage } from "./image.ts";
import { activeVersion, ringText, type HeldScheme, type HeldVersion, type KernelState } from "./kernel_state.ts";
import { isHeldRegions, placedRegions } from "./region_plan.ts";
import type { RingPlaces } from "./ring_places.ts";

/** True when the version that counts is the wanted one. */
export function isServed(state: KernelState, { index, version: want }: ServiceImage): boolean {
  const service = state.services.get(index);
  const held = service === undefined ? null : activeVersion(service);
  if (held === null || service?.key === null) return false;
  const { predecessor } = want;
  const isSamePredecessor = held.predecessor === null || predecessor === null
    ? held.predecessor === predecessor : isHeldScheme(state, held.predecessor, predecessor);
  return isHeldScheme(state, held.scheme, want.scheme) && isSamePredecessor
    && held.isRehashed === want.isRehashed && held.changingUntilNs === want.changingUntilNs
    && held.rememberedSinceNs === want.rememberedSinceNs
    && held.flowIdleMs === want.flowIdleMs && held.tracking === want.tracking
    && held.denyByDefault === want.denyByDefault && held.hasPolicy === want.hasPolicy
    && held.hasQuicLb === want.hasQuicLb && held.hasNat === want.hasNat
    && held.hasSecondChance === want.hasSecondChance
    && held.failedOpen === want.failedOpen && isDeepStrictEqual(held.pick, want.pick)
    && isDeepStrictEqual(held.affinity, want.affinity)
    && held.mssMax === want.mssMax && isHeldRegions(state, held.regions, want.regions);
}

function isHeldScheme(state: KernelState, held: HeldScheme, want: SchemeImage): boolean {
  const ring = state.rings.get(ringText(held.ringClass, held.ringId));
  return ring?.key === want.ringKey && held.ringSize === want.ringSize && held.hashSeed === want.hashSeed
    && held.hashInput === want.hashInput && held.sourcePrefixIpv4 === want.sourcePrefixIpv4
    && held.sourcePrefixIpv6 === want.sourcePrefixIpv6;
}

/** The version as it will stand in the map; its rings are written where they are not there yet, tables of regions are. */
export function placedVersion(state: KernelState, want: Image, service: ServiceImage, places: RingPlaces): HeldVersion {
  const { scheme, predecessor, regions, ...version } = service.version;
  const placed = ({ ringKey, ...found }: SchemeImage): HeldScheme => {
    const { ringClass, id: ringId } = places.placeOf(ringOf(want, service, ringKey));
    return { ...found, ringClass, ringId };
  };
  return {
    ...version, scheme: placed(scheme), predecessor: predecessor === null ? null : placed(predecessor),
    regions: placedRegions(state, regions),
  };
}

function ringOf({ rings }: Image, { key }: ServiceImage, ringKey: string): RingImage {
  const ring = rings.get(ringKey);
  if (ring === undefined) throw new RangeError(`${serviceKeyText(key)} has no ring ${ringKey}`);
  return ring;
}

/** The same image with nobody in the places of these ids. */
export function withoutDestinations(want: Image, ids: ReadonlySet<number>): Image {
  const rings = new Map<string, RingImage>();
  const services = new Map<number, ServiceImage>();
  const isClash = (word: number): boolean => ids.has(word & SlotWord.SLOT_BACKEND_MASK);
  const emptied = (service: ServiceImage, scheme: SchemeImage): SchemeImage => {
    const ring = ringOf(want, service, scheme.ringKey);
    const key = ring.slots.some(isClash) ? `${ring.key} without ${[...ids].sort().join(" ")}` : ring.key;
    if (!rings.has(key)) rings.set(key, { ...ring, key, slots: ring.slots.map((word) => isClash(word) ? 0 : word) });
    return { ...scheme, ringKey: key };
  };
  for (const [index, service] of want.services) {
    const { scheme, predecessor } = service.version;
    services.set(index, { ...service, version: {
      ...service.version, scheme: emptied(service, scheme),
      predecessor: predecessor === null ? null : emptied(service, predecessor),
    } });
  }
  const destinations = new Map([...want.destinations].filter(([id]) => !ids.has(id)));
  const quicServers = new Map([...want.quicServers].filter(([, { destination }]) => !ids.has(destination)));
  const tunnelEnds = new Map([...want.tunnelEnds].filter(([, { destination }]) => !ids.has(destination)));
  return { ...want, rings, services, destinations, quicServers, tunnelEnds };
}
