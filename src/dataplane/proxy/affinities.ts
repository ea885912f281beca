// Which clients of services with an affinity timeout have been where, in the proxy plane: as long as they have a flow
// there, and for the timeout after the last one. Knows ids and times; must never know a socket.

import type { Clock } from "../../env.ts";
import type { AffinityKey } from "../../model/affinity.ts";
import type { FlowEntry } from "../../model/decide.ts";
import type { Destination } from "../../model/table.ts";

interface Held {
  destination: number;
  generation: number;
  /** When the last flow ended. */
  endedNs: bigint;
  open: number;
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

  constructor(clock: Pick<Clock, "monotonicNs">) {
    this.#clock = clock;
  }

  get size(): number { return this.#held.size; }

  of(key: AffinityKey): FlowEntry | null {
    const held = this.#held.get(textOf(key));
    if (held === undefined) return null;
    const { destination, generation, open, endedNs } = held;
    return { destination, generation, lastSeenNs: open > 0 ? this.#clock.monotonicNs() : endedNs };
  }

  /** A flow begins. With more than `max` clients, whoever has begun none for longest is forgotten. */
  begin(key: AffinityKey, { id, generation }: Destination, max: number): AffinityHold {
    const text = textOf(key);
    const held = this.#held.get(text) ?? { destination: id, generation, endedNs: 0n, open: 0 };
    const place = (to: Pick<Destination, "id" | "generation">): void => {
      held.destination = to.id;
      held.generation = to.generation;
    };
    this.#held.delete(text);
    this.#held.set(text, held);
    held.open += 1;
    place({ id, generation });
    for (const oldest of this.#held.keys()) {
      if (this.#held.size <= max) break;
      this.#held.delete(oldest);
    }
    return {
      moved: place,
      end: () => {
        held.open -= 1;
        held.endedNs = this.#clock.monotonicNs();
      },
    };
  }

  /** Forgets the clients of services that are no more. */
  keep(ids: ReadonlySet<bigint>): void {
    const texts = new Set([...ids].map(String));
    for (const text of this.#held.keys()) if (!texts.has(text.slice(0, text.indexOf("|")))) this.#held.delete(text);
  }
}

function textOf({ id, client }: AffinityKey): string {
  return `${id}|${String.fromCharCode(...client)}`;
}
