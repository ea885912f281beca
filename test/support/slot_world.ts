// A balancer in small: a control plane that makes tables and may fail to publish them, packets that are
// sent by whatever is published, a flow table, sweeps over it, and clients that notice when their flow
// goes elsewhere. Uses decide() and nextStates() as they are; knows no kernel.

import { NOTHING_REMEMBERED } from "../../src/model/remember_pace.ts";
import { addressFromBytes } from "../../src/model/address.ts";
import type { ServiceConfig } from "../../src/model/config.ts";
import { decide } from "../../src/model/decide.ts";
import type { FlowEntry, Packet } from "../../src/model/decide.ts";
import { exceptionalSlot } from "../../src/model/flow_exception.ts";
import { NO_NAT } from "../../src/model/nat.ts";
import { PROTOCOL_NUMBERS } from "../../src/model/service_address.ts";
import { serviceAt } from "./service_at.ts";
import { schemeOf } from "../../src/model/slot.ts";
import type { SlotScheme } from "../../src/model/slot.ts";
import { isRehashed, nextStates, recoveredStates, rememberedSinceNs } from "../../src/model/slot_states.ts";
import type { PublishedSlots, SlotSweep } from "../../src/model/slot_states.ts";
import { EMPTY_LEDGER } from "../../src/model/table.ts";
import type { Destination, ForwardingTable, Service } from "../../src/model/table.ts";

export const WINDOW_MS = 60_000;
export const IDLE_MS = 900_000;
const PLACE = serviceAt("203.0.113.1", 80);

export interface Flow {
  readonly number: number;
  /** The backend that has it. */
  home: number;
}

export interface SlotWorldOptions {
  readonly backends: number;
  readonly scheme: SlotScheme;
  readonly owners: readonly number[];
  readonly protocol: "tcp" | "udp";
  /** The naive rule, as a control: untracked flows are the previous owner's, whenever that was. */
  readonly untracked?: "previous";
}

/** What the control plane wants now. */
export interface Wanted {
  scheme: SlotScheme;
  owners: Uint16Array;
  tracking: ServiceConfig["tracking"];
  /** By id. */
  readonly alive: Set<number>;
  readonly admitting: Set<number>;
  /** Those that the config has. */
  readonly present: Set<number>;
  flowIdleMs: number;
}

export class SlotWorld {
  nowMs = 1_000_000;
  readonly wanted: Wanted;
  /** Whether one more flow may be remembered. */
  mayRemember: (opens: boolean) => boolean = () => true;
  readonly flows = new Map<number, FlowEntry>();
  readonly protocol: "tcp" | "udp";
  readonly #isNaive: boolean;
  readonly #backends: number;
  #generation = 0;
  #previous: PublishedSlots | null = null;
  #isPublished = true;
  #made: ForwardingTable;
  #shown: ForwardingTable;
  #walk: { readonly table: ForwardingTable; readonly seen: ReadonlyMap<number, FlowEntry> } | null = null;
  #sweep: SlotSweep | null = null;
  #opened = 0;

  constructor({ backends, scheme, owners, protocol, untracked }: SlotWorldOptions) {
    this.#isNaive = untracked === "previous";
    this.protocol = protocol;
    this.#backends = backends;
    const ids = Array.from({ length: backends }, (_, at) => at + 1);
    this.wanted = {
      scheme, owners: Uint16Array.from(owners), tracking: "minimal", alive: new Set(ids), admitting: new Set(ids),
      present: new Set(ids), flowIdleMs: IDLE_MS,
    };
    this.#made = this.#shown = this.make();
    this.publish();
  }

  get service(): Service { return this.#shown.services[0]!; }
  get isWhole(): boolean { return this.#isPublished; }

  /** Backends that packets are sent to. */
  shownAlive(): { readonly alive: ReadonlySet<number> } {
    return { alive: new Set([...this.#shown.destinations.values()].flatMap(({ id, alive }) => (alive ? [id] : []))) };
  }

  /** Makes the table that is wanted. Nobody is sent by it yet. */
  make(): ForwardingTable {
    const { scheme, tracking, present, flowIdleMs } = this.wanted;
    const there = [...present].sort();
    const owners = this.wanted.owners.map((id) => (id === 0 || present.has(id) ? id : there[id % there.length] ?? 0));
    this.#generation += 1;
    const next = {
      scheme, owners, tracking, flowIdleMs, isBack: false, tellsOpening: this.protocol === "tcp", windowMs: WINDOW_MS,
    };
    const times = {
      nowMs: this.nowMs, generation: this.#generation, reused: new Set<number>(),
    };
    if (!this.#isPublished) this.#previous = this.#recovered();
    const known = this.#isNaive && this.#previous !== null
      ? { ...this.#previous, states: { ...this.#previous.states, deadlinesMs: null } } : this.#previous;
    const states = nextStates(known, next, times, this.#sweep);
    const { nextDeadlineMs } = states;
    // Whoever waits for it would make tables without end.
    if (!this.#isNaive && nextDeadlineMs !== null && nextDeadlineMs <= this.nowMs) throw new Error("a window is closed and still open");
    const since = rememberedSinceNs(known, next, times);
    this.#previous = { scheme, owners, tracking, flowIdleMs, rememberedSinceNs: since, states };
    this.#isPublished = false;
    this.#made = this.#tableOf(owners, states, since);
    return this.#made;
  }

  /** Packets are sent by the table made last. `heard`: the control plane knows. */
  publish(heard = true): void {
    this.#shown = this.#made;
    if (heard) this.#isPublished = true;
  }

  /** A change that is published at once. */
  change(change: (wanted: Wanted) => void): void {
    change(this.wanted);
    this.make();
    this.publish();
  }

  /** What outlives a supervisor that dies: nothing but what is published. */
  crash(): void {
    this.#previous = this.#recovered();
    this.#isPublished = true;
    this.#sweep = null;
    this.#walk = null;
  }

  #recovered(): PublishedSlots {
    const { states, ring, config } = this.service;
    const scheme = schemeOf(this.service);
    const held = { ...states, isRehashed: isRehashed(states, scheme) };
    return {
      scheme, owners: ring.slots, tracking: config.tracking, flowIdleMs: config.flowIdleMs, rememberedSinceNs: this.service.rememberedSinceNs,
      states: recoveredStates(held, ring.size, this.#generation),
    };
  }

  beginWalk(): void {
    if (this.#isPublished) this.#walk = { table: this.#shown, seen: new Map(this.flows) };
  }

  /** Each entry was met at the beginning or at the end; `late` says which. */
  endWalk(late: () => boolean): void {
    if (this.#walk === null) return;
    const { table, seen } = this.#walk;
    const service = table.services[0]!;
    const exceptional = new Uint8Array(service.ring.size);
    for (const number of new Set([...seen.keys(), ...this.flows.keys()])) {
      const entry = late() ? this.flows.get(number) : seen.get(number);
      if (entry === undefined) continue;
      const slot = exceptionalSlot(table, service, this.#packet(number, false), entry, BigInt(Math.round(this.nowMs * 1e6)));
      if (slot !== null) exceptional[slot] = 1;
    }
    this.#sweep = { generation: table.generation, exceptional };
    this.#walk = null;
  }

  /** Opens a flow with a number that may be another one's, or was. */
  reopen(number: number): Flow | null {
    const home = this.send(number, true);
    return home === null ? null : { number, home };
  }

  /** How many flows there were. */
  get opened(): number { return this.#opened; }

  /** A new flow, through its opening packet and one more. */
  open(): Flow | null {
    const number = this.#opened += 1;
    const home = this.send(number, true);
    return home === null ? null : { number, home };
  }

  /** Where a packet of the flow goes; null: nowhere. */
  send(number: number, opens: boolean): number | null {
    const flow = this.flows.get(number) ?? null;
    const nowNs = BigInt(Math.round(this.nowMs * 1e6));
    const decision = decide(this.#shown, {
      flow, nowNs, heartbeatNs: null, neighbour: () => true, mayRemember: (_, kind) => this.mayRemember(kind === "tcp-opened"),
    }, this.#packet(number, opens && this.protocol === "tcp"));
    for (const effect of decision.effects) {
      if (effect.kind === "remember") {
        const { destination, generation, other = 0 } = effect;
        this.flows.set(number, { destination, generation, other, lastSeenNs: nowNs });
      }
      else if (effect.kind === "touch") this.flows.set(number, { ...flow!, lastSeenNs: nowNs });
      else if (effect.kind === "forget") this.flows.delete(number);
    }
    return decision.destination?.id ?? null;
  }

  #packet(number: number, syn: boolean): Packet {
    return {
      kind: "flow", family: 4, protocol: PROTOCOL_NUMBERS[this.protocol],
      source: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 18, number >> 8, number & 255),
      sourcePort: 1024 + number, destination: PLACE.network.address.bytes, destinationPort: PLACE.ports.from,
      syn, ack: !syn, fin: false, rst: false, tellable: false, ttl: 64,
    };
  }

  #tableOf(owners: Uint16Array, states: Service["states"], since: bigint): ForwardingTable {
    const { scheme, tracking, alive, admitting, present, flowIdleMs } = this.wanted;
    const ids = Array.from({ length: this.#backends }, (_, at) => at + 1);
    const destinations = new Map(ids.filter((id) => present.has(id))
      .map((id) => [id, destinationOf(id, alive.has(id), admitting.has(id))] as const));
    const service: Service = {
      index: 0, name: "s", hashSeed: scheme.hashSeed, states,
      ring: { key: "", size: owners.length, slots: owners.slice(), configured: owners },
      destinations: [...destinations.keys()], failedOpen: false, affinity: null, picking: null, split: null,
      regions: null, rememberedSinceNs: since, quicLb: null,
      config: {
        ...CONFIG, protocol: this.protocol, tracking, flowIdleMs, hash: scheme.hash, sourcePrefix: scheme.sourcePrefix,
        ringSize: owners.length,
      },
    };
    return {
      generation: this.#generation, instance: "test", services: [service], destinations,
      ledger: {
        ...EMPTY_LEDGER,
        destinations: new Map(ids.map((id) => [BigInt(id), { id, generation: 1, live: present.has(id) }])),
      },
      orphan: { afterMs: 0, action: "keep" }, icmpErrorsPerSecond: 0, pathMtuAgeMs: 0, nat: NO_NAT, affinitiesMax: 0,
      remember: NOTHING_REMEMBERED, warnings: [],
    };
  }
}

function destinationOf(id: number, alive: boolean, admits: boolean): Destination {
  return {
    id, generation: 1, identity: BigInt(id), name: `pool/${id}`, pool: "pool", backend: `${id}`,
    address: addressFromBytes(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, id)),
    port: null, forwarding: "l2", gue: null, mac: null, alive, admission: alive && admits ? 65536 : 0, weight: 1,
    resets: false,
    weightProvenance: { source: "config" }, stateProvenance: { source: "config" },
  };
}

const CONFIG: ServiceConfig = {
  name: "s", ...PLACE, protocol: "tcp", forwarding: "l2",
  gue: { port: 6080, variant: 0 }, algorithm: "maglev", loadFactorPercent: 125, panicBelow: 0, hash: "5-tuple", sourcePrefix: { ipv4: 32, ipv6: 128 },
  ringSize: 7, tracking: "minimal", flowIdleMs: IDLE_MS, changeWindowMs: WINDOW_MS, secondChance: false, affinityGroup: null, affinityTimeoutMs: null,
  mssMax: null, quicLb: null, failOpen: false, vip: { assign: "none" }, pool: "pool", split: null, geo: null, region: null,
  policy: { allow: [], deny: [] },
  proxy: {
    connectTimeoutMs: 1, connectRetries: 0, idleTimeoutMs: 0, udpIdleTimeoutMs: 1, connectionsMax: 1,
    sessionsMax: 1, proxyProtocol: "none",
  },
};
