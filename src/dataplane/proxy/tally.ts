// The proxy plane's books: verdicts, traffic per service and backend, flows now, and incidents.
// Exact, since the proxy holds every flow itself. Knows names and numbers; must never know a
// socket.

import type { VerdictName } from "../../model/decide.ts";
import type { HeldFlows } from "../../model/held_flows.ts";
import { QUIC_OUTCOMES } from "../../model/quic_route.ts";
import type { QuicOutcome } from "../../model/quic_route.ts";
import type { Counters, TrafficCount } from "../dataplane.ts";

/**
 * What happens beside the verdicts. Those at a limit are turned away before anything is decided;
 * the others befall connections and sessions that were decided already.
 */
export type Incident =
  | "connections_max" | "sessions_max" | "descriptors_max" | "accept_failed" | "client_gone"
  | "connect_failed" | "connect_timeout" | "connect_retried" | "backends_exhausted"
  | "idle_timeout" | "backend_reset" | "client_reset" | "drain_reset" | "session_failed" | "session_moved"
  | "datagram_dropped" | "answer_of_stranger" | "session_left_behind";

interface Traffic {
  packets: number;
  bytes: number;
  flows: number;
}

/** Whose traffic is counted: one service, and the backend once there is one. */
export interface Account {
  readonly service: string;
  /** "pool/backend". */
  readonly backend: string;
}

function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}

const noTraffic = (): Traffic => ({ packets: 0, bytes: 0, flows: 0 });

export class Tally {
  readonly #verdicts = new Map<VerdictName, { packets: number; bytes: number }>();
  readonly #services = new Map<string, Traffic>();
  readonly #backends = new Map<string, Traffic>();
  readonly #flowsNow = new Map<string, number>();
  readonly #serviceFlowsNow = new Map<string, number>();
  readonly #incidents = new Map<Incident, number>();
  readonly #quic = new Map<QuicOutcome, number>(QUIC_OUTCOMES.map((outcome) => [outcome, 0]));
  /** Connections that are being opened, by backend. */
  readonly #connecting = new Map<string, number>();
  #flowsOpen = 0;

  verdict(name: VerdictName, bytes: number): void {
    const count = entry(this.#verdicts, name, () => ({ packets: 0, bytes: 0 }));
    count.packets += 1;
    count.bytes += bytes;
  }

  incident(name: Incident): void {
    this.#incidents.set(name, (this.#incidents.get(name) ?? 0) + 1);
  }

  /** What a datagram's connection ID said. */
  quic(outcome: QuicOutcome): void {
    this.#quic.set(outcome, (this.#quic.get(outcome) ?? 0) + 1);
  }

  /** A connection or session came to its backend. */
  open({ service, backend }: Account): void {
    entry(this.#services, service, noTraffic).flows += 1;
    entry(this.#backends, backend, noTraffic).flows += 1;
    this.#flowsNow.set(backend, (this.#flowsNow.get(backend) ?? 0) + 1);
    this.#serviceFlowsNow.set(service, (this.#serviceFlowsNow.get(service) ?? 0) + 1);
    this.#flowsOpen += 1;
  }

  /** A connection to a backend is being opened (1), or is so no more (-1). */
  connecting(backend: string, change: 1 | -1): void {
    const count = (this.#connecting.get(backend) ?? 0) + change;
    if (count === 0) this.#connecting.delete(backend);
    else this.#connecting.set(backend, count);
  }

  /** Flows that a backend has, or is about to have. */
  load(backend: string): number {
    return (this.#flowsNow.get(backend) ?? 0) + (this.#connecting.get(backend) ?? 0);
  }

  /** Traffic from the client, which is what the XDP plane can see too. */
  traffic({ service, backend }: Account, packets: number, bytes: number): void {
    const counts = [
      entry(this.#services, service, noTraffic), entry(this.#backends, backend, noTraffic),
    ];
    for (const count of counts) {
      count.packets += packets;
      count.bytes += bytes;
    }
    entry(this.#verdicts, "TX_FORWARDED", () => ({ packets: 0, bytes: 0 })).bytes += bytes;
  }

  close({ service, backend }: Account): void {
    this.#flowsOpen -= 1;
    this.#flowsNow.set(backend, (this.#flowsNow.get(backend) ?? 0) - 1);
    this.#serviceFlowsNow.set(service, (this.#serviceFlowsNow.get(service) ?? 0) - 1);
  }

  /** Lets the names go that are neither in use nor in the table. */
  forget(services: ReadonlySet<string>, backends: ReadonlySet<string>): void {
    for (const name of this.#services.keys()) {
      if (services.has(name) || (this.#serviceFlowsNow.get(name) ?? 0) > 0) continue;
      this.#services.delete(name);
      this.#serviceFlowsNow.delete(name);
    }
    for (const name of this.#backends.keys()) {
      if (backends.has(name) || (this.#flowsNow.get(name) ?? 0) > 0) continue;
      this.#backends.delete(name);
      this.#flowsNow.delete(name);
    }
  }

  /** `names`: those of the table, which have a count of flows also before their first. */
  counters(
    flowsMax: number, names: { readonly services: Iterable<string>; readonly backends: Iterable<string> }, nowMs: number,
  ): Counters {
    const copy = (counts: ReadonlyMap<string, Traffic>): Map<string, TrafficCount> =>
      new Map([...counts].map(([name, count]) => [name, { ...count }]));
    const held = (counts: ReadonlyMap<string, number>, known: Iterable<string>): Map<string, HeldFlows> =>
      new Map([...known, ...counts.keys()].map((name) => [name, { count: counts.get(name) ?? 0, kind: "exact", atMs: nowMs }]));
    const backendFlows = held(this.#flowsNow, names.backends);
    const verdicts = [...this.#verdicts].map(([name, count]) => [name, { ...count }] as const);
    return {
      verdicts: Object.fromEntries(verdicts),
      services: copy(this.#services),
      backends: copy(this.#backends),
      flowTable: { count: this.#flowsOpen, max: flowsMax },
      serviceFlows: held(this.#serviceFlowsNow, names.services), backendFlows, drainFlows: backendFlows,
      incidents: new Map(this.#incidents),
      quic: new Map(this.#quic),
    };
  }
}
