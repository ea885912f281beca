// A service and a destination of a table as the bytes of bpf/abi.h. Knows codecs and the numbers of words;
// deliberately does without src/dataplane/xdp/map_values.ts, so that a mistake there cannot hide one in the program.

import {
  Destination as DestinationValue, NextHopFlags, ServiceVersion, type SlotScheme as SchemeValue,
} from "../../src/dataplane/xdp/abi.gen.ts";
import { pickWeight, type XdpPick } from "../../src/model/pick.ts";
import type { RegionPrefixes } from "../../src/model/regions.ts";
import { isSameScheme, type SlotScheme } from "../../src/model/slot.ts";
import type { Destination, Service } from "../../src/model/table.ts";
import { PREDECESSORS_FROM, type Hop, type RingClass } from "./bpf_world.ts";

const RING_CLASS_NUMBERS = { small: 0, medium: 1, large: 2 } as const;
const FORWARDING_NUMBERS: Readonly<Record<string, number>> = {
  l2: 1, ipip: 2, gue: 3, gre: 4, nat: 5, fullnat: 6,
};
const TRACKING_NUMBERS = { none: 0, full: 1, minimal: 2 } as const;
const PICK_NUMBERS: Readonly<Record<XdpPick, number>> = {
  "round-robin": 1, "random": 2, "least-connections": 3, "power-of-two": 4, "bounded-load": 5,
};

export function destinationBytes(destination: Destination, hop: Hop): Uint8Array {
  const active = destination.id & 1;
  const { destinationMac, sourceMac, ifindex, mtu, vlan } = hop;
  const nextHop = {
    destinationMac, sourceMac, ifindex, mtu, vlan,
    flags: hop.local ? NextHopFlags.NEXT_HOP_LOCAL : hop.resolved ? NextHopFlags.NEXT_HOP_RESOLVED : 0,
  };
  // The idle one is as wrong as can be: whoever takes it shows.
  const idle = {
    destinationMac: new Uint8Array(6).fill(0xee),
    sourceMac: new Uint8Array(6).fill(0xee),
    ifindex: 1, mtu: 1, vlan: 0xfff,
    flags: hop.resolved ? 0 : NextHopFlags.NEXT_HOP_RESOLVED,
  };
  return DestinationValue.encode({
    address: destination.address.bytes,
    tunnelSource: hop.tunnelSource,
    tunnelSourceMask: hop.tunnelSourceMask,
    identity: destination.identity,
    generation: destination.generation,
    flags: (destination.alive ? 1 : 0) | (destination.admission > 0 ? 2 : 0) | (destination.resets ? 4 : 0),
    forwarding: FORWARDING_NUMBERS[destination.forwarding] ?? 0,
    port: destination.port ?? 0,
    pickWeight: pickWeight(destination),
    guePort: destination.gue?.port ?? 0,
    gueVariant: destination.gue?.variant ?? 0,
    nextHopActive: active,
    nextHops: active === 0 ? [nextHop, idle] : [idle, nextHop],
  });
}

export interface RegionTable {
  readonly id: number;
  readonly prefixes: RegionPrefixes;
  readonly services: readonly (number | null)[];
}

/** Those of now, and those of before. */
export function regionTables({ index, regions }: Service): RegionTable[] {
  return [regions, regions?.before ?? null].flatMap((each, at) => {
    if (each === null || each.prefixes === null || each.prefixes.size === 0) return [];
    return [{ id: index * 2 + at, prefixes: each.prefixes, services: each.services }];
  });
}

/** `asked`: index of the service whose region's it is, or its own where it has regions; else null. */
function regionFields(
  service: Service, asked: number | null,
): Pick<ServiceVersion, "regions" | "regionsBefore" | "regionsUntilNs" | "asked"> {
  const ids = regionTables(service).map(({ id }) => id);
  const [now, before] = [service.index * 2, service.index * 2 + 1].map((id) => (ids.includes(id) ? id + 1 : 0));
  return { regions: now!, regionsBefore: before!, regionsUntilNs: service.regions?.before?.untilNs ?? 0n, asked: asked === null ? 0 : asked + 1 };
}

export function versionBytes(service: Service, ringClass: RingClass, place: number, asked: number | null): Uint8Array {
  const { config, hashSeed, ring, states } = service;
  const { allow, deny } = config.policy;
  const { hash, sourcePrefix } = config;
  const scheme = { hashSeed, hash, sourcePrefix, ringSize: ring.size };
  const before = states.predecessor?.scheme ?? null;
  const isTranslated = config.forwarding === "nat" || config.forwarding === "fullnat";
  return ServiceVersion.encode({
    scheme: schemeBytes(scheme, ringClass, place),
    predecessor: schemeBytes(before ?? { ...scheme, ringSize: 0 }, ringClass, place + PREDECESSORS_FROM),
    changingUntilNs: states.changingUntilNs,
    rememberedSinceNs: service.rememberedSinceNs,
    flowIdleMs: config.flowIdleMs,
    tracking: isTranslated ? 0 : TRACKING_NUMBERS[config.tracking],
    flags:
      (allow.length > 0 ? 1 : 0) |
      (allow.length + deny.length > 0 ? 2 : 0) |
      (service.quicLb === null ? 0 : 4) |
      (isTranslated ? 8 : 0) |
      (before !== null && !isSameScheme(before, scheme) ? 16 : 0) |
      (config.secondChance ? 32 : 0) |
      (service.failedOpen ? 64 : 0),
    mssMax: config.mssMax ?? 0,
    ...regionFields(service, asked),
    turns: service.picking?.turns ?? 0,
    weightTotal: service.picking?.weightTotal ?? 0,
    loadFactorPercent: service.picking?.loadFactorPercent ?? 0,
    flowsAt: service.index,
    affinityId: service.affinity?.id ?? 0n,
    affinityMs: service.affinity?.timeoutMs ?? 0,
    pick: service.picking === null ? 0 : PICK_NUMBERS[service.picking.by as XdpPick],
  });
}

function schemeBytes(scheme: SlotScheme, ringClass: RingClass, place: number): SchemeValue {
  return {
    hashSeed: scheme.hashSeed,
    ringId: place,
    ringSize: scheme.ringSize,
    ringClass: RING_CLASS_NUMBERS[ringClass],
    hashInput: scheme.hash === "source-ip" ? 1 : 0,
    sourcePrefixIpv4: scheme.sourcePrefix.ipv4,
    sourcePrefixIpv6: scheme.sourcePrefix.ipv6,
  };
}
