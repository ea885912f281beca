// What both sides of the differential test know of fragmented datagrams: seeded with a random
// world's, and kept in step with what decide() asks for. Knows the map's form through BpfWorld;
// knows no flow.

import type { Decision } from "../../src/model/decide.ts";
import type { FragmentEntry } from "../../src/model/fragment.ts";
import { fragmentKeyOf } from "../../src/model/packet.ts";
import type { FragmentTuple, ParsedPacket } from "../../src/model/packet.ts";
import type { BpfWorld } from "./bpf_world.ts";

interface Known {
  readonly tuple: FragmentTuple;
  readonly entry: FragmentEntry;
}

export class FragmentBook {
  readonly #world: BpfWorld;
  readonly #known = new Map<string, Known>();

  constructor(world: BpfWorld, seeded: readonly Known[]) {
    this.#world = world;
    for (const { tuple, entry } of seeded) {
      world.putFragment(tuple, entry);
      this.#known.set(textOf(tuple), { tuple, entry });
    }
  }

  /** What a look-up finds for this packet; null for what is no later fragment. */
  held(packet: ParsedPacket): FragmentEntry | null {
    if (packet.kind !== "later-fragment") return null;
    return this.#known.get(textOf(fragmentKeyOf(packet)))?.entry ?? null;
  }

  /** Compares what the program wrote, between these times, with what was wanted. Throws. */
  check(packet: ParsedPacket, decision: Decision, fromNs: bigint, toNs: bigint): void {
    if (packet.kind !== "first-fragment" && packet.kind !== "later-fragment") return;
    const tuple = fragmentKeyOf(packet);
    const found = this.#world.fragment(tuple);
    if (!decision.effects.some(({ kind }) => kind === "remember-fragment")) {
      const held = this.#known.get(textOf(tuple))?.entry ?? null;
      if (!isSame(held, found)) throw new Error(`no fragment wanted, found ${show(found)}`);
      return;
    }
    if (
      found === null ||
      found.sourcePort !== packet.sourcePort ||
      found.destinationPort !== packet.destinationPort ||
      found.protocol !== packet.protocol ||
      found.rememberedNs < fromNs ||
      found.rememberedNs > toNs
    )
      throw new Error(`remember-fragment wanted, found ${show(found)}`);
    this.#known.set(textOf(tuple), { tuple, entry: found });
  }

  /** Nothing else was written: no key but the right ones, and no entry but these. */
  finish(): void {
    const count = this.#world.countOf("fragments");
    if (count !== this.#known.size)
      throw new Error(`${count} fragments are remembered and not ${this.#known.size}`);
    for (const { tuple, entry } of this.#known.values()) {
      if (!isSame(this.#world.fragment(tuple), entry))
        throw new Error("a fragment was written that no packet was of");
    }
  }
}

function textOf({ source, destination, identification, protocol }: FragmentTuple): string {
  return [...source, ...destination, identification, protocol].join();
}

function isSame(a: FragmentEntry | null, b: FragmentEntry | null): boolean {
  return show(a) === show(b);
}

function show(entry: FragmentEntry | null): string {
  if (entry === null) return "none";
  const { sourcePort, destinationPort, protocol, rememberedNs } = entry;
  return `${protocol} ${sourcePort} to ${destinationPort} at ${rememberedNs}`;
}
