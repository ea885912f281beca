// The maps of one plane, opened: typed reads and writes, each as atomic as it says. Knows bytes, offsets
// and which stores a packet may see half of; knows no order: diff.ts has that.

import {
  AddressKey, AnswerCount, Destination, NextHop as NextHopBytes, ServiceVersion, TrafficCount,
  type POINTSMAN_MAPS,
} from "./abi.gen.ts";
import type { Address, Prefix } from "../../model/address.ts";
import { isExact } from "../../model/service_address.ts";
import type { GroupEntry } from "./groups.ts";
import { encodeLinkAddress, NO_LINK_ADDRESS, type LinkAddress } from "./interfaces.ts";
import { ringText, type HeldVersion } from "./kernel_state.ts";
import {
  decodeDestination, decodeVersion, destinationFlags, encodeAddressPrefix, encodeDestination, encodeNextHop,
  encodePolicyKey, encodePortPrefix, encodeServiceKey, encodeTunnelSource, encodeU32, encodeVersion,
  encodeWildcardKey, policyNumber, RETIRED_FORWARDING,
  type DestinationValue,
} from "./map_values.ts";
import { NO_RIGHTS, type DestinationRights, type NextHop, type PolicyImage, type ServiceKey } from "./image.ts";
import { RING_CLASS_SLOTS, type RingClass } from "./ring_class.ts";
import type { BpfMap, Native } from "./native.ts";
import {
  encodeQuicConfig, encodeQuicConfigKey, encodeQuicServerKey,
  type QuicConfigImage, type QuicServerImage,
} from "./quic_maps.ts";

import {
  decodeTunnelReport, encodeTunnelEnd, encodeTunnelEndKey, type TunnelEndImage, type TunnelReport,
} from "./tunnel_ends.ts";
import { LoadMemory } from "./load_memory.ts";
import { PaceMemory } from "./pace_memory.ts";
import { RegionMemory } from "./region_memory.ts";
import { SettingsMemory } from "./settings_memory.ts";

export type MapName = (typeof POINTSMAN_MAPS)[number];
export type MapSet = Readonly<Record<MapName, BpfMap>>;

const BPF_MAP_TYPE_ARRAY = 2;
const BPF_F_MMAPABLE = 1024;
const ANY = 0;
/** An array rounds each element up to this. */
const ELEMENT_ALIGNMENT = 8;

function stride(size: number): number {
  return Math.ceil(size / ELEMENT_ALIGNMENT) * ELEMENT_ALIGNMENT;
}

const VERSION_STRIDE = stride(ServiceVersion.size);
const DESTINATION_STRIDE = stride(Destination.size);
const ACTIVE_STRIDE = stride(4);
const WORD = 4;
const HALF_WORD = 2;

/** The memory of the mmapable arrays. Detached when their maps are closed. */
interface Memory {
  readonly active: Uint32Array;
  readonly versions: Uint8Array;
  readonly destinations: Uint8Array;
  readonly destinationWords: Uint32Array;
  readonly destinationHalves: Uint16Array;
}

export class PlaneMaps {
  readonly maps: MapSet;
  readonly settings: SettingsMemory;
  readonly pace: PaceMemory;
  readonly loads: LoadMemory;
  readonly regions: RegionMemory;
  readonly #native: Native;
  readonly #memory: Memory;
  readonly #rings = new Map<string, { readonly map: BpfMap; readonly slots: Uint16Array }>();

  constructor(native: Native, maps: MapSet) {
    this.#native = native;
    this.maps = maps;
    this.settings = new SettingsMemory(maps);
    this.pace = new PaceMemory(maps);
    this.loads = new LoadMemory(maps);
    this.regions = new RegionMemory(native, maps);
    const destinations = maps.destinations.mmap();
    this.#memory = {
      active: new Uint32Array(maps.service_active.mmap()),
      versions: new Uint8Array(maps.service_versions.mmap()),
      destinations: new Uint8Array(destinations),
      destinationWords: new Uint32Array(destinations),
      destinationHalves: new Uint16Array(destinations),
    };
  }

  /** 0: no map has this name. */
  entriesMax(name: string): number {
    const map = Object.entries(this.maps).find(([each]) => each === name)?.[1];
    return map?.info().maxEntries ?? 0;
  }

  // ---- services

  /** An exact service is reached by its key; for a wildcard service, or a region's, this only notes that it is there. */
  addService(key: ServiceKey, index: number): void {
    if (key.region !== null) this.regions.setName({ index, ...key.region });
    else if (isExact(key)) this.maps.services.update(encodeServiceKey(key), encodeU32(index), ANY);
    else this.maps.wildcards.update(encodeWildcardKey(key), encodeU32(index), ANY);
  }

  removeService(key: ServiceKey, index: number): void {
    if (key.region !== null) this.regions.removeName(index);
    else if (isExact(key)) this.maps.services.delete(encodeServiceKey(key));
    else this.maps.wildcards.delete(encodeWildcardKey(key));
  }

  addGroupPorts(group: number, entry: GroupEntry): void {
    this.maps.group_services.update(encodePortPrefix(group, entry), encodeU32(entry.index), ANY);
  }

  removeGroupPorts(group: number, entry: GroupEntry): void {
    this.maps.group_services.delete(encodePortPrefix(group, entry));
  }

  /** One store for the kernel: packets find the old group or the new one. */
  setAddressGroup(network: Prefix, group: number): void {
    this.maps.address_groups.update(encodeAddressPrefix(network), encodeU32(group), ANY);
  }

  removeAddressGroup(network: Prefix): void {
    this.maps.address_groups.delete(encodeAddressPrefix(network));
  }

  addVirtualAddress({ bytes }: Address): void {
    this.maps.virtual_addresses.update(AddressKey.encode({ address: bytes }), encodeU32(0), ANY);
  }

  removeVirtualAddress({ bytes }: Address): void {
    this.maps.virtual_addresses.delete(AddressKey.encode({ address: bytes }));
  }

  readActive(index: number): 0 | 1 {
    return (Atomics.load(this.#memory.active, index * ACTIVE_STRIDE / WORD) & 1) === 1 ? 1 : 0;
  }

  /** One aligned store: every packet sees this version or the other one. */
  activateVersion(index: number, version: 0 | 1): void {
    Atomics.store(this.#memory.active, index * ACTIVE_STRIDE / WORD, version);
  }

  readVersion(index: number, version: 0 | 1): HeldVersion | null {
    const at = (index * 2 + version) * VERSION_STRIDE;
    return decodeVersion(this.#memory.versions.slice(at, at + ServiceVersion.size));
  }

  /** Not atomic: nobody may be reading this half. */
  writeVersion(index: number, version: 0 | 1, value: HeldVersion): void {
    this.#memory.versions.set(encodeVersion(value), (index * 2 + version) * VERSION_STRIDE);
  }

  addPolicy(index: number, entry: PolicyImage): void {
    this.maps.policies.update(encodePolicyKey(index, entry), encodeU32(policyNumber(entry.action)), ANY);
  }

  removePolicy(index: number, entry: PolicyImage): void {
    this.maps.policies.delete(encodePolicyKey(index, entry));
  }

  /** Another element takes its place at once; the one before may be read until a grace period has passed. */
  writeQuicConfig(config: QuicConfigImage): void {
    this.maps.quic_configs.update(encodeQuicConfigKey(config), encodeQuicConfig(config), ANY);
  }

  removeQuicConfig(config: QuicConfigImage): void {
    this.maps.quic_configs.delete(encodeQuicConfigKey(config));
  }

  writeQuicServer(server: QuicServerImage): void {
    this.maps.quic_servers.update(encodeQuicServerKey(server), encodeU32(server.destination), ANY);
  }

  removeQuicServer(server: QuicServerImage): void {
    this.maps.quic_servers.delete(encodeQuicServerKey(server));
  }

  // ---- destinations

  readDestination(id: number): DestinationValue | null {
    const at = id * DESTINATION_STRIDE;
    return decodeDestination(this.#memory.destinations.slice(at, at + Destination.size));
  }

  /** Not atomic: no ring may name it. A flow that remembers the id finds it without flags until it is whole. */
  writeDestination(id: number, value: DestinationValue): void {
    this.#storeWord(id, "flags", 0);
    this.#memory.destinations.set(encodeDestination({ ...value, ...NO_RIGHTS }), id * DESTINATION_STRIDE);
    this.writeFlags(id, value);
  }

  writeFlags(id: number, flags: DestinationRights): void {
    this.#storeWord(id, "flags", destinationFlags(flags));
  }

  /** A packet that compares sees the old one or the new one: two bytes in one aligned store. */
  writePickWeight(id: number, weight: number): void {
    const at = (id * DESTINATION_STRIDE + Destination.offsets.pickWeight) / HALF_WORD;
    Atomics.store(this.#memory.destinationHalves, at, weight);
  }

  /** Flows that remember the id no longer follow it, whatever the element holds later. */
  retireDestination(id: number, generation: number): void {
    this.#storeWord(id, "flags", 0);
    this.#storeWord(id, "generation", generation);
    this.#storeWord(id, "forwarding", RETIRED_FORWARDING);
  }

  /** Not atomic: nobody may be reading this half. */
  writeNextHop(id: number, half: 0 | 1, hop: NextHop): void {
    const at = id * DESTINATION_STRIDE + Destination.offsets.nextHops + half * NextHopBytes.size;
    this.#memory.destinations.set(encodeNextHop(hop), at);
  }

  activateNextHop(id: number, half: 0 | 1): void {
    this.#storeWord(id, "nextHopActive", half);
  }

  /** Word by word: from one IPv4 address or prefix to another one of its length, a single store. */
  writeTunnelSource(id: number, source: Prefix | null): void {
    const bytes = encodeTunnelSource(source);
    this.#storeWords(id, "tunnelSource", bytes.source);
    this.#storeWords(id, "tunnelSourceMask", bytes.mask);
  }

  #storeWords(id: number, field: "tunnelSource" | "tunnelSourceMask", bytes: Uint8Array): void {
    const at = (id * DESTINATION_STRIDE + Destination.offsets[field]) / WORD;
    new Uint32Array(bytes.slice().buffer).forEach((word, index) => {
      if (this.#memory.destinationWords[at + index] === word) return;
      Atomics.store(this.#memory.destinationWords, at + index, word);
    });
  }

  #storeWord(id: number, field: "flags" | "generation" | "forwarding" | "nextHopActive", value: number): void {
    const at = (id * DESTINATION_STRIDE + Destination.offsets[field]) / WORD;
    Atomics.store(this.#memory.destinationWords, at, value);
  }

  addDevice(ifindex: number): void {
    this.maps.devices.update(encodeU32(ifindex), encodeU32(ifindex), ANY);
  }

  removeDevice(ifindex: number): void {
    // The kernel takes out an interface that is gone.
    this.maps.devices.delete(encodeU32(ifindex));
  }

  addLinkAddress(address: LinkAddress): void {
    this.maps.link_addresses.update(encodeLinkAddress(address), encodeU32(0), ANY);
  }

  removeLinkAddress(address: LinkAddress): void {
    this.maps.link_addresses.delete(encodeLinkAddress(address));
  }

  setFirstLinkAddress(place: number, address: LinkAddress | null): void {
    const bytes = address === null ? NO_LINK_ADDRESS : encodeLinkAddress(address);
    this.maps.first_link_addresses.update(encodeU32(place), bytes, ANY);
  }

  // ---- the ends of tunnels

  writeTunnelEnd(end: TunnelEndImage): void {
    const key = encodeTunnelEndKey(end);
    this.maps.tunnel_ends.update(key, encodeTunnelEnd(end, this.maps.tunnel_ends.lookup(key)), ANY);
  }

  removeTunnelEnd(end: TunnelEndImage): void {
    this.maps.tunnel_ends.delete(encodeTunnelEndKey(end));
  }

  tunnelReports(): TunnelReport[] {
    return entriesOf(this.maps.tunnel_ends).map(({ key, value }) => decodeTunnelReport(key, value));
  }

  // ---- rings

  #outer(ringClass: RingClass): BpfMap {
    return this.maps[`rings_${ringClass}`];
  }

  /** A new inner map, not yet in the outer one. */
  createRing(ringClass: RingClass): BpfMap {
    return this.#native.BpfMap.create({
      name: `ring_${ringClass}`, type: BPF_MAP_TYPE_ARRAY, keySize: 4,
      valueSize: RING_CLASS_SLOTS[ringClass] * 2, maxEntries: 1, flags: BPF_F_MMAPABLE, innerMap: null,
    });
  }

  /** Puts an inner map in its place, where it may be already, and takes over its handle. */
  placeRing(ringClass: RingClass, id: number, map: BpfMap): void {
    this.#outer(ringClass).updateInner(encodeU32(id), map);
    this.#rings.set(ringText(ringClass, id), { map, slots: new Uint16Array(map.mmap()) });
  }

  releaseRing(ringClass: RingClass, id: number): void {
    this.#outer(ringClass).delete(encodeU32(id));
    this.#rings.get(ringText(ringClass, id))?.map.close();
    this.#rings.delete(ringText(ringClass, id));
  }

  /** The memory of a ring. Not atomic: no version that counts may name it. */
  ring(ringClass: RingClass, id: number): Uint16Array {
    const ring = this.#rings.get(ringText(ringClass, id));
    if (ring === undefined) throw new RangeError(`there is no ring ${ringText(ringClass, id)}`);
    return ring.slots;
  }

  /** Has the same rings and regions as another set of maps, which may then be dropped. `fresh`: outer maps that are new. */
  shareRings(from: PlaneMaps, fresh: ReadonlySet<string>): void {
    for (const [text, ring] of from.#rings) {
      const [ringClass, id] = text.split("/") as [RingClass, string];
      if (fresh.has(`rings_${ringClass}`)) this.#outer(ringClass).updateInner(encodeU32(Number(id)), ring.map);
      this.#rings.set(text, ring);
    }
    this.regions.share(from.regions, fresh.has("region_tables"));
  }

  // ---- counters

  zeroTraffic(of: "service" | "destination", number: number): void {
    this.#zero(`${of}_traffic`, number, TrafficCount.size);
    if (of === "destination") this.#zero("answer_counts", number, AnswerCount.size);
  }

  #zero(map: MapName, element: number, size: number): void {
    this.maps[map].update(encodeU32(element), new Uint8Array(this.#native.possibleCpus() * stride(size)), ANY);
  }

  /** Rings and regions only: the other maps belong to the program's object. */
  closeRings(): void {
    for (const { map } of this.#rings.values()) map.close();
    this.#rings.clear();
    this.regions.close();
  }
}

/** Every entry of a map, in batches. */
export function entriesOf(map: BpfMap): { readonly key: Uint8Array; readonly value: Uint8Array }[] {
  const entries: { key: Uint8Array; value: Uint8Array }[] = [];
  const { keySize, maxEntries } = map.info();
  for (let cursor: Uint8Array | null = null; ;) {
    const batch = map.lookupBatch(cursor, Math.min(maxEntries, BATCH));
    const valueSize = batch.count === 0 ? 0 : batch.values.length / batch.count;
    for (let i = 0; i < batch.count; i++) {
      entries.push({
        key: batch.keys.subarray(i * keySize, (i + 1) * keySize),
        value: batch.values.subarray(i * valueSize, (i + 1) * valueSize),
      });
    }
    cursor = batch.cursor;
    if (cursor === null) return entries;
  }
}

const BATCH = 4096;

/** Every entry of a map that knows no batches. */
export function walk(map: BpfMap): { readonly key: Uint8Array; readonly value: Uint8Array }[] {
  const entries: { key: Uint8Array; value: Uint8Array }[] = [];
  for (let key = map.nextKey(null); key !== null; key = map.nextKey(key)) {
    const value = map.lookup(key);
    if (value !== null) entries.push({ key, value });
  }
  return entries;
}
