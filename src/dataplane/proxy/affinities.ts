// Which clients of services with an affinity timeout have been where, in the proxy plane: as long as they have a flow
// there, and for the timeout after the last one. Knows ids and times; must never know a socket.

import type { Clock } from "../../env.ts";
import type { AffinityKey } from "../../model/affinity.ts";
import type { FlowEntry } from "../../model/decide.ts";
import type { Destination, ForwardingTable } from "../../model/table.ts";
import type { Counters } from "../dataplane.ts";

interface Held {
  readonly among: Clients;
  destination: number;
  generation: number;
  /** When the last flow ended. */
  endedNs: bigint;
  open: number;
}

/** Of a service. */
interface Clients {
  count: number;
  /** Those without a flow; who has been silent longest is first. */
  readonly silent: Map<string, Held>;
}

/** A flow keeps its client's affinity. */
export interface AffinityHold {
  /** It goes to somebody else: the first one did not take it. */
  moved: (to: Destination) => void;
  end: () => void;
}

export class Affinities {
  readonly #clock: Pick<Clock, "monotonicNs">;
  /** By service and client; those that have begun a flow last are last. */
  readonly #held = new Map<string, Held>();
  readonly #services = new Map<bigint, Clients>();
  /** By the ids of services: after what silence a client is forgotten. */
  #timeouts: ReadonlyMap<bigint, number> = new Map();
  #evicted = 0;

  constructor(clock: Pick<Clock, "monotonicNs">) {
    this.#clock = clock;
  }

  get size(): number { return this.#held.size; }

  /** Clients that were forgotten before their time, since there was no room. */
  get evicted(): number { return this.#evicted; }

  of(key: AffinityKey): FlowEntry | null {
    const held = this.#held.get(textOf(key));
    if (held === undefined) return null;
    const { destination, generation, open, endedNs } = held;
    return { destination, generation, lastSeenNs: open > 0 ? this.#clock.monotonicNs() : endedNs };
  }

  /** Clients that are remembered of the service with this id. Lets those go that have been silent for its timeout. */
  count(id: bigint): number {
    const clients = this.#services.get(id);
    if (clients === undefined) return 0;
    for (const [text, held] of clients.silent) {
      if (this.#isFresh(id, held)) break;
      this.#drop(text, held);
    }
    return clients.count;
  }

  /** A flow begins. With more than `max` clients, whoever has begun none for longest is forgotten. */
  begin(key: AffinityKey, { id, generation }: Destination, max: number): AffinityHold {
    const text = textOf(key);
    const held = this.#held.get(text) ?? this.#newcomer(key.id);
    const place = (to: Pick<Destination, "id" | "generation">): void => {
      held.destination = to.id;
      held.generation = to.generation;
    };
    this.#held.delete(text);
    this.#held.set(text, held);
    held.among.silent.delete(text);
    held.open += 1;
    place({ id, generation });
    for (const [oldest, its] of this.#held) {
      if (this.#held.size <= max) break;
      if (this.#isFresh(idOf(oldest), its)) this.#evicted += 1;
      this.#drop(oldest, its);
    }
    return {
      moved: place,
      end: () => {
        held.open -= 1;
        held.endedNs = this.#clock.monotonicNs();
        if (held.open === 0 && this.#held.get(text) === held) held.among.silent.set(text, held);
      },
    };
  }

  /** Clients are remembered by this table now: those of services that are no more go at once. */
  follow({ services }: Pick<ForwardingTable, "services">): void {
    this.#timeouts = new Map(services.flatMap(({ affinity }) => affinity === null ? [] : [[affinity.id, affinity.timeoutMs]]));
    const gone = new Set<Clients>();
    for (const [id, clients] of this.#services) {
      if (this.#timeouts.has(id)) continue;
      this.#services.delete(id);
      gone.add(clients);
    }
    if (gone.size === 0) return;
    for (const [text, held] of this.#held) if (gone.has(held.among)) this.#drop(text, held);
  }

  #newcomer(id: bigint): Held {
    const among = this.#services.get(id) ?? { count: 0, silent: new Map() };
    this.#services.set(id, among);
    among.count += 1;
    return { among, destination: 0, generation: 0, endedNs: 0n, open: 0 };
  }

  #drop(text: string, held: Held): void {
    this.#held.delete(text);
    held.among.silent.delete(text);
    held.among.count -= 1;
  }

  #isFresh(id: bigint, { open, endedNs }: Held): boolean {
    const timeoutMs = this.#timeouts.get(id);
    return open > 0 || timeoutMs === undefined || endedNs + BigInt(timeoutMs) * 1_000_000n >= this.#clock.monotonicNs();
  }
}

/** Of the services that remember clients; nothing where none does. */
export function affinityCounters({ services, affinitiesMax }: ForwardingTable, book: Affinities): Pick<Counters, "affinities"> {
  const counts = new Map(services.flatMap(({ name, affinity }) => affinity === null ? [] : [[name, book.count(affinity.id)]]));
  if (counts.size === 0) return {};
  const count = [...counts.values()].reduce((sum, each) => sum + each, 0);
  return { affinities: { count, max: affinitiesMax, services: counts, evicted: book.evicted } };
}

function textOf({ id, client }: AffinityKey): string {
  return `${id}|${String.fromCharCode(...client)}`;
}

function idOf(text: string): bigint {
  return BigInt(text.slice(0, text.indexOf("|")));
}
