// The ring against what others published: Envoy's unit tests, Table 1 of the Maglev paper, vectors
// of xxHash64. And what it refuses. Laws for any weights are in test/property/ring.test.ts.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { lend } from "../../src/model/lending.ts";
import { compareKeys, keyWord, permutationOf } from "../../src/model/permutation.ts";
import { fillSlots, quotasOf, turnsOf } from "../../src/model/ring_fill.ts";
import {
  buildRing, isPrime, NO_BACKEND, RING_BACKENDS_MAX, RING_SIZE_MAX, RING_WEIGHT_MAX, ringStats,
  type RingBackend,
} from "../../src/model/ring.ts";
import { xxh64 } from "../../src/model/xxh64.ts";
import { envoyRing } from "../property/ring_reference.ts";

function backends(keys: readonly string[], weights: readonly number[] = []): RingBackend[] {
  return keys.map((key, index) => ({ key, weight: weights[index] ?? 1 }));
}

const SIX = [90, 91, 92, 93, 94, 95].map((port) => `127.0.0.1:${port}`);

describe("xxh64", () => {
  it("gives the published results", () => {
    // Envoy test/common/common/hash_test.cc.
    expect(xxh64("foo", 0n)).toBe(3728699739546630719n);
    expect(xxh64("bar", 0)).toBe(5234164152756840025n);
    expect(xxh64("foo\nbar", 0n)).toBe(8917841378505826757n);
    expect(xxh64("lyft", 0n)).toBe(4400747396090729504n);
    // github.com/Cyan4973/xxHash: XXH64 of nothing.
    expect(xxh64("", 0n)).toBe(0xef46db3751d8e999n);
  });

  it("hashes UTF-8, and the seed counts", () => {
    expect(xxh64("foo", 1n)).not.toBe(xxh64("foo", 0n));
    expect(xxh64("é", 0n)).not.toBe(xxh64("e", 0n));
  });
});

describe("Envoy's vectors", () => {
  // test/extensions/load_balancing_policies/maglev/maglev_lb_test.cc: Basic.
  it("six hosts by address, 7 slots", () => {
    expect([...buildRing(backends(SIX), 7)]).toEqual([2, 4, 0, 1, 5, 0, 3]);
  });

  // BasicWithHostName, BasicWithMetadataHashKey.
  it("six hosts by name, 7 slots", () => {
    const names = backends(["90", "91", "92", "93", "94", "95"]);
    expect([...buildRing(names, 7)]).toEqual([2, 5, 0, 3, 4, 1, 0]);
  });

  // Weighted.
  it("weights 1 and 2, 17 slots", () => {
    expect([...buildRing(backends(SIX.slice(0, 2), [1, 2]), 17)])
      .toEqual([1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1]);
  });

  // LocalityWeightedSameLocalityWeights: one host in each of two localities of weight 1.
  it("equal weights, 17 slots", () => {
    expect([...buildRing(backends(SIX.slice(0, 2)), 17)])
      .toEqual([1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1]);
  });

  // LocalityWeightedDifferentLocalityWeights: localities of weight 8 and 2, so shares of 13.6 and
  // 3.4.
  it("weights 8 and 2, 17 slots: Envoy gives 13 and 4, the quotas 14 and 3", () => {
    const two = backends(SIX.slice(0, 2), [8, 2]);
    const envoy = [1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0];
    expect([...envoyRing(two, 17, null)]).toEqual(envoy);
    const ring = [...buildRing(two, 17)];
    expect(ringStats(Uint16Array.from(ring), two).map(({ slots }) => slots)).toEqual([14, 3]);
    // Only the turn beyond the quota is another's: one slot differs.
    expect(ring.filter((owner, slot) => owner !== envoy[slot]).length).toBe(1);
  });

  // SingleHost, WeightedSingleHost, NoHost.
  it("one host takes every slot at any weight, none leaves them empty", () => {
    expect([...buildRing(backends(SIX.slice(0, 1)), 7)]).toEqual(Array(7).fill(0));
    expect([...buildRing(backends(SIX.slice(0, 1), [7]), 17)]).toEqual(Array(17).fill(0));
    expect([...buildRing([], 7)]).toEqual(Array(7).fill(NO_BACKEND));
  });

  it("1000 among 999 of weight 1: Envoy misses by 215 slots, the ring by less than one", () => {
    const many = Array.from({ length: 1000 }, (_, index) => ({
      key: `10.0.${index >> 8}.${index & 255}:80`, weight: index === 0 ? 1000 : 1,
    }));
    const worst = (ring: Uint16Array): number =>
      Math.max(...ringStats(ring, many).map(({ slots, ideal }) => Math.abs(slots - ideal)));
    expect(Math.round(worst(envoyRing(many, 65537, null)))).toBe(215);
    expect(worst(buildRing(many, 65537))).toBeLessThan(1);
  });
});

describe("Table 1 of the Maglev paper", () => {
  // Eisenbud et al., NSDI 2016, page 6: M = 7, offset and skip as given there.
  const b0 = { offset: 3, skip: 4 };
  const b1 = { offset: 0, skip: 2 };
  const b2 = { offset: 3, skip: 1 };

  it("permutations", () => {
    const permutation = ({ offset, skip }: { offset: number; skip: number }): number[] =>
      Array.from({ length: 7 }, (_, j) => (offset + j * skip) % 7);
    expect(permutation(b0)).toEqual([3, 0, 4, 1, 5, 2, 6]);
    expect(permutation(b1)).toEqual([0, 2, 4, 6, 1, 3, 5]);
    expect(permutation(b2)).toEqual([3, 4, 5, 6, 0, 1, 2]);
  });

  it("the table before and after B1 is removed", () => {
    const turns = (count: number): Uint16Array => {
      const weights = new Float64Array(count).fill(1);
      return turnsOf(weights, quotasOf(weights, 7), 7);
    };
    const before = fillSlots(turns(3), [b0, b1, b2], Uint16Array.of(0, 1, 2), 7);
    expect([...before]).toEqual([1, 0, 1, 0, 2, 2, 0]);
    const after = fillSlots(turns(2), [b0, b2], Uint16Array.of(0, 2), 7);
    expect([...after]).toEqual([0, 0, 0, 0, 2, 2, 2]);
  });
});

describe("permutationOf and keyWord", () => {
  it("are the definition in BigInt", () => {
    for (const key of ["127.0.0.1:90", "[2001:db8::1]:443", "ключ", ""]) {
      for (const size of [7, 65537, RING_SIZE_MAX]) {
        const modulus = BigInt(size);
        expect(permutationOf(key, size)).toEqual({
          offset: Number(xxh64(key, 0n) % modulus),
          skip: Number(xxh64(key, 1n) % (modulus - 1n)) + 1,
        });
      }
      expect(keyWord(key)).toBe(Number(xxh64(key, 0n) & 0xffff_ffffn));
    }
  });

  it("remember a bounded number of keys without changing an answer", () => {
    const first = permutationOf("10.0.0.1:80", 65537);
    for (let index = 0; index < 70_000; index++) keyWord(`key ${index}`);
    expect(permutationOf("10.0.0.1:80", 65537)).toEqual(first);
  });
});

describe("compareKeys", () => {
  it("orders by UTF-8 bytes where UTF-16 units would not", () => {
    // U+FF5E is one unit, U+1F600 a surrogate pair that begins with a smaller unit.
    expect("～" < "😀").toBe(false);
    expect(compareKeys("～", "😀")).toBeLessThan(0);
    expect(compareKeys("10.0.0.10:80", "10.0.0.9:80")).toBeLessThan(0);
    expect(compareKeys("10.0.0.1", "10.0.0.1:80")).toBeLessThan(0);
    expect(compareKeys("a", "a")).toBe(0);
  });
});

describe("isPrime", () => {
  it("knows primes from the rest", () => {
    const primes = Array.from({ length: 60 }, (_, value) => value).filter(isPrime);
    expect(primes).toEqual([2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59]);
    expect([65537, RING_SIZE_MAX].every(isPrime)).toBe(true);
    // Carmichael numbers, squares of primes, and what is no natural number.
    const others = [561, 1105, 65536, 65539 * 3, 1447 ** 2, -7, 7.5, NaN, Infinity];
    expect(others.some(isPrime)).toBe(false);
  });
});

describe("buildRing", () => {
  it("gives no slot to weight 0", () => {
    const ring = buildRing(backends(SIX.slice(0, 3), [1, 0, 1]), 17);
    expect(new Set(ring)).toEqual(new Set([0, 2]));
    expect([...buildRing(backends(SIX.slice(0, 2), [0, 0]), 7)]).toEqual(Array(7).fill(NO_BACKEND));
  });

  it("takes more backends than slots: the first in key order get one each", () => {
    const ten = Array.from({ length: 10 }, (_, index) => `10.0.0.${9 - index}:80`);
    const ring = buildRing(backends(ten), 7);
    expect(new Set(ring)).toEqual(new Set([9, 8, 7, 6, 5, 4, 3]));
  });

  it("takes the largest size, the most backends and the largest weight", () => {
    const heavy = backends(SIX, [RING_WEIGHT_MAX, 1, RING_WEIGHT_MAX - 1, 2, 3, 5]);
    const large = buildRing(heavy, RING_SIZE_MAX);
    expect(large.includes(NO_BACKEND)).toBe(false);
    const many = backends(Array.from({ length: RING_BACKENDS_MAX }, (_, index) => `key ${index}`));
    const counts = ringStats(buildRing(many, 65537), many).map(({ slots }) => slots);
    expect([Math.min(...counts), Math.max(...counts)]).toEqual([2, 3]);
  });

  it("refuses what no config can say", () => {
    const one = backends(SIX.slice(0, 1));
    for (const size of [0, 5, 8, 65536, 2_097_169, 7.5, NaN, -7]) {
      expect(() => buildRing(one, size), `size ${size}`).toThrow(RangeError);
    }
    for (const weight of [-1, 0.5, NaN, Infinity, RING_WEIGHT_MAX + 1]) {
      expect(() => buildRing(backends(["a"], [weight]), 7), `weight ${weight}`).toThrow(RangeError);
    }
    expect(() => buildRing(backends(["a", "b", "a"]), 7)).toThrow(/a is there twice/);
    const tooMany = Array.from({ length: RING_BACKENDS_MAX + 1 }, (_, index) => `key ${index}`);
    expect(() => buildRing(backends(tooMany), 65537)).toThrow(RangeError);
  });
});

describe("docs/ring.md", () => {
  it("shows the ring and the lending of its example as they are", () => {
    const page = readFileSync(join(import.meta.dirname, "../../docs/ring.md"), "utf8");
    const line = (name: string): number[] => {
      const found = new RegExp(`^ {4}${name} +([\\d ]+)$`, "m").exec(page)?.[1] ?? "";
      return found.split(" ").map((port) => Number(port) - 90);
    };
    const six = backends(SIX).map((backend, index) => (
      { ...backend, alive: index !== 1, admission: 65536 }
    ));
    const ring = buildRing(six, 17);
    expect([...ring]).toEqual(line("ring"));
    expect([...lend(ring, six)]).toEqual(line("91 down"));
  });
});

describe("ringStats", () => {
  it("counts slots, share and ideal in the order given", () => {
    const two = backends(["b", "a"], [1, 3]);
    const stats = ringStats(Uint16Array.of(1, 1, 0, 1, 1, 0, 1), two);
    expect(stats).toEqual([
      { key: "b", weight: 1, slots: 2, share: 2 / 7, ideal: 7 / 4 },
      { key: "a", weight: 3, slots: 5, share: 5 / 7, ideal: 21 / 4 },
    ]);
  });

  it("is all zeros where there is nothing", () => {
    expect(ringStats(buildRing(backends(["a"], [0]), 7), backends(["a"], [0])))
      .toEqual([{ key: "a", weight: 0, slots: 0, share: 0, ideal: 0 }]);
    expect(ringStats(new Uint16Array(0), [])).toEqual([]);
  });
});
