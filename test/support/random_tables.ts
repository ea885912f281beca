// Random forwarding tables and the flows that meet them, for tests that put the same state on two
// sides. Knows the model's types; knows no map. Times are chosen far from every limit, so that the
// moment at which a packet runs decides nothing.

import { NOTHING_REMEMBERED, type RememberKind } from "../../src/model/remember_pace.ts";
import { addressFromBytes, parsePrefix, prefixOf } from "../../src/model/address.ts";
import type { Prefix } from "../../src/model/address.ts";
import type { Forwarding, ServiceConfig } from "../../src/model/config.ts";
import type { FlowEntry } from "../../src/model/decide.ts";
import type { FragmentEntry } from "../../src/model/fragment.ts";
import { hexText } from "../../src/model/hex.ts";
import { EMPTY_LEDGER } from "../../src/model/table.ts";
import type { Destination, ForwardingTable, Service } from "../../src/model/table.ts";
import { formatServiceAddress, mappedBits, parsePorts } from "../../src/model/service_address.ts";
import type { PortRange } from "../../src/model/service_address.ts";
import { pickWeight } from "../../src/model/pick.ts";
import { translates } from "../../src/model/nat.ts";
import type { FlowTuple, FragmentTuple } from "../../src/model/packet.ts";
import type { Hop } from "./bpf_world.ts";
import { ipv4, mac } from "./packets.ts";
import type { KnownNat } from "./nat_book.ts";
import { randomStates } from "./random_states.ts";
import { SETTLED } from "../../src/model/slot_states.ts";
import { schemeOf } from "../../src/model/slot.ts";
import { trackingOf } from "../../src/model/flow_decide.ts";
import { randomNat, randomNatFlows } from "./random_nat.ts";
import { withRandomRegions } from "./random_regions.ts";
import { randomQuicLb } from "./random_quic.ts";
import type { Draws } from "./random.ts";

/** Ids of destinations, indexes of services: below this. */
export const NUMBERS_MAX = 24;
/** next_hop.vlan of what leaves without tags. */
const UNTAGGED = 4096;
const HOUR_NS = 3_600_000_000_000n;
/** Longer than any machine has been up, and shorter than this one certainly has. */
const IDLE_LONG_MS = 4_000_000_000;
const IDLE_SHORT_MS = 10_000;

export interface RandomWorld {
  readonly table: ForwardingTable;
  readonly hops: ReadonlyMap<number, Hop>;
  readonly heartbeatNs: bigint;
  /** Flows that packets are drawn from; some are remembered. */
  readonly flows: readonly { readonly tuple: FlowTuple; readonly entry: FlowEntry | null }[];
  /** Datagrams whose first fragments were seen, long ago or not. */
  readonly fragments: readonly { readonly tuple: FragmentTuple; readonly entry: FragmentEntry }[];
  readonly natFlows: readonly KnownNat[];
  /** Of the interface that packets come by, in hexadecimal; null: none is known. */
  readonly linkAddresses: ReadonlySet<string> | null;
  /** Whether flows of each kind may be remembered with `minimal`. */
  readonly remembers: Readonly<Record<RememberKind, boolean>>;
  /** Keys under which backends answer, as they come and go. */
  readonly replies: () => readonly FlowTuple[];
}

export const FORWARDINGS: readonly Forwarding[] = ["l2", "ipip", "gue", "gre", "nat", "fullnat"];

/** Fragments have identifications below this: few, so that datagrams are met again. */
export const IDENTIFICATIONS_MAX = 4;

/** With a way of forwarding given, most destinations have that one. */
export function randomWorld(
  draws: Draws,
  ifindexes: readonly number[],
  nowNs: bigint,
  forwarding: Forwarding | null = null,
): RandomWorld {
  const destinations = randomDestinations(draws, forwarding);
  const services = randomServices(draws, destinations, nowNs);
  const nat = randomNat(draws);
  const isFresh = draws.chance(0.6);
  const table: ForwardingTable = {
    generation: 1,
    instance: "test",
    services,
    destinations,
    orphan: { afterMs: draws.pick([0, 1000, 1000, 1000]), action: draws.pick(["keep", "pass", "drop"]) },
    icmpErrorsPerSecond: 1, pathMtuAgeMs: 600_000,
    nat, affinitiesMax: 1024, remember: NOTHING_REMEMBERED,
    ledger: EMPTY_LEDGER,
    warnings: [],
  };
  const flows = Array.from({ length: 24 }, () => {
    const tuple = randomTuple(draws, draws.pick(services), [...destinations.values()]);
    return { tuple, entry: draws.chance(0.6) ? randomEntry(draws, destinations, nowNs) : null };
  });
  const natFlows = randomNatFlows(draws, {
    nat, flows, destinations: [...destinations.values()], ifindexes, nowNs,
  });
  return {
    table,
    flows,
    natFlows,
    linkAddresses: draws.chance(0.3) ? null : new Set([mac(1), mac(3)].map(hexText)),
    remembers: { "tcp-opened": draws.chance(0.7), "tcp-other": draws.chance(0.7), udp: draws.chance(0.7) },
    replies: () => natFlows.filter(({ flow }) => flow.reply).map(({ key }) => key),
    fragments: randomFragments(draws, flows, nowNs),
    heartbeatNs: isFresh ? nowNs + HOUR_NS : 0n,
    hops: new Map([...destinations.keys()].map((id) => [id, randomHop(draws, id, ifindexes)])),
  };
}

/** A client; few of them, so that prefixes and flows are hit. */
export function randomClient(draws: Draws, family: 4 | 6): Uint8Array {
  if (family === 4)
    return ipv4(draws.pick([10, 10, 192]), draws.below(2), draws.below(2), draws.between(1, 4));
  // Nobody's, and the end of whatever is searched by address.
  if (draws.chance(0.02)) return new Uint8Array(16).fill(255);
  const address = new Uint8Array(16);
  address.set([0x20, 0x01, 0x0d, 0xb8, draws.below(2), draws.below(2)]);
  address[15] = draws.between(1, 4);
  return address;
}

export function randomVirtualAddress(draws: Draws): Uint8Array {
  const last = draws.between(1, 3);
  return draws.chance(0.5)
    ? ipv4(203, 0, 113, last)
    : Uint8Array.of(0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last);
}

export function familyOf(address: Uint8Array): 4 | 6 {
  return address[10] === 0xff && address[0] === 0 ? 4 : 6;
}

/** Now and then the client is a backend. */
function randomTuple(
  draws: Draws, service: Service, destinations: readonly Destination[],
): FlowTuple {
  const { network, ports, protocol } = service.config;
  const { family } = network.address;
  const backends = destinations.filter(({ address }) => address.family === family);
  const isBackend = backends.length > 0 && draws.chance(0.15);
  return {
    source: isBackend ? draws.pick(backends).address.bytes : randomClient(draws, family),
    sourcePort: isBackend && draws.chance(0.3) ? 80 : draws.between(1024, 1030),
    destination: addressWithin(draws, network),
    destinationPort: portWithin(draws, ports),
    protocol: protocol === "tcp" ? 6 : 17,
  };
}

/** One of the prefix; often one that other services have, too. */
function addressWithin(draws: Draws, network: Prefix): Uint8Array {
  const { bytes } = network.address;
  const hostBits = Math.min(8, 128 - mappedBits(network));
  const last = bytes[15]! | ((draws.chance(0.7) ? draws.between(1, 3) : draws.below(256)) & ((1 << hostBits) - 1));
  return Uint8Array.from(bytes, (byte, at) => (at === 15 ? last : byte));
}

/** Often at the edge of a range. */
function portWithin(draws: Draws, { from, to }: PortRange): number {
  const port = draws.pick([from, to, 53, 80, 81, 443, draws.between(from, to)]);
  return Math.min(Math.max(port, from), to);
}

function randomFragments(
  draws: Draws,
  flows: RandomWorld["flows"],
  nowNs: bigint,
): RandomWorld["fragments"] {
  const made = flows
    .filter(() => draws.chance(0.4))
    .map(({ tuple }) => {
      const { source, destination, sourcePort, destinationPort, protocol } = tuple;
      const identification = draws.below(IDENTIFICATIONS_MAX);
      const key = { source, destination, identification };
      return {
        tuple: { ...key, protocol: familyOf(source) === 4 ? protocol : 0 },
        entry: {
          sourcePort,
          destinationPort: draws.chance(0.95) ? destinationPort : 9,
          protocol,
          rememberedNs: draws.chance(0.3) ? 0n : nowNs + HOUR_NS,
        },
      };
    });
  const byKey = new Map(made.map((one) => [JSON.stringify(Object.values(one.tuple)), one]));
  return [...byKey.values()];
}

function randomEntry(
  draws: Draws,
  destinations: ReadonlyMap<number, Destination>,
  nowNs: bigint,
): FlowEntry {
  // Translated flows are remembered elsewhere: no entry leads to such a backend.
  const fitting = [...destinations.values()].filter(({ forwarding }) => !translates(forwarding));
  const stray = draws.between(1, NUMBERS_MAX - 1);
  const destination = fitting.length === 0 ? null : draws.pick(fitting);
  const isStray = destination === null || (draws.chance(0.1) && !destinations.has(stray));
  return {
    destination: isStray ? stray : destination.id,
    generation: destination === null ? 9 : destination.generation + (draws.chance(0.8) ? 0 : draws.pick([-1, 1])),
    lastSeenNs: draws.chance(0.5) ? 0n : nowNs + HOUR_NS,
    other: fitting.length === 0 || draws.chance(0.5) ? 0 : draws.pick(fitting).id,
    closes: draws.chance(0.3),
  };
}

function randomDestinations(draws: Draws, most: Forwarding | null): Map<number, Destination> {
  const destinations = new Map<number, Destination>();
  for (let made = draws.between(1, 8); made > 0; made -= 1) {
    const id = draws.between(1, NUMBERS_MAX - 1);
    const bytes = draws.chance(0.5)
      ? ipv4(10, 9, 0, id)
      : Uint8Array.of(0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, id);
    const name = `pool/${id}`;
    const any = draws.pick(FORWARDINGS);
    const alive = draws.chance(0.8);
    const forwarding = most !== null && draws.chance(0.75) ? most : any;
    destinations.set(id, {
      id,
      generation: draws.between(1, 4),
      identity: BigInt(id),
      name,
      pool: "pool",
      backend: `${id}`,
      address: addressFromBytes(bytes),
      port: draws.chance(0.8) ? 80 : null,
      forwarding,
      gue: forwarding === "gue" ? { port: draws.pick([6080, 6081]), variant: draws.pick([0, 1]) } : null,
      mac: null,
      alive,
      admission: draws.pick([0, 1, 65536]),
      weight: draws.pick([1, 1, 2, 100, 65_535]),
      resets: !alive && draws.chance(0.5),
      weightProvenance: { source: "config" },
      stateProvenance: { source: "config" },
    });
  }
  return destinations;
}

function randomHop(draws: Draws, id: number, ifindexes: readonly number[]): Hop {
  return {
    destinationMac: mac(100 + id),
    sourceMac: mac(200 + id),
    ifindex: draws.pick(ifindexes),
    mtu: draws.pick([0, 0, 0, 0, 1500, 1500, 60, 100]),
    vlan: draws.pick([0, 0, 0, 7, 4094, UNTAGGED]),
    resolved: draws.chance(0.94),
    local: draws.chance(0.06),
    tunnelSource: new Uint8Array(16),
    tunnelSourceMask: 0,
  };
}

const TUNNEL_SOURCES = {
  4: ["10.9.9.9/32", "10.9.9.8/30", "10.9.9.0/24", "10.0.0.0/8"],
  6: ["fd09:909::9/128", "fd09:909::8/126", "fd09:909::/112", "fd09:909::/64", "fd09:909::/96"],
} as const;

/** The balancer's own address, or a prefix of its own, of the family of the destination. */
export function tunnelSourceFor({ address, id }: Destination): Prefix {
  const choices = TUNNEL_SOURCES[address.family];
  return parsePrefix(choices[id % choices.length]!)!;
}

/** What its rings may lead to: translated or not, and then of its own family. */
function destinationsFor(
  draws: Draws, destinations: ReadonlyMap<number, Destination>, family: 4 | 6,
): { readonly forwarding: ServiceConfig["forwarding"]; readonly ids: readonly number[] } {
  const all = [...destinations.values()];
  const forwarding = draws.pick(["l2", "nat", "fullnat"] as const);
  const translated = all.filter((one) => one.forwarding === forwarding && one.address.family === family);
  if (forwarding !== "l2" && translated.length > 0)
    return { forwarding, ids: translated.map(({ id }) => id) };
  const plain = all.filter((one) => !translates(one.forwarding));
  return { forwarding: "l2", ids: plain.map(({ id }) => id) };
}

function randomServices(
  draws: Draws, destinations: ReadonlyMap<number, Destination>, nowNs: bigint,
): Service[] {
  const services = new Map<string, Service>();
  const indexes = new Set<number>();
  for (let made = draws.between(1, 5); made > 0; made -= 1) {
    const drawn = randomConfig(draws);
    const { forwarding, ids } = destinationsFor(draws, destinations, drawn.network.address.family);
    const index = draws.below(NUMBERS_MAX);
    const config = { ...drawn, forwarding, name: `service-${index}` };
    const key = `${config.protocol} ${formatServiceAddress(config)}`;
    if (services.has(key) || indexes.has(index)) continue;
    indexes.add(index);
    const service: Service = {
      index,
      name: config.name,
      config,
      hashSeed: (BigInt(draws.word()) << 32n) | BigInt(draws.word()),
      ring: randomRing(draws, ids, destinations),
      states: SETTLED,
      destinations: ids,
      failedOpen: draws.chance(0.2), affinity: randomAffinity(draws, config), picking: null, split: null, regions: null, rememberedSinceNs: 0n,
      quicLb: config.protocol === "udp" && draws.chance(0.6) ? randomQuicLb(draws, ids) : null,
    };
    services.set(key, withState(service, draws, destinations, nowNs));
  }
  const freeIndex = (): number | null => {
    const index = draws.below(NUMBERS_MAX);
    if (indexes.has(index)) return null;
    indexes.add(index);
    return index;
  };
  const again = (service: Service): Service =>
    withState({ ...service, ring: randomRing(draws, service.destinations, destinations) }, draws, destinations, nowNs);
  return [...services.values()].flatMap((service) => withRandomRegions(service, { draws, nowNs, freeIndex, again }));
}

/** With slots that change, and flows that are placed one by one, or neither. */
function withState(
  service: Service, draws: Draws, destinations: ReadonlyMap<number, Destination>, nowNs: bigint,
): Service {
  const ids = service.destinations;
  const states = randomStates(draws, { scheme: schemeOf(service), tracking: trackingOf(service), ids, nowNs });
  const rememberedSinceNs = draws.pick([0n, 0n, nowNs + 2n * HOUR_NS]);
  return { ...service, states, rememberedSinceNs, picking: randomPicking(draws, service, destinations) };
}

/** Of some services that may have one: their flows are all remembered. */
function randomAffinity(draws: Draws, { tracking, forwarding }: ServiceConfig): Service["affinity"] {
  if ((tracking !== "full" && !translates(forwarding)) || draws.chance(0.5)) return null;
  const id = (BigInt(draws.word()) << 32n) | BigInt(draws.word());
  return { id, timeoutMs: draws.pick([60_000, 4_000_000_000, 4_000_000_000]) };
}

export const PICKS = ["round-robin", "random", "least-connections", "power-of-two", "bounded-load"] as const;

/** Of most services that may have one: their flows are all remembered. */
function randomPicking(
  draws: Draws, { config, ring, destinations: ids }: Service, destinations: ReadonlyMap<number, Destination>,
): Service["picking"] {
  const isRemembered = config.tracking === "full" || translates(config.forwarding);
  if (!isRemembered || ring.size === 0 || draws.chance(0.2)) return null;
  const weightTotal = ids.reduce((sum, id) => sum + pickWeight(destinations.get(id)!), 0);
  return {
    by: draws.pick(PICKS), weightTotal, loadFactorPercent: draws.pick([101, 125, 1000]),
    turns: draws.pick([0, 1, 2, draws.between(1, Math.min(ring.size, 250)), Math.min(ring.size, 300)]),
  };
}

function randomRing(
  draws: Draws, ids: readonly number[], destinations: ReadonlyMap<number, Destination>,
): Service["ring"] {
  const size = draws.chance(0.05) ? draws.pick([0, 16381]) : draws.pick([7, 251]);
  const slots = new Uint16Array(size);
  const nobody = draws.chance(0.1) ? 1 : draws.pick([0, 0.1]);
  for (let slot = 0; slot < size; slot += 1) {
    if (draws.chance(nobody)) continue;
    const stray = draws.between(1, NUMBERS_MAX - 1);
    if (ids.length === 0 || (draws.chance(0.02) && !destinations.has(stray))) slots[slot] = stray;
    else slots[slot] = draws.pick(ids);
    if (ids.length === 0 && destinations.has(stray)) slots[slot] = 0;
  }
  return { key: "", size, slots, configured: slots };
}

/** Of any two, one is part of the other or they have nothing in common. */
const PORTS = ["53", "80", "443", "53", "80", "443", "80-81", "50-90", "443-8000", "1-1023", "any"];

function randomConfig(draws: Draws): ServiceConfig {
  const address = addressFromBytes(randomVirtualAddress(draws));
  const lengths = address.family === 4 ? [32, 32, 32, 31, 30, 28, 24] : [128, 128, 128, 127, 126, 64, 16];
  const protocol = draws.pick(["tcp", "udp"] as const);
  return {
    name: "service",
    network: prefixOf(address, draws.pick(lengths)),
    ports: parsePorts(draws.pick(PORTS))!,
    protocol,
    forwarding: "l2",
    gue: { port: 6080, variant: 0 },
    algorithm: "maglev", loadFactorPercent: 125, panicBelow: 0,
    hash: draws.pick(["5-tuple", "source-ip"]),
    sourcePrefix: {
      ipv4: draws.pick([0, 8, 24, 31, 32]),
      ipv6: draws.pick([0, 1, 32, 33, 64, 127, 128]),
    },
    ringSize: 7,
    tracking: draws.pick(["none", "full", "full", "minimal", "minimal", "minimal"]),
    flowIdleMs: draws.pick([IDLE_SHORT_MS, IDLE_LONG_MS]),
    changeWindowMs: 1, secondChance: protocol === "tcp" && draws.chance(0.4),
    affinityGroup: null, affinityTimeoutMs: null,
    mssMax: draws.chance(0.4) ? draws.pick([536, 1000, 1400, 3000]) : null,
    quicLb: null,
    failOpen: false,
    vip: { assign: "none" },
    pool: "pool", split: null, geo: null, region: null,
    policy: randomPolicy(draws, address.family),
    proxy: {
      connectTimeoutMs: 1,
      connectRetries: 0,
      idleTimeoutMs: 0,
      udpIdleTimeoutMs: 1,
      connectionsMax: 1,
      sessionsMax: 1,
      proxyProtocol: "none",
    },
  };
}

function randomPolicy(draws: Draws, family: 4 | 6): ServiceConfig["policy"] {
  if (draws.chance(0.7)) return { allow: [], deny: [] };
  const prefixes = (): Prefix[] =>
    Array.from({ length: draws.below(4) }, () => {
      const length = draws.pick(family === 4 ? [0, 8, 16, 24, 31, 32] : [0, 16, 40, 48, 127, 128]);
      // Now and then of the other family, which holds nobody who asks this service.
      const of = draws.chance(0.9) ? family : family === 4 ? 6 : 4;
      return prefixOf(
        addressFromBytes(randomClient(draws, of)),
        of === family ? length : Math.min(length, 32),
      );
    });
  return { allow: prefixes(), deny: prefixes() };
}
