// Keeps the view of links, routes and neighbours fresh: dumps, then events; a new dump after an overrun;
// neighbours that are missing are asked for, those in use are proved from time to time. Knows sockets
// and timers; what the network means for a destination is next_hops.ts's business.
//
// Resolution is NTF_USE: RTM_NEWNEIGH with that flag does what sending a packet would (neigh_event_send in
// net/core/neighbour.c), works for IPv4 and IPv6, needs no socket per backend, and leaves nothing behind.

import type { Cancel, Env } from "../../env.ts";
import type { Address } from "../../model/address.ts";
import type { Native, NetlinkSocket } from "./native.ts";
import { isResolved, needsProof, wayTo, type Network, type Target, type Way, type WayOptions } from "./next_hops.ts";
import { decodeMessages } from "./netlink/message.ts";
import { openRequests, type Requests } from "./netlink/requests.ts";
import {
  covers, decodeEvent, GROUPS, type Event, type Link, type Neighbour, type RouteAnswer, type RoutePrefix,
} from "./netlink/rtnetlink.ts";

const NETLINK_ROUTE = 0;
const ENOBUFS = 105;
/** The kernel does not see our packets: an entry that nobody proves is thrown away after a minute. */
const PROOF_INTERVAL_MS = 25_000;
const RETRY_MIN_MS = 1_000;
const RETRY_MAX_MS = 30_000;
/** A look-up takes some 20 µs. */
const ROUTES_PER_PROOF = 256;
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
  links(): readonly Link[];
  /** The kernel's answer, or the errno of its refusal. */
  route(address: Address): RouteAnswer | number;
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

  links(): readonly Link[] {
    return [...this.#links.values()];
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
      case "link": return this.#takeLink(event.link, event.gone);
      case "address":
        this.#routes.clear();
        return true;
      case "route": return this.#takeRoute(event.prefix);
      case "neighbour": return this.#takeNeighbour(event.neighbour, event.gone);
    }
  }

  #takeLink(link: Link, gone: boolean): boolean {
    const before = this.#links.get(link.ifindex);
    if (gone) this.#links.delete(link.ifindex);
    else this.#links.set(link.ifindex, link);
    const isSame = before !== undefined && !gone && before.mac === link.mac && before.mtu === link.mtu
      && before.up === link.up && before.name === link.name
      && before.master === link.master && before.isBackup === link.isBackup && before.vlan === link.vlan
      && before.peer === link.peer;
    if (isSame) return false;
    // The kernel takes routes away with a link and does not always say so.
    this.#routes.clear();
    return true;
  }

  /** A router's table changes all the time: only what the change covers is asked for again. */
  #takeRoute(prefix: RoutePrefix | null): boolean {
    if (prefix === null) {
      this.#routes.clear();
      return true;
    }
    let changed = false;
    for (const { address } of this.#targets) {
      if (covers(prefix, address) && this.#routes.delete(address.text)) changed = true;
    }
    return changed;
  }

  /** Entries grow stale and are proved again without anything changing for a packet. */
  #takeNeighbour(neighbour: Neighbour, gone: boolean): boolean {
    const key = neighbourKey(neighbour.ifindex, neighbour.address);
    const before = this.#neighbours.get(key);
    if (gone) this.#neighbours.delete(key);
    else this.#neighbours.set(key, neighbour);
    if (!this.#used.has(key)) return false;
    const wasResolved = before !== undefined && isResolved(before);
    if (gone) return wasResolved;
    if (isResolved(neighbour)) return !wasResolved || before.mac !== neighbour.mac;
    return wasResolved || before?.state !== neighbour.state;
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
      this.#proveRoutes();
      this.#scheduleProof();
    });
  }

  /** Not every change is an event: some routes are asked for again, the longest unasked first. */
  #proveRoutes(): void {
    for (const text of [...this.#routes.keys()].slice(0, ROUTES_PER_PROOF)) {
      const target = this.#targets.find(({ address }) => address.text === text);
      const before = this.#routes.get(text);
      this.#routes.delete(text);
      if (target === undefined || before === undefined) continue;
      if (!isSameAnswer(before, this.route(target.address))) this.#settle();
    }
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

function isSameAnswer(a: RouteAnswer | number, b: RouteAnswer | number): boolean {
  if (typeof a === "number" || typeof b === "number") return a === b;
  return a.type === b.type && a.ifindex === b.ifindex && a.mtu === b.mtu
    && a.gateway?.text === b.gateway?.text && a.source?.text === b.source?.text;
}
