// The law of the steps: after any prefix, and for packets that read the maps while steps go on, everybody
// sees the old world or the new one: nothing torn, no stranger, no gap. Random worlds follow one another,
// some plans are broken off half-way; mutants of the order must be caught.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SlotWord } from "../../src/dataplane/xdp/abi.gen.ts";
import { diff } from "../../src/dataplane/xdp/diff.ts";
import { emptyState, ledgerOf, record, type KernelState } from "../../src/dataplane/xdp/kernel_state.ts";
import { serviceKeyText, type Image, type ServiceImage } from "../../src/dataplane/xdp/image.ts";
import type { Step } from "../../src/dataplane/xdp/steps.ts";
import { compareSpecificity, holdsAddress, holdsPort } from "../../src/model/service_address.ts";
import { EMPTY_LEDGER, type ForwardingTable, type Ledger } from "../../src/model/table.ts";
import { assertProperty, parameters } from "../support/counts.ts";
import {
  atRest, emptyMaps, hopText, moments, packetByCid, packetByFlow, packetByRing, packetOfService, serviceIndexOf,
  shownBefore, slotBefore, TORN,
  type ModelMaps, type Outcome,
} from "../support/plane_model.ts";
import {
  BACKENDS, compileWorld, identityOf, PACKETS, serverIdOf, worlds, type PacketPlace, type World,
} from "../support/plane_world.ts";
import { seededRandom } from "../support/fake_env.ts";

const SLOTS = 7;
const CAPACITIES = { services: 8, destinations: 8, flows: 16, fragments: 16, policies: 64, groupEntries: 64, quicConfigs: 8, quicServers: 8,
  natFlows: 8, affinities: 8 };

type To = Outcome["to"];

/** What packets may come to while one change is made. */
interface Legal {
  /** Where, by the packet's name. */
  readonly tos: ReadonlyMap<string, ReadonlySet<To>>;
  /** How, by the destination's identity. */
  readonly ways: ReadonlyMap<bigint, ReadonlySet<string>>;
}

interface Reader {
  readonly name: string;
  readonly packet: Generator<undefined, Outcome>;
  readonly tos: Set<To>;
  readonly ways: Map<bigint, Set<string>>;
}

/** A packet may live through several changes; it may then meet what any of them allows. */
function extend(reader: Reader, legal: Legal): void {
  for (const to of legal.tos.get(reader.name) ?? []) reader.tos.add(to);
  for (const [identity, texts] of legal.ways) {
    reader.ways.set(identity, new Set([...reader.ways.get(identity) ?? [], ...texts]));
  }
}

type Mutate = (steps: readonly Step[]) => Step[];

/** A plane in the model, and the packets that are under way in it. */
class Plane {
  readonly maps: ModelMaps = emptyMaps();
  readonly state: KernelState = emptyState(CAPACITIES, new Set());
  readers: Reader[] = [];
  readonly flows: { id: number; generation: number; identity: bigint }[] = [];
  readonly random: () => number;

  constructor(seed: number) {
    this.random = seededRandom(seed);
  }

  /** Takes the first `length` steps to the image, with packets reading all the while. */
  change(image: Image, length: number, mutate: Mutate): void {
    const steps = diff(this.state, image).slice(0, length);
    this.remember();
    const legal = this.legalOutcomes(image);
    for (const reader of this.readers) extend(reader, legal);
    for (const step of mutate(steps)) {
      if (step.kind === "grace-period") this.finish();
      for (const moment of moments(this.maps, step)) {
        this.spawn(legal);
        this.progress();
        moment();
        this.progress();
      }
    }
    // Mutants change what is done, not what the plane believes it did.
    for (const step of steps) record(this.state, step);
  }

  spawn(legal: Legal): void {
    const [kind, a, b] = [this.random(), this.random(), this.random()];
    if (kind < 0.7) {
      const place = PACKETS[Math.floor(a * PACKETS.length)]!;
      const slot = Math.floor(b * SLOTS);
      this.add(nameOf(place, slot), packetByRing(this.maps, place, slot), legal);
      return;
    }
    if (kind > 0.85) {
      const [place, backend] = [PACKETS[Math.floor(a * PACKETS.length)]!, Math.floor(b * BACKENDS)];
      const slot = Math.floor(this.random() * SLOTS);
      const packet = packetByCid(this.maps, place, serverIdOf(backend), slot);
      this.add(`${nameOf(place, slot)} or ID of ${backend}`, packet, legal);
      return;
    }
    const flow = this.flows[Math.floor(a * this.flows.length)];
    if (flow === undefined) return;
    this.add(`flow of ${flow.identity}`, packetByFlow(this.maps, flow.id, flow.generation), legal);
  }

  /** Flows to every destination that is there now, as entries of the flow table. */
  remember(): void {
    for (const [id, { given, generation, identity }] of this.maps.destinations) {
      if (!given || identity === TORN) continue;
      if (this.flows.some((flow) => flow.id === id && flow.generation === generation && flow.identity === identity)) continue;
      this.flows.push({ id, generation, identity });
    }
  }

  add(name: string, packet: Generator<undefined, Outcome>, legal: Legal): void {
    const reader: Reader = { name, packet, tos: new Set(), ways: new Map() };
    extend(reader, legal);
    this.readers.push(reader);
  }

  progress(): void {
    this.readers = this.readers.filter((reader) => {
      if (this.random() < 0.6) return true;
      const next = reader.packet.next();
      if (next.done === true) check(reader, next.value);
      return next.done !== true;
    });
  }

  /** A grace period: every packet that is under way ends. */
  finish(): void {
    for (const reader of this.readers) check(reader, atRest(reader.packet));
    this.readers = [];
  }

  legalOutcomes(image: Image): Legal {
    const after = waysOf(image);
    const ways = new Map<bigint, Set<string>>();
    for (const [identity, way] of after) ways.set(identity, new Set([wayText(way.hop, way.source)]));
    for (const destination of this.maps.destinations.values()) {
      if (!destination.given || destination.identity === TORN) continue;
      const { identity, hops, active, source } = destination;
      const texts = ways.get(identity) ?? new Set<string>();
      ways.set(identity, texts.add(wayText(hops[active], source)));
      const next = after.get(identity);
      if (next === undefined) continue;
      texts.add(wayText(next.hop, source)).add(wayText(hops[active], next.source));
      // The outer source of IPv6 cannot change at once: in between, nobody is sent that way.
      if (next.source !== source) texts.add("unresolved");
    }
    const tos = new Map<string, Set<To>>();
    const handed = this.handedOver(image);
    for (const place of PACKETS) {
      for (let slot = 0; slot < SLOTS; slot++) {
        const legal = this.tosOf(image, place, slot);
        // Where an id changes hands within one table, its slots are nobody's for a grace period.
        if ([...legal].some((to) => handed.has(to))) legal.add("nobody");
        tos.set(nameOf(place, slot), legal);
        for (let backend = 0; backend < BACKENDS; backend++) {
          const named = new Set<To>([...legal, identityOf(backend)]);
          if (handed.has(identityOf(backend))) named.add("nobody");
          tos.set(`${nameOf(place, slot)} or ID of ${backend}`, named);
        }
      }
    }
    for (const identity of [...ways.keys(), ...this.flows.map((flow) => flow.identity)]) {
      const name = `flow of ${identity}`;
      tos.set(name, new Set<To>(after.has(identity) ? [identity, "pass"] : [identity, "pass", "nobody"]));
    }
    return { tos, ways };
  }

  /** By the service that it has or the one that it is to have, each as it is or as it is to be. */
  tosOf(image: Image, place: PacketPlace, slot: number): Set<To> {
    const index = atRest(serviceIndexOf(this.maps, place));
    const after = serviceFor(image, place);
    const tos = new Set<To>([...this.shownTos(image, index, slot), ...this.wantedTos(image, after, slot)]);
    const before = index === undefined ? undefined : image.services.get(index);
    if (before !== undefined && this.maps.services.get(serviceKeyText(before.key)) === index) {
      for (const to of this.wantedTos(image, before, slot)) tos.add(to);
    }
    if (after !== undefined && this.maps.services.get(serviceKeyText(after.key)) === after.index) {
      for (const to of this.shownTos(image, after.index, slot)) tos.add(to);
    }
    return tos;
  }

  /** By its ring as it is shown, or by the ring of before, as flags change meanwhile. */
  shownTos(image: Image, index: number | undefined, slot: number): To[] {
    if (index === undefined) return ["pass"];
    const owner = atRest(packetOfService(this.maps, index, slot, "its ring")).to;
    return this.orNobody(image, owner, this.ownerOf(image, shownBefore(this.maps, index, slot)) ?? owner);
  }

  wantedTos(image: Image, service: ServiceImage | undefined, slot: number): To[] {
    const owner = toOf(image, service, slot);
    const before = image.destinations.get(idBefore(image, service, slot))?.identity;
    return this.orNobody(image, owner, before ?? this.ownerOf(image, idBefore(image, service, slot)) ?? owner);
  }

  /** Whose an id is; who is gone and does not come back has none. */
  ownerOf(image: Image, id: number): To | null {
    const held = this.maps.destinations.get(id);
    if (held === undefined || held.identity === TORN) return null;
    return held.given || image.destinations.get(id)?.identity === held.identity ? held.identity : null;
  }

  /** One that goes may go while a packet that the ring of before sends there is under way. */
  orNobody(image: Image, owner: To, before: To): To[] {
    const isGone = before !== owner && typeof before === "bigint"
      && ![...image.destinations.values()].some(({ identity }) => identity === before);
    return isGone ? [owner, before, "nobody"] : [owner, before];
  }

  /** Identities that give an id to another one, or take it, at this change. */
  handedOver(image: Image): Set<To> {
    const handed = new Set<To>();
    for (const [id, { identity, given }] of this.maps.destinations) {
      const next = image.destinations.get(id)?.identity;
      if (given && next !== undefined && next !== identity) handed.add(identity).add(next);
    }
    return handed;
  }
}

function wayText(hop: string, source: string): string {
  return hop === "unresolved" ? hop : `${hop} from ${source}`;
}

function waysOf(image: Image): Map<bigint, { hop: string; source: string }> {
  return new Map([...image.destinations.values()].map(({ identity, route }) => {
    const hop = hopText(route.nextHop);
    const source = route.tunnelSource?.text ?? "none";
    return [identity, { hop, source }];
  }));
}

function nameOf({ address, port }: PacketPlace, slot: number): string {
  return `${address.text}:${port} slot ${slot}`;
}

/** The most specific of the services that have this address and port. */
function serviceFor(image: Image, { address, port }: PacketPlace): ServiceImage | undefined {
  const [service] = [...image.services.values()]
    .filter(({ key }) => holdsAddress(key.network, address.bytes) && holdsPort(key.ports, port))
    .sort((a, b) => compareSpecificity(a.key, b.key));
  return service;
}

/** By its ring alone. */
function toOf(image: Image, service: ServiceImage | undefined, slot: number): To {
  if (service === undefined) return "pass";
  const word = image.rings.get(service.version.scheme.ringKey)!.slots[slot]!;
  return image.destinations.get(word & SlotWord.SLOT_BACKEND_MASK)!.identity;
}

/** Whom the ring of before has there; 0: nobody, or there is none. */
function idBefore(image: Image, service: ServiceImage | undefined, slot: number): number {
  const version = service?.version;
  if (version === undefined || version.predecessor === null) return 0;
  const { ringKey, ringSize } = version.predecessor;
  return image.rings.get(ringKey)!.slots[slotBefore(version.isRehashed, slot) % ringSize]!;
}

/** Of a flow that was there already. */
function toOfOlder(image: Image, service: ServiceImage | undefined, slot: number): To {
  const before = image.destinations.get(idBefore(image, service, slot));
  return before?.live === true ? before.identity : toOf(image, service, slot);
}

/** Whose connection IDs lead there, or null: flow and ring decide. */
function namedBy(table: ForwardingTable, index: number, backend: number): To | null {
  const service = table.services.find((each) => each.index === index);
  const id = service?.quicLb?.servers.get(serverIdOf(backend));
  const destination = table.destinations.get(id ?? 0);
  return destination?.alive === true ? destination.identity : null;
}

function check(reader: Reader, { to, hop, source }: Outcome): void {
  const way = wayText(hop ?? "", source ?? "");
  if (!reader.tos.has(to)) throw new Error(`${reader.name}: ${to}, not one of ${[...reader.tos].join(", ")}`);
  if (typeof to === "bigint" && reader.ways.get(to)?.has(way) !== true) {
    throw new Error(`${reader.name}: to ${to} by ${way}, not one of ${[...reader.ways.get(to) ?? []].join("; ")}`);
  }
}

const AS_PLANNED: Mutate = (steps) => [...steps];

/** A hundred thousand times and more, for which vitest's own word takes seconds. */
function expectSame(found: To, wanted: To): void {
  if (found !== wanted) expect(found).toBe(wanted);
}

/** Lives through the worlds; `breaks[i]` is the share of the steps that is taken, 1 for all. */
function live(sequence: readonly World[], breaks: readonly number[], seed: number, mutate: Mutate): void {
  const plane = new Plane(seed);
  let ledger: Ledger = EMPTY_LEDGER;
  sequence.forEach((world, at) => {
    const { table, image } = compileWorld(world, ledger);
    const steps = diff(plane.state, image).length;
    const share = breaks[at] ?? 1;
    plane.change(image, share === 1 ? Infinity : Math.floor(share * steps), mutate);
    // After a failure the ledger of the kernel counts, as after adoption.
    ledger = share === 1 ? table.ledger : ledgerOf(plane.state);
    if (share !== 1) return;
    expect(diff(plane.state, image)).toEqual([]);
    for (const place of PACKETS) {
      for (let slot = 0; slot < SLOTS; slot++) {
        const byRing = toOfOlder(image, serviceFor(image, place), slot);
        expectSame(atRest(packetByRing(plane.maps, place, slot)).to, byRing);
        for (let backend = 0; backend < BACKENDS; backend++) {
          const found = atRest(packetByCid(plane.maps, place, serverIdOf(backend), slot)).to;
          expectSame(found, namedBy(table, serviceFor(image, place)?.index ?? -1, backend) ?? byRing);
        }
      }
    }
  });
  plane.finish();
}

const histories = fc.tuple(
  fc.array(worlds, { minLength: 2, maxLength: 6 }),
  fc.array(fc.oneof(fc.constant(1), fc.double({ min: 0, max: 0.99, noNaN: true })), { maxLength: 6 }),
  fc.nat(),
);

describe("steps", () => {
  it("show every packet the old world or the new one, after any prefix", () => {
    assertProperty("image", fc.property(histories, ([sequence, breaks, seed]) => {
      live(sequence, breaks, seed, AS_PLANNED);
    }));
  });

  it("send nobody to whoever has the id now of a backend that the ring of before still names", () => {
    const none = Array<number>(BACKENDS).fill(0);
    const quiet = { alive: none.map(() => false), hops: none, sources: none };
    const service = {
      number: 0, seed: 1n, deny: false, quic: 0, marks: [0, 0, 0, 0, 0, 0, 0],
      before: { kind: "none", backends: [null, null, null, null, null, null, null] },
    } as const;
    const sequence: readonly World[] = [
      { ...quiet, pool: [0, 1, 2, 3, 4], services: [{ ...service, slots: [0, 1, 2, 3, 4, 0, 0] }] },
      // Backend 1 goes, and its flows are where they were as far as anybody knows.
      { ...quiet, pool: [0, 2, 3, 4, 1], services: [{
        ...service, slots: [0, 1, 2, 3, 0, 0, 0], before: { kind: "same", backends: [null, 1, null, null, null, 1, null] },
      }] },
      // Another service has a new backend, for which there is no id but that one's.
      { ...quiet, pool: [0, 2, 3, 4, 5], alive: quiet.alive.map((_, backend) => backend === 5), services: [
        { ...service, slots: [0, 1, 2, 3, 0, 0, 0] }, { ...service, number: 1, slots: [4, 4, 4, 4, 4, 4, 4] },
      ] },
    ];
    for (let seed = 0; seed < 300; seed += 1) live(sequence, [], seed, AS_PLANNED);
  });

  const only = (...kinds: Step["kind"][]) => (step: Step): boolean => kinds.includes(step.kind);
  const first = (chosen: (step: Step) => boolean): Mutate => (steps) =>
    [...steps.filter(chosen), ...steps.filter((step) => !chosen(step))];
  const last = (chosen: (step: Step) => boolean): Mutate => (steps) =>
    [...steps.filter((step) => !chosen(step)), ...steps.filter(chosen)];
  /** The steps of one kind in the opposite order, where they stand. */
  const reordered = (steps: readonly Step[], kind: Step["kind"]): Step[] => {
    const turned = steps.filter((step) => step.kind === kind).reverse();
    return steps.map((step) => step.kind === kind ? turned.shift()! : step);
  };
  const each = (change: (step: Step) => Step): Mutate => (steps) => steps.map(change);
  const mutants: Readonly<Record<string, Mutate>> = {
    "reversed order": (steps) => [...steps].reverse(),
    "no grace period": (steps) => steps.filter((step) => step.kind !== "grace-period"),
    "grace periods at the end": last(only("grace-period")),
    "versions count before they are written": first(only("activate-version")),
    "rings after the versions that name them": last(only("create-ring", "write-ring")),
    "destinations after the rings that name them": last(only("write-destination")),
    "keys before versions": first(only("add-service")),
    "retired before the flip": first(only("retire-destination")),
    "interfaces after the next hops": last(only("add-device")),
    "next hops written in place": each((step) =>
      step.kind === "write-next-hop" ? { ...step, half: step.half === 0 ? 1 : 0 } : step),
    "versions written in place": each((step) =>
      step.kind === "write-version" ? { ...step, version: step.version === 0 ? 1 : 0 } : step),
    "the generation of a reused id stays": each((step) => {
      if (step.kind === "retire-destination") return { ...step, generation: step.generation - 1 };
      if (step.kind !== "write-destination") return step;
      return { ...step, destination: { ...step.destination, generation: 1 } };
    }),
    "outer sources written under way": (steps) => steps.filter((step) =>
      !(step.kind === "write-next-hop" && !step.nextHop.resolved)),
    "prefixes before their groups": first(only("set-address-group")),
    "groups before their services": first(only("set-address-group", "add-group-ports")),
    "prefixes that go before those that come": first(only("remove-address-group")),
    "shorter prefixes first": (steps) => reordered(steps, "set-address-group"),
    "longer prefixes go first": (steps) => reordered(steps, "remove-address-group"),
    "exact services go before their prefixes come": first(only("remove-service")),
    "groups emptied at once": first(only("remove-group-ports")),
    "server IDs lead to destinations that are not there yet": first(only("write-quic-server")),
    "server IDs outlive their destinations": last(only("remove-quic-server")),
    "connection IDs are read while another key is written": (steps) => steps.filter(({ kind }, at) =>
      kind !== "grace-period" || steps[at + 1]?.kind !== "write-quic-config"),
    "the ring of before is left out": each((step) =>
      step.kind === "write-version" ? { ...step, value: { ...step.value, predecessor: null } } : step),
    "the ring of before is another place": each((step) => {
      if (step.kind !== "write-version" || step.value.predecessor === null) return step;
      const { predecessor } = step.value;
      return { ...step, value: { ...step.value, predecessor: { ...predecessor, ringId: predecessor.ringId ^ 1 } } };
    }),
    "removed services keep their key": (steps) => steps.filter((step) => step.kind !== "remove-service"),
  };
  for (const [name, mutate] of Object.entries(mutants)) {
    it(`are caught with ${name}`, () => {
      const found = fc.check(fc.property(histories, ([sequence, breaks, seed]) => {
        live(sequence, breaks, seed, mutate);
      }), { ...parameters("image"), numRuns: 1000, endOnFailure: true });
      expect(found.failed).toBe(true);
    });
  }
});
