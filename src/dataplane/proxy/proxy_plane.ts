// The proxy as a data plane: keeps one listener for each service of the table, and changes no more
// of them than a new table asks for. Knows listeners, not what goes through them; needs nothing but
// Node.

import type { Cancel, Env } from "../../env.ts";
import type { Failure } from "../../errors.ts";
import type { Config, Protocol } from "../../model/config.ts";
import type { Decide } from "../../model/decide.ts";
import { decide } from "../../model/decide.ts";
import type { FlowListener } from "../../model/flows_seen.ts";
import { compareSpecificity, singleAddress } from "../../model/service_address.ts";
import type { ForwardingTable, Ledger, Service } from "../../model/table.ts";
import { NO_NAT } from "../../model/nat.ts";
import { NOTHING_REMEMBERED } from "../../model/remember_pace.ts";
import { EMPTY_LEDGER } from "../../model/table.ts";
import type {
  ApplyReport, CloseOptions, Counters, Dataplane, FlowsElsewhere, PlaneBequest, PlanePredecessor, PlaneStatus, SendSession,
  SessionSharing, StepDescription,
} from "../dataplane.ts";
import type { AssignedAddress, AssignProblems } from "./assigned_addresses.ts";
import { Affinities, affinityCounters } from "./affinities.ts";
import { AssignedAddresses } from "./assigned_addresses.ts";
import { createWarner, type ProxyContext, type ServiceLoad } from "./context.ts";
import { byService, describeSteps, textOf, type Changes, type Wanted } from "./describe_change.ts";
import { descriptorBudget } from "./descriptors.ts";
import { flowsOf, withFlowsElsewhere } from "./flows_elsewhere.ts";
import {
  bindFailure, listeningPlaces, type ListeningPlace, type ProxyBinding,
} from "./listening.ts";
import { ProxySessionSharing } from "./session_sharing.ts";
import { SessionTaking } from "./session_taking.ts";
import { Latencies } from "./latencies.ts";
import { Tally } from "./tally.ts";
import { TcpListener } from "./tcp_listener.ts";
import { UdpListener } from "./udp_listener.ts";

export interface ProxyPlaneOptions {
  readonly config: Config;
  readonly env: Env;
  /** Absent: there is none. */
  readonly predecessor?: PlanePredecessor;
}

/** Opens the plane. It listens nowhere until the first apply. */
export function openProxyPlane(options: ProxyPlaneOptions): Promise<Dataplane> {
  return Promise.resolve(new ProxyPlane(options, decide));
}

type Listener = TcpListener | UdpListener;

/** A socket that could not be had. */
interface Unopened extends Wanted {
  readonly failure: Failure;
}

const EMPTY_TABLE: ForwardingTable = {
  generation: 0, instance: "", services: [], destinations: new Map(),
  orphan: { afterMs: 0, action: "keep" }, icmpErrorsPerSecond: 0, pathMtuAgeMs: 0, nat: NO_NAT, affinitiesMax: 0,
  remember: NOTHING_REMEMBERED, ledger: EMPTY_LEDGER, warnings: [],
};
const SWEEP_MIN_MS = 20;
const SWEEP_MAX_MS = 5_000;
/** How often it is looked whether the virtual addresses are still on this host. */
const RESTORE_MS = 5_000;

class ProxyPlane implements Dataplane {
  readonly mode = "proxy";
  readonly #env: Env;
  readonly #binding: ProxyBinding;
  readonly #addresses: AssignedAddresses;
  /** Where `interface` is. */
  readonly #interface: string | null;
  readonly #context: ProxyContext;
  readonly #predecessor: PlanePredecessor | null;
  readonly #tally = new Tally();
  readonly #latencies: Latencies;
  readonly #affinities: Affinities;
  readonly #listeners = new Map<string, Listener>();
  #loads: ReadonlyMap<string, ServiceLoad> = new Map();
  /** Listen no more, but still have connections: with the end of the last one. */
  readonly #leaving = new Map<Listener, Promise<void>>();
  #table: ForwardingTable = EMPTY_TABLE;
  #failed: ReadonlyMap<string, string> = new Map();
  #cancelSweep: Cancel | null = null;
  #cancelRestore: Cancel | null = null;
  #flowsSeen: FlowListener = () => undefined;
  #isClosed = false;

  constructor(options: ProxyPlaneOptions, decideWith: Decide) {
    const { env, predecessor, config: { instance, dataplane } } = options;
    const passes = predecessor?.sharesSessions === true;
    this.#env = env;
    this.#latencies = new Latencies(env.clock);
    this.#predecessor = predecessor ?? null;
    this.#binding = dataplane.proxy;
    this.#addresses = new AssignedAddresses(env, instance, () => predecessor?.isServing() === true);
    this.#interface = dataplane.interfaces[0] ?? null;
    this.#affinities = new Affinities(env.clock);
    this.#context = {
      env, tally: this.#tally, latencies: this.#latencies, affinities: this.#affinities,
      decide: decideWith, descriptors: descriptorBudget(env),
      take: (key) => predecessor?.take(key) ?? Promise.resolve(null), pass: passes ? predecessor.pass : null,
      turns: new Map(), saw: (backend, seen) => { this.#flowsSeen(backend, seen); }, table: () => this.#table, warn: createWarner(env),
    };
    if (passes) predecessor.onSessions(new SessionTaking(this.#context, this.#listeners));
  }

  connectProbe(): string {
    return "the proxy plane has no packets of clients: it connects to backends as direct probes do";
  }

  endProbes(): void { /* direct ones need nothing */ }

  /** Of services with least-response-time. */
  answerMs(backend: string): number | null { return this.#latencies.lately(backend); }

  ledger(): Ledger {
    return EMPTY_LEDGER;
  }

  adoptedSeed(): null {
    return null;
  }

  async apply(table: ForwardingTable): Promise<ApplyReport> {
    if (this.#isClosed) throw new Error("the proxy plane is closed");
    const startMs = this.#env.clock.monotonicMs();
    const changes = this.#changes(table);
    const steps = this.#describe(table, changes).length;
    this.#table = table;
    const loads = new Map(table.services.map(({ name }) =>
      [name, this.#loads.get(name) ?? { flows: 0 }]));
    this.#loads = loads;
    for (const name of this.#context.turns.keys()) if (!loads.has(name)) this.#context.turns.delete(name);
    for (const { listener, service, place } of changes.kept) {
      listener.update(service, place, loads.get(service.name)!);
    }
    this.#endFlows();
    const problems = await this.#assign(changes.closed);
    const opening = changes.opened.map((wanted) =>
      this.#open(wanted, loads.get(wanted.service.name)!, problems.get(wanted.place.host)));
    const unopened = (await Promise.all(opening)).filter((one) => one !== null);
    const failed = this.#failures(changes.refused, unopened);
    for (const listener of changes.closed) this.#retire(listener);
    this.#failed = failed;
    const names = [...table.destinations.values()].map((destination) => destination.name);
    this.#tally.forget(new Set(table.services.map((service) => service.name)), new Set(names));
    this.#latencies.keep(new Set(names));
    this.#affinities.follow(table);
    this.#scheduleSweep();
    this.#scheduleRestore();
    return { steps, durationMs: this.#env.clock.monotonicMs() - startMs, failed };
  }

  plan(table: ForwardingTable): readonly StepDescription[] {
    return this.#describe(table, this.#changes(table));
  }

  counters(): Counters {
    for (const listener of this.#everyListener()) listener.count();
    // The limits of a service are for all of its regions together.
    const flowsMax = this.#table.services.reduce((sum, { config: { protocol, proxy, region } }) =>
      sum + (region !== null ? 0 : protocol === "tcp" ? proxy.connectionsMax : proxy.sessionsMax), 0);
    const names = {
      services: this.#table.services.map(({ name }) => name),
      backends: [...this.#table.destinations.values()].map(({ name }) => name),
    };
    const counters = this.#tally.counters(flowsMax, names, this.#env.clock.monotonicMs());
    const more = { latencies: this.#latencies.all(), ...affinityCounters(this.#table, this.#affinities) };
    return withFlowsElsewhere({ ...counters, ...more }, this.#flowsElsewhere());
  }

  status(): PlaneStatus {
    const listening = [...byService([...this.#listeners.values()])].map(([name, listeners]) =>
      [name, textOf(listeners)] as const);
    return {
      mode: "proxy", interfaces: [], refused: new Map(), adopted: false,
      listening: new Map(listening), neighbours: new Map(), pathMtus: new Map(), failed: this.#failed,
    };
  }

  onFlows(listener: FlowListener): void { this.#flowsSeen = listener; }

  heartbeat(): void {
    // sockets die with the process: nobody needs to be told
  }

  bequest(): PlaneBequest {
    return {
      sharedSocket: (key) => this.#listeners.get(key)?.socket ?? null,
      shareSessions: (send) => this.#shareSessions(send),
      heldFlows: () => {
        const accounts = this.#everyListener().flatMap((listener) => (listener instanceof TcpListener ? listener.accounts() : []));
        return flowsOf(accounts, this.#flowsElsewhere());
      },
      endFlows: (backends) => { this.#endFlowsWith(backends); },
    };
  }

  #shareSessions(send: SendSession): SessionSharing {
    const listenerOf = (key: string): UdpListener | null => {
      const listener = this.#listeners.get(key);
      return listener instanceof UdpListener ? listener : null;
    };
    const { clock, log } = this.#env;
    return new ProxySessionSharing({ clock, log, listenerOf }, send);
  }

  #flowsElsewhere(): FlowsElsewhere {
    return this.#predecessor?.heldFlows() ?? { services: {}, backends: {} };
  }

  async close({ drainMs, hurry, handedOver = false }: CloseOptions): Promise<void> {
    this.#isClosed = true;
    if (handedOver) this.#cancelRestore?.();
    for (const listener of this.#listeners.values()) this.#retire(listener);
    this.#listeners.clear();
    const drained = Promise.all(this.#leaving.values());
    let cancel: Cancel = () => undefined;
    await new Promise<void>((resolve) => {
      const isOver = (): void => { resolve(); };
      cancel = this.#env.clock.after(drainMs, isOver, true);
      if (hurry?.aborted === true) isOver();
      hurry?.addEventListener("abort", isOver, { once: true });
      void drained.then(isOver);
    });
    cancel();
    for (const listener of this.#leaving.keys()) listener.reset();
    await drained;
    this.#cancelSweep?.();
    this.#cancelRestore?.();
    if (!handedOver) await this.#addresses.release();
  }

  /** Of backends that are to have no flows: of those that are gone from the table, they end by themselves. */
  #endFlows(): void {
    const ending = new Set([...this.#table.destinations.values()].flatMap(({ name, resets }) => (resets ? [name] : [])));
    if (ending.size > 0) this.#endFlowsWith(ending);
  }

  #endFlowsWith(backends: ReadonlySet<string>): void {
    for (const listener of this.#everyListener()) listener.endFlows(backends);
    this.#predecessor?.endFlows(backends);
  }

  #everyListener(): Listener[] {
    return [...this.#listeners.values(), ...this.#leaving.keys()];
  }

  #changes(table: ForwardingTable): Changes<Listener> {
    const kept: (Wanted & { listener: Listener })[] = [];
    const opened: Wanted[] = [];
    const refused = new Map<string, string>();
    const taken = new Map<string, Service>();
    // A port that a more specific service has is not missed by the others.
    const services = table.services.filter(({ config }) => config.region === null)
      .toSorted((a, b) => compareSpecificity(a.config, b.config));
    for (const service of services) {
      const places = listeningPlaces(service.config, this.#binding);
      if (typeof places === "string") {
        refused.set(service.name, places);
        continue;
      }
      for (const place of places) {
        const rival = taken.get(place.key);
        if (rival !== undefined) {
          if (rival.config.network.text === service.config.network.text) continue;
          refused.set(service.name, `service ${rival.name} listens on ${place.key} too; `
            + `with proxy.bind ${this.#binding.bind} services need ports of their own`);
          continue;
        }
        taken.set(place.key, service);
        const listener = this.#listeners.get(place.key);
        if (listener === undefined) opened.push({ place, service });
        else kept.push({ listener, place, service });
      }
    }
    const closed = [...this.#listeners.values()].filter(({ place }) => !taken.has(place.key));
    return { kept, opened, closed, refused };
  }

  #describe(table: ForwardingTable, changes: Changes<Listener>): StepDescription[] {
    const addresses = this.#addresses.changes(this.#assignedAddresses(table.services));
    return describeSteps(this.#table, table, changes, addresses);
  }

  #assignedAddresses(services: readonly Service[]): AssignedAddress[] {
    const assigned = new Map<string, AssignedAddress>();
    if (this.#binding.bind === "loopback") return []; // nobody asks for the virtual address there
    for (const { config: { network, vip } } of services) {
      const address = singleAddress(network);
      const device = vip.assign === "loopback" ? "lo" : this.#interface;
      if (vip.assign === "none" || device === null || address === null) continue;
      assigned.set(`${address.text} ${device}`, { address, device });
    }
    return [...assigned.values()];
  }

  /** Connections that were accepted keep their address until they end. */
  async #assign(closed: readonly Listener[]): Promise<AssignProblems> {
    const leaving = [...this.#leaving.keys(), ...closed].map(({ service }) => service);
    const problems = await this.#addresses.want(
      this.#assignedAddresses([...this.#table.services, ...leaving]));
    for (const [address, reason] of problems) {
      this.#context.warn(`assign ${address}`, { address, reason },
        "a virtual address could not be put on this host");
    }
    return problems;
  }

  #scheduleRestore(): void {
    this.#cancelRestore?.();
    const restore = (): void => {
      void this.#addresses.restore();
      this.#cancelRestore = this.#env.clock.after(RESTORE_MS, restore);
    };
    this.#cancelRestore = this.#env.clock.after(RESTORE_MS, restore);
  }

  /** Null when it listens. `problem`: why its address could not be put on this host. */
  async #open(
    { place, service }: Wanted, load: ServiceLoad, problem?: string,
  ): Promise<Unopened | null> {
    try {
      const listener = await openListener(this.#context, place, service, load);
      this.#listeners.set(place.key, listener);
      this.#env.log.info({ service: service.name, listening: place.key }, "the proxy listens");
      if (place.protocol === "udp" && this.#binding.bind === "any") {
        this.#env.log.info({ service: service.name },
          "answers leave from the address that the route to the client has: "
            + "bind the VIP where that matters");
      }
      return null;
    } catch (error) {
      return { place, service, failure: bindFailure(place, this.#binding, error, problem) };
    }
  }

  /** Why services are not served, or not at all of their ports; said once. */
  #failures(
    refused: ReadonlyMap<string, string>, unopened: readonly Unopened[],
  ): Map<string, string> {
    const failed = new Map(refused);
    for (const [name, reason] of refused) {
      if (this.#failed.get(name) !== reason) this.#env.log.error({ service: name }, reason);
    }
    for (const [name, [{ failure }, ...more]] of byService(unopened)) {
      const others = more.length === 0 ? "" : ` (and ${more.length} more of its ports)`;
      failed.set(name, `${failure.code}: ${failure.message}${others}`);
      if (this.#failed.get(name) === failed.get(name)) continue;
      this.#env.log.error({ service: name, code: failure.code }, `${failure.message}${others}`);
    }
    return failed;
  }

  #retire(listener: Listener): void {
    this.#listeners.delete(listener.place.key);
    this.#leaving.set(listener, listener.drain().then(async () => {
      this.#leaving.delete(listener);
      if (!this.#isClosed) await this.#assign([]);
    }));
    const { service, place, size } = listener;
    this.#env.log.info({ service: service.name, listening: place.key, flows: size },
      "the proxy listens no more");
  }

  /** One timer for all listeners: for idle timeouts, and for resets that nobody would hear of. */
  #scheduleSweep(): void {
    this.#cancelSweep?.();
    this.#cancelSweep = null;
    const listeners = this.#everyListener();
    if (listeners.length === 0) return;
    const idle = listeners.map((listener) => listener.idleMs).filter((ms) => ms > 0);
    const everyMs = Math.min(SWEEP_MAX_MS, Math.max(SWEEP_MIN_MS, Math.min(...idle) / 8));
    const sweep = (): void => {
      const nowMs = this.#env.clock.monotonicMs();
      for (const listener of this.#everyListener()) listener.sweep(nowMs);
      this.#cancelSweep = this.#env.clock.after(everyMs, sweep);
    };
    this.#cancelSweep = this.#env.clock.after(everyMs, sweep);
  }
}

function openListener(
  context: ProxyContext, place: ListeningPlace, service: Service, load: ServiceLoad,
): Promise<Listener> {
  const open: Record<Protocol, () => Promise<Listener>> = {
    tcp: () => TcpListener.open(context, place, service, load),
    udp: () => UdpListener.open(context, place, service, load),
  };
  return open[place.protocol]();
}
