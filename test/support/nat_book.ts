// What both sides of the differential test know of translated flows: seeded with a random world's, and
// kept in step with what decide() asks for. Knows the map's form through its codec; knows no packet.

import { decodeFlowKey, decodeNatFlow, encodeFlowKey, encodeNatFlow } from "../../src/dataplane/xdp/nat_values.ts";
import type { Decision } from "../../src/model/decide.ts";
import type { NatFlow } from "../../src/model/nat.ts";
import type { FlowTuple } from "../../src/model/packet.ts";
import type { BpfWorld } from "./bpf_world.ts";
import { TICK_NS } from "./flow_effects.ts";

export interface KnownNat {
  readonly key: FlowTuple;
  readonly flow: NatFlow;
}

export class NatBook {
  readonly #world: BpfWorld;
  readonly #known = new Map<string, KnownNat>();

  constructor(world: BpfWorld, seeded: readonly KnownNat[]) {
    this.#world = world;
    for (const one of seeded) {
      world.map("nat_flows").update(encodeFlowKey(one.key), encodeNatFlow(one.flow), 0);
      this.#known.set(textOf(one.key), one);
    }
  }

  find(key: FlowTuple): NatFlow | null {
    return this.#known.get(textOf(key))?.flow ?? null;
  }

  /** Keys under which backends answer. */
  replies(): FlowTuple[] {
    return [...this.#known.values()].filter(({ flow }) => flow.reply).map(({ key }) => key);
  }

  /** Takes over what was wanted if the program wrote it, between these times; else says what differs. */
  take(decision: Decision, startNs: bigint, endNs: bigint): string | null {
    const wanted = new Map<string, { key: FlowTuple; entry: NatFlow | null }>();
    for (const effect of decision.effects) {
      if (effect.kind === "nat-write") wanted.set(textOf(effect.key), effect);
    }
    const found: KnownNat[] = [];
    for (const { key, entry } of wanted.values()) {
      const bytes = this.#world.map("nat_flows").lookup(encodeFlowKey(key));
      const flow = bytes === null ? null : decodeNatFlow(bytes);
      const problem = difference(entry, flow, startNs, endNs);
      if (problem !== null) return `${problem} under ${textOf(key)}`;
      if (flow !== null) found.push({ key, flow });
    }
    for (const text of wanted.keys()) this.#known.delete(text);
    for (const one of found) this.#known.set(textOf(one.key), one);
    return null;
  }

  /** Nothing else was written. */
  finish(): void {
    const map = this.#world.map("nat_flows");
    let count = 0;
    for (let key = map.nextKey(null); key !== null; key = map.nextKey(key)) {
      count += 1;
      const known = this.#known.get(textOf(decodeFlowKey(key)));
      const flow = decodeNatFlow(map.lookup(key)!);
      if (known === undefined || show(known.flow) !== show(flow))
        throw new Error(`a translated flow that no packet asked for: ${show(flow)}`);
    }
    if (count !== this.#known.size)
      throw new Error(`${count} entries of translated flows and not ${this.#known.size}`);
  }
}

function difference(
  wanted: NatFlow | null, found: NatFlow | null, startNs: bigint, endNs: bigint,
): string | null {
  if (wanted === null || found === null)
    return wanted === found ? null : `${show(wanted)} wanted, found ${show(found)}`;
  const isNow = found.lastSeenNs >= startNs - TICK_NS && found.lastSeenNs <= endNs;
  // A time of this run stands for any other of it.
  const expected = wanted.lastSeenNs >= startNs && wanted.lastSeenNs <= endNs && isNow
    ? { ...wanted, lastSeenNs: found.lastSeenNs } : wanted;
  return show(expected) === show(found) ? null : `${show(wanted)} wanted, found ${show(found)}`;
}

function textOf({ source, sourcePort, destination, destinationPort, protocol }: FlowTuple): string {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
  return `${protocol} ${hex(source)}:${sourcePort}>${hex(destination)}:${destinationPort}`;
}

function show(flow: NatFlow | null): string {
  if (flow === null) return "none";
  const { way, other, lastSeenNs, ...rest } = flow;
  const tags = Buffer.from(way.tags).toString("hex");
  const macs = `${Buffer.from(way.clientMac).toString("hex")}/${Buffer.from(way.ownMac).toString("hex")}`;
  const sorted = Object.entries(rest).sort(([a], [b]) => (a < b ? -1 : 1));
  return `${JSON.stringify(sorted)} at ${lastSeenNs} by ${way.ifindex} ${macs} [${tags}] other ${textOf(other)}`;
}
