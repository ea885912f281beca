// What the addon's maps, objects and test runs do, on the real kernel, with a small program of their
// own. Knows no map of the load balancer.

import { mkdirSync, rmSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { deleteOwn, ownPinDirectory } from "../../scripts/namespaces.ts";
import { describeKernel } from "../support/kernel.ts";
import {
  ARRAY_OF_MAPS, HASH, MMAPABLE, NEEDS, ONE_RUN, PROG_ARRAY, RINGBUF, XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX,
  actionOf, addon, createMap, fromU32, fromU64, loadFixture, objectFile, openFixture, outcome, removeFiles, thrown, u32, u64,
} from "./fixtures/native_fixture.ts";

const pins = ownPinDirectory("maps");

describeKernel("the addon's maps and programs", NEEDS, () => {
  afterAll(() => {
    rmSync(pins, { recursive: true, force: true });
    deleteOwn();
    removeFiles();
  });

  describe("elements", testElements);
  describe("batches", testBatches);
  describe("memory", testMemory);
  describe("maps in maps", testMapsInMaps);
  describe("ring buffers", testRingBuffers);
  describe("objects", testObjects);
  describe("test runs", testTestRuns);
  describe("pins", testPins);
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
    expect(thrown(() => { flows.update(u64(1), u64(1), 99); })).toMatchObject({ code: "SYSTEM", errno: 22 });
  });

  it("a full map and an index beyond the end say FULL", () => {
    const map = createMap({ type: HASH });
    map.update(u32(1), u32(1), 0);
    expect(thrown(() => { map.update(u32(2), u32(1), 0); })).toMatchObject({ code: "FULL", errno: 7, object: "made" });
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
function readAll(map: ReturnType<typeof createMap>, size: number): { entries: Map<number, number>; calls: number } {
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
    expect(flows.updateBatch(u64(...numbers), u64(...numbers.map((each) => each * 2)), 3000)).toBe(3000);
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
    expect([fromU32(first.keys), fromU64(first.values), first.count]).toEqual([[0, 1, 2], [5, 6, 7], 3]);
    const rest = counters.lookupBatch(first.cursor, 3);
    expect([fromU32(rest.keys), fromU64(rest.values), rest.cursor]).toEqual([[3], [8], null]);
  });

  it("an empty map ends at once; nothing to write is nothing written", () => {
    const flows = loadFixture().map("flows");
    expect(flows.lookupBatch(null, 10)).toEqual({ keys: new Uint8Array(0), values: new Uint8Array(0), count: 0, cursor: null });
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

  it("a delete stops at an absent key and says how far it came; a full map says after how many", () => {
    const map = createMap({ type: HASH, keySize: 8, valueSize: 8, maxEntries: 4 });
    map.updateBatch(u64(1, 2), u64(1, 2), 2);
    expect(map.deleteBatch(u64(1, 99, 2), 3)).toBe(1);
    const error = thrown(() => map.updateBatch(u64(3, 4, 5, 6), u64(3, 4, 5, 6), 4));
    expect(error.code).toBe("FULL");
    expect(error.message).toContain("after 3 of 4");
  });
}

function testMemory(): void {
  it("what is written to the memory is there for look-ups and programs, and the other way round", () => {
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
    expect(thrown(() => { rings.updateInner(u32(0), createMap({ valueSize: 8 })); })).toMatchObject({ code: "SYSTEM", errno: 22 });
    const closed = createMap({});
    closed.close();
    expect(outcome(() => { rings.updateInner(u32(0), closed); })).toBe("CLOSED");
    expect(outcome(() => { rings.update(u32(0), u32(3), 0); })).toBe("BAD_STATE");
    expect(outcome(() => rings.updateBatch(u32(0), u32(3), 1))).toBe("BAD_STATE");
    expect(outcome(() => { createMap({ type: PROG_ARRAY }).update(u32(0), u32(3), 0); })).toBe("BAD_STATE");
    expect(outcome(() => { createMap({}).updateInner(u32(0), createMap({})); })).toBe("BAD_STATE");
  });

  it("an outer map with another prototype takes the declared one's place", () => {
    const outer = createMap({ name: "my_rings", type: ARRAY_OF_MAPS, maxEntries: 8, innerMap: createMap({ maxEntries: 5 }) });
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
    expect(createMap({ type: RINGBUF, keySize: 0, valueSize: 0, maxEntries: 4096 }).info().type).toBe(RINGBUF);
  });
}

function testObjects(): void {
  it("names what is in the file", () => {
    const object = openFixture();
    expect(object.mapNames().toSorted()).toEqual(
      [".rodata", "counters", "events", "flows", "per_cpu", "recent", "rings", "shared"]);
    expect(object.programNames()).toEqual(
      ["pass", "answer", "bounce", "grow", "note", "look_inside", "look_at_shared", "remember"]);
    expect(object.section(".bss")).toBeNull();
    expect(object.section("flows")).toBeNull();
  });

  it("a section is read, replaced, and seen by the program", () => {
    const object = openFixture();
    const rodata = object.section(".rodata") ?? expect.unreachable();
    expect(fromU32(rodata)).toEqual([XDP_PASS, 0, 0x55667788, 0x11223344]);
    rodata[0] = XDP_DROP;
    object.setSection(".rodata", rodata);
    expect(object.section(".rodata")).toEqual(rodata);
    object.load();
    expect(actionOf(object, "answer")).toBe(XDP_DROP);
    expect(outcome(() => { openFixture().setSection(".data", rodata); })).toBe("NOT_FOUND");
    expect(outcome(() => { openFixture().setSection("flows", rodata); })).toBe("NOT_FOUND");
  });

  it("capacities, reuse and autoload are settled before load", () => {
    const object = openFixture();
    object.setMaxEntries("flows", 10);
    object.setAutoload("grow", false);
    const counters = createMap({ name: "live", valueSize: 8, maxEntries: 4 });
    object.reuseMap("counters", counters);
    object.load();
    expect(object.map("flows").info().maxEntries).toBe(10);
    expect(outcome(() => object.programInfo("grow"))).toBe("BAD_STATE");
    expect(object.map("counters").info().id).toBe(counters.info().id);
    actionOf(object, "note");
    expect(fromU64(counters.lookup(u32(0)))).toEqual([1]);
  });

  it("a live map of another shape is refused", () => {
    const object = openFixture();
    expect(outcome(() => { object.reuseMap("counters", createMap({ maxEntries: 4 })); })).toBe("BAD_SIZE");
    expect(outcome(() => { object.reuseMap("counters", createMap({ type: HASH, valueSize: 8 })); })).toBe("BAD_ARGUMENT");
    expect(outcome(() => { object.reuseMap("counters", createMap({ valueSize: 8, flags: MMAPABLE })); })).toBe("BAD_ARGUMENT");
  });

  it("names that are not there are NOT_FOUND", () => {
    const object = openFixture();
    expect(outcome(() => { object.setMaxEntries("none", 1); })).toBe("NOT_FOUND");
    expect(outcome(() => { object.setAutoload("none", true); })).toBe("NOT_FOUND");
    expect(outcome(() => { object.reuseMap("none", createMap({})); })).toBe("NOT_FOUND");
    object.load();
    expect(outcome(() => object.map("none"))).toBe("NOT_FOUND");
    expect(outcome(() => object.programInfo("none"))).toBe("NOT_FOUND");
    expect(outcome(() => object.testRun("none", new Uint8Array(64), ONE_RUN))).toBe("NOT_FOUND");
    expect(outcome(() => addon().BpfObject.open("/nowhere/at.all"))).toBe("NOT_FOUND");
    expect(outcome(() => addon().BpfObject.open("/etc/passwd"))).toBe("BAD_ARGUMENT");
  });

  it("a map is the same object each time, and a new one after it was closed", () => {
    const object = loadFixture();
    const flows = object.map("flows");
    expect(object.map("flows")).toBe(flows);
    flows.close();
    expect(object.map("flows").lookup(u64(1))).toBeNull();
  });

  it("the verifier's whole log is in the error", () => {
    const error = thrown(() => { openFixture("native_rejected").load(); });
    expect(error).toMatchObject({ code: "VERIFIER", errno: 13, operation: "BpfObject.load", object: "careless" });
    expect(error.log).toMatch(/^0: /);
    expect(error.log).toContain("invalid access to packet");
    expect(error.log).toMatch(/processed \d+ insns/);
  });

  it("a map whose BTF the kernel refuses is an error, not a silence", () => {
    const error = thrown(() => { openFixture("native_enum_key").load(); });
    expect(error.code).toBe("NOT_SUPPORTED");
    expect(error.message).toContain("BTF of map by_colour");
  });

  it("a program tells its id, tag and size", () => {
    const info = loadFixture().programInfo("bounce");
    expect(info.name).toBe("bounce");
    expect(info.tag).toMatch(/^[0-9a-f]{16}$/);
    expect(info.id).toBeGreaterThan(0);
    expect(info.xlatedInstructions).toBeGreaterThan(10);
    expect(info.verifiedInstructions).toBeGreaterThan(10);
    expect(loadFixture().programInfo("bounce").tag).toBe(info.tag);
    expect(loadFixture().programInfo("pass").tag).not.toBe(info.tag);
  });
}

function testTestRuns(): void {
  const packet = new Uint8Array(64).map((_, index) => index);

  it("the packet comes back as it is, longer when the program made it longer", () => {
    const object = loadFixture();
    const bounced = object.testRun("bounce", packet, { ...ONE_RUN, outputSizeMax: 1500 });
    expect(bounced).toMatchObject({ action: XDP_TX, context: null });
    expect(bounced.output).toEqual(Uint8Array.from([...packet.slice(6, 12), ...packet.slice(0, 6), ...packet.slice(12)]));
    const grown = object.testRun("grow", packet, { ...ONE_RUN, outputSizeMax: 68 });
    expect(grown.output).toEqual(Uint8Array.from([0xdd, 0xdd, 0xdd, 0xdd, ...packet]));
    const error = thrown(() => object.testRun("grow", packet, { ...ONE_RUN, outputSizeMax: 67 }));
    expect(error.code).toBe("FULL");
    expect(error.message).toContain("68 bytes");
  });

  it("repeat does not restore the packet", () => {
    const object = loadFixture();
    const twice = object.testRun("bounce", packet, { ...ONE_RUN, repeat: 2, outputSizeMax: 64 });
    expect(twice.output).toEqual(packet);
    expect(object.testRun("note", packet, { ...ONE_RUN, repeat: 50 })).toMatchObject({ action: XDP_PASS, output: null });
    expect(fromU64(object.map("counters").lookup(u32(0)))).toEqual([50]);
  });

  it("a context goes in and out", () => {
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    const context = u32(0, 64, 0, 0, 0, 0);
    const result = loadFixture().testRun("grow", packet, { ...ONE_RUN, context, outputSizeMax: 100 });
    expect(fromU32(result.context).slice(0, 2)).toEqual([0, 68]);
    expect(outcome(() => loadFixture().testRun("pass", packet, { ...ONE_RUN, context: u32(0, 9999, 0, 0, 0, 0) }))).toBe("SYSTEM");
  });

  it("a getter in the options that closes the object cannot hurt", () => {
    const object = loadFixture();
    const options = { ...ONE_RUN, get batchSize(): number { object.close(); return 0; } };
    expect(outcome(() => object.testRun("pass", packet, options))).toBe("CLOSED");
  });

  it.each(Object.keys(ONE_RUN))("option %s is not optional", (name) => {
    const object = loadFixture();
    for (const junk of [undefined, "1", -1, {}]) {
      expect(outcome(() => object.testRun("pass", packet, { ...ONE_RUN, [name]: junk }))).toBe("BAD_ARGUMENT");
    }
    expect(outcome(() => object.testRun("pass", packet, { ...ONE_RUN, repeat: 0 }))).toBe("BAD_ARGUMENT");
  });
}

function testPins(): void {
  it("a pinned map is opened by its path, twice is EXISTS, nothing there is NOT_FOUND", () => {
    mkdirSync(pins, { recursive: true });
    const map = createMap({});
    map.update(u32(0), u32(42), 0);
    map.pin(`${pins}/map`);
    map.close();
    const opened = addon().BpfMap.open(`${pins}/map`);
    expect(fromU32(opened.lookup(u32(0)))).toEqual([42]);
    expect(thrown(() => { opened.pin(`${pins}/map`); }).code).toBe("EXISTS");
    expect(thrown(() => addon().BpfMap.open(`${pins}/none`))).toMatchObject({ code: "NOT_FOUND", object: `${pins}/none` });
    expect(outcome(() => { opened.pin("/tmp/not-a-bpffs"); })).not.toBe("ok");
  });

  it("what is pinned is not taken for something else", () => {
    mkdirSync(pins, { recursive: true });
    loadFixture().pinProgram("pass", `${pins}/program`);
    createMap({}).pin(`${pins}/a_map`);
    expect(thrown(() => addon().BpfMap.open(`${pins}/program`))).toMatchObject({ code: "BAD_ARGUMENT" });
    expect(outcome(() => addon().XdpLink.open(`${pins}/a_map`))).toBe("BAD_ARGUMENT");
    expect(outcome(() => addon().BpfObject.open(objectFile("native")))).toBe("ok");
  });
}
