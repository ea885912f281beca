// Laws of lending: no foreign slot moves, recovery restores, ramps grow slot by slot, order of the
// file does not matter, survivors stay even. Compared with a slow reference that follows
// docs/ring.md.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  lend, LENDING_DRAWS_MAX, lendingDraw, type LendingBackend, lendingOrder,
} from "../../src/model/lending.ts";
import { buildRing, isPrime, NO_BACKEND, ringStats } from "../../src/model/ring.ts";
import { ADMISSION_MAX } from "../../src/model/table.ts";
import { keyWord } from "../../src/model/permutation.ts";
import { assertProperty, long, randomised } from "../support/counts.ts";
import { drawReference, lentTo } from "./ring_reference.ts";

const PRIMES = [...Array(500).keys()].filter((value) => value >= 7 && isPrime(value));

const admissions = fc.oneof(
  fc.constantFrom(0, 1, 655, 32768, ADMISSION_MAX - 1),
  fc.constant(ADMISSION_MAX),
  fc.integer({ min: 0, max: ADMISSION_MAX }),
);
const states = fc.record({
  alive: fc.oneof(fc.constant(true), fc.boolean()), admission: admissions,
});
const weights = fc.oneof(
  fc.constant(1), fc.constantFrom(0, 1, 2, 5, 10, 1000), fc.integer({ min: 0, max: 65535 }),
);

function pools(max: number): fc.Arbitrary<LendingBackend[]> {
  const backend = fc.record({ number: fc.nat(65535), weight: weights, state: states })
    .map(({ number, weight, state }) => (
      { key: `10.0.${number >> 8}.${number & 255}:80`, weight, ...state }
    ));
  return fc.uniqueArray(backend, { selector: ({ key }) => key, minLength: 1, maxLength: max });
}

const sizes = fc.constantFrom(...PRIMES);

function healthy(backends: readonly LendingBackend[]): LendingBackend[] {
  return backends.map((backend) => ({ ...backend, alive: true, admission: ADMISSION_MAX }));
}

function slotsOf(lent: Uint16Array, index: number): number[] {
  return [...lent.keys()].filter((slot) => lent[slot] === index);
}

describe("lendingDraw", () => {
  it("keeps the values it always had", () => {
    // The same three are in docs/ring.md. A change here moves lent slots, on one node before another.
    expect([lendingDraw(0, 0), lendingDraw(1, 1), lendingDraw(65536, 32)])
      .toEqual([0xaa3e5b61, 0x8b789307, 0x27f5327a]);
    expect(lendingDraw(1, 1)).toBe(2339934983);
  });

  it("is the definition in BigInt", () => {
    const numbers = fc.nat(0xffff_ffff);
    assertProperty("ring-lending", fc.property(fc.nat(2_097_142), numbers, (slot, word) => {
      expect(lendingDraw(slot, word)).toBe(drawReference(slot, word));
    }));
  });
});

describe("lend", () => {
  it("counts a draw below the admission, and not one that equals it", () => {
    const pool = (admission: number): LendingBackend[] => [
      { key: "a", weight: 1, alive: true, admission },
      { key: "b", weight: 1, alive: true, admission: ADMISSION_MAX },
    ];
    const ring = buildRing(pool(ADMISSION_MAX), 251);
    for (const slot of slotsOf(ring, 0)) {
      const drawn = lendingDraw(slot, keyWord("a")) % 65536;
      expect(lend(ring, pool(drawn))[slot]).toBe(1);
      expect(lend(ring, pool(drawn + 1))[slot]).toBe(0);
    }
  });

  it("draws 32 times from the ring before it looks at everybody", () => {
    // Part of the definition: nodes that disagree send a slot to different backends.
    expect(LENDING_DRAWS_MAX).toBe(32);
  });

  it("is the reference, slot by slot", () => {
    assertProperty("ring-lending", fc.property(pools(12), sizes, (backends, size) => {
      const ring = buildRing(backends, size);
      const reference = Array.from(ring, (_, slot) => lentTo(ring, backends, slot));
      expect([...lend(ring, backends)]).toEqual(reference);
    }));
  });

  it("gives back exactly the ring when everybody is eligible", () => {
    assertProperty("ring-lending", fc.property(pools(30), sizes, (backends, size) => {
      const ring = buildRing(backends, size);
      expect([...lend(ring, healthy(backends))]).toEqual([...ring]);
    }));
  });

  it("moves no foreign slot in any sequence of failures, drains, ramps and recoveries", () => {
    const events = fc.array(fc.tuple(fc.nat(), states), { minLength: 1, maxLength: 30 });
    let moved = 0;
    assertProperty("ring-lending", fc.property(pools(12), sizes, events, (pool, size, sequence) => {
      const ring = buildRing(pool, size);
      const backends = [...pool];
      let before = lend(ring, backends);
      for (const [which, state] of sequence) {
        const concerned = which % backends.length;
        backends[concerned] = { ...backends[concerned]!, ...state };
        const after = lend(ring, backends);
        for (let slot = 0; slot < size; slot++) {
          if (before[slot] === after[slot]) continue;
          moved += 1;
          if (before[slot] !== concerned && after[slot] !== concerned) {
            const hands = `${before[slot]} → ${after[slot]}`;
            throw new Error(`slot ${slot}: ${hands} when ${concerned} changed`);
          }
        }
        before = after;
      }
    }));
    expect(moved).toBeGreaterThan(0);
  });

  it("depends on the present alone: what led to it leaves no trace", () => {
    // Recovery restores exactly because lend takes no history. Here: fail and recover, in another
    // order.
    const two = fc.tuple(fc.nat(), fc.nat());
    assertProperty("ring-lending", fc.property(pools(12), sizes, two, (backends, size, pair) => {
      const ring = buildRing(backends, size);
      const copy = Uint16Array.from(ring);
      const before = lend(ring, backends);
      const out = new Set(pair.map((which) => which % backends.length));
      lend(ring, backends.map((backend, index) => (
        out.has(index) ? { ...backend, alive: false } : backend
      )));
      expect([...lend(ring, backends)]).toEqual([...before]);
      expect([...ring]).toEqual([...copy]);
    }));
  });

  it("grows slot by slot with the admission", () => {
    const ramps = fc.tuple(fc.nat(), fc.uniqueArray(admissions, { minLength: 2, maxLength: 6 }));
    assertProperty("ring-lending", fc.property(pools(8), sizes, ramps, (pool, size, ramp) => {
      const [which, steps] = ramp;
      const ring = buildRing(pool, size);
      const ramping = which % pool.length;
      let had = new Set<number>();
      for (const admission of [...steps].sort((left, right) => left - right)) {
        const backends = pool.map((backend, index) => (
          index === ramping ? { ...backend, alive: true, admission } : backend
        ));
        const has = new Set(slotsOf(lend(ring, backends), ramping));
        expect([...had].filter((slot) => !has.has(slot))).toEqual([]);
        had = has;
      }
    }));
  });

  it("does not depend on the order of the backends", () => {
    const shuffled = pools(12).chain((backends) => fc.tuple(
      fc.constant(backends), fc.shuffledSubarray(backends, { minLength: backends.length }),
    ));
    assertProperty("ring-lending", fc.property(shuffled, sizes, ([backends, others], size) => {
      const names = (list: readonly LendingBackend[]): (string | undefined)[] =>
        Array.from(lend(buildRing(list, size), list), (index) => list[index]?.key);
      expect(names(others)).toEqual(names(backends));
    }));
  });

  it("gives a ramping backend its draw's share of its own slots, and of those it borrows", () => {
    const size = 65537;
    const pool = Array.from({ length: 10 }, (_, index): LendingBackend => ({
      key: `10.0.0.${index}:80`, weight: 1, alive: index !== 9,
      admission: index === 0 ? ADMISSION_MAX / 4 : ADMISSION_MAX,
    }));
    const ring = buildRing(pool, size);
    const lent = lend(ring, pool);
    const partOf = (owner: number): number =>
      slotsOf(lent, 0).filter((slot) => ring[slot] === owner).length / slotsOf(ring, owner).length;
    const own = partOf(0);
    const borrowed = partOf(9);
    expect(own).toBeGreaterThan(0.23);
    expect(own).toBeLessThan(0.27);
    // A quarter of one part in eight and a quarter.
    expect(borrowed).toBeGreaterThan(0.02);
    expect(borrowed).toBeLessThan(0.04);
    for (const slot of slotsOf(lent, 0)) {
      expect(lendingDraw(slot, keyWord(pool[0]!.key)) % 65536).toBeLessThan(ADMISSION_MAX / 4);
    }
  });
});

describe("the end of the order", () => {
  function pool(weightsOf: readonly number[]): LendingBackend[] {
    return weightsOf.map((weight, index) => ({
      key: `10.0.0.${index}:80`, weight, alive: true, admission: ADMISSION_MAX,
    }));
  }

  it("is nobody when nobody is alive or everybody drains", () => {
    const three = pool([1, 1, 1]);
    const ring = buildRing(three, 17);
    const nobody = Array(17).fill(NO_BACKEND);
    expect([...lend(ring, three.map((each) => ({ ...each, alive: false })))]).toEqual(nobody);
    expect([...lend(ring, three.map((each) => ({ ...each, admission: 0 })))]).toEqual(nobody);
    expect([...lend(buildRing(pool([0]), 7), pool([0]))]).toEqual(Array(7).fill(NO_BACKEND));
  });

  it("is the last one alive, however small its admission", () => {
    const three = pool([1, 1, 1]);
    const ring = buildRing(three, 65537);
    const last = three.map((backend, index) => ({ ...backend, alive: index === 1, admission: 1 }));
    expect(lend(ring, last).every((index) => index === 1)).toBe(true);
  });

  it("is the owner where everybody has just begun a ramp", () => {
    const three = pool([1, 1, 1]).map((backend) => ({ ...backend, admission: 1 }));
    const ring = buildRing(three, 65537);
    const moved = lend(ring, three).filter((index, slot) => index !== ring[slot]).length;
    // Each has one draw in 65536 for itself.
    expect(moved).toBeLessThan(20);
  });

  it("never goes to weight 0, but does to a weight too small for a slot", () => {
    const backends = pool([65535, 65535, 0, 1]);
    const ring = buildRing(backends, 7);
    expect(ringStats(ring, backends).map(({ slots }) => slots)).toEqual([4, 3, 0, 0]);
    const out = backends.map((backend, index) => ({ ...backend, alive: index > 1 }));
    expect(lend(ring, out).every((index) => index === 3)).toBe(true);
  });

  it("is shared by weight when hardly any slot belongs to survivors", () => {
    const backends = pool([65535, 65535, 4, 2, 1])
      .map((backend, index) => ({ ...backend, alive: index > 1 }));
    const stats = ringStats(lend(buildRing(backends, 65537), backends), backends);
    const [four, two, one] = stats.slice(2).map(({ share }) => share);
    expect(four).toBeGreaterThan(4 / 7 - 0.01);
    expect(four).toBeLessThan(4 / 7 + 0.01);
    expect(two).toBeGreaterThan(2 / 7 - 0.01);
    expect(two).toBeLessThan(2 / 7 + 0.01);
    expect(one).toBeGreaterThan(1 / 7 - 0.01);
  });

  it("refuses an admission out of range", () => {
    const ring = buildRing(pool([1]), 7);
    for (const admission of [-1, ADMISSION_MAX + 1, 0.5, NaN]) {
      const one = { key: "a", weight: 1, alive: true, admission };
      expect(() => lend(ring, [one]), String(admission)).toThrow(RangeError);
    }
  });
});

describe("lendingOrder", () => {
  it("begins with the lent ring, and goes on as if the ones before had failed", () => {
    assertProperty("ring-lending", fc.property(pools(8), sizes, fc.nat(), (pool, size, which) => {
      const ring = buildRing(pool, size);
      const slot = which % size;
      let backends: readonly LendingBackend[] = pool;
      for (const chosen of lendingOrder(ring, pool, slot, 8)) {
        expect(lend(ring, backends)[slot]).toBe(chosen);
        backends = backends.map((backend, index) => (
          index === chosen ? { ...backend, alive: false } : backend
        ));
      }
      expect(lend(ring, backends)[slot]).toBe(NO_BACKEND);
    }));
  });

  it("gives no more than asked for, and nothing where nobody is", () => {
    const pool = [1, 2, 3].map((number): LendingBackend => (
      { key: `${number}`, weight: 1, alive: true, admission: ADMISSION_MAX }
    ));
    const ring = buildRing(pool, 7);
    expect(lendingOrder(ring, pool, 0, 2).length).toBe(2);
    const dead = pool.map((backend) => ({ ...backend, alive: false }));
    expect(lendingOrder(ring, dead, 0, 2)).toEqual([]);
  });
});

describe("evenness", () => {
  it("10 of 100 equal backends out: the busiest survivor", () => {
    randomised("ring-lending", ({ seed, count }) => {
      const busiest: number[] = [];
      const ten = fc.shuffledSubarray([...Array(100).keys()], { minLength: 10, maxLength: 10 });
      const pool = fc.tuple(fc.nat(0xffff_ffff), ten);
      for (const [salt, out] of fc.sample(pool, { seed, numRuns: count })) {
        const backends = Array.from({ length: 100 }, (_, index): LendingBackend => ({
          key: `10.${salt >>> 24}.${(salt >>> 16) & 255}.${index}:${salt & 65535}`, weight: 1,
          alive: !out.includes(index), admission: ADMISSION_MAX,
        }));
        const lent = lend(buildRing(backends, 65537), backends);
        const slotsMax = Math.max(...ringStats(lent, backends).map(({ slots }) => slots));
        busiest.push(slotsMax / (65537 / 90));
      }
      busiest.sort((left, right) => left - right);
      const mean = busiest.reduce((sum, ratio) => sum + ratio, 0) / count;
      expect(mean).toBeLessThanOrEqual(1.04);
      expect(busiest[Math.ceil(count * 0.999) - 1]).toBeLessThanOrEqual(1.07);
      if (long()) expect(count).toBeGreaterThanOrEqual(1000);
    });
  });
});
