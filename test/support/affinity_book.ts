// Where clients have been: what the program's map holds before a packet, as the model wants to know it, and what it has
// to hold after it. Compares the program with the model; knows no frame.

import { affinityKey } from "../../src/model/affinity.ts";
import type { Decision, FlowEntry, Packet } from "../../src/model/decide.ts";
import type { ForwardingTable, Service } from "../../src/model/table.ts";
import { AffinityKey, FlowEntry as EntryValue } from "../../src/dataplane/xdp/abi.gen.ts";
import type { BpfWorld } from "./bpf_world.ts";
import { isSameEntry, TICK_NS } from "./flow_effects.ts";
import type { Draws } from "./random.ts";
import { randomClient } from "./random_tables.ts";

const CLIENTS = 12;
/** Fresh, and older than the shorter timeouts; a world is over sooner than either comes of age. */
const AGES_MS = [0, 0, 120_000];

/** The kernel's entry for a client of a service, or null. */
export function readAffinity(world: BpfWorld, key: Uint8Array): FlowEntry | null {
  const bytes = world.map("affinities").lookup(key);
  if (bytes === null) return null;
  const { destination, generation, lastSeenNs, other } = EntryValue.decode(bytes);
  if (other !== 0) throw new Error(`an affinity names somebody else: ${other}`);
  return { destination, generation, lastSeenNs };
}

export function affinityKeyBytes(service: Service, packet: Pick<Packet, "source">): Uint8Array {
  const { id, client } = affinityKey(service.affinity!, service.config, packet);
  return AffinityKey.encode({ affinityId: id, client });
}

export class AffinityBook {
  readonly #world: BpfWorld;
  readonly #isOn: boolean;
  readonly #held = new Map<string, { readonly key: Uint8Array; readonly entry: FlowEntry }>();

  /** `isOn`: the program knows affinities. */
  constructor(world: BpfWorld, table: ForwardingTable, draws: Draws, nowNs: bigint, isOn: boolean) {
    this.#world = world;
    this.#isOn = isOn;
    if (!isOn) return;
    for (const service of table.services) {
      if (service.affinity === null) continue;
      for (let made = 0; made < CLIENTS; made += 1) this.#put(draws, service, table, nowNs);
    }
  }

  #put(draws: Draws, service: Service, { destinations }: ForwardingTable, nowNs: bigint): void {
    const { address: { family } } = service.config.network;
    const key = affinityKeyBytes(service, { source: randomClient(draws, family) });
    // Or of nobody: what has another service's destinations has another id.
    const stray = draws.below(8);
    if (service.destinations.length === 0 && destinations.has(stray)) return;
    const id = service.destinations.length === 0 || (!destinations.has(stray) && draws.chance(0.2)) ? stray
      : draws.pick(service.destinations);
    const generation = (destinations.get(id)?.generation ?? 0) + (draws.chance(0.1) ? 1 : 0);
    const seenNs = nowNs - BigInt(draws.pick(AGES_MS)) * 1_000_000n;
    const entry = { destination: id, generation, lastSeenNs: seenNs < 0n ? 0n : seenNs };
    this.#world.map("affinities").update(key, EntryValue.encode({ ...entry, other: 0 }), 0);
    this.#held.set(key.join(), { key, entry });
  }

  held(service: Service, packet: Packet): FlowEntry | null {
    if (!this.#isOn) return null;
    return this.#held.get(affinityKeyBytes(service, packet).join())?.entry ?? null;
  }

  /** `decisions`: at the beginning and at the end of the packet's run, one of which the program took. */
  check(decisions: readonly Decision[], packet: Packet | string, startNs: bigint, endNs: bigint): void {
    const service = decisions[0]?.service ?? null;
    if (!this.#isOn || typeof packet === "string" || service === null || service.affinity === null) return;
    const key = affinityKeyBytes(service, packet);
    const held = this.#held.get(key.join())?.entry ?? null;
    const found = readAffinity(this.#world, key);
    if (decisions.every((decision) => !isKept(decision, held, found, startNs, endNs)))
      throw new Error(`an affinity is ${told(found)}, it was ${told(held)}`);
    if (found !== null) this.#held.set(key.join(), { key, entry: found });
  }

  /** Nobody else's was written. */
  finish(): void {
    for (const { key, entry } of this.#held.values())
      if (!isSameEntry(readAffinity(this.#world, key), entry)) throw new Error("an affinity was written that no packet was for");
    const count = this.#world.countOf("affinities");
    if (count !== this.#held.size) throw new Error(`${count} clients are remembered and not ${this.#held.size}`);
  }
}

function isKept({ effects }: Decision, held: FlowEntry | null, found: FlowEntry | null, startNs: bigint, endNs: bigint): boolean {
  const effect = effects.find((each) => each.kind === "keep-affinity");
  if (effect === undefined) return isSameEntry(found, held);
  return found !== null && found.destination === effect.destination && found.generation === effect.generation
    && found.lastSeenNs >= startNs - TICK_NS && found.lastSeenNs <= endNs;
}

function told(entry: FlowEntry | null): string {
  return entry === null ? "nobody's" : `${entry.destination}/${entry.generation} at ${entry.lastSeenNs}`;
}
