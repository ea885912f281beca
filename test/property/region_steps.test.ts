// The law of the steps, for services with regions: while databases, regions and services come and go, every client sees the
// old world or the new one, and never another region's backends or those that are for everybody else. Mutants of the order
// must be caught.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { diff } from "../../src/dataplane/xdp/diff.ts";
import { imageOf, UNRESOLVED, type Image } from "../../src/dataplane/xdp/image.ts";
import { emptyState, ledgerOf, record, type KernelState } from "../../src/dataplane/xdp/kernel_state.ts";
import type { Step } from "../../src/dataplane/xdp/steps.ts";
import { compile } from "../../src/model/compile.ts";
import type { Config } from "../../src/model/config.ts";
import { serviceFor, serviceOf } from "../../src/model/service_lookup.ts";
import { EMPTY_LEDGER, type ForwardingTable, type Ledger } from "../../src/model/table.ts";
import { address, configOf, locatedByNetworks, type GeoSketch } from "../support/configs.ts";
import { assertProperty, parameters } from "../support/counts.ts";
import { seededRandom } from "../support/fake_env.ts";
import { atRest, emptyMaps, moments, packetOfClient, type ModelMaps, type Outcome } from "../support/plane_model.ts";

const CAPACITIES = { services: 64, destinations: 32, flows: 16, fragments: 16, policies: 64, groupEntries: 64, quicConfigs: 8, quicServers: 8,
  natFlows: 8, affinities: 8 };
const CLIENTS = ["10.0.0.1", "10.0.1.1", "10.1.0.1", "192.0.2.1", "198.51.100.1"].map((text) => address(text).bytes);
const NETWORKS = ["10.0.0.0/8", "10.0.0.0/16", "10.0.1.0/24", "192.0.2.0/24", "0.0.0.0/0"];
const PLACES = [80, 81].map((port) => ({ address: address("203.0.113.10"), port }));
const POOLS = ["all", "a", "b", "c"];

/** By region: its networks, as positions, and its pool; null: the service is not there, or has no regions. */
type World = readonly (readonly { readonly name: string; readonly networks: readonly number[]; readonly pool: string }[] | null)[];

const world: fc.Arbitrary<World> = fc.array(fc.option(fc.uniqueArray(fc.record({
  name: fc.constantFrom("eu", "us", "lab"),
  networks: fc.uniqueArray(fc.nat(NETWORKS.length - 1), { minLength: 1 }),
  pool: fc.constantFrom(...POOLS),
}), { selector: ({ name }) => name, maxLength: 3 }), { freq: 4 }), { minLength: PLACES.length, maxLength: PLACES.length });

/** A network is one region's alone. */
function configFor(wanted: World): Config {
  const services = wanted.flatMap((regions, at) => {
    if (regions === null) return [];
    const taken = new Set<number>();
    const drawn = regions.map(({ name, networks, pool }) => {
      const own = networks.filter((network) => !taken.has(network));
      for (const network of own) taken.add(network);
      return { name, pool, networks: own.map((network) => NETWORKS[network]!) };
    }).filter(({ networks }) => networks.length > 0);
    const geo: GeoSketch = { regions: drawn };
    return [{ name: `s${at}`, port: PLACES[at]!.port, pool: "all", tracking: "minimal" as const, ...(drawn.length === 0 ? {} : { geo }) }];
  });
  const pools = Object.fromEntries(POOLS.map((pool, at) => [pool, [{ name: pool, address: `10.9.0.${at + 1}`, port: 80 }]]));
  const config = configOf({ pools, services, limits: { services: 64, backends: 16 } });
  return { ...config, services: config.services.map((service) => {
    const regions = service.geo?.regions.map((each) => ({ ...each, networks: each.networks.map(({ text }) => text) }));
    return regions === undefined ? service : { ...service, geo: locatedByNetworks({ regions }) };
  }) };
}

function imageFor(table: ForwardingTable): Image {
  return imageOf(table, { attached: [1], view: () => ({ nextHop: { ...UNRESOLVED, resolved: true, ifindex: 1 }, tunnelSource: null }) });
}

/** Where a new connection goes. */
function toOf(table: ForwardingTable, place: (typeof PLACES)[number], client: Uint8Array): Outcome["to"] {
  const asked = serviceOf(table, place.address.bytes, place.port, 6);
  if (asked === null) return "pass";
  return table.destinations.get(serviceFor(table, asked, client).ring.slots[0]!)?.identity ?? "nobody";
}

interface Reader {
  readonly name: string;
  readonly packet: Generator<undefined, Outcome>;
  readonly tos: Set<Outcome["to"]>;
}

type Mutate = (steps: readonly Step[]) => Step[];

class Plane {
  readonly maps: ModelMaps = emptyMaps();
  readonly state: KernelState = emptyState(CAPACITIES, new Set());
  readonly random: () => number;
  readers: Reader[] = [];
  /** What clients may meet, by reader's name: before this change, and after it. */
  legal = new Map<string, Set<Outcome["to"]>>();

  constructor(seed: number) {
    this.random = seededRandom(seed);
  }

  change(table: ForwardingTable, length: number, mutate: Mutate): void {
    const steps = diff(this.state, imageFor(table)).slice(0, length);
    const legal = new Map<string, Set<Outcome["to"]>>();
    for (const [name, place, client] of everyClient()) {
      legal.set(name, new Set([toOf(table, place, client), atRest(packetOfClient(this.maps, place, client)).to]));
    }
    this.legal = legal;
    for (const reader of this.readers) for (const to of legal.get(reader.name) ?? []) reader.tos.add(to);
    for (const step of mutate(steps)) {
      if (step.kind === "grace-period") this.finish();
      for (const moment of moments(this.maps, step)) {
        this.spawn();
        this.progress();
        moment();
      }
    }
    for (const step of steps) record(this.state, step);
  }

  spawn(): void {
    for (const [name, place, client] of everyClient()) {
      if (this.random() < 0.3) this.readers.push({ name, packet: packetOfClient(this.maps, place, client), tos: new Set(this.legal.get(name)) });
    }
  }

  progress(): void {
    this.readers = this.readers.filter((reader) => {
      if (this.random() < 0.5) return true;
      const next = reader.packet.next();
      if (next.done === true) check(reader, next.value);
      return next.done !== true;
    });
  }

  finish(): void {
    for (const reader of this.readers) check(reader, atRest(reader.packet));
    this.readers = [];
  }
}

function everyClient(): [string, (typeof PLACES)[number], Uint8Array][] {
  return PLACES.flatMap((place) => CLIENTS.map((client, at): [string, typeof place, Uint8Array] =>
    [`client ${at} of ${place.port}`, place, client]));
}

function check({ name, tos }: Reader, { to }: Outcome): void {
  if (!tos.has(to)) throw new Error(`${name}: ${to}, not one of ${[...tos].join(", ")}`);
}

const AS_PLANNED: Mutate = (steps) => [...steps];
const histories = fc.tuple(
  fc.array(world, { minLength: 1, maxLength: 5 }), fc.array(fc.constantFrom(1, 1, 1, 0.3, 0.7), { maxLength: 5 }), fc.nat(),
);

/** Lives through the worlds; `breaks[i]` is the share of the steps that is taken, 1 for all. */
function live(sequence: readonly World[], breaks: readonly number[], seed: number, mutate: Mutate): void {
  const plane = new Plane(seed);
  let [ledger, nowMs]: [Ledger, number] = [EMPTY_LEDGER, 1000];
  for (const [at, wanted] of sequence.entries()) {
    const changes = { nowMs, shown: { destinations: ledger.destinations, slots: ledger.slots }, sweeps: new Map() };
    const intent = { config: configFor(wanted), hashSeed: 1n, overrides: [], health: new Map(), nowMs: 0 };
    const table = compile(intent, { ledger, generation: at, changes });
    const share = breaks[at] ?? 1;
    const { length } = diff(plane.state, imageFor(table));
    plane.change(table, share === 1 ? Infinity : Math.floor(share * length), mutate);
    // After a failure the ledger of the kernel counts, as after adoption.
    ledger = share === 1 ? table.ledger : ledgerOf(plane.state);
    nowMs += 10_000;
    if (share !== 1) continue;
    expect(diff(plane.state, imageFor(table))).toEqual([]);
    expect(plane.state.regionTables.size).toBeLessThanOrEqual(2 * PLACES.length);
    for (const [, place, client] of everyClient()) {
      expect(atRest(packetOfClient(plane.maps, place, client)).to).toBe(toOf(table, place, client));
    }
  }
  plane.finish();
}

describe("changes of regions", () => {
  it("show every client the old world or the new one, whatever comes and goes and wherever it breaks off", () => {
    assertProperty("region-steps", fc.property(histories, ([sequence, breaks, seed]) => { live(sequence, breaks, seed, AS_PLANNED); }));
  });

  const only = (...kinds: Step["kind"][]) => (step: Step): boolean => kinds.includes(step.kind);
  const first = (chosen: (step: Step) => boolean): Mutate => (steps) =>
    [...steps.filter(chosen), ...steps.filter((step) => !chosen(step))];
  const last = (chosen: (step: Step) => boolean): Mutate => (steps) =>
    [...steps.filter((step) => !chosen(step)), ...steps.filter(chosen)];
  const isOfRegion = (step: Step): boolean => "key" in step && step.key.region !== null;
  const mutants: Readonly<Record<string, Mutate>> = {
    "no grace period": (steps) => steps.filter(({ kind }) => kind !== "grace-period"),
    "tables behind the versions that name them": last(only("write-region-table")),
    "tables that go while they are named": first(only("release-region-table")),
    "services of regions behind those that lead to them": last(only("add-region-service")),
    "nobody led to services of regions": (steps) => steps.filter(({ kind }) => kind !== "add-region-service"),
    "services of regions that are left too soon": first(only("remove-region-service")),
    "versions of regions before their table": first((step) => step.kind === "activate-version" && step.index > 1),
    "versions of regions that wait to count": (steps) => steps.map((step) =>
      step.kind === "add-region-service" ? { ...step, of: { ...step.of, version: null } } : step),
    "versions of regions last": (steps) => [...steps].sort((a, b) => Number(isVersionOfRegion(a, steps)) - Number(isVersionOfRegion(b, steps))),
    "the table of before in the place of that of now": (steps) => steps.map((step) => {
      const regions = step.kind === "write-version" ? step.value.regions : null;
      if (step.kind !== "write-version" || regions === null || regions.before === null) return step;
      return { ...step, value: { ...step.value, regions: { ...regions, table: regions.before.table } } };
    }),
  };
  const isVersionOfRegion = (step: Step, steps: readonly Step[]): boolean => (step.kind === "write-version" || step.kind === "activate-version")
    && steps.some((each) => isOfRegion(each) && "index" in each && each.index === step.index);
  for (const [name, mutate] of Object.entries(mutants)) {
    it(`are caught with ${name}`, () => {
      const found = fc.check(fc.property(histories, ([sequence, breaks, seed]) => { live(sequence, breaks, seed, mutate); }),
        { ...parameters("region-steps"), numRuns: 1000, endOnFailure: true });
      expect(found.failed).toBe(true);
    });
  }
});
