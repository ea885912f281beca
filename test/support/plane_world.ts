// Random tables for tests of the XDP plane's steps: a few services, backends and next hops, with ids from
// the real ledger and limits so tight that ids are reused. Deterministic from fast-check's choices.

import { NOTHING_REMEMBERED } from "../../src/model/remember_pace.ts";
import { NO_NAT } from "../../src/model/nat.ts";
import fc from "fast-check";
import { parseAddress, prefixOf, type Address, type Prefix } from "../../src/model/address.ts";
import { formatServiceAddress } from "../../src/model/service_address.ts";
import { claimDestinations, claimServices } from "../../src/model/ledger.ts";
import { quicLbConfig } from "../../src/model/quic_lb.ts";
import type { ServiceConfig } from "../../src/model/config.ts";
import type { Destination, ForwardingTable, Ledger, Service } from "../../src/model/table.ts";
import { imageOf, UNRESOLVED, type Image, type Route } from "../../src/dataplane/xdp/image.ts";
import { serviceAt } from "./service_at.ts";
import { contentKey } from "../../src/model/ring_content.ts";
import type { SlotScheme } from "../../src/model/slot.ts";
import { SETTLED, type SlotStates } from "../../src/model/slot_states.ts";

/** More than have an id at once, so that ids go from one to another. */
export const BACKENDS = 7;
const IDS = 5;
export function address(text: string): Address {
  const parsed = parseAddress(text);
  if (parsed === null) throw new Error(`"${text}" is no address`);
  return parsed;
}

/** Exact services, and wildcard services around them and around each other. */
const PLACES = [
  serviceAt("203.0.113.1", 80), serviceAt("203.0.113.2", 80), serviceAt("203.0.113.1", "any"),
  serviceAt("203.0.113.0/30", 80), serviceAt("203.0.113.0/30", "80-95"), serviceAt("203.0.113.0/24", "any"),
];
export const SERVICES = PLACES.length;
const INDEXES = 8;
const RING_SIZE = 7;

/** Where packets go. */
export interface PacketPlace {
  readonly address: Address;
  readonly port: number;
}

/** In and around every range of every prefix. */
export const PACKETS: readonly PacketPlace[] = ["203.0.113.1", "203.0.113.2", "203.0.113.9"].flatMap((text) =>
  [80, 81, 96].map((port) => ({ address: address(text), port })));

export interface WorldService {
  /** 0…SERVICES-1: the key. */
  readonly number: number;
  /** Positions in the pool per slot. */
  readonly slots: readonly number[];
  readonly seed: bigint;
  readonly deny: boolean;
  /** Version of the key of connection IDs; 0: they are not looked at. */
  readonly quic: number;
  /** 1 per slot with a mark. */
  readonly marks: readonly number[];
  /** The ring of before. */
  readonly before: {
    readonly kind: "none" | "same" | "rehashed";
    /** Backends per slot, of which some may have gone; null: the slot is not changing. */
    readonly backends: readonly (number | null)[];
  };
}

/** One state of the world, before ids. */
export interface World {
  /** Numbers of the backends that are configured. */
  readonly pool: readonly number[];
  readonly services: readonly WorldService[];
  /** Alive, by backend. */
  readonly alive: readonly boolean[];
  /** Version of each backend's next hop; 0: unresolved. */
  readonly hops: readonly number[];
  /** Version of each backend's tunnel source. */
  readonly sources: readonly number[];
}

export const worlds: fc.Arbitrary<World> = fc.record({
  pool: fc.uniqueArray(fc.nat(BACKENDS - 1), { minLength: IDS, maxLength: IDS }),
  services: fc.uniqueArray(fc.record({
    number: fc.integer({ min: 0, max: PLACES.length - 1 }),
    slots: fc.array(fc.nat(IDS - 1), { minLength: RING_SIZE, maxLength: RING_SIZE }),
    seed: fc.constantFrom(1n, 2n),
    deny: fc.boolean(),
    quic: fc.nat(2),
    marks: fc.array(fc.nat(1), { minLength: RING_SIZE, maxLength: RING_SIZE }),
    before: fc.record({
      kind: fc.constantFrom("none", "same", "rehashed"),
      backends: fc.array(fc.option(fc.nat(BACKENDS - 1), { freq: 3 }), { minLength: RING_SIZE, maxLength: RING_SIZE }),
    }),
  }), { selector: (service) => service.number, maxLength: PLACES.length }),
  alive: fc.array(fc.boolean(), { minLength: BACKENDS, maxLength: BACKENDS }),
  hops: fc.array(fc.nat(2), { minLength: BACKENDS, maxLength: BACKENDS }),
  sources: fc.array(fc.nat(2), { minLength: BACKENDS, maxLength: BACKENDS }),
});

/** Odd backends are IPv6, whose outer source cannot change at once. */
function backendAddress(backend: number): Address {
  return address(backend % 2 === 1 ? `2001:db8::${backend + 1}` : `10.0.0.${backend + 1}`);
}

function sourceAddress(backend: number, version: number): Prefix | null {
  if (version === 0) return null;
  // Some with a mask beside them: the two must never be seen in halves.
  const bits = version % 2 === 0 ? 4 : 0;
  return backend % 2 === 1
    ? prefixOf(address(`2001:db8:1::${version}00`), 128 - bits)
    : prefixOf(address(`10.9.${version}.0`), 32 - bits);
}

function keyOf(number: number): string {
  return `tcp ${formatServiceAddress(PLACES[number]!)}`;
}

export function identityOf(backend: number): bigint {
  return 1000n + BigInt(backend);
}

export interface Compiled {
  readonly table: ForwardingTable;
  readonly image: Image;
}

/** What compile() would make of it, with as few ids and indexes as possible. */
export function compileWorld(world: World, ledger: Ledger, attached: readonly number[] = [1]): Compiled {
  const used = [...new Set(world.services.flatMap(({ slots }) => slots.map((at) => world.pool[at]!)))].sort();
  const next: Ledger = {
    destinations: claimDestinations(ledger.destinations, used.map(identityOf), IDS),
    services: claimServices(ledger.services, world.services.map(({ number }) => keyOf(number)), INDEXES),
    slots: new Map(),
  };
  const destinations = new Map<number, Destination>();
  const ids = new Map<number, number>();
  for (const backend of used) {
    const { id, generation } = next.destinations.get(identityOf(backend))!;
    ids.set(backend, id);
    destinations.set(id, destinationOf(world, backend, id, generation));
  }
  const services = world.services.map((service) => serviceOf(world, service, next, world.pool.map((backend) => ids.get(backend) ?? 0)));
  const table: ForwardingTable = {
    generation: 1, instance: "test", services, destinations,
    orphan: { afterMs: 1000, action: "keep" }, icmpErrorsPerSecond: 1000, pathMtuAgeMs: 600_000, nat: NO_NAT, affinitiesMax: 0,
    remember: NOTHING_REMEMBERED, ledger: next, warnings: [],
  };
  const image = imageOf(table, { attached, view: (destination) => routeOf(world, Number(destination.identity - 1000n)) });
  return { table, image };
}

export function routeOf(world: World, backend: number): Route {
  const version = world.hops[backend]!;
  const nextHop = version === 0 ? UNRESOLVED : {
    resolved: true, local: false, destinationMac: `02:00:00:00:00:0${backend}`, sourceMac: "02:00:00:00:00:ff", ifindex: version + 1,
    mtu: 1500, vlan: 0,
  };
  return { nextHop, tunnelSource: sourceAddress(backend, world.sources[backend]!) };
}

function destinationOf(world: World, backend: number, id: number, generation: number): Destination {
  const alive = world.alive[backend]!;
  return {
    id, generation, identity: identityOf(backend), name: `pool/${backend}`, pool: "pool", backend: String(backend),
    address: backendAddress(backend), port: 80, forwarding: "ipip", gue: null, mac: null,
    alive,
    admission: alive ? 65536 : 0, weight: 1,
    resets: false,
    weightProvenance: { source: "config" }, stateProvenance: { source: "config" },
  };
}

/** Whatever key it has, a backend's server ID is its number. */
export function serverIdOf(backend: number): string {
  return backend.toString(16).padStart(2, "0");
}

function quicLbOf(version: number, ids: readonly number[], pool: readonly number[]): Service["quicLb"] {
  if (version === 0) return null;
  const key = new Uint8Array(16).fill(version);
  const config = quicLbConfig({ id: 0, serverIdBytes: 1, nonceBytes: 4 + version, lengthEncoded: false, key });
  const known = pool.map((backend, at) => [serverIdOf(backend), ids[at]!] as const).filter(([, id]) => id !== 0);
  return { configs: new Map([[0, config]]), servers: new Map(known) };
}

/** Marks and a predecessor, as nextStates() could have made them of some past. */
function statesOf({ marks, before, seed }: WorldService, { destinations }: Ledger): SlotStates {
  const exceptional = marks.includes(1) ? Uint8Array.from(marks) : null;
  if (before.kind === "none") return { ...SETTLED, exceptional };
  // Whose id is somebody else's is not in the ledger any more.
  const owners = Uint16Array.from(before.backends, (backend) =>
    (backend === null ? undefined : destinations.get(identityOf(backend)))?.id ?? 0);
  const scheme: SlotScheme = {
    hash: "5-tuple", sourcePrefix: SERVICE_CONFIG.sourcePrefix, ringSize: RING_SIZE,
    hashSeed: before.kind === "same" ? seed : seed + 10n,
  };
  return {
    ...SETTLED, exceptional, predecessor: { scheme, owners, key: contentKey(owners) }, changingUntilNs: 1n << 60n,
  };
}

function serviceOf(world: World, service: WorldService, ledger: Ledger, ids: readonly number[]): Service {
  const { number, slots, seed, deny, quic } = service;
  const words = Uint16Array.from(slots, (at) => ids[at]!);
  return {
    index: ledger.services.get(keyOf(number))!, name: `s${number}`, hashSeed: seed, failedOpen: false,
    affinity: null, picking: null, split: null, regions: null, rememberedSinceNs: 0n,
    quicLb: quicLbOf(quic, ids, world.pool),
    states: statesOf(service, ledger),
    destinations: [...new Set(words)],
    ring: { key: contentKey(words), size: RING_SIZE, slots: words, configured: words },
    config: {
      ...SERVICE_CONFIG, name: `s${number}`, ...PLACES[number]!,
      policy: { allow: [], deny: deny ? [{ address: address("192.0.2.0"), length: 24, text: "192.0.2.0/24" }] : [] },
    },
  };
}

const SERVICE_CONFIG: ServiceConfig = {
  name: "s", ...serviceAt("203.0.113.1", 80), protocol: "tcp", forwarding: "ipip",
  gue: { port: 6080, variant: 0 }, algorithm: "maglev", loadFactorPercent: 125, panicBelow: 0,
  hash: "5-tuple", sourcePrefix: { ipv4: 32, ipv6: 128 }, ringSize: RING_SIZE, tracking: "full", flowIdleMs: 60_000,
  changeWindowMs: 60_000, secondChance: false,
  affinityGroup: null, affinityTimeoutMs: null, mssMax: null, quicLb: null, failOpen: false, vip: { assign: "none" }, pool: "pool", split: null,
  geo: null, region: null, policy: { allow: [], deny: [] },
  proxy: {
    connectTimeoutMs: 1, connectRetries: 0, idleTimeoutMs: 0, udpIdleTimeoutMs: 1, connectionsMax: 1, sessionsMax: 1,
    proxyProtocol: "none",
  },
};
