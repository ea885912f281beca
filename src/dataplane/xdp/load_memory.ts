// How many flows destinations have, as packets count them, and what they do not tell: entries that the kernel pushed
// out, and flows that fell silent. A walk over a table counts what is there; the difference to what packets had counted
// when it began is added, while they go on counting. Knows the two arrays; must never know how a table is walked.

import { comparesLoads } from "../../model/pick.ts";
import { translates } from "../../model/nat.ts";
import type { ForwardingTable, Service } from "../../model/table.ts";
import { flowPlaces } from "./flow_places.ts";
import type { BpfMap } from "./native.ts";

/** What packets had counted at one moment. */
interface Counted {
  readonly destinations: BigInt64Array;
  readonly services: BigInt64Array;
}

export class LoadMemory {
  readonly #destinations: BigInt64Array;
  readonly #services: BigInt64Array;

  /** Detached when the maps are closed. */
  constructor(maps: { readonly destination_flows: BpfMap; readonly service_flows: BpfMap }) {
    this.#destinations = new BigInt64Array(maps.destination_flows.mmap());
    this.#services = new BigInt64Array(maps.service_flows.mmap());
  }

  /** Somebody else has this number from now on. */
  forget(of: "destination" | "service", number: number): void {
    Atomics.store(of === "destination" ? this.#destinations : this.#services, number, 0n);
  }

  counted(): Counted {
    return { destinations: this.#destinations.slice(), services: this.#services.slice() };
  }

  /**
   * `found`: by id, of the destinations that this walk could find. What lies between what packets had counted when it
   * began and what they have counted now says nothing against them: only what is beyond is added.
   */
  correct(before: Counted, table: ForwardingTable, found: ReadonlyMap<number, number>, isTranslated: boolean): void {
    const place = flowPlaces(table.services);
    const totals = new Map<number, readonly number[]>();
    for (const service of table.services) {
      if (translates(service.config.forwarding) !== isTranslated) continue;
      if (place(service) !== service.index) continue;
      totals.set(service.index, service.destinations);
    }
    for (const [index, ids] of totals) {
      const total = ids.reduce((sum, id) => sum + (found.get(id) ?? 0), 0);
      correctOne(this.#services, index, before.services[index]!, BigInt(total));
    }
    for (const { id, forwarding } of table.destinations.values()) {
      if (translates(forwarding) !== isTranslated) continue;
      correctOne(this.#destinations, id, before.destinations[id]!, BigInt(found.get(id) ?? 0));
    }
  }
}

function correctOne(words: BigInt64Array, at: number, before: bigint, found: bigint): void {
  const now = Atomics.load(words, at);
  const [least, most] = before < now ? [before, now] : [now, before];
  if (found < least) Atomics.add(words, at, found - least);
  if (found > most) Atomics.add(words, at, found - most);
}

/** What a walk has to do with loads. */
export interface LoadCheck {
  /** Whether somebody compares the loads that it could correct. */
  isWanted(): boolean;
  begin(): void;
  /** By id: flows that are open. Nothing, unless begin() was called with the same table in force. */
  end(found: ReadonlyMap<number, number>): void;
}

export interface LoadSource {
  readonly loads: () => LoadMemory;
  readonly table: () => ForwardingTable | null;
}

/** Of one of the two tables: that of translated flows, or the other one. */
export function createLoadCheck({ loads, table }: LoadSource, isTranslated: boolean): LoadCheck {
  let begun: { readonly loads: LoadMemory; readonly table: ForwardingTable; readonly counted: Counted } | null = null;
  const isWanted = (): boolean => table()?.services.some((service) => isCompared(service, isTranslated)) ?? false;
  return {
    isWanted,
    begin: () => {
      const now = table();
      begun = now === null || !isWanted() ? null : { loads: loads(), table: now, counted: loads().counted() };
    },
    end: (found) => {
      if (begun === null || begun.table !== table() || begun.loads !== loads()) return;
      begun.loads.correct(begun.counted, begun.table, found, isTranslated);
      begun = null;
    },
  };
}

function isCompared({ picking, config }: Service, isTranslated: boolean): boolean {
  return picking !== null && comparesLoads(picking.by) && translates(config.forwarding) === isTranslated;
}
