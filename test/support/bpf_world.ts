// A loaded XDP program whose maps a test fills from a ForwardingTable, packet by packet and table
// by table. Knows maps and codecs; deliberately does without src/dataplane/xdp/image.ts, so that a
// mistake there cannot hide one in the program. Nothing here is atomic: no packet runs while a map
// is written.

import { REMEMBER_KINDS, type RememberKind } from "../../src/model/remember_pace.ts";
import {
  AddressKey,
  AnswerCount,
  Destination as DestinationValue,
  FlowEntry,
  FlowKey,
  FlowOther,
  FragmentEntry,
  FragmentKey,
  LinkAddress,
  LinkPlaces,
  PolicyKey,
  ServiceKey,
  ServiceVersion,
  PickState as PickStateValue,
  RegionBlock,
  RegionKey,
  RegionService,
  RememberPace,
  Settings,
  TrafficCount,
  VERDICT_NAMES,
  VerdictCount,
} from "../../src/dataplane/xdp/abi.gen.ts";
import type { BpfMap, BpfObject, Native, TestRunResult } from "../../src/dataplane/xdp/native.ts";
import {
  encodeQuicConfig,
  encodeQuicConfigKey,
  encodeQuicServerKey,
  quicConfigImages,
  quicServerImages,
} from "../../src/dataplane/xdp/quic_maps.ts";
import { natPortsWord } from "../../src/dataplane/xdp/nat_values.ts";
import type { Prefix } from "../../src/model/address.ts";
import { hexBytes } from "../../src/model/hex.ts";
import { isExact, mappedBits } from "../../src/model/service_address.ts";
import type { FlowEntry as RememberedFlow } from "../../src/model/decide.ts";
import type { FlowTuple, FragmentTuple } from "../../src/model/packet.ts";
import { FLOW_EVENTS, TRACKING_OUTCOMES } from "../../src/model/flow_decide.ts";
import { QUIC_OUTCOMES } from "../../src/model/quic_route.ts";
import type { Destination, ForwardingTable, Service } from "../../src/model/table.ts";
import { atOnce, regionBlocks } from "../../src/dataplane/xdp/region_blocks.ts";
import { destinationBytes, regionTables, versionBytes } from "./bpf_values.ts";
import { groupEntries } from "./bpf_groups.ts";
import { setSwitches } from "./switches.ts";
import { takeNotes, tunnelEndEntries } from "./tunnel_notes.ts";
import type { Switches } from "./switches.ts";

const RING_SLOTS = { small: 16_384, medium: 65_540, large: 2_097_152 } as const;
export type RingClass = keyof typeof RING_SLOTS;
const ORPHAN_NUMBERS = { keep: 0, pass: 1, drop: 2 } as const;
const PROTOCOL_NUMBERS = { tcp: 6, udp: 17 } as const;
/** Elements of the arrays that are indexed by service or by destination. */
const ENTRIES_MAX = 512;
const QUIC_ENTRIES_MAX = 1024;
/** Places of predecessors' rings; below are those of the services. */
export const PREDECESSORS_FROM = 128;
/** Minutes, of which no table is filled for as many, and a burst that nobody uses up. */
const REMEMBER_INTERVAL_NS = 1n << 40n;
const REMEMBER_BURST_NS = 1n << 61n;

/** The way to a destination, and what the tables of the model do not say. */
export interface Hop {
  readonly destinationMac: Uint8Array;
  readonly sourceMac: Uint8Array;
  readonly ifindex: number;
  readonly mtu: number;
  readonly resolved: boolean;
  /** Frames leave with this tag alone; 0: as they came. */
  readonly vlan: number;
  /** The destination is this host itself. */
  readonly local: boolean;
  readonly tunnelSource: Uint8Array;
  /** Bits of its last word that the flow's hash sets. */
  readonly tunnelSourceMask: number;
}

export interface Surroundings {
  readonly hop: (destination: Destination) => Hop;
  readonly heartbeatNs: bigint;
  /** Of interfaces, in hexadecimal; of others none is known. */
  readonly linkAddresses?: ReadonlyMap<number, ReadonlySet<string>>;
  /** Absent: ICMP errors go out at any pace. */
  readonly icmpIntervalNs?: bigint;
  /** Absent: every flow may be remembered. */
  readonly remembers?: Readonly<Record<RememberKind, boolean>>;
  /** Where rings of at most 16384 slots go, to try the other classes with small rings too. */
  readonly ringClass: RingClass;
}

export interface WorldOptions {
  readonly object: string;
  readonly switches: Switches;
  readonly flowsMax: number;
  /** Entries of translated flows, two each. */
  readonly natFlowsMax?: number;
  /** Clients that are remembered; absent: what the program has room for. */
  readonly affinitiesMax?: number;
  readonly devices: readonly number[];
}

export interface Count {
  readonly packets: number;
  readonly bytes: number;
}

export interface Traffic extends Count {
  readonly flows: number;
}

export class BpfWorld {
  readonly object: BpfObject;
  readonly #native: Native;
  readonly #maps = new Map<string, BpfMap>();
  readonly #memory = new Map<string, Uint8Array>();
  readonly #rings = new Map<string, { readonly map: BpfMap; readonly slots: Uint16Array }>();
  readonly #written: { readonly map: string; readonly key: Uint8Array }[] = [];

  constructor(native: Native, options: WorldOptions) {
    this.#native = native;
    this.object = native.BpfObject.open(options.object);
    setSwitches(this.object, options.object, options.switches);
    for (const map of [
      "services",
      "virtual_addresses",
      "service_active",
      "service_traffic", "service_pace", "pick_states", "service_flows", "destination_flows",
      "destinations",
      "destination_traffic", "answer_counts",
      "rings_small",
      "rings_medium",
      "rings_large",
      "region_tables", "region_services",
    ])
      this.object.setMaxEntries(map, ENTRIES_MAX);
    this.object.setMaxEntries("service_versions", ENTRIES_MAX * 2);
    this.object.setMaxEntries("flows", options.flowsMax);
    this.object.setMaxEntries("nat_flows", options.natFlowsMax ?? 65_536);
    if (options.affinitiesMax !== undefined) this.object.setMaxEntries("affinities", options.affinitiesMax);
    for (const map of ["quic_configs", "quic_servers"])
      this.object.setMaxEntries(map, QUIC_ENTRIES_MAX);
    this.object.load();
    for (const ifindex of options.devices)
      this.map("devices").update(u32(ifindex), u32(ifindex), 0);
  }

  map(name: string): BpfMap {
    const known = this.#maps.get(name);
    if (known !== undefined) return known;
    const map = this.object.map(name);
    this.#maps.set(name, map);
    return map;
  }

  /** Replaces everything but counters by what the table says; flows go. */
  fill(table: ForwardingTable, surroundings: Surroundings): void {
    for (const { map, key } of this.#written.splice(0)) this.map(map).delete(key);
    for (const map of ["flows", "affinities", "sampled_flows", "fragments", "nat_flows"])
      for (const key of this.#keysOf(map)) this.map(map).delete(key);
    for (const map of ["destinations", "service_versions"]) this.#memoryOf(map).fill(0);
    for (const destination of table.destinations.values()) {
      const bytes = destinationBytes(destination, surroundings.hop(destination));
      this.#memoryOf("destinations").set(bytes, destination.id * DestinationValue.size);
    }
    const indexes = new Map(table.services.map(({ name, index }) => [name, index]));
    table.services.forEach((service, place) => {
      const { index, regions, config: { region } } = service;
      const asked = region !== null ? indexes.get(region.service) ?? null : regions === null ? null : index;
      this.#fillService(service, place, asked, surroundings);
    });
    for (const [from, addresses] of [[0, table.nat.sources.ipv4], [16, table.nat.sources.ipv6]] as const)
      addresses.forEach(({ bytes }, at) => { this.map("nat_sources").update(u32(from + at), bytes, 0); });
    for (const { map, key, value } of groupEntries(table.services)) this.#write(map, key, value);
    for (const key of linkAddressKeys(surroundings)) this.#write("link_addresses", key, 0);
    firstLinkAddressValues(surroundings).forEach((value, place) => {
      this.map("first_link_addresses").update(u32(place), value, 0);
    });
    for (const { key, value } of tunnelEndEntries(table)) this.#writeBytes("tunnel_ends", key, value);
    this.#memoryOf("settings").set(
      Settings.encode({
        abiFingerprint: 0n,
        heartbeatNs: surroundings.heartbeatNs,
        orphanAfterNs: BigInt(table.orphan.afterMs) * 1_000_000n,
        orphanAction: BigInt(ORPHAN_NUMBERS[table.orphan.action]),
        icmpIntervalNs: surroundings.icmpIntervalNs ?? 0n,
        natPorts: natPortsWord(table.nat),
        natSynNs: BigInt(table.nat.timeouts.synMs) * 1_000_000n,
        natEstablishedNs: BigInt(table.nat.timeouts.establishedMs) * 1_000_000n,
        natFinNs: BigInt(table.nat.timeouts.finMs) * 1_000_000n,
        natRstNs: BigInt(table.nat.timeouts.rstMs) * 1_000_000n,
        natUdpNs: BigInt(table.nat.timeouts.udpMs) * 1_000_000n,
      }),
    );
    REMEMBER_KINDS.forEach((kind, at) => { this.#setPace(at, surroundings.remembers?.[kind] ?? true); });
  }

  /** When the next flow of this kind may be remembered: at once, or in minutes. */
  #setPace(kind: number, may: boolean): void {
    const pace = {
      intervalNs: REMEMBER_INTERVAL_NS, burstNs: REMEMBER_BURST_NS, ownIntervalNs: REMEMBER_INTERVAL_NS,
      nextNs: may ? 0n : process.hrtime.bigint() + REMEMBER_BURST_NS,
    };
    this.map("remember_pace").update(u32(kind), RememberPace.encode(pace), 0);
  }

  #fillService(service: Service, place: number, asked: number | null, { ringClass }: Surroundings): void {
    const { config, index } = service;
    const version = index & 1;
    const other = versionBytes(
      { ...service, hashSeed: ~service.hashSeed & 0xffffn },
      ringClass,
      place,
      asked,
    );
    this.#memoryOf("service_versions").set(other, (index * 2 + 1 - version) * ServiceVersion.size);
    const bytes = versionBytes(service, ringClass, place, asked);
    this.#memoryOf("service_versions").set(bytes, (index * 2 + version) * ServiceVersion.size);
    this.#memoryOf("service_active").set(u32(version), index * 8);
    const slots = this.#ring(ringClass, place);
    const { exceptional, predecessor } = service.states;
    slots.set(service.ring.slots.map((id, slot) => (exceptional?.[slot] === 1 ? id | 0x8000 : id)));
    if (predecessor !== null) this.#ring(ringClass, place + PREDECESSORS_FROM).set(predecessor.owners);
    // Whoever looks one slot too far, or into a ring that has none, finds somebody there.
    slots[service.ring.size] = service.destinations[0] ?? 0;
    this.#fillPolicies(service);
    if (config.region !== null) return;
    this.#fillRegions(service);
    const { network, ports } = config;
    if (isExact(config)) {
      const protocol = PROTOCOL_NUMBERS[config.protocol];
      const key = ServiceKey.encode({ address: network.address.bytes, port: ports.from, protocol });
      this.#write("services", key, index);
    }
    if (mappedBits(network) === 128)
      this.#write("virtual_addresses", AddressKey.encode({ address: network.address.bytes }), 0);
    for (const config of quicConfigImages(service))
      this.#writeBytes("quic_configs", encodeQuicConfigKey(config), encodeQuicConfig(config));
    for (const server of quicServerImages(service))
      this.#write("quic_servers", encodeQuicServerKey(server), server.destination);
  }

  /** A prefix in both lists denies, so denials are written last. */
  #fillPolicies({ config: { policy }, index }: Service): void {
    for (const prefix of policy.allow) this.#write("policies", policyKey(index, prefix), 1);
    for (const prefix of policy.deny) this.#write("policies", policyKey(index, prefix), 2);
  }

  #fillRegions(service: Service): void {
    for (const { id, prefixes, services } of regionTables(service)) {
      const blocks = atOnce(regionBlocks(prefixes));
      const map = this.#native.BpfMap.create({
        name: "regions", type: 2, keySize: 4, valueSize: RegionBlock.size, maxEntries: blocks.count, flags: 1024 | 4096, innerMap: null,
      });
      atOnce(blocks.write(map.mmap(), 1n));
      this.map("region_tables").updateInner(u32(id), map);
      this.#written.push({ map: "region_tables", key: u32(id) });
      map.close();
      services.forEach((index, at) => {
        const key = RegionKey.encode({ regions: id + 1, service: service.index, region: at + 1 });
        if (index !== null) this.#writeBytes("region_services", key, RegionService.encode({ service: index, version: 0 }));
      });
    }
  }

  #write(map: string, key: Uint8Array, value: number): void {
    this.#writeBytes(map, key, u32(value));
  }

  #writeBytes(map: string, key: Uint8Array, value: Uint8Array): void {
    this.map(map).update(key, value, 0);
    this.#written.push({ map, key });
  }

  #ring(ringClass: RingClass, place: number): Uint16Array {
    const name = `${ringClass} ${place}`;
    const known = this.#rings.get(name);
    if (known !== undefined) return known.slots;
    const map = this.#native.BpfMap.create({
      name: "ring",
      type: 2,
      keySize: 4,
      valueSize: RING_SLOTS[ringClass] * 2,
      maxEntries: 1,
      flags: 1 << 10,
      innerMap: null,
    });
    this.map(`rings_${ringClass}`).updateInner(u32(place), map);
    const slots = new Uint16Array(map.mmap(), 0, RING_SLOTS[ringClass]);
    this.#rings.set(name, { map, slots });
    return slots;
  }

  #memoryOf(name: string): Uint8Array {
    const known = this.#memory.get(name);
    if (known !== undefined) return known;
    const memory = new Uint8Array(this.map(name).mmap());
    this.#memory.set(name, memory);
    return memory;
  }

  run(program: string, frame: Uint8Array, outputSizeMax: number): TestRunResult {
    return this.object.testRun(program, frame, { repeat: 1, flags: 0, context: null, outputSizeMax, batchSize: 0 });
  }

  putFlow(tuple: FlowTuple, { destination, generation, lastSeenNs, other = 0, closes = false }: RememberedFlow): void {
    const marked = other | (closes ? FlowOther.FLOW_CLOSES : 0);
    this.map("flows").update(flowKey(tuple), FlowEntry.encode({ destination, generation, lastSeenNs, other: marked }), 0);
  }

  /** As it is remembered, or looked at. */
  flow(tuple: FlowTuple, map: "flows" | "sampled_flows" = "flows"): Required<RememberedFlow> | null {
    const bytes = this.map(map).lookup(flowKey(tuple));
    if (bytes === null) return null;
    const { other, ...entry } = FlowEntry.decode(bytes);
    return { ...entry, other: other & FlowOther.FLOW_OTHER_MASK, closes: (other & FlowOther.FLOW_CLOSES) !== 0 };
  }

  /** What every CPU knows of the picks of a service. */
  putPick(service: number, state: PickStateValue): void {
    const bytes = PickStateValue.encode(state);
    const all = new Uint8Array(this.#native.possibleCpus() * bytes.length);
    for (let at = 0; at < all.length; at += bytes.length) all.set(bytes, at);
    this.map("pick_states").update(u32(service), all, 0);
  }

  /** Of each CPU. */
  picks(service: number): PickStateValue[] {
    return this.#perCpu("pick_states", service, PickStateValue.size).map((bytes) => PickStateValue.decode(bytes));
  }

  /** Flows of each destination, and of all destinations of each service, as packets count them. */
  loads(): { readonly destinations: BigInt64Array; readonly services: BigInt64Array } {
    const words = (name: string): BigInt64Array => {
      const { buffer, byteOffset, byteLength } = this.#memoryOf(name);
      return new BigInt64Array(buffer, byteOffset, byteLength / 8);
    };
    return { destinations: words("destination_flows"), services: words("service_flows") };
  }

  putFragment(tuple: FragmentTuple, entry: FragmentEntry): void {
    this.map("fragments").update(fragmentKey(tuple), FragmentEntry.encode(entry), 0);
  }

  fragment(tuple: FragmentTuple): FragmentEntry | null {
    const found = this.map("fragments").lookup(fragmentKey(tuple));
    return found && FragmentEntry.decode(found);
  }

  countOf(map: "flows" | "affinities" | "sampled_flows" | "fragments"): number {
    return this.#keysOf(map).length;
  }

  #keysOf(name: string): Uint8Array[] {
    const map = this.map(name);
    const keys: Uint8Array[] = [];
    for (let key = map.nextKey(null); key !== null; key = map.nextKey(key)) keys.push(key);
    return keys;
  }

  /** What errors about tunnels left, as takeNotes() says it. */
  notes(): string[] {
    return takeNotes(this.map("tunnel_ends"));
  }

  /** Packets by what their connection ID said. */
  quicOutcomes(): number[] {
    return QUIC_OUTCOMES.map((_, outcome) => this.#word("quic_counts", outcome));
  }

  /** Packets by what became of them in slots with exceptions. */
  trackingOutcomes(): number[] {
    return TRACKING_OUTCOMES.map((_, outcome) => this.#word("tracking_counts", outcome));
  }

  /** Entries of the flow table by what befell them. */
  flowEvents(): number[] {
    return FLOW_EVENTS.map((_, event) => this.#word("flow_counts", event));
  }

  /** An element that is a u64 of each CPU, all of them together. */
  #word(map: string, index: number): number {
    return sum(this.#perCpu(map, index, 8).map((bytes) => new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true)));
  }

  /** Packets and bytes by verdict. */
  verdicts(): Map<string, Count> {
    return new Map(VERDICT_NAMES.slice(0, -1).map((name, number) => [name, this.verdict(number)]));
  }

  /** Of one verdict, all CPUs together. */
  verdict(number: number): Count {
    const counts = this.#perCpu("verdict_counts", number, VerdictCount.size).map((bytes) =>
      VerdictCount.decode(bytes),
    );
    return {
      packets: sum(counts.map((one) => one.packets)),
      bytes: sum(counts.map((one) => one.bytes)),
    };
  }

  traffic(of: "service" | "destination", index: number): Traffic {
    const counts = this.#perCpu(`${of}_traffic`, index, TrafficCount.size).map((bytes) =>
      TrafficCount.decode(bytes),
    );
    return {
      packets: sum(counts.map((one) => one.packets)),
      bytes: sum(counts.map((one) => one.bytes)),
      flows: sum(counts.map((one) => one.flows)),
    };
  }

  /** First answers of a destination, and how long clients waited for them. */
  answers(destination: number): AnswerCount {
    const counts = this.#perCpu("answer_counts", destination, AnswerCount.size).map((bytes) => AnswerCount.decode(bytes));
    return counts.reduce((total, one) => ({ answers: total.answers + one.answers, waitedNs: total.waitedNs + one.waitedNs }));
  }

  #perCpu(map: string, index: number, size: number): Uint8Array[] {
    const values = this.map(map).lookup(u32(index));
    if (values === null) throw new Error(`${map} has no element ${index}`);
    return Array.from({ length: this.#native.possibleCpus() }, (_, cpu) =>
      values.slice(cpu * size, (cpu + 1) * size),
    );
  }

  close(): void {
    for (const { map } of this.#rings.values()) map.close();
    this.object.close();
  }
}

function policyKey(service: number, { address, length }: Prefix): Uint8Array {
  const bits = address.family === 4 ? 96 + length : length;
  return PolicyKey.encode({ prefixBits: 32 + bits, service, address: address.bytes });
}

function flowKey({
  source,
  sourcePort,
  destination,
  destinationPort,
  protocol,
}: FlowTuple): Uint8Array {
  return FlowKey.encode({
    service: { address: destination, port: destinationPort, protocol },
    source,
    sourcePort,
  });
}

/** Byte by byte: a codec's mistake cannot hide one in the program. */
function fragmentKey({ source, destination, identification, protocol }: FragmentTuple): Uint8Array {
  const bytes = new Uint8Array(FragmentKey.size);
  bytes.set(source, 0);
  bytes.set(destination, 16);
  new DataView(bytes.buffer).setUint32(32, identification << (protocol === 0 ? 0 : 16));
  bytes[36] = protocol;
  return bytes;
}

function linkAddressKeys({ linkAddresses = new Map() }: Surroundings): Uint8Array[] {
  return [...linkAddresses].flatMap(([ifindex, macs]) => [
    LinkAddress.encode({ ifindex, mac: new Uint8Array(6), isInterface: 1 }),
    ...[...macs].map((mac) => LinkAddress.encode({ ifindex, mac: hexBytes(mac), isInterface: 0 })),
  ]);
}

/** Of each interface one, so that frames to others are looked up. */
function firstLinkAddressValues({ linkAddresses = new Map() }: Surroundings): Uint8Array[] {
  return Array.from({ length: LinkPlaces.FIRST_LINK_ADDRESSES }, (_, place) => {
    const [ifindex, macs] = [...linkAddresses][place] ?? [0, new Set<string>()];
    const [mac] = macs;
    if (mac === undefined) return new Uint8Array(LinkAddress.size);
    return LinkAddress.encode({ ifindex, mac: hexBytes(mac), isInterface: 0 });
  });
}

function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

function sum(numbers: readonly bigint[]): number {
  return Number(numbers.reduce((total, one) => total + one, 0n));
}
