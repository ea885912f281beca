// Which entries of a flow table that was replaced are brought to the one that took its place.

import { expect, it } from "vitest";
import { FlowEntry } from "../../src/dataplane/xdp/abi.gen.ts";
import { catchUp } from "../../src/dataplane/xdp/carry.ts";
import type { MapSet } from "../../src/dataplane/xdp/maps.ts";
import type { BpfMap } from "../../src/dataplane/xdp/native.ts";

const SINCE_NS = 1_000_000_000_000n;
const KEY_SIZE = 40;
const SECOND_NS = 1_000_000_000n;
const [BEFORE, AFTER] = [SINCE_NS - SECOND_NS, SINCE_NS + SECOND_NS];

function entry(destination: number, lastSeenNs: bigint, generation = 1): Uint8Array {
  return FlowEntry.encode({ destination, generation, lastSeenNs, other: 0 });
}

/** As the addon throws them. */
function failure(code: string): Error {
  return Object.assign(new Error(code), { code, errno: 1, operation: "update", object: "flows", log: "" });
}

/** Entries by one byte that is their key, and the kernel's errors. */
class FakeFlows {
  readonly entries: Map<number, Uint8Array>;
  beforeUpdate: () => void = () => undefined;
  writes = 0;
  readonly #id: number;

  constructor(id: number, entries: readonly (readonly [number, Uint8Array])[]) {
    this.#id = id;
    this.entries = new Map(entries);
  }

  get map(): BpfMap {
    const keys = [...this.entries.keys()];
    const map: Pick<BpfMap, "info" | "lookup" | "lookupBatch" | "update"> = {
      info: () => ({ id: this.#id, name: "flows", type: 9, flags: 0, keySize: KEY_SIZE, valueSize: FlowEntry.size, maxEntries: 64 }),
      lookup: ([key]) => this.entries.get(key!) ?? null,
      lookupBatch: (cursor) => {
        // A few at a time, whatever is asked for.
        const from = cursor?.[0] ?? 0;
        const part = keys.slice(from, from + 3);
        return {
          keys: Uint8Array.from(part.flatMap((key) => [key, ...new Uint8Array(KEY_SIZE - 1)])),
          values: Uint8Array.from(part.flatMap((key) => [...this.entries.get(key)!])), count: part.length,
          cursor: from + part.length >= keys.length ? null : Uint8Array.of(from + part.length),
        };
      },
      update: ([key], value, flags) => {
        this.beforeUpdate();
        const isThere = this.entries.has(key!);
        if (flags === 1 && isThere) throw failure("EXISTS");
        if (flags === 2 && !isThere) throw failure("NOT_FOUND");
        this.writes += 1;
        this.entries.set(key!, value.slice());
      },
    };
    return map as BpfMap;
  }
}

function carry(from: FakeFlows, to: FakeFlows): void {
  const maps: Partial<MapSet> = { flows: to.map };
  catchUp({ flows: from.map }, { maps: maps as MapSet }, SINCE_NS);
}

it("brings flows that began or moved since the copy, and nothing over what packets have written since", () => {
  const from = new FakeFlows(1, [
    [1, entry(1, BEFORE)], [2, entry(2, AFTER)], [3, entry(3, AFTER)], [4, entry(4, AFTER)], [5, entry(5, AFTER, 2)],
    // The program's clock is a tick behind.
    [6, entry(6, SINCE_NS - 5_000_000n)],
    // It was there when the copy was made, and was forgotten since.
    [7, entry(7, BEFORE)],
  ]);
  const to = new FakeFlows(2, [
    [1, entry(1, BEFORE)], [3, entry(9, BEFORE)], [4, entry(9, AFTER + 1n)], [5, entry(5, BEFORE, 1)],
  ]);
  carry(from, to);
  const found = [...to.entries].sort(([a], [b]) => a - b).map(([key, value]) => [key, FlowEntry.decode(value).destination]);
  expect(found).toEqual([[1, 1], [2, 2], [3, 3], [4, 9], [5, 5], [6, 6]]);
  expect(FlowEntry.decode(to.entries.get(5)!).generation).toBe(2);
});

it("writes nothing for a flow whose time alone is later", () => {
  const to = new FakeFlows(2, [[1, entry(1, BEFORE)]]);
  carry(new FakeFlows(1, [[1, entry(1, AFTER)]]), to);
  expect(to.writes).toBe(0);
});

it("lets a packet win that is faster, and tells of every other failure", () => {
  const from = new FakeFlows(1, [[1, entry(1, SINCE_NS)]]);
  const to = new FakeFlows(2, []);
  to.beforeUpdate = () => { to.entries.set(1, entry(5, AFTER)); };
  carry(from, to);
  expect(FlowEntry.decode(to.entries.get(1)!).destination).toBe(5);
  to.entries.clear();
  to.beforeUpdate = () => { throw failure("SYSTEM"); };
  expect(() => { carry(from, to); }).toThrow("SYSTEM");
});
