// Keeps the view of links, routes and neighbours fresh: dumps, then events; a new dump after an overrun;
// neighbours that are missing are asked for, those in use are proved from time to time. Knows sockets
// and timers; what the network means for a destination is next_hops.ts's business.
//
// Resolution is NTF_USE: RTM_NEWNEIGH with that flag does what sending a packet would (neigh_event_send in
// net/core/neighbour.c), works for IPv4 and IPv6, needs no socket per backend, and leaves nothing behind.

import type { Cancel, Env } from "../../env.ts";
import type { Address } from "../../model/address.ts";
import type { Native, NetlinkSocket } from "./native.ts";
import { needsProof, wayTo, type Network, type Target, type Way, type WayOptions } from "./next_hops.ts";
import { decodeMessages } from "./netlink/message.ts";
import { openRequests, type Requests } from "./netlink/requests.ts";
import {
  decodeEvent, GROUPS, type Event, type Link, type Neighbour, type RouteAnswer,
} from "./netlink/rtnetlink.ts";

const NETLINK_ROUTE = 0;
const ENOBUFS = 105;
/** The kernel does not see our packets: an entry that nobody proves is thrown away after a minute. */
const PROOF_INTERVAL_MS = 25_000;
const RETRY_MIN_MS = 1_000;
const RETRY_MAX_MS = 30_000;
/** Events come in bursts; what they mean is looked up once for all of them. */
const SETTLE_MS = 2;

export interface Watch {
  /** The way to each of these, in their order. From now on changes of any of them are reported. */
  ways(targets: readonly Target[]): readonly Way[];
  /** What was asked for last, looked up again where something changed. */
  current(): readonly Way[];
  /** The same as ways(), once. */
  look(targets: readonly Target[]): readonly Way[];
  link(ifindex: number): Link | null;
  linkNamed(name: string): Link | null;
  readonly requests: Requests;
  close(): void;
}

export interface WatchOptions extends WayOptions {
  /** The way to somewhere may have changed: ask current(). */
  readonly onChange: () => void;
}

interface Missing {
  readonly ifindex: number;
  readonly address: Address;
  delayMs: number;
  nextMs: number;
}

export function openWatch(native: Native, env: Env, options: WatchOptions): Watch {
  return new NetworkWatch(native, env, options);
}

function neighbourKey(ifindex: number, address: Address): string {
  return `${ifindex} ${address.text}`;
}

class NetworkWatch implements Watch, Network {
  readonly requests: Requests;
  readonly #env: Env;
  readonly #options: WatchOptions;
  readonly #events: NetlinkSocket;
  readonly #links = new Map<number, Link>();
  readonly #neighbours = new Map<string, Neighbour>();
  readonly #routes = new Map<string, RouteAnswer | number>();
  readonly #missing = new Map<string, Missing>();
  #targets: readonly Target[] = [];
  #ways: readonly Way[] = [];
  #used = new Map<string, { ifindex: number; address: Address }>();
  #stale = false;
  #cancelSettle: Cancel | null = null;
  #cancelRetry: Cancel | null = null;
  #cancelProof: Cancel | null = null;

  constructor(native: Native, env: Env, options: WatchOptions) {
    this.#env = env;
    this.#options = options;
    this.#events = native.NetlinkSocket.open(NETLINK_ROUTE, GROUPS);
    this.requests = openRequests(native);
    // Subscribed first: what changes during the dump comes as an event after it.
    this.#dump();
    this.#events.onReadable(() => { this.#drain(); });
    this.#scheduleProof();
  }

  link(ifindex: number): Link | null {
    return this.#links.get(ifindex) ?? null;
  }

  linkNamed(name: string): Link | null {
    for (const link of this.#links.values()) if (link.name === name) return link;
    return null;
  }

  route(address: Address): RouteAnswer | number {
    let answer = this.#routes.get(address.text);
    if (answer === undefined) {
      answer = this.requests.route(address);
      this.#routes.set(address.text, answer);
    }
    return answer;
  }

  neighbour(ifindex: number, address: Address): Neighbour | null {
    return this.#neighbours.get(neighbourKey(ifindex, address)) ?? null;
  }

  ways(targets: readonly Target[]): readonly Way[] {
    this.#targets = targets;
    this.#stale = true;
    const wanted = new Set(targets.map(({ address }) => address.text));
    for (const text of this.#routes.keys()) if (!wanted.has(text)) this.#routes.delete(text);
    return this.current();
  }

  current(): readonly Way[] {
    if (!this.#stale) return this.#ways;
    this.#stale = false;
    this.#ways = this.#targets.map((target) => wayTo(target, this, this.#options));
    this.#used = new Map(this.#ways.flatMap(({ neighbour }) =>
      neighbour === null ? [] : [[neighbourKey(neighbour.ifindex, neighbour.address), neighbour] as const]));
    this.#askForMissing();
    return this.#ways;
  }

  look(targets: readonly Target[]): readonly Way[] {
    return targets.map((target) => wayTo(target, this, this.#options));
  }

  close(): void {
    for (const cancel of [this.#cancelSettle, this.#cancelRetry, this.#cancelProof]) cancel?.();
    this.#events.onReadable(null);
    this.#events.close();
    this.requests.close();
  }

  #dump(): void {
    this.#links.clear();
    this.#neighbours.clear();
    this.#routes.clear();
    for (const link of this.requests.links()) this.#links.set(link.ifindex, link);
    for (const entry of this.requests.neighbours()) {
      this.#neighbours.set(neighbourKey(entry.ifindex, entry.address), entry);
    }
    this.#stale = true;
  }

  #drain(): void {
    try {
      let changed = false;
      for (const message of this.#events.receive().flatMap(decodeMessages)) {
        const event = decodeEvent(message);
        if (event !== null && this.#take(event)) changed = true;
      }
      if (changed) this.#settle();
    } catch (error) {
      if ((error as { errno?: unknown }).errno !== ENOBUFS) throw error;
      this.#env.log.info({}, "events of the network were lost: reading all of it again");
      this.#dump();
      this.#settle();
    }
  }

  /** True when it may change the way to somewhere. */
  #take(event: Event): boolean {
    switch (event.kind) {
      case "link":
        if (event.gone) this.#links.delete(event.link.ifindex);
        else this.#links.set(event.link.ifindex, event.link);
        // The kernel takes routes away with a link and does not always say so.
        this.#routes.clear();
        return true;
      case "address": case "route":
        this.#routes.clear();
        return true;
      case "neighbour": {
        const { neighbour, gone } = event;
        const key = neighbourKey(neighbour.ifindex, neighbour.address);
        if (gone) this.#neighbours.delete(key);
        else this.#neighbours.set(key, neighbour);
        return this.#used.has(key);
      }
    }
  }

  #settle(): void {
    this.#stale = true;
    this.#cancelSettle ??= this.#env.clock.after(SETTLE_MS, () => {
      this.#cancelSettle = null;
      this.#options.onChange();
    });
  }

  /** What is not resolved is asked for now, then more and more seldom. */
  #askForMissing(): void {
    const nowMs = this.#env.clock.monotonicMs();
    const still = new Set<string>();
    for (const { route, neighbour } of this.#ways) {
      if (neighbour === null || route.nextHop.resolved) continue;
      const key = neighbourKey(neighbour.ifindex, neighbour.address);
      still.add(key);
      if (this.#missing.has(key)) continue;
      this.#missing.set(key, { ...neighbour, delayMs: RETRY_MIN_MS, nextMs: nowMs + RETRY_MIN_MS });
      this.#use(neighbour.ifindex, neighbour.address);
    }
    for (const key of this.#missing.keys()) if (!still.has(key)) this.#missing.delete(key);
    this.#scheduleRetry();
  }

  #scheduleRetry(): void {
    this.#cancelRetry?.();
    this.#cancelRetry = null;
    if (this.#missing.size === 0) return;
    const nextMs = Math.min(...[...this.#missing.values()].map((missing) => missing.nextMs));
    this.#cancelRetry = this.#env.clock.after(Math.max(0, nextMs - this.#env.clock.monotonicMs()), () => {
      this.#retry();
    });
  }

  #retry(): void {
    const nowMs = this.#env.clock.monotonicMs();
    for (const missing of this.#missing.values()) {
      if (missing.nextMs > nowMs) continue;
      missing.delayMs = Math.min(RETRY_MAX_MS, missing.delayMs * 2);
      missing.nextMs = nowMs + missing.delayMs;
      this.#use(missing.ifindex, missing.address);
    }
    this.#scheduleRetry();
  }

  #scheduleProof(): void {
    this.#cancelProof = this.#env.clock.after(PROOF_INTERVAL_MS, () => {
      for (const [key, { ifindex, address }] of this.#used) {
        if (this.#missing.has(key)) continue;
        const entry = this.#neighbours.get(key);
        if (entry !== undefined && needsProof(entry.state)) this.#use(ifindex, address);
      }
      // Routes by rules and tables that send no event are met here at the latest.
      this.#routes.clear();
      this.#settle();
      this.#scheduleProof();
    });
  }

  #use(ifindex: number, address: Address): void {
    try {
      this.requests.useNeighbour(ifindex, address);
    } catch (error) {
      // The interface may be gone a moment ago; its event is on the way.
      const fields = { ifindex, address: address.text, error: String(error) };
      this.#env.log.debug(fields, "a neighbour could not be asked for");
    }
  }
}
