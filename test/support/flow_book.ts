// What decisions do to flows beside what is remembered: the events of the flow table, and the flows that are looked
// at. Compares the program with the model; knows no frame.

import type { Decision, FlowEntry, Packet } from "../../src/model/decide.ts";
import { FLOW_EVENTS, flowEventOf, type FlowEvent } from "../../src/model/flow_decide.ts";
import { afterSampling, isSeen } from "../../src/model/flow_sample.ts";
import { flowKeyOf, type FlowTuple } from "../../src/model/packet.ts";
import type { BpfWorld } from "./bpf_world.ts";
import { isSameEntry, TICK_NS } from "./flow_effects.ts";

/** One text for each flow. */
export function keyOf({ source, sourcePort, destination, destinationPort, protocol }: FlowTuple): string {
  return String.fromCharCode(...source, ...destination, sourcePort, destinationPort, protocol);
}

export class FlowBook {
  readonly #world: BpfWorld;
  readonly #samples: boolean;
  /** Flows that are looked at. */
  readonly #seen = new Map<string, FlowEntry>();
  #events: number[];

  /** `samples`: the program looks at some flows. */
  constructor(world: BpfWorld, samples: boolean) {
    this.#world = world;
    this.#samples = samples;
    this.#events = world.flowEvents();
  }

  /**
   * After a packet that met `held` in the flow table. `decisions`: at the beginning and at the end of its run, one of
   * which the program took; none: it is of no flow that is remembered or looked at.
   */
  check(
    decisions: readonly Decision[], held: FlowEntry | null, packet: Packet | string, startNs: bigint, endNs: bigint,
  ): void {
    const wanted = decisions.length === 0 ? [""] : decisions.map(({ effects }) => flowEventOf(effects, held) ?? "");
    const befell = this.#befell().join();
    if (!wanted.some((event) => event === befell))
      throw new Error(`decide() has "${wanted.join('" or "')}" befall the flow table, and not "${befell}"`);
    const [decision] = decisions;
    if (typeof packet !== "string" && decision !== undefined) this.#checkSample(decision, packet, startNs, endNs);
  }

  #befell(): FlowEvent[] {
    const found = this.#world.flowEvents();
    const befell = FLOW_EVENTS.flatMap((event, at) => Array<FlowEvent>(found[at]! - this.#events[at]!).fill(event));
    this.#events = found;
    return befell;
  }

  #checkSample({ verdict, service, destination }: Decision, packet: Packet, startNs: bigint, endNs: bigint): void {
    const tuple = flowKeyOf(packet);
    const key = keyOf(tuple);
    const found = this.#world.flow(tuple, "sampled_flows");
    const before = this.#seen.get(key) ?? null;
    const isOnItsWay = verdict === "TX_FORWARDED" || verdict === "PASS_LOCAL";
    if (!this.#samples || !isOnItsWay || service === null || destination === null || !isSeen(service, packet)) {
      if (!isSameEntry(found, before)) throw new Error("a flow was looked at, or no more, that should not have been");
      return;
    }
    const isNow = found !== null && found.lastSeenNs >= startNs - TICK_NS && found.lastSeenNs <= endNs;
    const wanted = afterSampling(before, destination, startNs);
    if (found?.destination !== destination.id || found.generation !== destination.generation
      || !(isNow || isSameEntry(found, wanted)))
      throw new Error(`${wanted.destination}/${wanted.generation} to be looked at, found ${JSON.stringify(found, (_, value: unknown) => String(value))}`);
    this.#seen.set(key, found);
  }

  /** No other flow was looked at. */
  finish(): void {
    const found = this.#world.countOf("sampled_flows");
    if (found !== this.#seen.size) throw new Error(`${found} flows are looked at and not ${this.#seen.size}`);
  }
}
