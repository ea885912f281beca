// Clients that come to another region keep their connections, with `minimal`: random changes of the regions' networks and
// of who is drained, packets of open flows all the while, walks over the flow table. Told by decide(), as compile() has it.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compile } from "../../src/model/compile.ts";
import type { Config } from "../../src/model/config.ts";
import { decide, type FlowEntry, type Packet } from "../../src/model/decide.ts";
import { exceptionalSlot } from "../../src/model/flow_exception.ts";
import { serviceKey } from "../../src/model/service_address.ts";
import { serviceFor, serviceOf } from "../../src/model/service_lookup.ts";
import type { SlotSweep } from "../../src/model/slot_states.ts";
import { EMPTY_LEDGER, type ForwardingTable, type Override } from "../../src/model/table.ts";
import { address, configOf, locatedByNetworks } from "../support/configs.ts";
import { assertProperty, parameters } from "../support/counts.ts";
import { Draws } from "../support/random.ts";

const WINDOW_MS = 60_000;
/** Every flow sends something within a window. */
const TICK_MS = 20_000;
const NETWORKS = ["10.0.0.0/16", "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"];
const POOLS = { all: ["a", "b", "c"], eu: ["d", "e"], us: ["f", "g", "h"] } as const;
const BACKENDS = Object.values(POOLS).flat();

interface Flow {
  readonly packet: Packet;
  /** The backend's name. */
  readonly home: string;
}

/** By network: whose it is; 0: nobody's. */
type Owners = readonly number[];

function configFor(owners: Owners): Config {
  const regions = ["eu", "us"].map((name, at) => ({ name, pool: name, networks: NETWORKS.filter((_, network) => owners[network] === at + 1) }));
  const pools = Object.fromEntries(Object.entries(POOLS).map(([pool, names]) =>
    [pool, names.map((name) => ({ name, address: `10.9.0.${BACKENDS.indexOf(name) + 1}` }))]));
  const config = configOf({ pools, services: [{
    name: "web", pool: "all", tracking: "minimal", changeWindowMs: WINDOW_MS, flowIdleMs: 900_000, geo: { regions },
  }] });
  return { ...config, services: config.services.map((service) => (service.geo === null ? service : { ...service, geo: locatedByNetworks({ regions }) })) };
}

class Balancer {
  readonly #draws: Draws;
  readonly #forgets: boolean;
  readonly #table = new Map<string, FlowEntry>();
  readonly #flows: Flow[] = [];
  #nowMs = 1_000_000;
  #owners: Owners = NETWORKS.map(() => 0);
  #drained = new Set<string>();
  #shown: ForwardingTable | null = null;
  #sweeps: ReadonlyMap<string, SlotSweep> = new Map();
  #ports = 1024;

  /** `forgets`: whose clients were whose, as a control. */
  constructor(seed: number, forgets: boolean) {
    this.#draws = new Draws(seed);
    this.#forgets = forgets;
    this.publish();
  }

  get remembered(): number { return this.#table.size; }

  /** Slots that are looked at because flows may be elsewhere. */
  get marks(): number {
    return this.#shown!.services.reduce((sum, { states }) => sum + (states.exceptional?.reduce((all, mark) => all + mark, 0) ?? 0), 0);
  }

  publish(): void {
    const overrides = [...this.#drained].map((name): Override => ({
      target: name, change: { kind: "drain" }, actor: "ann", reason: null, atMs: 0, expiresAtMs: null,
    }));
    const ledger = this.#shown?.ledger ?? EMPTY_LEDGER;
    this.#shown = compile(
      { config: configFor(this.#owners), hashSeed: 7n, overrides, health: new Map(), nowMs: 1 },
      { ledger, generation: this.#shown?.generation ?? 0, changes: { nowMs: this.#nowMs, shown: ledger, sweeps: this.#sweeps } },
    );
  }

  moveClients(): void {
    this.#owners = NETWORKS.map(() => this.#draws.below(3));
    this.publish();
  }

  drain(): void {
    const pool = this.#draws.pick(Object.keys(POOLS) as (keyof typeof POOLS)[]);
    const name = `${pool}/${this.#draws.pick(POOLS[pool])}`;
    this.#drained = new Set(this.#drained.has(name) ? [] : [name]);
    this.publish();
  }

  open(): void {
    this.#ports += 1;
    const source = address(`10.${this.#draws.below(NETWORKS.length)}.0.${this.#draws.between(1, 3)}`);
    const packet: Packet = {
      kind: "flow", family: 4, source: source.bytes, destination: address("203.0.113.10").bytes, protocol: 6,
      sourcePort: this.#ports, destinationPort: 80, syn: true, ack: false, fin: false, rst: false, tellable: false, ttl: 64,
    };
    const home = this.send(packet);
    if (home !== null) this.#flows.push({ packet: { ...packet, syn: false, ack: true }, home });
  }

  /** Time goes by, every flow sends something, and windows are closed in time. */
  tick(): void {
    this.#nowMs += TICK_MS;
    this.publish();
    for (const { packet, home } of this.#flows) {
      const found = this.send(packet);
      if (found !== home) throw new Error(`port ${packet.sourcePort} was at ${home}, and is at ${found}`);
    }
  }

  sweep(): void {
    const table = this.#shown!;
    const found = new Map(table.services.map((service) =>
      [service, { generation: table.generation, exceptional: new Uint8Array(service.ring.size) }]));
    for (const { packet } of this.#flows) {
      const entry = this.#table.get(keyOf(packet));
      const service = serviceFor(table, serviceOf(table, packet.destination, 80, 6)!, packet.source);
      const slot = entry === undefined ? null : exceptionalSlot(table, service, packet, entry, this.#nowNs);
      if (slot !== null) found.get(service)!.exceptional[slot] = 1;
    }
    this.#sweeps = new Map([...found].map(([{ config }, sweep]) => [serviceKey(config), sweep]));
    this.publish();
  }

  get #nowNs(): bigint { return BigInt(this.#nowMs) * 1_000_000n; }

  send(packet: Packet): string | null {
    const key = keyOf(packet);
    const table = this.#forgets ? withoutBefore(this.#shown!) : this.#shown!;
    const state = { flow: this.#table.get(key) ?? null, nowNs: this.#nowNs, heartbeatNs: null, neighbour: () => true };
    const { destination, effects } = decide(table, state, packet);
    for (const effect of effects) {
      if (effect.kind === "remember") this.#table.set(key, { ...effect, lastSeenNs: this.#nowNs });
      else if (effect.kind === "touch") this.#table.set(key, { ...state.flow!, lastSeenNs: this.#nowNs });
      else if (effect.kind === "forget") this.#table.delete(key);
    }
    return destination?.name ?? null;
  }
}

function keyOf({ source, sourcePort }: Packet): string {
  return `${source.join(".")}:${sourcePort}`;
}

function withoutBefore(table: ForwardingTable): ForwardingTable {
  return { ...table, services: table.services.map((service) =>
    (service.regions === null ? service : { ...service, regions: { ...service.regions, before: null } })) };
}

const histories = fc.tuple(fc.nat(), fc.array(fc.constantFrom("open", "open", "open", "move", "drain", "tick", "tick", "sweep"), { maxLength: 60 }));

function live([seed, what]: readonly [number, readonly string[]], forgets: boolean): Balancer {
  const balancer = new Balancer(seed, forgets);
  for (const each of what) {
    if (each === "open") balancer.open();
    else if (each === "move") balancer.moveClients();
    else if (each === "drain") balancer.drain();
    else if (each === "tick") balancer.tick();
    else balancer.sweep();
  }
  return balancer;
}

describe("clients whose region changes", () => {
  it("keep the connections that they have, whatever comes and goes, and in the end nobody looks for them any more", () => {
    assertProperty("region-changes", fc.property(histories, (history) => {
      const balancer = live(history, false);
      for (let ticks = 0; ticks < 5; ticks += 1) balancer.tick();
      balancer.sweep();
      expect(balancer.marks).toBeLessThanOrEqual(balancer.remembered);
      balancer.tick();
    }));
  });

  it("would lose them if nobody knew where they were before", () => {
    const found = fc.check(fc.property(histories, (history) => { live(history, true); }),
      { ...parameters("region-changes"), numRuns: 1000, endOnFailure: true });
    expect(found.failed).toBe(true);
  });
});
