// What the addon's maps and ring buffers do, on the real kernel, with a small program of their own.
// Knows no map of the load balancer.

import { afterAll, describe, expect, it } from "vitest";
import type { BpfMap } from "../../src/dataplane/xdp/native.ts";
import { describeKernel } from "../support/kernel.ts";
import {
  ARRAY_OF_MAPS, HASH, MMAPABLE, NEEDS, PROG_ARRAY, RINGBUF, XDP_ABORTED, XDP_DROP, XDP_PASS,
  XDP_TX, actionOf, addon, createMap, fromU32, fromU64, loadFixture, openFixture, outcome,
  removeFiles, thrown, u32, u64,
} from "./fixtures/native_fixture.ts";

describeKernel("the addon's maps", NEEDS, () => {
  afterAll(removeFiles);

  describe("elements", testElements);
  describe("batches", testBatches);
  describe("memory", testMemory);
  describe("maps in maps", testMapsInMaps);
  describe("ring buffers", testRingBuffers);
});

function testElements(): void {
  it("an element is written, read, found and deleted", () => {
    const flows = loadFixture().map("flows");
    expect(flows.lookup(u64(1))).toBeNull();
    flows.update(u64(1), u64(10), 0);
    expect(fromU64(flows.lookup(u64(1)))).toEqual([10]);
    expect(fromU64(flows.nextKey(null))).toEqual([1]);
    expect(flows.nextKey(u64(1))).toBeNull();
    expect(flows.delete(u64(1))).toBe(true);
    expect(flows.delete(u64(1))).toBe(false);
    expect(flows.nextKey(null)).toBeNull();
  });

  it("the flags say whether the key must be new or there", () => {
    const flows = loadFixture().map("flows");
    expect(thrown(() => { flows.update(u64(1), u64(1), 2); })).toMatchObject({
      code: "NOT_FOUND", errno: 2, operation: "BpfMap.update", object: "flows", log: null,
    });
    flows.update(u64(1), u64(1), 1);
    expect(thrown(() => { flows.update(u64(1), u64(1), 1); }).code).toBe("EXISTS");
    expect(thrown(() => { flows.update(u64(1), u64(1), 99); }))
      .toMatchObject({ code: "SYSTEM", errno: 22 });
  });

  it("a full map and an index beyond the end say FULL", () => {
    const map = createMap({ type: HASH });
    map.update(u32(1), u32(1), 0);
    expect(thrown(() => { map.update(u32(2), u32(1), 0); }))
      .toMatchObject({ code: "FULL", errno: 7, object: "made" });
    expect(thrown(() => { createMap({}).update(u32(1), u32(1), 0); }).code).toBe("FULL");
  });

  it("a per-CPU value has a place of 8 bytes for every possible CPU", () => {
    const object = loadFixture();
    const map = object.map("per_cpu");
    const cpus = addon().possibleCpus();
    for (let runs = 0; runs < 3; runs += 1) actionOf(object, "note");
    const value = map.lookup(u32(0)) ?? expect.unreachable();
    expect(value.length).toBe(8 * cpus);
    const counted = fromU32(value).filter((_, index) => index % 2 === 0);
    expect(counted.reduce((sum, each) => sum + each)).toBe(3);
    const written = u64(...Array.from({ length: cpus }, (_, cpu) => cpu + 100));
    map.update(u32(1), written, 0);
    expect(map.lookup(u32(1))).toEqual(written);
    expect(outcome(() => { map.update(u32(1), u32(1), 0); })).toBe("BAD_SIZE");
  });

  it("an LRU map never fills", () => {
    const recent = loadFixture().map("recent");
    for (let key = 0; key < 1000; key += 1) recent.update(u32(key), u32(key), 0);
    expect(fromU32(recent.lookup(u32(999)))).toEqual([999]);
  });

  it("a value of 4 MB goes in and out whole", () => {
    const map = createMap({ valueSize: 4 << 20 });
    const value = new Uint8Array(4 << 20).map((_, index) => index % 251);
    map.update(u32(0), value, 0);
    expect(Buffer.compare(map.lookup(u32(0)) ?? expect.unreachable(), value)).toBe(0);
  });

  it("a frozen map is read-only for the caller", () => {
    const map = createMap({ flags: MMAPABLE });
    map.freeze();
    expect(outcome(() => { map.update(u32(0), u32(1), 0); })).toBe("PERMISSION");
    // Memory that must not be written would kill the process on the first write.
    expect(outcome(() => map.mmap())).toBe("PERMISSION");
  });
}

/** Everything in a map, by batches of this size, as pairs; and how many calls it took. */
function readAll(map: BpfMap, size: number): { entries: Map<number, number>; calls: number } {
  const entries = new Map<number, number>();
  let calls = 0;
  for (let cursor: Uint8Array | null = null; ;) {
    const batch = map.lookupBatch(cursor, size);
    calls += 1;
    expect(batch.keys.length).toBe(batch.count * map.info().keySize);
    const [keys, values] = [fromU64(batch.keys), fromU64(batch.values)];
    keys.forEach((key, index) => entries.set(key, values[index] ?? -1));
    if (batch.cursor === null) return { entries, calls };
    cursor = batch.cursor;
  }
}

function testBatches(): void {
  const numbers = Array.from({ length: 3000 }, (_, index) => index + 1);

  it("3000 elements (many pages) are written, read in parts and deleted", () => {
    const flows = loadFixture().map("flows");
    expect(flows.updateBatch(u64(...numbers), u64(...numbers.map((each) => each * 2)), 3000))
      .toBe(3000);
    const { entries, calls } = readAll(flows, 256);
    expect(calls).toBeGreaterThan(10);
    expect(entries).toEqual(new Map(numbers.map((each) => [each, each * 2])));
    expect(flows.deleteBatch(u64(...numbers.slice(0, 2999)), 2999)).toBe(2999);
    expect(readAll(flows, 256).entries).toEqual(new Map([[3000, 6000]]));
  });

  it("an array goes by keys", () => {
    const counters = loadFixture().map("counters");
    expect(counters.updateBatch(u32(0, 1, 2, 3), u64(5, 6, 7, 8), 4)).toBe(4);
    const first = counters.lookupBatch(null, 3);
    expect([fromU32(first.keys), fromU64(first.values), first.count])
      .toEqual([[0, 1, 2], [5, 6, 7], 3]);
    const rest = counters.lookupBatch(first.cursor, 3);
    expect([fromU32(rest.keys), fromU64(rest.values), rest.cursor]).toEqual([[3], [8], null]);
  });

  it("an empty map ends at once; nothing to write is nothing written", () => {
    const flows = loadFixture().map("flows");
    expect(flows.lookupBatch(null, 10))
      .toEqual({ keys: new Uint8Array(0), values: new Uint8Array(0), count: 0, cursor: null });
    expect(flows.updateBatch(new Uint8Array(0), new Uint8Array(0), 0)).toBe(0);
    expect(flows.deleteBatch(new Uint8Array(0), 0)).toBe(0);
    expect(outcome(() => flows.lookupBatch(null, 0))).toBe("BAD_ARGUMENT");
  });

  it("sizes are checked against the count, and a huge count allocates no more than the map", () => {
    const flows = loadFixture().map("flows");
    expect(outcome(() => flows.updateBatch(u64(1, 2), u64(1), 2))).toBe("BAD_SIZE");
    expect(outcome(() => flows.updateBatch(u64(1), u64(1), 2 ** 32 - 1))).toBe("BAD_SIZE");
    flows.update(u64(1), u64(2), 0);
    expect(flows.lookupBatch(null, 2 ** 32 - 1).count).toBe(1);
  });

  it("a delete stops at an absent key and says how far it came; so does a full map", () => {
    const map = createMap({ type: HASH, keySize: 8, valueSize: 8, maxEntries: 4 });
    map.updateBatch(u64(1, 2), u64(1, 2), 2);
    expect(map.deleteBatch(u64(1, 99, 2), 3)).toBe(1);
    const error = thrown(() => map.updateBatch(u64(3, 4, 5, 6), u64(3, 4, 5, 6), 4));
    expect(error.code).toBe("FULL");
    expect(error.message).toContain("after 3 of 4");
  });
}

function testMemory(): void {
  it("memory, look-ups and programs see what each of them writes", () => {
    const object = loadFixture();
    const map = object.map("shared");
    const memory = map.mmap();
    // Each element begins at a multiple of 8: 5003 becomes 5008.
    expect(memory.byteLength).toBe(3 * 5008);
    new Uint8Array(memory)[5008] = XDP_TX;
    new Uint8Array(memory)[5008 + 5002] = 77;
    expect(map.lookup(u32(1))?.[5002]).toBe(77);
    expect(actionOf(object, "look_at_shared")).toBe(XDP_TX);
    map.update(u32(2), new Uint8Array(5003).fill(9), 0);
    expect(new Uint8Array(memory)[2 * 5008 + 5002]).toBe(9);
  });

  it("the same memory is given out twice, and detached by close", () => {
    const map = createMap({ flags: MMAPABLE });
    const memory = map.mmap();
    const view = new Uint8Array(memory);
    expect(map.mmap()).toBe(memory);
    map.close();
    expect([memory.byteLength, view.length]).toEqual([0, 0]);
    view[0] = 1;
    expect(view[0]).toBeUndefined();
  });

  it("closing the object detaches the memory of its maps", () => {
    const object = loadFixture();
    const memory = object.map("shared").mmap();
    object.close();
    expect(memory.byteLength).toBe(0);
  });

  it("a map without BPF_F_MMAPABLE has none, nor has .rodata once it is loaded", () => {
    expect(outcome(() => createMap({}).mmap())).toBe("BAD_STATE");
    expect(outcome(() => loadFixture().map(".rodata").mmap())).toBe("PERMISSION");
  });
}

function testMapsInMaps(): void {
  it("an inner map is put in, seen by a program, and read as its id", () => {
    const object = loadFixture();
    const rings = object.map("rings");
    expect(actionOf(object, "look_inside")).toBe(XDP_ABORTED);
    for (const action of [XDP_DROP, XDP_PASS]) {
      const inner = createMap({});
      inner.update(u32(0), u32(action), 0);
      rings.updateInner(u32(0), inner);
      expect(fromU32(rings.lookup(u32(0)))).toEqual([inner.info().id]);
      inner.close();
      // The outer map keeps it.
      expect(actionOf(object, "look_inside")).toBe(action);
    }
    expect(rings.delete(u32(0))).toBe(true);
    expect(rings.lookup(u32(0))).toBeNull();
  });

  it("an inner map of another shape is refused, and plain values always", () => {
    const rings = loadFixture().map("rings");
    expect(thrown(() => { rings.updateInner(u32(0), createMap({ valueSize: 8 })); }))
      .toMatchObject({ code: "SYSTEM", errno: 22 });
    const closed = createMap({});
    closed.close();
    expect(outcome(() => { rings.updateInner(u32(0), closed); })).toBe("CLOSED");
    expect(outcome(() => { rings.update(u32(0), u32(3), 0); })).toBe("BAD_STATE");
    expect(outcome(() => rings.updateBatch(u32(0), u32(3), 1))).toBe("BAD_STATE");
    expect(outcome(() => { createMap({ type: PROG_ARRAY }).update(u32(0), u32(3), 0); }))
      .toBe("BAD_STATE");
    expect(outcome(() => { createMap({}).updateInner(u32(0), createMap({})); })).toBe("BAD_STATE");
  });

  it("an outer map with another prototype takes the declared one's place", () => {
    const innerMap = createMap({ maxEntries: 5 });
    const outer = createMap({ name: "my_rings", type: ARRAY_OF_MAPS, maxEntries: 8, innerMap });
    const object = openFixture();
    expect(thrown(() => { object.setMaxEntries("rings.inner", 5); }).code).toBe("BAD_STATE");
    object.reuseMap("rings", outer);
    object.load();
    // libbpf would know it as "my_rings" from now on.
    expect(object.mapNames()).toContain("rings");
    expect(object.map("rings").info()).toMatchObject({ id: outer.info().id, maxEntries: 8 });
  });
}

function testRingBuffers(): void {
  it("records come in order, as many as asked, each once", () => {
    const object = loadFixture();
    const events = addon().RingBuffer.open(object.map("events"));
    expect(events.consume(10)).toEqual([]);
    for (let runs = 0; runs < 7; runs += 1) actionOf(object, "note", 60 + runs);
    expect(events.consume(3).map(fromU32)).toEqual([[0, 60], [1, 61], [2, 62]]);
    expect(events.consume(1).map(fromU32)).toEqual([[3, 63]]);
    expect(events.consume(100).map(fromU32)).toEqual([[4, 64], [5, 65], [6, 66]]);
    expect(events.consume(100)).toEqual([]);
  });

  it("it goes on after its map and its object are closed", () => {
    const object = loadFixture();
    const events = addon().RingBuffer.open(object.map("events"));
    actionOf(object, "note");
    object.close();
    expect(events.consume(10)).toHaveLength(1);
    expect(outcome(() => addon().RingBuffer.open(createMap({ type: HASH })))).toBe("BAD_ARGUMENT");
    expect(createMap({ type: RINGBUF, keySize: 0, valueSize: 0, maxEntries: 4096 }).info().type)
      .toBe(RINGBUF);
  });
}

