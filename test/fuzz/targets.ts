// What the fuzzer runs, and in which worlds: the packet path and the decapsulation program, each
// with maps filled as the golden packets need them, and some more. Knows the worlds by number; the
// seeds say which one they want.

import { join } from "node:path";
import { parseAddress } from "../../src/model/address.ts";
import type { OrphanAction } from "../../src/model/config.ts";
import type { Service } from "../../src/model/table.ts";
import type { Picking, XdpPick } from "../../src/model/pick.ts";
import { BpfWorld } from "../support/bpf_world.ts";
import type { Surroundings } from "../support/bpf_world.ts";
import { LOCAL_ADDRESSES, VIRTUAL_ADDRESSES, prefixKey } from "../support/decap_run.ts";
import { readGolden } from "../support/golden_packets.ts";
import type { Golden } from "../support/golden_packets.ts";
import { BPF_DIRECTORY } from "../support/kernel.ts";
import { RegionPrefixes } from "../../src/model/regions.ts";
import { SETTLED } from "../../src/model/slot_states.ts";
import { regionColumns } from "../../src/geo/prefixes.ts";
import { PICKS } from "../support/random_tables.ts";
import { encodeInput } from "./inputs.ts";
import { Recording } from "./recorded_maps.ts";
import type { Write } from "./recorded_maps.ts";

export interface Target {
  readonly name: "pointsman" | "decap";
  readonly worlds: () => Write[][];
  /** Made of the golden packets, or of those with such names. */
  readonly seeds: (named?: RegExp) => Uint8Array[];
}

interface World {
  readonly orphan: OrphanAction;
  readonly service?: Partial<Service["config"]>;
  /** New flows are placed one by one. */
  readonly by?: XdpPick;
  /** Clients are remembered, of which the second frame of an input may be one. */
  readonly affinity?: Service["affinity"];
  /** Clients are in one of two regions, or in none, and were elsewhere until lately. */
  readonly hasRegions?: true;
  readonly ringClass?: Surroundings["ringClass"];
  readonly tunnelSourceMask?: number;
  /** The others take every frame for their own. */
  readonly hasLinkAddresses?: true;
}

const ORPHANS: readonly OrphanAction[] = ["keep", "pass", "drop"];
/** The first three are the golden packets' own; the others turn on what those do without. */
const WORLDS: readonly World[] = [
  ...ORPHANS.map((orphan) => ({ orphan, hasLinkAddresses: true as const })),
  { orphan: "keep", service: { tracking: "full", flowIdleMs: 5000 } },
  { orphan: "keep", service: { hash: "source-ip", sourcePrefix: { ipv4: 24, ipv6: 56 } } },
  { orphan: "keep", ringClass: "medium", tunnelSourceMask: 0xff },
  {
    orphan: "keep", ringClass: "large", tunnelSourceMask: 0xffff,
    service: { hash: "source-ip", tracking: "full" },
  },
  { orphan: "keep", affinity: { id: 1n, timeoutMs: 60_000 }, service: { tracking: "full", sourcePrefix: { ipv4: 20, ipv6: 48 } } },
  { orphan: "keep", hasRegions: true, service: { tracking: "minimal" } },
  ...PICKS.map((by) => ({ orphan: "keep" as const, by, service: { algorithm: by, tracking: "full" as const } })),
];

/** As BpfWorld has room for. */
const SERVICES_MAX = 512;
const golden = readGolden();
/** As kernel.c has it. */
const INGRESS = 1;

function worldOf(
  { orphan, service = {}, by, affinity = null, ringClass = "small", tunnelSourceMask = 0, hasLinkAddresses, hasRegions }: World,
): Write[] {
  const recording = new Recording();
  const object = join(BPF_DIRECTORY, "pointsman.bpf.o");
  const world = new BpfWorld(recording.native(), {
    object, switches: {}, flowsMax: 1024, devices: [1],
  });
  const table = golden.table(orphan);
  const changed = table.services.map((one): Service => ({
    ...one, config: { ...one.config, ...service }, affinity, picking: by === undefined ? null : pickingOf(one, by),
  }));
  const taken = new Set(changed.map(({ index }) => index));
  const freeIndexes = Array.from({ length: SERVICES_MAX }, (_, index) => index).filter((index) => !taken.has(index));
  const services = hasRegions === true ? changed.flatMap((one, at) => withRegions(one, freeIndexes.slice(at * 2, at * 2 + 2))) : changed;
  const hop: Surroundings["hop"] = ({ id }) => ({ ...golden.hops.get(id)!, tunnelSourceMask });
  const linkAddresses = new Map(hasLinkAddresses === true ? [[INGRESS, golden.linkAddresses]] : []);
  world.fill({ ...table, services }, { hop, heartbeatNs: 0n, ringClass, linkAddresses });
  return recording.writes();
}

/** Where whole halves of the addresses are in a region, most clients meet one. */
function withRegions(one: Service, free: readonly number[]): Service[] {
  if (free.length < 2) return [one];
  const networks = (first: string, second: string): string[][] => [[first, "8000::/1", "2001:db8::/32"], [second, "2001:db8::/48"]];
  const again = (networks: string[][]): RegionPrefixes => new RegionPrefixes(
    networks.join(), null, regionColumns(null, networks.map((each) => ({ countries: [], continents: [], networks: each }))),
  );
  const regional = ["eu", "us"].map((name, at): Service => ({
    ...one, index: free[at]!, name: `${one.name}@${name}`,
    config: { ...one.config, name: `${one.name}@${name}`, region: { service: one.name, name } },
    states: { ...SETTLED, exceptional: new Uint8Array(one.ring.size).fill(1) },
  }));
  const services = regional.map(({ index }) => index);
  const before = { digest: 1n, prefixes: again(networks("10.0.0.0/8", "0.0.0.0/1")), services, deadlineMs: Infinity, untilNs: 1n << 62n };
  return [{ ...one, regions: { prefixes: again(networks("0.0.0.0/1", "128.0.0.0/1")), services, before } }, ...regional];
}

/** All slots are turns: some are nobody's, and one backend has many. */
function pickingOf({ ring, destinations }: Service, by: XdpPick): Picking {
  return { by, turns: ring.size, loadFactorPercent: 125, weightTotal: Math.max(1, destinations.length) };
}

let worlds: Write[][] | null = null;

/** Made once: every mutant runs in the same ones. */
function pointsmanWorlds(): Write[][] {
  worlds ??= WORLDS.map(worldOf);
  return worlds;
}

function casesNamed(named: RegExp): Golden["cases"] {
  return golden.cases.filter(({ name }) => named.test(name));
}

function pointsmanSeeds(named = /^/): Uint8Array[] {
  return casesNamed(named).flatMap(({ frame, before, orphan, verdict }) => {
    const own = ORPHANS.indexOf(orphan);
    const others = WORLDS.map((_, world) => world).slice(ORPHANS.length);
    return [own, ...(verdict.startsWith("TX_") ? others : [])].map((world) => encodeInput(frame, { world, before }));
  });
}

function decapWorld(): Write[] {
  const recording = new Recording();
  const add = (map: string, key: Uint8Array): void => {
    recording.map(map).update(key, new Uint8Array(4), 0);
  };
  for (const address of VIRTUAL_ADDRESSES) add("decap_addresses", prefixKey(address));
  for (const address of LOCAL_ADDRESSES) add("decap_local", prefixKey(address));
  // One balancer is known, and the other one is not.
  add("decap_sources", prefixKey("10.0.0.1/32"));
  return recording.writes();
}

/** `decap_checks_source` among the program's switches. */
const CHECKS_SOURCE = 3;
/** No socket, a listener, and one of the connection's; by each way on. */
const ANSWERS = [0, 1, 2, 8, 16, 24];

function decapSeeds(named = /^/): Uint8Array[] {
  return casesNamed(named).flatMap(({ name, frame, expected }) => {
    if (expected.length <= frame.length) return [encodeInput(frame, {})];
    const seeds = [encodeInput(expected, {}), encodeInput(expected, { switched: CHECKS_SOURCE })];
    if (!/gue[46] (tcp|udp)$/.test(name)) return seeds;
    return [...seeds, ...ANSWERS.map((random) => encodeInput(withAlternate(expected), { random }))];
  });
}

/** The same packet in GUE, with one alternate named. */
function withAlternate(frame: Uint8Array): Uint8Array {
  const isIpv4 = frame[12] === 0x08;
  const gue = 14 + (isIpv4 ? 20 : 40) + 8;
  const address = parseAddress(isIpv4 ? "10.0.0.12" : "fd10::12")!.bytes.subarray(isIpv4 ? 12 : 0);
  const field = Uint8Array.of(0x51, 1, 0, 0, ...address);
  const longer = Uint8Array.of(...frame.subarray(0, gue + 4), ...field, ...frame.subarray(gue + 4));
  const view = new DataView(longer.buffer);
  for (const at of [isIpv4 ? 16 : 18, gue - 4]) view.setUint16(at, view.getUint16(at) + field.length);
  longer[gue] = field.length / 4;
  return longer;
}

export const TARGETS: readonly Target[] = [
  { name: "pointsman", worlds: pointsmanWorlds, seeds: pointsmanSeeds },
  { name: "decap", worlds: () => [decapWorld()], seeds: decapSeeds },
];
