// The rings of a table: built over configured weights, lent by admission, and turned from indexes into
// destination ids. Remembers what the last tables needed, so that a change of health costs one lending
// and services with the same content share one ring. Knows members, not services.

import type { LendingBackend } from "./lending.ts";
import { lend } from "./lending.ts";
import { buildRing, NO_BACKEND } from "./ring.ts";
import { contentKey, digest } from "./ring_content.ts";
import type { Ring } from "./table.ts";

/** One backend of one ring. Members come in key order. */
export interface RingMember extends LendingBackend {
  /** Destination id, 1…32767. */
  readonly id: number;
}

export interface MemberRing {
  readonly ring: Ring;
  /** Indexes of the members with a positive weight and no slot. */
  readonly without: readonly number[];
}

export interface RingMemo {
  ring(members: readonly RingMember[], size: number): MemberRing;
  /** Ends a table: forgets what neither this nor the previous one asked for. */
  rotate(): void;
}

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
  return {
    ring: (members, size) => {
      const shape = `${size} ${JSON.stringify(members.map(({ key, weight }) => [key, weight]))}`;
      const configured = configuredRings.get(shape, () => configure(members, size));
      const ids = Uint16Array.from(members, (member) => member.id);
      const numbers = `${shape} ${ids.join()}`;
      const numbered = numberedRings.get(numbers, () => number(configured.indexes, ids));
      const state = members.map((member) => (member.alive ? member.admission : -1)).join();
      return memberRings.get(`${numbers} ${state}`, () => {
        const slots = toIds(lend(configured.indexes, members), ids);
        const key = contentKey(slots);
        const ring: Ring = { key, size, slots, configured: numbered.slots };
        return {
          ring: contents.get(`${key} ${numbered.digest}`, () => ring), without: configured.without,
        };
      });
    },
    rotate: () => {
      configuredRings.rotate();
      numberedRings.rotate();
      memberRings.rotate();
      contents.rotate();
    },
  };
}

function configure(members: readonly RingMember[], size: number): Configured {
  const indexes = buildRing(members, size);
  const seen = new Set(indexes);
  const without = members.flatMap((member, index) => (member.weight > 0 && !seen.has(index) ? [index] : []));
  return { indexes, without };
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
