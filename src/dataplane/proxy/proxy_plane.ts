// The proxy as a data plane: keeps one listener for each service of the table, and changes no more
// of them than a new table asks for. Knows listeners, not what goes through them; needs nothing but
// Node.

import type { Cancel, Env } from "../../env.ts";
import type { Config, Protocol } from "../../model/config.ts";
import type { Decide } from "../../model/decide.ts";
import { decide } from "../../model/decide.ts";
import type { ForwardingTable, Ledger, Service } from "../../model/table.ts";
import { EMPTY_LEDGER } from "../../model/table.ts";
import type {
  ApplyReport, Counters, Dataplane, PlaneStatus, StepDescription,
} from "../dataplane.ts";
import type { AssignedAddress, AssignProblems } from "./assigned_addresses.ts";
import { AssignedAddresses } from "./assigned_addresses.ts";
import { createWarner, type ProxyContext } from "./context.ts";
import { descriptorBudget } from "./descriptors.ts";
import {
  bindFailure, listeningPlace, type ListeningPlace, type ProxyBinding,
} from "./listening.ts";
import { Tally } from "./tally.ts";
import { TcpListener } from "./tcp_listener.ts";
import { UdpListener } from "./udp_listener.ts";

export interface ProxyPlaneOptions {
  readonly config: Config;
  readonly env: Env;
}

/** Opens the plane. It listens nowhere until the first apply. */
export function openProxyPlane(options: ProxyPlaneOptions): Promise<Dataplane> {
  return Promise.resolve(new ProxyPlane(options.config, options.env, decide));
}

type Listener = TcpListener | UdpListener;

/** What a table asks of the listeners at hand. */
interface Changes {
  readonly kept: readonly { readonly listener: Listener; readonly service: Service }[];
  readonly opened: readonly { readonly place: ListeningPlace; readonly service: Service }[];
  readonly closed: readonly Listener[];
  /** Services that have no place, or one that another service has: name → why. */
  readonly refused: ReadonlyMap<string, string>;
}

const EMPTY_TABLE: ForwardingTable = {
  generation: 0, instance: "", services: [], destinations: new Map(),
  orphan: { afterMs: 0, action: "keep" }, ledger: EMPTY_LEDGER, warnings: [],
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
  readonly #tally = new Tally();
  readonly #listeners = new Map<string, Listener>();
  /** Listen no more, but still have connections: with the end of the last one. */
  readonly #leaving = new Map<Listener, Promise<void>>();
  #table: ForwardingTable = EMPTY_TABLE;
  #failed: ReadonlyMap<string, string> = new Map();
  #cancelSweep: Cancel | null = null;
  #cancelRestore: Cancel | null = null;
  #isClosed = false;

  constructor({ instance, dataplane }: Config, env: Env, decideWith: Decide) {
    this.#env = env;
    this.#binding = dataplane.proxy;
    this.#addresses = new AssignedAddresses(env, instance);
    this.#interface = dataplane.interfaces[0] ?? null;
    this.#context = {
      env, tally: this.#tally, decide: decideWith, descriptors: descriptorBudget(env),
      table: () => this.#table, warn: createWarner(env),
    };
  }

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
    for (const { listener, service } of changes.kept) listener.update(service);
    const failed = new Map(changes.refused);
    const problems = await this.#assign(changes.closed);
    const opening = changes.opened.map(({ place, service }) =>
      this.#open(place, service, failed, problems.get(place.host)));
    await Promise.all(opening);
    for (const listener of changes.closed) this.#retire(listener);
    this.#failed = failed;
    const names = [...table.destinations.values()].map((destination) => destination.name);
    this.#tally.forget(new Set(table.services.map((service) => service.name)), new Set(names));
    this.#scheduleSweep();
    this.#scheduleRestore();
    return { steps, durationMs: this.#env.clock.monotonicMs() - startMs, failed };
  }

  plan(table: ForwardingTable): readonly StepDescription[] {
    return this.#describe(table, this.#changes(table));
  }

  counters(): Counters {
    for (const listener of this.#everyListener()) listener.count();
    const flowsMax = this.#table.services.reduce((sum, { config: { protocol, proxy } }) =>
      sum + (protocol === "tcp" ? proxy.connectionsMax : proxy.sessionsMax), 0);
    return this.#tally.counters(flowsMax);
  }

  status(): PlaneStatus {
    const listening = [...this.#listeners.values()].map(({ service, place }) =>
      [service.name, place.endpoint] as const);
    return {
      mode: "proxy", interfaces: [], adopted: false,
      listening: new Map(listening), neighbours: new Map(), failed: this.#failed,
    };
  }

  heartbeat(): void {
    // sockets die with the process: nobody needs to be told
  }

  async close({ drainMs }: { readonly detach: boolean; readonly drainMs: number }): Promise<void> {
    this.#isClosed = true;
    for (const listener of this.#listeners.values()) this.#retire(listener);
    this.#listeners.clear();
    const drained = Promise.all(this.#leaving.values());
    await new Promise<void>((resolve) => {
      const cancel = this.#env.clock.after(drainMs, resolve, true);
      void drained.then(() => {
        cancel();
        resolve();
      });
    });
    for (const listener of this.#leaving.keys()) listener.reset();
    await drained;
    this.#cancelSweep?.();
    this.#cancelRestore?.();
    await this.#addresses.release();
  }

  #everyListener(): Listener[] {
    return [...this.#listeners.values(), ...this.#leaving.keys()];
  }

  #changes(table: ForwardingTable): Changes {
    const kept: { listener: Listener; service: Service }[] = [];
    const opened: { place: ListeningPlace; service: Service }[] = [];
    const refused = new Map<string, string>();
    const taken = new Map<string, string>();
    for (const service of table.services) {
      const place = listeningPlace(service.config, this.#binding);
      if (typeof place === "string") {
        refused.set(service.name, place);
        continue;
      }
      const rival = taken.get(place.key);
      if (rival !== undefined) {
        refused.set(service.name, `service ${rival} listens on ${place.key} too; `
          + `with proxy.bind ${this.#binding.bind} services need ports of their own`);
        continue;
      }
      taken.set(place.key, service.name);
      const listener = this.#listeners.get(place.key);
      if (listener === undefined) opened.push({ place, service });
      else kept.push({ listener, service });
    }
    const closed = [...this.#listeners.values()].filter(({ place }) => !taken.has(place.key));
    return { kept, opened, closed, refused };
  }

  #describe(table: ForwardingTable, changes: Changes): StepDescription[] {
    const steps: StepDescription[] = [];
    for (const { listener, service } of changes.kept) {
      const detail = describeChange(this.#table, listener.service, table, service);
      if (detail === null) continue;
      steps.push({ action: "update", object: `service ${service.name}`, detail });
    }
    for (const { place, service } of changes.opened) {
      steps.push({ action: "listen", object: `service ${service.name}`, detail: place.key });
    }
    for (const { place, service, size } of changes.closed) {
      const rest = place.protocol === "tcp" ? "connections may end by themselves" : "sessions end";
      const detail = `${place.key}; ${size} ${rest}`;
      steps.push({ action: "close", object: `service ${service.name}`, detail });
    }
    const addresses = this.#addresses.changes(this.#assignedAddresses(table.services));
    for (const { address, device } of addresses.assigned) {
      steps.push({ action: "assign", object: address.text, detail: `on ${device}` });
    }
    for (const { address, device } of addresses.unassigned) {
      steps.push({ action: "unassign", object: address.text, detail: `from ${device}` });
    }
    return steps;
  }

  #assignedAddresses(services: readonly Service[]): AssignedAddress[] {
    const assigned = new Map<string, AssignedAddress>();
    if (this.#binding.bind === "loopback") return []; // nobody asks for the virtual address there
    for (const { config: { address, vip } } of services) {
      const device = vip.assign === "loopback" ? "lo" : this.#interface;
      if (vip.assign === "none" || device === null) continue;
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

  /** `problem`: why its address could not be put on this host. */
  async #open(
    place: ListeningPlace, service: Service, failed: Map<string, string>, problem?: string,
  ): Promise<void> {
    try {
      const listener = await openListener(this.#context, place, service);
      this.#listeners.set(place.key, listener);
      this.#env.log.info({ service: service.name, listening: place.key }, "the proxy listens");
      if (place.protocol === "udp" && this.#binding.bind === "any") {
        this.#env.log.info({ service: service.name },
          "answers leave from the address that the route to the client has: "
            + "bind the VIP where that matters");
      }
    } catch (error) {
      const failure = bindFailure(place, this.#binding, error, problem);
      failed.set(service.name, `${failure.code}: ${failure.message}`);
      if (this.#failed.get(service.name) === failed.get(service.name)) return; // said before
      this.#env.log.error({ service: service.name, code: failure.code }, failure.message);
    }
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
  context: ProxyContext, place: ListeningPlace, service: Service,
): Promise<Listener> {
  const open: Record<Protocol, () => Promise<Listener>> = {
    tcp: () => TcpListener.open(context, place, service),
    udp: () => UdpListener.open(context, place, service),
  };
  return open[place.protocol]();
}

/** What changes for a service that goes on listening, or null. */
function describeChange(
  before: ForwardingTable, old: Service, after: ForwardingTable, fresh: Service,
): string | null {
  const details: string[] = [];
  if (old.name !== fresh.name) details.push(`was called ${old.name}`);
  if (old.ring.key !== fresh.ring.key) {
    details.push(`ring ${old.ring.key.slice(0, 8)} → ${fresh.ring.key.slice(0, 8)}`);
  }
  const names = (table: ForwardingTable, service: Service): string[] =>
    service.destinations.flatMap((id) => table.destinations.get(id) ?? [])
      .map(({ name, address, port, alive }) => `${name} ${address.text} ${port} ${alive}`);
  const [was, is] = [names(before, old), names(after, fresh)];
  if (was.join() !== is.join()) details.push("backends change");
  if (JSON.stringify(old.config) !== JSON.stringify(fresh.config)) details.push("settings change");
  return details.length === 0 ? null : details.join(", ");
}
