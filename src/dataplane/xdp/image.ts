// The image: what every BPF map should hold for a table, as plain values. A pure function of the table
// and of what is known of next hops. Knows no bytes, map or kernel call: diff.ts compares an image with
// what the kernel holds, maps.ts turns values into bytes.

import type { Address, Prefix } from "../../model/address.ts";
import type { Forwarding, Gue, HashInput, OrphanAction, Protocol, Tracking, VipAssign } from "../../model/config.ts";
import {
  isExact, mappedBits, serviceKey, singleAddress, type ServiceAddress,
} from "../../model/service_address.ts";
import type { Affinity } from "../../model/affinity.ts";
import { translates, type NatTable } from "../../model/nat.ts";
import { trackingOf } from "../../model/flow_decide.ts";
import { comparesLoads, isXdpPick, pickWeight, type XdpPick } from "../../model/pick.ts";
import { rememberPaces, type RememberPace } from "../../model/remember_pace.ts";
import { contentKey } from "../../model/ring_content.ts";
import { schemeOf, type SlotScheme } from "../../model/slot.ts";
import { isRehashed, type SlotStates } from "../../model/slot_states.ts";
import { isAllFailedOpen } from "../../model/split.ts";
import type { Destination, ForwardingTable, Ring, Service } from "../../model/table.ts";
import { SlotWord } from "./abi.gen.ts";
import { flowPlaces } from "./flow_places.ts";
import { featuresOf, type Feature } from "./program_features.ts";
import { groupsOf, type GroupImage, type Wildcard } from "./groups.ts";
import type { Interfaces, LinkAddress } from "./interfaces.ts";
import { askedIndexes, regionImages, regionsImage, type RegionImages, type RegionsImage } from "./region_image.ts";
import { tunnelEndsOf, type TunnelEndImage } from "./tunnel_ends.ts";
import {
  quicConfigImages, quicConfigText, quicServerImages, quicServerText,
  type QuicConfigImage, type QuicServerImage,
} from "./quic_maps.ts";

export interface ServiceKey extends ServiceAddress {
  readonly protocol: Protocol;
  /** Of a service that has the clients of one region of the service with index `asked`, and no address of its own; else null. */
  readonly region: { readonly asked: number; readonly name: string } | null;
}

/** How a packet finds its slot; the ring is named by its content. */
export interface SchemeImage {
  readonly hashSeed: bigint;
  readonly ringKey: string;
  readonly ringSize: number;
  readonly hashInput: HashInput;
  readonly sourcePrefixIpv4: number;
  readonly sourcePrefixIpv6: number;
}

/** What a packet of a service is measured against. */
export interface VersionImage {
  readonly scheme: SchemeImage;
  /** Its ring has the untracked owners of slots that are changing; null: none is. */
  readonly predecessor: SchemeImage | null;
  /** The predecessor's scheme is another one. */
  readonly isRehashed: boolean;
  readonly changingUntilNs: bigint;
  readonly rememberedSinceNs: bigint;
  readonly flowIdleMs: number;
  readonly tracking: Tracking;
  readonly denyByDefault: boolean;
  readonly hasPolicy: boolean;
  readonly hasQuicLb: boolean;
  /** Its flows are translated. */
  readonly hasNat: boolean;
  /** Its packets may name alternates. */
  readonly hasSecondChance: boolean;
  /** Backends that are not live have flows, and keep them. */
  readonly failedOpen: boolean;
  /** How clients are remembered; null: they are not. */
  readonly affinity: Affinity | null;
  readonly pick: PickImage;
  /** 0: no limit. */
  readonly mssMax: number;
  /** Null: the service has no regions, and is none's. */
  readonly regions: RegionsImage | null;
}

/** How new flows are placed where the ring does not place them; what an algorithm does not use is 0. */
export interface PickImage {
  /** Null: the ring does. */
  readonly by: XdpPick | null;
  readonly turns: number;
  readonly weightTotal: number;
  readonly loadFactorPercent: number;
  /** Where the flows of all its backends are counted: services with the same ones share one place. */
  readonly flowsAt: number;
}

/** One prefix of a service's policy. `bits` counts in the mapped form, 0…128. */
export interface PolicyImage {
  readonly address: Address;
  readonly bits: number;
  readonly action: "allow" | "deny";
}

export interface ServiceImage {
  readonly index: number;
  readonly key: ServiceKey;
  readonly version: VersionImage;
  /** By policyText(). */
  readonly policy: ReadonlyMap<string, PolicyImage>;
}

export interface RingImage {
  readonly key: string;
  readonly size: number;
  readonly slots: Uint16Array;
}

/** Link addresses are "aa:bb:cc:dd:ee:ff". */
export interface NextHop {
  readonly resolved: boolean;
  /** The destination is this host itself; it is not resolved then, and nothing leaves for it. */
  readonly local: boolean;
  readonly destinationMac: string;
  readonly sourceMac: string;
  readonly ifindex: number;
  /** Largest IP packet that the interface carries; 0: not known. */
  readonly mtu: number;
  /** Frames leave with this tag alone, or with none; 0: with the tags they came with. */
  readonly vlan: number | "none";
}

export const NO_MAC = "00:00:00:00:00:00";
export const UNRESOLVED: NextHop = {
  resolved: false, local: false, destinationMac: NO_MAC, sourceMac: NO_MAC, ifindex: 0, mtu: 0, vlan: 0,
};

export const LOCAL: NextHop = { ...UNRESOLVED, local: true };

/** The way to a destination, as the rtnetlink room sees it now. */
export interface Route {
  readonly nextHop: NextHop;
  /** Outer sources of a tunnel, of the destination's family; null while unknown. */
  readonly tunnelSource: Prefix | null;
}

/** Answers for any destination; what is not known is unresolved. */
export type RouteView = (destination: Destination) => Route;

/** What flows may count on. */
export interface DestinationRights {
  /** May keep those that it has. */
  readonly live: boolean;
  /** May get new ones. */
  readonly admits: boolean;
  /** Not live, and translated connections are told so by a reset. */
  readonly resets: boolean;
}

export const NO_RIGHTS: DestinationRights = { live: false, admits: false, resets: false };

export interface DestinationImage extends DestinationRights {
  readonly id: number;
  readonly identity: bigint;
  readonly generation: number;
  readonly forwarding: Forwarding;
  /** Null unless the forwarding is gue. */
  readonly gue: Gue | null;
  readonly address: Address;
  /** Of nat and fullnat; null: the port that a packet came for. */
  readonly port: number | null;
  /** What its flows are compared by; 0: nobody compares them. */
  readonly pickWeight: number;
  readonly route: Route;
}

/** A virtual address that this host shall hold, and where. */
export interface AssignedAddress {
  readonly address: Address;
  readonly on: Exclude<VipAssign, "none">;
}

export interface Image {
  /** By index. */
  readonly services: ReadonlyMap<number, ServiceImage>;
  /** Of prefixes with wildcard services, by the prefix's text. */
  readonly groups: ReadonlyMap<string, GroupImage>;
  /** Those that services have alone, by text. */
  readonly virtualAddresses: ReadonlyMap<string, Address>;
  /** By id. */
  readonly destinations: ReadonlyMap<number, DestinationImage>;
  /** By key. */
  readonly rings: ReadonlyMap<string, RingImage>;
  readonly regions: RegionImages;
  /** By quicConfigText() and quicServerText(). */
  readonly quicConfigs: ReadonlyMap<string, QuicConfigImage>;
  readonly quicServers: ReadonlyMap<string, QuicServerImage>;
  /** By tunnelEndText(); none where nothing is learned of them. */
  readonly tunnelEnds: ReadonlyMap<string, TunnelEndImage>;
  /** Interfaces that packets may leave by. */
  readonly devices: ReadonlySet<number>;
  /** By linkAddressText(). */
  readonly linkAddresses: ReadonlyMap<string, LinkAddress>;
  readonly orphan: { readonly afterNs: bigint; readonly action: OrphanAction };
  /** Between two ICMP errors of one CPU, on average; 0: none are sent. */
  readonly icmpIntervalNs: bigint;
  readonly nat: NatTable;
  /** Clients that are remembered at most. */
  readonly affinitiesMax: number;
  /** In the order of REMEMBER_KINDS. */
  readonly remember: readonly RememberPace[];
  /** By assignedText(). */
  readonly assigned: ReadonlyMap<string, AssignedAddress>;
  readonly features: ReadonlySet<Feature>;
}

/** "tcp 203.0.113.10:443" or "tcp 203.0.113.0/28:any", of a region with " @" and its name: as in the ledger. */
export function serviceKeyText(key: ServiceKey): string {
  return serviceKey(key);
}

export function policyText(entry: PolicyImage): string {
  return `${entry.address.text}/${entry.bits}`;
}

export function assignedText(assigned: AssignedAddress): string {
  return `${assigned.address.text} on ${assigned.on}`;
}

export interface ImageOptions extends Interfaces {
  readonly view: RouteView;
}

/** What the maps should hold for this table, given this view of the network. */
export function imageOf(table: ForwardingTable, options: ImageOptions): Image {
  const compared = new Set(table.services.filter(({ picking }) => picking !== null && comparesLoads(picking.by))
    .flatMap((service) => service.destinations));
  const destinations = new Map<number, DestinationImage>();
  for (const destination of table.destinations.values()) {
    const weight = compared.has(destination.id) ? pickWeight(destination) : 0;
    destinations.set(destination.id, destinationImage(destination, options.view(destination), weight));
  }
  const devices = new Set<number>(options.attached);
  for (const { route } of destinations.values()) if (route.nextHop.ifindex !== 0) devices.add(route.nextHop.ifindex);
  const flowsAt = flowPlaces(table.services);
  const askedOf = askedIndexes(table);
  const services = new Map(table.services.map((service) =>
    [service.index, serviceImage(service, flowsAt(service), askedOf(service))]));
  const tunnelEnds = tunnelEndsOf(table.pathMtuAgeMs === 0 ? [] : destinations.values());
  return {
    services,
    groups: groupsOf(wildcardsOf(services)),
    virtualAddresses: new Map(table.services.flatMap(({ config }) => {
      const address = singleAddress(config.network);
      return address === null ? [] : [[address.text, address]];
    })),
    destinations,
    quicConfigs: new Map(table.services.flatMap(quicConfigImages).map((each) => [quicConfigText(each), each])),
    quicServers: new Map(table.services.flatMap(quicServerImages).map((each) => [quicServerText(each), each])),
    rings: new Map(table.services.flatMap(ringsOf).map((ring) => [ring.key, ring])),
    regions: regionImages(table.services),
    tunnelEnds,
    devices,
    linkAddresses: options.linkAddresses ?? new Map(),
    orphan: { afterNs: nanoseconds(table.orphan.afterMs), action: table.orphan.action },
    icmpIntervalNs: icmpIntervalNs(table.icmpErrorsPerSecond),
    nat: table.nat,
    affinitiesMax: table.affinitiesMax,
    remember: rememberPaces(table.remember),
    assigned: assignedAddresses(table),
    features: featuresOf({
      keys: [...services.values()].map(({ key }) => key),
      versions: [...services.values()].map(({ version }) => version),
      forwardings: [...destinations.values()].map(({ forwarding }) => forwarding),
      tunnelSources: [...destinations.values()].map(({ route }) => route.tunnelSource),
      action: table.orphan.action,
      icmpIntervalNs: icmpIntervalNs(table.icmpErrorsPerSecond),
      hasTunnelEnds: tunnelEnds.size > 0,
    }),
  };
}

function destinationImage(destination: Destination, route: Route, pickWeight: number): DestinationImage {
  const { id, identity, generation, address, forwarding, gue } = destination;
  const port = translates(forwarding) ? destination.port : null;
  const live = destination.alive;
  const admits = live && destination.admission > 0;
  const resets = !live && destination.resets;
  return { id, identity, generation, live, admits, resets, forwarding, gue, address, port, pickWeight, route };
}

/** Those that the tries lead to. */
export function wildcardsOf(
  services: ReadonlyMap<number, { readonly key: ServiceKey | null }>,
): Wildcard[] {
  return [...services].flatMap(([index, { key }]) =>
    key === null || key.region !== null || isExact(key) ? [] : [{ ...key, index }]);
}

function schemeImage(
  { hashSeed, hash, sourcePrefix, ringSize }: SlotScheme, ringKey: string,
): SchemeImage {
  return {
    hashSeed, ringKey, ringSize, hashInput: hash,
    sourcePrefixIpv4: sourcePrefix.ipv4, sourcePrefixIpv6: sourcePrefix.ipv6,
  };
}

const ringImages = new WeakMap<SlotStates, { readonly ring: Ring; readonly image: RingImage }>();

/** The service's ring with a mark on every slot whose flows may be remembered elsewhere. */
function ringImageOf({ ring, states }: Service): RingImage {
  const { exceptional } = states;
  if (exceptional === null) return { key: ring.key, size: ring.size, slots: ring.slots };
  const known = ringImages.get(states);
  if (known?.ring === ring) return known.image;
  const slots = ring.slots.map((id, slot) => (exceptional[slot] === 1 ? id | SlotWord.SLOT_EXCEPTION : id));
  const image = { key: contentKey(slots), size: ring.size, slots };
  ringImages.set(states, { ring, image });
  return image;
}

/** Its own, and that of the start of the window. */
function ringsOf(service: Service): RingImage[] {
  const { predecessor } = service.states;
  if (predecessor === null) return [ringImageOf(service)];
  const { key, owners, scheme } = predecessor;
  return [ringImageOf(service), { key, size: scheme.ringSize, slots: owners }];
}

function pickImage({ picking }: Service, flowsAt: number): PickImage {
  if (picking === null || !isXdpPick(picking.by)) return { by: null, turns: 0, weightTotal: 0, loadFactorPercent: 0, flowsAt };
  const { by, turns, weightTotal, loadFactorPercent } = picking;
  const isBounded = by === "bounded-load";
  return { by, turns, weightTotal: isBounded ? weightTotal : 0, loadFactorPercent: isBounded ? loadFactorPercent : 0, flowsAt };
}

function serviceImage(service: Service, flowsAt: number, asked: number | null): ServiceImage {
  const { index, config, quicLb, states } = service;
  const { predecessor } = states;
  const policy = new Map<string, PolicyImage>();
  // Deny comes last, so that it wins where both lists name the same prefix.
  for (const action of ["allow", "deny"] as const) {
    for (const prefix of config.policy[action]) {
      const entry = { address: prefix.address, bits: mappedBits(prefix), action };
      policy.set(policyText(entry), entry);
    }
  }
  return {
    index,
    key: {
      network: config.network, ports: config.ports, protocol: config.protocol,
      region: config.region === null || asked === null ? null : { asked, name: config.region.name },
    },
    policy,
    version: {
      scheme: schemeImage(schemeOf(service), ringImageOf(service).key),
      predecessor: predecessor === null ? null : schemeImage(predecessor.scheme, predecessor.key),
      isRehashed: isRehashed(states, schemeOf(service)),
      changingUntilNs: states.changingUntilNs,
      rememberedSinceNs: service.rememberedSinceNs,
      flowIdleMs: config.flowIdleMs,
      tracking: trackingOf(service),
      denyByDefault: config.policy.allow.length > 0,
      hasPolicy: policy.size > 0,
      hasQuicLb: quicLb !== null,
      hasNat: translates(config.forwarding),
      hasSecondChance: config.secondChance,
      failedOpen: isAllFailedOpen(service),
      affinity: service.affinity,
      pick: pickImage(service, flowsAt),
      mssMax: config.mssMax ?? 0,
      regions: asked === null ? null : regionsImage(service, asked),
    },
  };
}

function assignedAddresses(table: ForwardingTable): Map<string, AssignedAddress> {
  const assigned = new Map<string, AssignedAddress>();
  for (const { config: { network, vip } } of table.services) {
    const address = singleAddress(network);
    if (vip.assign === "none" || address === null) continue;
    const entry = { address, on: vip.assign };
    assigned.set(assignedText(entry), entry);
  }
  return assigned;
}

function nanoseconds(milliseconds: number): bigint {
  return BigInt(Math.round(milliseconds * 1e6));
}

/** Whether such a program changes what transport checksums are over. */
export function rewritesSums(features: ReadonlySet<Feature>): boolean {
  return features.has("featureNat") || features.has("featureMssClamp");
}

/** From a rate to what the program counts with. */
export function icmpIntervalNs(perSecond: number): bigint {
  return perSecond === 0 ? 0n : 1_000_000_000n / BigInt(perSecond);
}
