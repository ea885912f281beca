// A model of the maps for tests of the order of steps: what each step writes, byte by byte where it
// matters, and packets that read the maps one look-up at a time while the steps go on. Shares nothing
// with record(): a step that cannot happen at once shows a torn value in between.

import { portPrefixText, type GroupEntry } from "../../src/dataplane/xdp/groups.ts";
import { serviceKeyText, type NextHop } from "../../src/dataplane/xdp/image.ts";
import { SlotWord } from "../../src/dataplane/xdp/abi.gen.ts";
import type { HeldScheme, HeldVersion } from "../../src/dataplane/xdp/kernel_state.ts";
import { quicConfigText, quicServerText } from "../../src/dataplane/xdp/quic_maps.ts";
import { regionServiceText, type HeldRegionService } from "../../src/dataplane/xdp/region_state.ts";
import type { Step } from "../../src/dataplane/xdp/steps.ts";
import type { Prefix } from "../../src/model/address.ts";
import type { RegionPrefixes } from "../../src/model/regions.ts";
import { holdsAddress } from "../../src/model/service_address.ts";
import type { PacketPlace } from "./plane_world.ts";

/** What a packet sees that reads while something is being written. */
export const TORN = "torn";

interface ModelDestination {
  identity: bigint | typeof TORN;
  generation: number;
  live: boolean;
  given: boolean;
  source: string;
  active: 0 | 1;
  hops: [string, string];
}

export interface ModelMaps {
  services: Map<string, number>;
  addresses: Set<string>;
  active: Map<number, 0 | 1>;
  versions: Map<string, HeldVersion | typeof TORN>;
  rings: Map<string, Uint16Array | typeof TORN>;
  destinations: Map<number, ModelDestination>;
  devices: Set<number>;
  policies: Set<string>;
  prefixes: Map<string, { readonly network: Prefix; readonly group: number }>;
  groups: Map<number, Map<string, GroupEntry>>;
  /** By "index/id". Packets hold on to what they found. */
  quicConfigs: Map<string, { isTorn: boolean }>;
  /** Their memory is the next one's. */
  freedConfigs: { isTorn: boolean }[];
  /** By "index/server ID". */
  quicServers: Map<string, number>;
  regionTables: Map<number, RegionPrefixes>;
  /** By regionServiceText(). */
  regionServices: Map<string, HeldRegionService>;
}

export function emptyMaps(): ModelMaps {
  return {
    services: new Map(), addresses: new Set(), active: new Map(), versions: new Map(), rings: new Map(),
    destinations: new Map(), devices: new Set(), policies: new Set(),
    prefixes: new Map(), groups: new Map(),
    quicConfigs: new Map(), freedConfigs: [], quicServers: new Map(),
    regionTables: new Map(), regionServices: new Map(),
  };
}

export function hopText(hop: NextHop): string {
  return hop.resolved ? `${hop.destinationMac} on ${hop.ifindex}` : hop.local ? "local" : "unresolved";
}

/** The moments of a step: before each of them, packets may read. The last one leaves it done. */
export function moments(maps: ModelMaps, step: Step): (() => void)[] {
  switch (step.kind) {
    case "add-service": return [() => { maps.services.set(serviceKeyText(step.key), step.index); }];
    case "remove-service": return [() => {
      if (maps.services.get(serviceKeyText(step.key)) === step.index) maps.services.delete(serviceKeyText(step.key));
    }];
    case "add-virtual-address": return [() => { maps.addresses.add(step.address.text); }];
    case "remove-virtual-address": return [() => { maps.addresses.delete(step.address.text); }];
    case "activate-version": return [() => { maps.active.set(step.index, step.version); }];
    case "write-version": return torn((value) => { maps.versions.set(`${step.index}/${step.version}`, value); }, step.value);
    case "create-ring": return [() => { maps.rings.set(`${step.ringClass}/${step.id}`, new Uint16Array(0)); }];
    case "release-ring": return [() => { maps.rings.delete(`${step.ringClass}/${step.id}`); }];
    case "write-ring": return torn((value) => { maps.rings.set(`${step.ringClass}/${step.id}`, value); }, step.ring.slots);
    case "add-device": return [() => { maps.devices.add(step.ifindex); }];
    case "remove-device": return [() => { maps.devices.delete(step.ifindex); }];
    case "add-policy": return [() => { maps.policies.add(`${step.index} ${step.text} ${step.entry.action}`); }];
    case "remove-policy": return [() => { maps.policies.delete(`${step.index} ${step.text} ${step.entry.action}`); }];
    case "add-group-ports": return [() => {
      const entries = maps.groups.get(step.group) ?? new Map<string, GroupEntry>();
      maps.groups.set(step.group, entries.set(portPrefixText(step.entry), step.entry));
    }];
    case "remove-group-ports": return [() => { maps.groups.get(step.group)?.delete(portPrefixText(step.entry)); }];
    case "set-address-group": return [() => { maps.prefixes.set(step.network.text, step); }];
    case "remove-address-group": return [() => { maps.prefixes.delete(step.network.text); }];
    case "write-quic-config": case "remove-quic-config": return [() => { changeConfig(maps, step); }];
    case "write-quic-server": return [() => {
      maps.quicServers.set(quicServerText(step.server), step.server.destination);
    }];
    case "remove-quic-server": return [() => { maps.quicServers.delete(quicServerText(step.server)); }];
    case "write-region-table": return [() => { maps.regionTables.set(step.id, step.prefixes); }];
    case "release-region-table": return [() => { maps.regionTables.delete(step.id); }];
    case "add-region-service": return [() => { maps.regionServices.set(regionServiceText(step.of), step.of); }];
    case "remove-region-service": return [() => { maps.regionServices.delete(regionServiceText(step.of)); }];
    case "write-destination": case "set-destination-flags": case "write-next-hop": case "activate-next-hop":
    case "write-tunnel-source": case "retire-destination":
      return destinationMoments(maps, step);
    case "load-program": case "grace-period": case "set-orphan": case "set-icmp-interval": case "set-nat":
    case "set-remember-pace": case "set-pick-weight": case "zero-destination-traffic":
    case "zero-service-traffic": case "assign-address": case "unassign-address":
    case "write-tunnel-end": case "remove-tunnel-end": case "add-link-address": case "remove-link-address":
    case "set-first-link-address":
      return [];
  }
}

/** A new element lies where an old one lay; who still reads that one sees both. */
function changeConfig(maps: ModelMaps, step: Extract<Step, { kind: "write-quic-config" | "remove-quic-config" }>): void {
  const text = quicConfigText(step.config);
  const before = maps.quicConfigs.get(text);
  maps.quicConfigs.delete(text);
  if (step.kind === "write-quic-config") {
    for (const freed of maps.freedConfigs.splice(0)) freed.isTorn = true;
    maps.quicConfigs.set(text, { isTorn: false });
  }
  if (before !== undefined) maps.freedConfigs.push(before);
}

function torn<T>(write: (value: T | typeof TORN) => void, value: T): (() => void)[] {
  return [() => { write(TORN); }, () => { write(value); }];
}

function destinationMoments(maps: ModelMaps, step: Extract<Step, { kind:
  "write-destination" | "set-destination-flags" | "write-next-hop" | "activate-next-hop"
  | "write-tunnel-source" | "retire-destination" }>): (() => void)[] {
  const at = (): ModelDestination => {
    const found = maps.destinations.get(step.id);
    if (found === undefined) throw new Error(`${step.kind} of ${step.id}, which was never written`);
    return found;
  };
  switch (step.kind) {
    case "write-destination": {
      const { identity, generation, live, route } = step.destination;
      const hop = hopText(route.nextHop);
      const source = route.tunnelSource?.text ?? "none";
      return torn((value) => {
        maps.destinations.set(step.id, {
          identity: value, generation, live: value === TORN ? false : live, given: value !== TORN, source, active: 0,
          hops: [hop, hop],
        });
      }, identity);
    }
    case "set-destination-flags": return [() => { at().live = step.live; }];
    case "write-next-hop": return torn((value) => { at().hops[step.half] = value; }, hopText(step.nextHop));
    case "activate-next-hop": return [() => { at().active = step.half; }];
    case "write-tunnel-source": {
      const after = step.source?.text ?? "none";
      const before = at().source;
      const isOneStore = !after.includes(":") && !before.includes(":") && after !== "none" && before !== "none"
        && after.split("/")[1] === before.split("/")[1];
      const write = (value: string): void => { at().source = value; };
      return isOneStore ? [() => { write(after); }] : torn(write, after);
    }
    case "retire-destination": return [() => {
      Object.assign(at(), { given: false, live: false, generation: step.generation });
    }];
  }
}

/** What became of a packet: where it went, and how. */
export interface Outcome {
  /** "pass", "nobody", TORN, or the destination's identity. */
  readonly to: bigint | "pass" | "nobody" | typeof TORN;
  readonly hop: string | null;
  readonly source: string | null;
}

const PASS: Outcome = { to: "pass", hop: null, source: null };
const NOBODY: Outcome = { to: "nobody", hop: null, source: null };
const SEEN_TORN: Outcome = { to: TORN, hop: null, source: null };

/** A packet for a service, by ring: yields between look-ups and returns what became of it. */
export function* packetByRing(maps: ModelMaps, place: PacketPlace, slot: number): Generator<undefined, Outcome> {
  const index = yield* serviceIndexOf(maps, place);
  if (index === undefined) return PASS;
  yield;
  return yield* packetOfService(maps, index, slot);
}

/** A packet that opens a flow with a service that may have regions. */
export function* packetOfClient(maps: ModelMaps, place: PacketPlace, client: Uint8Array): Generator<undefined, Outcome> {
  const asked = yield* serviceIndexOf(maps, place);
  if (asked === undefined) return PASS;
  yield;
  const version = maps.versions.get(`${asked}/${maps.active.get(asked) ?? 0}`);
  if (version === TORN) return SEEN_TORN;
  const table = version?.regions?.table ?? null;
  if (table === null) return yield* packetOfVersion(maps, version, 0, "its ring");
  yield;
  const prefixes = maps.regionTables.get(table);
  if (prefixes === undefined) return SEEN_TORN;
  const region = prefixes.regionOf(client);
  yield;
  const found = region === 0 ? undefined : maps.regionServices.get(regionServiceText({ table, asked, region }));
  if (found === undefined) return yield* packetOfVersion(maps, version, 0, "its ring");
  yield;
  if (found.version === null) return yield* packetOfService(maps, found.index, 0, "its ring");
  return yield* packetOfVersion(maps, maps.versions.get(`${found.index}/${found.version}`), 0, "its ring");
}

/** The exact service first, then what the tries lead to. */
export function* serviceIndexOf(maps: ModelMaps, place: PacketPlace): Generator<undefined, number | undefined> {
  const exact = maps.services.get(`tcp ${place.address.text}:${place.port}`);
  if (exact !== undefined) return exact;
  yield;
  return yield* wildcardOf(maps, place);
}

/** What a packet goes by: a new flow's by its ring alone. */
export type Look = "both rings" | "its ring";

/** Where a flow of this slot was in the ring of before. */
export function slotBefore(isRehashed: boolean, slot: number): number {
  return isRehashed ? slot * 3 + 1 : slot;
}

/** Whom the ring of before has there, at rest; 0: nobody, or there is none. */
export function shownBefore(maps: ModelMaps, index: number, slot: number): number {
  const version = maps.versions.get(`${index}/${maps.active.get(index) ?? 0}`);
  if (version === undefined || version === TORN || version.predecessor === null) return 0;
  const id = ownerIn(maps, version.predecessor, slotBefore(version.isRehashed, slot));
  return id === TORN ? 0 : id;
}

/** A packet whose service is known, of a flow that nobody remembers and that was there already. */
export function* packetOfService(
  maps: ModelMaps, index: number, slot: number, look: Look = "both rings",
): Generator<undefined, Outcome> {
  const half = maps.active.get(index) ?? 0;
  yield;
  return yield* packetOfVersion(maps, maps.versions.get(`${index}/${half}`), slot, look);
}

function* packetOfVersion(
  maps: ModelMaps, version: HeldVersion | typeof TORN | undefined, slot: number, look: Look,
): Generator<undefined, Outcome> {
  if (version === undefined) return NOBODY;
  if (version === TORN) return SEEN_TORN;
  yield;
  const owner = ownerIn(maps, version.scheme, slot);
  if (owner === TORN) return SEEN_TORN;
  if (version.predecessor !== null && look !== "its ring") {
    yield;
    const before = ownerIn(maps, version.predecessor, slotBefore(version.isRehashed, slot));
    if (before === TORN) return SEEN_TORN;
    yield;
    const found = maps.destinations.get(before);
    if (found?.given === true && found.live) return yield* wayOf(maps, before);
  }
  if (owner === 0) return NOBODY;
  yield;
  return yield* wayOf(maps, owner);
}

/** Torn, too, is a ring that was never written or is not there any more. */
function ownerIn(maps: ModelMaps, { ringClass, ringId, ringSize }: HeldScheme, slot: number): number | typeof TORN {
  const ring = maps.rings.get(`${ringClass}/${ringId}`);
  if (ring === undefined || ring === TORN || ring.length === 0) return TORN;
  return (ring[slot % ringSize] ?? 0) & SlotWord.SLOT_BACKEND_MASK;
}

/** The service that both tries lead to: the longest prefix of the address, then of the port. */
function* wildcardOf(maps: ModelMaps, { address, port }: PacketPlace): Generator<undefined, number | undefined> {
  const [prefix] = [...maps.prefixes.values()].filter(({ network }) => holdsAddress(network, address.bytes))
    .sort((a, b) => b.network.length - a.network.length);
  if (prefix === undefined) return undefined;
  yield;
  const [entry] = [...maps.groups.get(prefix.group)?.values() ?? []]
    .filter((one) => one.port >> (16 - one.bits) === port >> (16 - one.bits)).sort((a, b) => b.bits - a.bits);
  return entry?.index;
}

/** A packet of a service that carries a connection ID of config 0; by ring where that says nothing. */
export function* packetByCid(
  maps: ModelMaps, place: PacketPlace, serverId: string, slot: number,
): Generator<undefined, Outcome> {
  const index = yield* serviceIndexOf(maps, place);
  if (index === undefined) return PASS;
  yield;
  const version = maps.versions.get(`${index}/${maps.active.get(index) ?? 0}`);
  if (version === TORN) return SEEN_TORN;
  const config = version?.hasQuicLb === true ? maps.quicConfigs.get(`${index}/0`) : undefined;
  yield;
  if (config?.isTorn === true) return SEEN_TORN;
  const id = config === undefined ? undefined : maps.quicServers.get(`${index}/${serverId}`);
  yield;
  if (id !== undefined && maps.destinations.get(id)?.live === true) return yield* wayOf(maps, id);
  return yield* packetOfService(maps, index, slot);
}

/** A packet of a flow that was remembered. */
export function* packetByFlow(maps: ModelMaps, id: number, generation: number): Generator<undefined, Outcome> {
  const found = maps.destinations.get(id);
  if (found === undefined || found.generation !== generation || !found.live) return PASS;
  yield;
  return yield* wayOf(maps, id);
}

function* wayOf(maps: ModelMaps, id: number): Generator<undefined, Outcome> {
  const found = maps.destinations.get(id);
  if (found === undefined) return NOBODY;
  const half = found.active;
  yield;
  const then = maps.destinations.get(id);
  if (then === undefined) return NOBODY;
  const hop = then.hops[half];
  yield;
  // The address and the outer source are read last, when the packet is rewritten.
  const last = maps.destinations.get(id);
  if (last === undefined || !last.given) return NOBODY;
  if (last.identity === TORN || hop === TORN || (hop !== "unresolved" && last.source === TORN)) return SEEN_TORN;
  if (hop !== "unresolved" && !maps.devices.has(Number(hop.split(" on ")[1]))) return SEEN_TORN;
  return { to: last.identity, hop, source: hop === "unresolved" ? null : last.source };
}

/** What a packet would meet if nothing changed meanwhile. */
export function atRest<T>(packet: Generator<undefined, T>): T {
  for (;;) {
    const next = packet.next();
    if (next.done === true) return next.value;
  }
}
