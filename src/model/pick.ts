// Which backend gets a flow that no hash places: a new flow of a service whose algorithm picks. Pure: chance,
// turns and loads come in with the state. Whatever is not new follows the flow table, or the ring where that
// does not know it. bpf/pick.h is its twin.

import type { Algorithm } from "./config.ts";
import type { Plane } from "./features.ts";
import { slotOf } from "./flow_hash.ts";
import { drawBase, lendingDraw } from "./lending.ts";
import { costOf } from "./peak_ewma.ts";
import type { Destination, ForwardingTable, Service } from "./table.ts";
import { ADMISSION_MAX } from "./table.ts";

/** Algorithms that do not place flows by their hash alone. */
export type PickAlgorithm = Exclude<Algorithm, "maglev" | "consistent-hash">;

/** Those of which the XDP program has what they look at; the other goes by its ring there, and feedback steers the shares. */
export type XdpPick = Exclude<PickAlgorithm, "least-response-time">;

/** How a service picks. */
export interface Picking {
  readonly by: PickAlgorithm;
  /**
   * round-robin: slots that are walked, from the first on. least-connections: slots from the first on that
   * hold each backend once.
   */
  readonly turns: number;
  /** bounded-load: what nobody is to have more of, in percent of a fair share. */
  readonly loadFactorPercent: number;
  /** Of those that may get flows: the sum of pickWeight(). */
  readonly weightTotal: number;
}

/** What a pick depends on beside the table. */
export interface PickState {
  /** Uniform, 32 bits. */
  readonly draw: number;
  /** The turn that is next. */
  readonly turn: number;
  /** Flows that a destination has now. */
  readonly load: (destination: number) => number;
  /** Flows that all backends of the service have now. */
  readonly loadTotal: () => number;
  /** least-response-time: how long a destination takes to answer, in milliseconds; null, or absent: nobody knows. */
  readonly latency?: (destination: number) => number | null;
}

export interface Picked {
  readonly destination: Destination | null;
  readonly slot: number;
  /** round-robin: the turn after this one. Else absent. */
  readonly turn?: number;
}

/** Backends that least-connections looks at, from a random one on. */
const SCANNED_MAX = 256;
/** Further slots that are drawn for the second of two choices, while they hold the first again. */
const CHOICES_DRAWN_MAX = 4;
/**
 * Slots that bounded-load looks at before it takes the least loaded of them. Whoever has no room has 1 ÷ loadFactor of the
 * weights at most, so with 1.25 a draw finds somebody with room one time in five at worst: of one client's flows in one slot,
 * 16 draws missed the bound for two slots in a hundred.
 */
export const BOUNDED_DRAWS_MAX = 256;

const NOBODY: ReadonlySet<number> = new Set();

export function isPickAlgorithm(algorithm: Algorithm): algorithm is PickAlgorithm {
  return algorithm !== "maglev" && algorithm !== "consistent-hash";
}

export function isXdpPick(by: PickAlgorithm): by is XdpPick {
  return by !== "least-response-time";
}

/** Whether the shares of the service's pools follow how long their backends take to answer probes there. */
export function isSteered(algorithm: Algorithm, plane: Plane | null): boolean {
  return plane === "xdp" && isPickAlgorithm(algorithm) && !isXdpPick(algorithm);
}

/** Whether it matters how many flows backends have. */
export function comparesLoads(by: PickAlgorithm): boolean {
  return by !== "round-robin" && by !== "random";
}

/** The weight with which loads are compared: the share of it that new flows may have, at least 1. */
export function pickWeight({ weight, admission }: Pick<Destination, "weight" | "admission">): number {
  return Math.max(1, Math.floor((weight * admission) / ADMISSION_MAX));
}

/**
 * `slot` is that of the flow's hash. `tried`: backends that did not take it; round-robin, random and power-of-two
 * go on to the next slots then. Nobody where no backend may get flows, or all that were looked at were tried.
 */
export function pick(
  table: ForwardingTable, service: Service, picking: Picking, state: PickState, slot: number,
  tried: ReadonlySet<number> = NOBODY,
): Picked {
  const choice = new Choice(table, service, picking, state, tried);
  switch (picking.by) {
    case "round-robin": return choice.inTurn();
    case "random": return choice.from(slotOf(state.draw, service.ring.size));
    case "power-of-two":
    case "least-response-time": return choice.ofTwo();
    case "least-connections": return choice.least();
    case "bounded-load": return choice.bounded(slot);
  }
}

class Choice {
  readonly #table: ForwardingTable;
  readonly #slots: Uint16Array;
  readonly #picking: Picking;
  readonly #state: PickState;
  readonly #tried: ReadonlySet<number>;

  constructor(table: ForwardingTable, { ring }: Service, picking: Picking, state: PickState, tried: ReadonlySet<number>) {
    this.#table = table;
    this.#slots = ring.slots;
    this.#picking = picking;
    this.#state = state;
    this.#tried = tried;
  }

  inTurn(): Picked {
    const { turns } = this.#picking;
    const turn = this.#state.turn < turns ? this.#state.turn : 0;
    const picked = this.from(turn);
    return { ...picked, turn: (picked.slot + 1) % Math.max(1, turns) };
  }

  /** Who has the slot, or where that one was tried the next slot of somebody else. */
  from(first: number): Picked {
    const size = this.#slots.length;
    const steps = this.#tried.size === 0 ? 1 : size;
    for (let step = 0; step < steps; step++) {
      const slot = (first + step) % size;
      const destination = this.#at(slot);
      if (destination !== null) return { destination, slot };
    }
    return { destination: null, slot: first };
  }

  /**
   * Of two backends the one with less load, or cost, for its weight; of equals the first (Mitzenmacher, 2001). The least
   * of all costs would be everybody's choice until it has answered, and a backend that is new would be flooded.
   */
  ofTwo(): Picked {
    const size = this.#slots.length;
    let { draw } = this.#state;
    const first = this.from(slotOf(draw, size));
    for (let drawn = 0; drawn < CHOICES_DRAWN_MAX; drawn++) {
      draw = redraw(draw);
      const slot = slotOf(draw, size);
      const destination = this.#at(slot);
      if (destination === null || destination === first.destination) continue;
      return first.destination === null || this.#isLess(destination, first.destination) ? { destination, slot } : first;
    }
    return first;
  }

  least(): Picked {
    const { turns } = this.#picking;
    const start = slotOf(this.#state.draw, turns);
    let best: Picked = { destination: null, slot: start };
    for (let step = 0; step < Math.min(turns, SCANNED_MAX); step++) {
      const slot = (start + step) % turns;
      const destination = this.#at(slot);
      if (destination === null) continue;
      if (best.destination === null || this.#isLess(destination, best.destination)) best = { destination, slot };
    }
    return best;
  }

  /**
   * The first of the slot's draws whose backend would not have more than its bound (Mirrokni, Thorup,
   * Zadimoghaddam: "Consistent Hashing with Bounded Loads", SODA 2018), else the least loaded of them. The
   * draws are those by which slots are lent: a flow that spills over goes where a failure would send it.
   */
  bounded(home: number): Picked {
    const size = this.#slots.length;
    const loadTotal = this.#state.loadTotal();
    let best: Picked = { destination: null, slot: home };
    for (let k = 0; k <= BOUNDED_DRAWS_MAX; k++) {
      const slot = k === 0 ? home : lendingDraw(home, k) % size;
      const destination = this.#at(slot);
      if (destination === null) continue;
      if (this.#hasRoom(destination, loadTotal)) return { destination, slot };
      if (best.destination === null || this.#isLess(destination, best.destination)) best = { destination, slot };
    }
    return best;
  }

  #at(slot: number): Destination | null {
    const id = this.#slots[slot] ?? 0;
    return this.#tried.has(id) ? null : this.#table.destinations.get(id) ?? null;
  }

  /** With one flow more than now, for its weight: fewer flows, or where answers are measured, less time. */
  #isLess(a: Destination, b: Destination): boolean {
    const { load, latency } = this.#state;
    if (this.#picking.by === "least-response-time") {
      const cost = ({ id }: Destination): number => costOf(latency?.(id) ?? null, load(id));
      return cost(a) * pickWeight(b) < cost(b) * pickWeight(a);
    }
    return (load(a.id) + 1) * pickWeight(b) < (load(b.id) + 1) * pickWeight(a);
  }

  /** load < factor × (total + 1) × weight ÷ sum of weights, exactly. */
  #hasRoom(destination: Destination, loadTotal: number): boolean {
    const { loadFactorPercent, weightTotal } = this.#picking;
    return BigInt(this.#state.load(destination.id)) * BigInt(weightTotal) * 100n
      < BigInt(loadTotal + 1) * BigInt(pickWeight(destination)) * BigInt(loadFactorPercent);
  }
}

/** Another draw from one. */
function redraw(draw: number): number {
  return drawBase(draw) >>> 0;
}
