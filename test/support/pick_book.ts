// What picks draw and take, and how many flows destinations have: what the program's maps hold before a packet, as the
// model wants to know it, and what they have to hold after it. Compares the program with the model; knows no frame.

import type { Decision, FlowEntry, Packet } from "../../src/model/decide.ts";
import { opensConnection } from "../../src/model/decide.ts";
import { trackingOf } from "../../src/model/flow_decide.ts";
import type { NatFlow } from "../../src/model/nat.ts";
import { isNatService } from "../../src/model/nat_decide.ts";
import type { PickState } from "../../src/model/pick.ts";
import type { Service, ForwardingTable } from "../../src/model/table.ts";
import type { BpfWorld } from "./bpf_world.ts";
import type { Draws } from "./random.ts";

const STEP = 0x9e3779b97f4a7c15n;
const TURNS_MAX = 300;

/** The draw that comes after a state of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), 32 bits of it. */
export function drawAfter(random: bigint): number {
  const word = (value: bigint): bigint => BigInt.asUintN(64, value);
  let z = word(random + STEP);
  z = word((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
  z = word((z ^ (z >> 27n)) * 0x94d049bb133111ebn);
  return Number((z ^ (z >> 31n)) >> 32n);
}

interface Held {
  readonly random: bigint;
  readonly turn: number;
}

type Change = readonly [destination: number, by: 1 | -1];

export class PickBook {
  readonly #world: BpfWorld;
  readonly #services: readonly Service[];
  readonly #isOn: boolean;
  readonly #states = new Map<number, Held>();
  readonly #destinations = new Map<number, bigint>();
  readonly #totals = new Map<number, bigint>();

  /** `isOn`: the program has picks. */
  constructor(world: BpfWorld, table: ForwardingTable, draws: Draws, isOn: boolean) {
    this.#world = world;
    this.#services = table.services;
    this.#isOn = isOn;
    const { destinations, services } = world.loads();
    destinations.fill(0n);
    services.fill(0n);
    const load = (): bigint => BigInt(draws.between(-1, draws.pick([1, 8, 1000])));
    for (const id of table.destinations.keys()) this.#destinations.set(id, destinations[id] = load());
    for (const { index } of table.services) this.#totals.set(index, services[index] = load());
  }

  /** Before each packet. */
  draw(draws: Draws): void {
    for (const { index, picking } of this.#services) {
      if (picking === null) continue;
      const held = { random: (BigInt(draws.word()) << 32n | BigInt(draws.word())) | 1n, turn: draws.below(TURNS_MAX) };
      this.#states.set(index, held);
      this.#world.putPick(index, held);
    }
  }

  state({ index }: Service): PickState {
    const { random, turn } = this.#states.get(index)!;
    const atLeastNone = (count: bigint | undefined): number => Math.max(0, Number(count ?? 0n));
    return {
      draw: drawAfter(random), turn,
      load: (id) => atLeastNone(this.#destinations.get(id)), loadTotal: () => atLeastNone(this.#totals.get(index)),
    };
  }

  /** `held`: the entry of the packet's flow before it, of either table. */
  check(decision: Decision, held: FlowEntry | null, translated: NatFlow | null, packet: Packet | string): void {
    this.#checkStates(decision);
    const { service } = decision;
    if (!this.#isOn || service === null || typeof packet === "string") return;
    const changes = isNatService(service) ? natChanges(decision, translated, packet)
      : trackingOf(service) === "full" ? flowChanges(decision, held) : [];
    for (const [id, by] of changes) {
      this.#destinations.set(id, (this.#destinations.get(id) ?? 0n) + BigInt(by));
      this.#totals.set(service.index, this.#totals.get(service.index)! + BigInt(by));
    }
    this.#checkLoads([...changes.map(([id]) => id), ...decision.destination === null ? [] : [decision.destination.id]], [service.index]);
  }

  /** One CPU has drawn, and taken the turn, where the packet was picked for; nobody else has. */
  #checkStates({ service, how, effects }: Decision): void {
    for (const [index, before] of this.#states) {
      const picked = service?.index === index && how?.by === "pick";
      const changed = this.#world.picks(index).filter(({ random, turn }) => random !== before.random || turn !== before.turn);
      if (changed.length !== (picked ? 1 : 0))
        throw new Error(`service ${index}: ${changed.length} CPUs have picked, ${picked ? "one" : "none"} should have`);
      if (!picked) continue;
      const turn = effects.find((effect) => effect.kind === "take-turn")?.next ?? before.turn;
      const [after] = changed;
      if (after!.turn !== turn || after!.random !== BigInt.asUintN(64, before.random + STEP))
        throw new Error(`service ${index}: turn ${after!.turn} is next, and ${turn} should be`);
    }
  }

  #checkLoads(ids: Iterable<number>, indexes: Iterable<number>): void {
    const { destinations, services } = this.#world.loads();
    for (const id of ids) expectLoad(`destination ${id}`, destinations[id], this.#destinations.get(id));
    for (const index of indexes) expectLoad(`service ${index}`, services[index], this.#totals.get(index));
  }

  /** No other load has changed. */
  finish(): void {
    this.#checkLoads(this.#destinations.keys(), this.#totals.keys());
  }
}

function expectLoad(what: string, found: bigint | undefined, wanted: bigint | undefined): void {
  if (found !== wanted) throw new Error(`${what} has ${found} flows, and ${wanted} are wanted`);
}

function flowChanges({ effects }: Decision, held: FlowEntry | null): Change[] {
  const left: Change[] = held === null || held.closes === true ? [] : [[held.destination, -1]];
  return effects.flatMap((effect): Change[] => {
    switch (effect.kind) {
      case "remember": return effect.closes === true ? left : [...left, [effect.destination, 1]];
      case "touch": return effect.closes === undefined ? [] : [[held!.destination, effect.closes ? -1 : 1]];
      case "forget": return left;
      default: return [];
    }
  });
}

function natChanges({ verdict, destination, how }: Decision, held: NatFlow | null, packet: Packet): Change[] {
  if (verdict !== "TX_FORWARDED" || destination === null || packet.kind === "icmp-error") return [];
  const closes = packet.fin || packet.rst;
  if (how?.by !== "flow") return closes ? [] : [[destination.id, 1]];
  const before = held!.fin || held!.rst;
  const after = !opensConnection(packet) && (before || closes);
  return before === after ? [] : [[destination.id, after ? -1 : 1]];
}
