// The continuum against libketama's own check of itself, and the table that is compiled from it.

import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { compileContinuum, layContinuum, placeIn } from "../../src/model/continuum.ts";
import { slotOf } from "../../src/model/flow_hash.ts";
import { NO_BACKEND } from "../../src/model/ring.ts";

/** ketama.servers of libketama (github.com/RJ/ketama): server and memory. */
const SERVERS = [600, 300, 200, 350, 1000, 800, 950, 100]
  .map((weight, at) => ({ key: `10.0.1.${at + 1}:11211`, weight }));
/** test.sh of libketama: MD5 of what ketama_test.c prints for the keys "0" to "999999". */
const PUBLISHED = "5672b131391f5aa2b280936aec1eea74";

describe("the continuum", () => {
  it("is libketama's, point by point and key by key", { timeout: 60_000 }, () => {
    const continuum = layContinuum(SERVERS);
    const printed = createHash("md5").update("\n"); // it begins with its last error: none
    let lines = "";
    for (let key = 0; key < 1_000_000; key++) {
      const hash = createHash("md5").update(String(key)).digest().readUInt32LE(0);
      const at = placeIn(continuum, hash);
      lines += `${hash} ${continuum.points[at]!} ${SERVERS[continuum.owners[at]!]!.key}\n`;
      if (lines.length < 1_000_000) continue;
      printed.update(lines);
      lines = "";
    }
    expect(printed.update(lines).digest("hex")).toBe(PUBLISHED);
  });

  it("does not depend on the order of the backends, and has 160 points for each of equals", () => {
    const equals = ["a", "b", "c"].map((key) => ({ key, weight: 7 }));
    const there = layContinuum(equals);
    const back = layContinuum(equals.toReversed());
    expect(there.points).toHaveLength(480);
    expect(back.points).toEqual(there.points);
    expect(Array.from(back.owners, (owner) => equals.toReversed()[owner]!.key))
      .toEqual(Array.from(there.owners, (owner) => equals[owner]!.key));
  });

  it("has no place for a weight of 0, and nobody where there is no weight", () => {
    const [first, ...others] = SERVERS;
    const one = [{ ...first!, weight: 0 }, ...others];
    expect(layContinuum(one).owners).not.toContain(0);
    expect(new Set(compileContinuum([{ key: "a", weight: 0 }], 7))).toEqual(new Set([NO_BACKEND]));
  });
});

describe("the table of a continuum", () => {
  const SIZE = 65_537;
  const ring = compileContinuum(SERVERS, SIZE);

  it("gives each slot to whom its first hash belongs to", () => {
    const continuum = layContinuum(SERVERS);
    for (let slot = 0; slot < SIZE; slot += 97) {
      let hash = Math.floor((slot * 2 ** 32) / SIZE);
      while (slotOf(hash, SIZE) < slot) hash += 1;
      expect(slotOf(hash - 1, SIZE) === slot && hash > 0, `first of slot ${slot}`).toBe(false);
      expect(ring[slot]).toBe(continuum.owners[placeIn(continuum, hash)]);
    }
  });

  it("moves no slot between two servers when a third one goes, with equal weights", () => {
    const equals = SERVERS.map(({ key }) => ({ key, weight: 1 }));
    const before = compileContinuum(equals, SIZE);
    const after = compileContinuum(equals.slice(1), SIZE);
    const moved = Array.from(before).filter((owner, slot) => owner !== 0 && after[slot] !== owner - 1);
    expect(moved).toEqual([]);
    expect(before.filter((owner) => owner === 0).length).toBeGreaterThan(0);
  });
});
