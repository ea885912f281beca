// Values of the image as the bytes of bpf/abi.h, and back. Pure: the generated codecs do the layout, this
// file knows which word of ours is which number of theirs. Knows no map.

import { addressFromBytes, prefixOf, type Prefix } from "../../model/address.ts";
import type { Forwarding, OrphanAction, Protocol, Tracking as TrackingName } from "../../model/config.ts";
import type { XdpPick } from "../../model/pick.ts";
import { mappedBits, PROTOCOL_NUMBERS } from "../../model/service_address.ts";
import { hashMask, prefixOfMask } from "../../model/tunnel_source.ts";
import type { SlotScheme } from "./abi.gen.ts";
import {
  AddressPrefix, Destination, DestinationFlags, Forwarding as Forwardings, GueVariant, HashInput, NextHop as NextHopBytes,
  NextHopFlags, NextHopVlan, OrphanAction as OrphanActions, Pick as Picks, PolicyAction, PolicyKey, PortPrefix as PortPrefixKey,
  RingClass as RingClasses, ServiceFlags, ServiceKey, ServiceVersion, Tracking, WildcardKey,
} from "./abi.gen.ts";
import type { GroupEntry, PortPrefix } from "./groups.ts";
import { NO_MAC, type DestinationRights, type NextHop, type PickImage, type PolicyImage, type ServiceKey as Key } from "./image.ts";
import type { RingClass } from "./ring_class.ts";
import type { HeldDestination, HeldScheme, HeldVersion } from "./kernel_state.ts";
import { macBytes, macText } from "./netlink/rtnetlink.ts";

const NO_ADDRESS = new Uint8Array(16);
const RING_CLASS_NUMBERS: Readonly<Record<RingClass, number>> = {
  small: RingClasses.RING_SMALL, medium: RingClasses.RING_MEDIUM, large: RingClasses.RING_LARGE,
};
const FORWARDING_NUMBERS = {
  l2: Forwardings.FORWARDING_L2, ipip: Forwardings.FORWARDING_IPIP, gue: Forwardings.FORWARDING_GUE,
  gre: Forwardings.FORWARDING_GRE, nat: Forwardings.FORWARDING_NAT, fullnat: Forwardings.FORWARDING_FULLNAT,
} as const satisfies Readonly<Record<Forwarding, number>>;
const TRACKING_NUMBERS: Readonly<Record<TrackingName, number>> = {
  none: Tracking.TRACKING_NONE, full: Tracking.TRACKING_FULL, minimal: Tracking.TRACKING_MINIMAL,
};
const PICK_NUMBERS: Readonly<Record<XdpPick | "none", number>> = {
  "none": Picks.PICK_NONE, "round-robin": Picks.PICK_ROUND_ROBIN, "random": Picks.PICK_RANDOM,
  "least-connections": Picks.PICK_LEAST_CONNECTIONS, "power-of-two": Picks.PICK_POWER_OF_TWO,
  "bounded-load": Picks.PICK_BOUNDED_LOAD,
};
const ORPHAN_NUMBERS: Readonly<Record<OrphanAction, number>> = {
  keep: OrphanActions.ORPHAN_KEEP, pass: OrphanActions.ORPHAN_PASS, drop: OrphanActions.ORPHAN_DROP,
};

/** The name of a number; what nobody wrote is a RangeError. */
function nameOf<K extends string>(numbers: Readonly<Record<K, number>>, number: number, what: string): K {
  const found = (Object.entries(numbers) as [K, number][]).find(([, value]) => value === number);
  if (found === undefined) throw new RangeError(`${number} is no ${what}`);
  return found[0];
}

export function encodeU32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

export function decodeU32(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true);
}

/** Of an exact service. */
export function encodeServiceKey({ network, ports, protocol }: Key): Uint8Array {
  const { bytes } = network.address;
  return ServiceKey.encode({ address: bytes, port: ports.from, protocol: PROTOCOL_NUMBERS[protocol] });
}

export function decodeServiceKey(bytes: Uint8Array): Key {
  const { address, port, protocol } = ServiceKey.decode(bytes);
  return {
    network: mappedPrefix(address, 128), ports: { from: port, to: port }, protocol: protocolOf(protocol), region: null,
  };
}

export function encodeWildcardKey({ network, ports, protocol }: Key): Uint8Array {
  return WildcardKey.encode({
    address: network.address.bytes, addressBits: mappedBits(network),
    portFirst: ports.from, portLast: ports.to, protocol: PROTOCOL_NUMBERS[protocol],
  });
}

export function decodeWildcardKey(bytes: Uint8Array): Key {
  const { address, addressBits, portFirst, portLast, protocol } = WildcardKey.decode(bytes);
  return {
    network: mappedPrefix(address, addressBits), ports: { from: portFirst, to: portLast },
    protocol: protocolOf(protocol), region: null,
  };
}

export function encodeAddressPrefix(network: Prefix): Uint8Array {
  return AddressPrefix.encode({ prefixBits: mappedBits(network), address: network.address.bytes });
}

export function decodeAddressPrefix(bytes: Uint8Array): Prefix {
  const { prefixBits, address } = AddressPrefix.decode(bytes);
  return mappedPrefix(address, prefixBits);
}

/** What comes before the port in its key. */
const GROUP_BITS = 48;

export function encodePortPrefix(group: number, { protocol, port, bits }: PortPrefix): Uint8Array {
  return PortPrefixKey.encode({
    prefixBits: GROUP_BITS + bits, group, protocol: PROTOCOL_NUMBERS[protocol], port,
  });
}

export function decodeGroupEntry(key: Uint8Array, value: Uint8Array): { group: number; entry: GroupEntry } {
  const { prefixBits, group, protocol, port } = PortPrefixKey.decode(key);
  const bits = prefixBits - GROUP_BITS;
  return { group, entry: { protocol: protocolOf(protocol), port, bits, index: decodeU32(value) } };
}

function protocolOf(number: number): Protocol {
  return nameOf(PROTOCOL_NUMBERS, number, "protocol");
}

/** Bits count in sixteen bytes here, and in the address's own family there. */
function mappedPrefix(bytes: Uint8Array, bits: number): Prefix {
  const address = addressFromBytes(bytes);
  return prefixOf(address, address.family === 4 ? bits - 96 : bits);
}

export function encodeVersion(version: HeldVersion): Uint8Array {
  return ServiceVersion.encode({
    scheme: schemeBytes(version.scheme),
    predecessor: version.predecessor === null ? NO_SCHEME : schemeBytes(version.predecessor),
    changingUntilNs: version.changingUntilNs,
    rememberedSinceNs: version.rememberedSinceNs,
    flowIdleMs: version.flowIdleMs,
    tracking: TRACKING_NUMBERS[version.tracking],
    flags: (version.denyByDefault ? ServiceFlags.SERVICE_DENY_BY_DEFAULT : 0)
      | (version.hasPolicy ? ServiceFlags.SERVICE_HAS_POLICY : 0)
      | (version.hasQuicLb ? ServiceFlags.SERVICE_QUIC_LB : 0)
      | (version.hasNat ? ServiceFlags.SERVICE_NAT : 0)
      | (version.hasSecondChance ? ServiceFlags.SERVICE_SECOND_CHANCE : 0)
      | (version.isRehashed ? ServiceFlags.SERVICE_REHASHED : 0)
      | (version.failedOpen ? ServiceFlags.SERVICE_FAILED_OPEN : 0),
    mssMax: version.mssMax,
    regions: elementOf(version.regions?.table ?? null), regionsBefore: elementOf(version.regions?.before?.table ?? null),
    regionsUntilNs: version.regions?.before?.untilNs ?? 0n, asked: elementOf(version.regions?.asked ?? null),
    affinityId: version.affinity?.id ?? 0n, affinityMs: version.affinity?.timeoutMs ?? 0,
    ...version.pick,
    pick: PICK_NUMBERS[version.pick.by ?? "none"],
  });
}

/** Null for an element that was never written. */
export function decodeVersion(bytes: Uint8Array): HeldVersion | null {
  const version = ServiceVersion.decode(bytes);
  if (version.scheme.ringSize === 0) return null;
  return {
    scheme: schemeValue(version.scheme),
    predecessor: version.predecessor.ringSize === 0 ? null : schemeValue(version.predecessor),
    isRehashed: (version.flags & ServiceFlags.SERVICE_REHASHED) !== 0,
    changingUntilNs: version.changingUntilNs,
    rememberedSinceNs: version.rememberedSinceNs,
    flowIdleMs: version.flowIdleMs,
    tracking: nameOf(TRACKING_NUMBERS, version.tracking, "way of tracking"),
    denyByDefault: (version.flags & ServiceFlags.SERVICE_DENY_BY_DEFAULT) !== 0,
    hasPolicy: (version.flags & ServiceFlags.SERVICE_HAS_POLICY) !== 0,
    hasQuicLb: (version.flags & ServiceFlags.SERVICE_QUIC_LB) !== 0,
    hasNat: (version.flags & ServiceFlags.SERVICE_NAT) !== 0,
    hasSecondChance: (version.flags & ServiceFlags.SERVICE_SECOND_CHANCE) !== 0,
    failedOpen: (version.flags & ServiceFlags.SERVICE_FAILED_OPEN) !== 0,
    affinity: version.affinityMs === 0 ? null : { id: version.affinityId, timeoutMs: version.affinityMs },
    pick: pickValue(version),
    mssMax: version.mssMax,
    regions: regionsValue(version),
  };
}

/** Numbers that count from 0, where 0 stands for none. */
function elementOf(number: number | null): number {
  return number === null ? 0 : number + 1;
}

function numberOf(element: number): number | null {
  return element === 0 ? null : element - 1;
}

function regionsValue({ regions, regionsBefore, regionsUntilNs: untilNs, asked }: ServiceVersion): HeldVersion["regions"] {
  const index = numberOf(asked);
  if (index === null) return null;
  return { asked: index, table: numberOf(regions), before: untilNs === 0n ? null : { table: numberOf(regionsBefore), untilNs } };
}

function pickValue({ pick, turns, weightTotal, loadFactorPercent, flowsAt }: ServiceVersion): PickImage {
  const name = nameOf(PICK_NUMBERS, pick, "way of picking");
  return { by: name === "none" ? null : name, turns, weightTotal, loadFactorPercent, flowsAt };
}

const NO_SCHEME: SlotScheme = {
  hashSeed: 0n, ringId: 0, ringSize: 0, ringClass: 0, hashInput: 0, sourcePrefixIpv4: 0, sourcePrefixIpv6: 0,
};

function schemeBytes(scheme: HeldScheme): SlotScheme {
  return {
    ...scheme,
    ringClass: RING_CLASS_NUMBERS[scheme.ringClass],
    hashInput: scheme.hashInput === "source-ip" ? HashInput.HASH_SOURCE_IP : HashInput.HASH_5_TUPLE,
  };
}

function schemeValue(scheme: SlotScheme): HeldScheme {
  const { hashSeed, ringId, ringSize, sourcePrefixIpv4, sourcePrefixIpv6 } = scheme;
  return {
    hashSeed, ringId, ringSize, sourcePrefixIpv4, sourcePrefixIpv6,
    ringClass: nameOf(RING_CLASS_NUMBERS, scheme.ringClass, "class of rings"),
    hashInput: scheme.hashInput === HashInput.HASH_SOURCE_IP ? "source-ip" : "5-tuple",
  };
}

export function destinationFlags({ live, admits, resets }: DestinationRights): number {
  const { DESTINATION_LIVE, DESTINATION_ADMITS, DESTINATION_RESETS } = DestinationFlags;
  return (live ? DESTINATION_LIVE : 0) | (admits ? DESTINATION_ADMITS : 0) | (resets ? DESTINATION_RESETS : 0);
}

export const RETIRED_FORWARDING = Forwardings.FORWARDING_NONE;

export type DestinationValue = Omit<HeldDestination, "mark" | "hopMark">;

export function encodeDestination(value: DestinationValue): Uint8Array {
  return Destination.encode({
    address: value.address.bytes,
    ...tunnelSourceFields(value.tunnelSource),
    identity: value.identity,
    generation: value.generation,
    flags: destinationFlags(value),
    forwarding: value.given ? FORWARDING_NUMBERS[value.forwarding] : RETIRED_FORWARDING,
    port: value.port ?? 0,
    guePort: value.gue?.port ?? 0,
    pickWeight: value.pickWeight,
    gueVariant: value.gue?.variant === 1 ? GueVariant.GUE_DIRECT : GueVariant.GUE_HEADER,
    nextHopActive: value.nextHopActive,
    nextHops: value.nextHops.map(nextHopBytes),
  });
}

/** Null for an element that was never written. */
export function decodeDestination(bytes: Uint8Array): DestinationValue | null {
  const value = Destination.decode(bytes);
  if (value.generation === 0) return null;
  const given = value.forwarding !== RETIRED_FORWARDING;
  const forwarding = given ? nameOf(FORWARDING_NUMBERS, value.forwarding, "forwarding") : "l2";
  const [first, second] = value.nextHops;
  if (first === undefined || second === undefined) throw new RangeError("a destination has two next hops");
  return {
    identity: value.identity,
    generation: value.generation,
    given,
    live: (value.flags & DestinationFlags.DESTINATION_LIVE) !== 0,
    admits: (value.flags & DestinationFlags.DESTINATION_ADMITS) !== 0,
    resets: (value.flags & DestinationFlags.DESTINATION_RESETS) !== 0,
    forwarding,
    gue: forwarding === "gue"
      ? { port: value.guePort, variant: value.gueVariant === GueVariant.GUE_DIRECT ? 1 : 0 } : null,
    address: addressFromBytes(value.address),
    port: value.port === 0 ? null : value.port,
    pickWeight: value.pickWeight,
    tunnelSource: tunnelSourceValue(value),
    nextHopActive: value.nextHopActive === 1 ? 1 : 0,
    nextHops: [nextHopValue(first), nextHopValue(second)],
  };
}

type TunnelSourceFields = Pick<Destination, "tunnelSource" | "tunnelSourceMask">;

function tunnelSourceFields(prefix: Prefix | null): TunnelSourceFields {
  if (prefix === null) return { tunnelSource: NO_ADDRESS, tunnelSourceMask: 0 };
  return { tunnelSource: prefix.address.bytes, tunnelSourceMask: hashMask(prefix) };
}

function tunnelSourceValue({ tunnelSource, tunnelSourceMask }: TunnelSourceFields): Prefix | null {
  if (tunnelSource.every((byte) => byte === 0)) return null;
  return prefixOfMask(addressFromBytes(tunnelSource), tunnelSourceMask);
}

/** The address and the mask as they lie in the element. */
export function encodeTunnelSource(prefix: Prefix | null): { source: Uint8Array; mask: Uint8Array } {
  const { tunnelSource, tunnelSourceMask } = tunnelSourceFields(prefix);
  const mask = new Uint8Array(4);
  new DataView(mask.buffer).setUint32(0, tunnelSourceMask);
  return { source: tunnelSource, mask };
}

export function encodeNextHop(hop: NextHop): Uint8Array {
  return NextHopBytes.encode(nextHopBytes(hop));
}

function nextHopBytes(hop: NextHop): NextHopBytes {
  return {
    destinationMac: macBytes(hop.destinationMac), sourceMac: macBytes(hop.sourceMac), mtu: hop.mtu,
    ifindex: hop.ifindex, vlan: hop.vlan === "none" ? NextHopVlan.VLAN_NONE : hop.vlan,
    flags: (hop.resolved ? NextHopFlags.NEXT_HOP_RESOLVED : 0) | (hop.local ? NextHopFlags.NEXT_HOP_LOCAL : 0),
  };
}

function nextHopValue(hop: NextHopBytes): NextHop {
  return {
    resolved: (hop.flags & NextHopFlags.NEXT_HOP_RESOLVED) !== 0,
    local: (hop.flags & NextHopFlags.NEXT_HOP_LOCAL) !== 0,
    destinationMac: macText(hop.destinationMac) ?? NO_MAC, sourceMac: macText(hop.sourceMac) ?? NO_MAC,
    ifindex: hop.ifindex, mtu: hop.mtu, vlan: hop.vlan === NextHopVlan.VLAN_NONE ? "none" : hop.vlan,
  };
}

export function encodePolicyKey(index: number, entry: PolicyImage): Uint8Array {
  return PolicyKey.encode({ prefixBits: 32 + entry.bits, service: index, address: entry.address.bytes });
}

export function decodePolicy(key: Uint8Array, value: Uint8Array): { index: number; entry: PolicyImage } {
  const { prefixBits, service, address } = PolicyKey.decode(key);
  const action = decodeU32(value) === PolicyAction.POLICY_DENY ? "deny" : "allow";
  return { index: service, entry: { address: addressFromBytes(address), bits: prefixBits - 32, action } };
}

export function policyNumber(action: PolicyImage["action"]): number {
  return action === "deny" ? PolicyAction.POLICY_DENY : PolicyAction.POLICY_ALLOW;
}

export function orphanNumber(action: OrphanAction): bigint {
  return BigInt(ORPHAN_NUMBERS[action]);
}

export function orphanAction(number: bigint): OrphanAction {
  return nameOf(ORPHAN_NUMBERS, Number(number), "orphan action");
}
