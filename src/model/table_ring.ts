// The rings of a table: built over configured weights, lent by admission, and turned from indexes into
// destination ids. Remembers what the last tables needed, so that a change of health costs one lending
// and services with the same content share one ring. Knows members, not services.

import type { Algorithm } from "./config.ts";
import { compileContinuum } from "./continuum.ts";
import type { LendingBackend } from "./lending.ts";
import { lend } from "./lending.ts";
import { buildRing, NO_BACKEND } from "./ring.ts";
import { contentKey, digest } from "./ring_content.ts";
import { pickWeight } from "./pick.ts";
import { rotationOf } from "./rotation.ts";
import { assignSlots, joinRings, splitSlots } from "./split.ts";
import type { Ring, ServiceSplit, SplitPart } from "./table.ts";

/** One backend of one ring. Members come in key order. */
export interface RingMember extends LendingBackend {
  /** Destination id, 1…32767. */
  readonly id: number;
  /** Of no weight: has all slots while no other may take flows. */
  readonly isSorry: boolean;
}

export interface MemberRing {
  readonly ring: Ring;
  /** Indexes of the members with a positive weight and no slot. */
  readonly without: readonly number[];
  /** Slots that are walked, from the first on, where the algorithm takes turns; else 0. */
  readonly turns: number;
}

export interface JoinedRing {
  readonly ring: Ring;
  readonly split: ServiceSplit;
}

export interface RingMemo {
  ring(members: readonly RingMember[], size: number, algorithm: Algorithm): MemberRing;
  /** Of the parts of a split service: the ring that they make together. */
  joined(parts: readonly SplitPart[], size: number): JoinedRing;
  /** Ends a table: forgets what neither this nor the previous one asked for. */
  rotate(): void;
}

/**
 * How slots are given to members. maglev, continuum: over configured weights, and lent. rotation: in turn, by the
 * weights with which they may get flows. roll: one turn for each that may get flows.
 */
type Layout = "maglev" | "continuum" | "rotation" | "roll";

/** Where each flow is placed for itself, no flow depends on the place of a slot. */
const LAYOUTS: Readonly<Record<Algorithm, Layout>> = {
  "maglev": "maglev", "random": "maglev", "power-of-two": "maglev", "bounded-load": "maglev", "least-response-time": "maglev",
  "consistent-hash": "continuum", "round-robin": "rotation", "least-connections": "roll",
};

/** Configured: slot → index of the member. */
interface Configured {
  readonly indexes: Uint16Array;
  readonly without: readonly number[];
}

/** Configured: slot → destination id. */
interface Numbered {
  readonly slots: Uint16Array;
  readonly digest: string;
}

/** Two generations of a cache: what was not asked for during a whole one goes. */
class Generations<V> {
  #young = new Map<string, V>();
  #old = new Map<string, V>();

  get(key: string, make: () => V): V {
    let value = this.#young.get(key) ?? this.#old.get(key);
    value ??= make();
    this.#young.set(key, value);
    return value;
  }

  rotate(): void {
    this.#old = this.#young;
    this.#young = new Map();
  }
}

export function createRingMemo(): RingMemo {
  const configuredRings = new Generations<Configured>();
  const numberedRings = new Generations<Numbered>();
  const memberRings = new Generations<MemberRing>();
  // Rings that came out alike from different members are one object again.
  const contents = new Generations<Ring>();
  const joinedRings = new Generations<Pick<JoinedRing, "ring"> & Pick<ServiceSplit, "configured" | "assigned">>();
  return {
    ring: (members, size, algorithm) => {
      const layout = LAYOUTS[algorithm];
      const shape = `${layout} ${size} ${JSON.stringify(members.map(({ key, weight }) => [key, weight]))}`;
      const configured = configuredRings.get(shape, () => configure(members, size, layout));
      const ids = Uint16Array.from(members, (member) => member.id);
      const numbers = `${shape} ${ids.join()}`;
      const numbered = numberedRings.get(numbers, () => number(configured.indexes, ids));
      const state = members.map(({ alive, admission, isSorry }) => `${alive ? admission : -1}${isSorry ? "!" : ""}`).join();
      return memberRings.get(`${numbers} ${state}`, () => {
        const { slots: indexes, turns } = admit(layout, configured.indexes, members);
        const slots = toIds(indexes, ids);
        const key = contentKey(slots);
        const ring: Ring = { key, size, slots, configured: numbered.slots };
        return {
          ring: contents.get(`${key} ${numbered.digest}`, () => ring), without: configured.without, turns,
        };
      });
    },
    joined: (parts, size) => {
      const key = JSON.stringify([size, parts.map(({ name, hundredths, ring, takesFlows: takes }) =>
        [name, hundredths, ring.key, digest(ring.configured), takes])]);
      const { ring, ...slots } = joinedRings.get(key, () => {
        const configured = splitSlots(parts, size);
        const assigned = assignSlots(configured, parts);
        return { ring: joinRings(parts, configured, assigned), configured, assigned };
      });
      return { ring, split: { parts, ...slots } };
    },
    rotate: () => {
      joinedRings.rotate();
      configuredRings.rotate();
      numberedRings.rotate();
      memberRings.rotate();
      contents.rotate();
    },
  };
}

function configure(members: readonly RingMember[], size: number, layout: Layout): Configured {
  const indexes = layOut(members, size, layout);
  const seen = new Set(indexes);
  const without = members.flatMap((member, index) => (member.weight > 0 && !seen.has(index) ? [index] : []));
  return { indexes, without };
}

function layOut(members: readonly RingMember[], size: number, layout: Layout): Uint16Array {
  switch (layout) {
    case "maglev": return buildRing(members, size);
    case "continuum": return compileContinuum(members, size);
    case "rotation": return rotationOf(members.map(({ weight }) => weight), size).slots;
    case "roll": return rotationOf(members.map(({ weight }) => Math.sign(weight)), size).slots;
  }
}

/** Slot → index of the member that gets its flows now. */
function admit(
  layout: Layout, configured: Uint16Array, members: readonly RingMember[],
): { readonly slots: Uint16Array; readonly turns: number } {
  const sorry = members.some(takesFlows) ? -1 : members.findIndex(saysSorry);
  if (sorry >= 0) return { slots: new Uint16Array(configured.length).fill(sorry), turns: 1 };
  if (layout === "maglev" || layout === "continuum") return { slots: lend(configured, members), turns: 0 };
  const weights = members.map((member) => (takesFlows(member) ? pickWeight(member) : 0));
  if (layout === "rotation") return rotationOf(weights, configured.length);
  const { slots } = rotationOf(weights.map(Math.sign), configured.length);
  return { slots, turns: Math.min(configured.length, weights.filter((weight) => weight > 0).length) };
}

export function takesFlows({ alive, admission, weight }: RingMember): boolean {
  return alive && admission > 0 && weight > 0;
}

/** If nobody takes flows. */
export function saysSorry({ alive, admission, isSorry }: RingMember): boolean {
  return isSorry && alive && admission > 0;
}

function number(indexes: Uint16Array, ids: Uint16Array): Numbered {
  const slots = toIds(indexes, ids);
  return { slots, digest: digest(slots) };
}

function toIds(indexes: Uint16Array, ids: Uint16Array): Uint16Array {
  const slots = new Uint16Array(indexes.length);
  for (let slot = 0; slot < slots.length; slot++) {
    const index = indexes[slot]!;
    slots[slot] = index === NO_BACKEND ? 0 : ids[index]!;
  }
  return slots;
}
