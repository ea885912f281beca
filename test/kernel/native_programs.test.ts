// What the addon's objects, test runs and pins do, on the real kernel. Knows no program of the load
// balancer.

import { mkdirSync, rmSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { deleteOwn, ownPinDirectory } from "../../scripts/namespaces.ts";
import { describeKernel } from "../support/kernel.ts";
import {
  DEVMAP, HASH, MMAPABLE, NEEDS, ONE_RUN, XDP_DROP, XDP_PASS, XDP_TX, actionOf, addon, createMap,
  fromU32, fromU64, loadFixture, openFixture, outcome, removeFiles, thrown, u32, u64,
} from "./fixtures/native_fixture.ts";

const pins = ownPinDirectory("programs");

describeKernel("the addon's programs", NEEDS, () => {
  afterAll(() => {
    rmSync(pins, { recursive: true, force: true });
    deleteOwn();
    removeFiles();
  });

  describe("objects before load", testBeforeLoad);
  describe("objects after load", testAfterLoad);
  describe("test runs", testTestRuns);
  describe("pins", testPins);
});

function testBeforeLoad(): void {
  it("names what is in the file", () => {
    const object = openFixture();
    expect(object.mapNames().toSorted()).toEqual(
      [".rodata", "counters", "events", "flows", "per_cpu", "ports", "recent", "rings", "shared"]);
    expect(object.programNames()).toEqual([
      "pass", "answer", "bounce", "grow", "note", "look_inside", "look_at_shared", "remember",
      "redirect",
    ]);
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

  it("a live devmap is taken over, although the kernel added a flag of its own", () => {
    const ports = createMap({ name: "ports", type: DEVMAP, maxEntries: 2 });
    expect(ports.info().flags).not.toBe(0);
    const object = openFixture();
    object.reuseMap("ports", ports);
    object.load();
    expect(object.map("ports").info().id).toBe(ports.info().id);
    expect(actionOf(object, "redirect")).toBe(XDP_DROP);
  });

  it("a live map of another shape is refused", () => {
    const object = openFixture();
    const reuse = (spec: Parameters<typeof createMap>[0]) => {
      return outcome(() => { object.reuseMap("counters", createMap(spec)); });
    };
    expect(reuse({ maxEntries: 4 })).toBe("BAD_SIZE");
    expect(reuse({ valueSize: 8, type: HASH })).toBe("BAD_ARGUMENT");
    expect(reuse({ valueSize: 8, flags: MMAPABLE })).toBe("BAD_ARGUMENT");
  });
}

function testAfterLoad(): void {
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
    expect(error)
      .toMatchObject({ code: "VERIFIER", errno: 13, operation: "BpfObject.load" });
    expect(error.object).toBe("careless");
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
    expect(bounced.output)
      .toEqual(Uint8Array.of(...packet.slice(6, 12), ...packet.slice(0, 6), ...packet.slice(12)));
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
    expect(object.testRun("note", packet, { ...ONE_RUN, repeat: 50 }))
      .toMatchObject({ action: XDP_PASS, output: null });
    expect(fromU64(object.map("counters").lookup(u32(0)))).toEqual([50]);
  });

  it("a context goes in and out", () => {
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    const context = u32(0, 64, 0, 0, 0, 0);
    const object = loadFixture();
    const result = object.testRun("grow", packet, { ...ONE_RUN, context, outputSizeMax: 100 });
    expect(fromU32(result.context).slice(0, 2)).toEqual([0, 68]);
    const wrong = { ...ONE_RUN, context: u32(0, 9999, 0, 0, 0, 0) };
    expect(outcome(() => object.testRun("pass", packet, wrong))).toBe("SYSTEM");
  });

  it("a getter in the options that closes the object cannot hurt", () => {
    const object = loadFixture();
    const options = { ...ONE_RUN, get batchSize(): number { object.close(); return 0; } };
    expect(outcome(() => object.testRun("pass", packet, options))).toBe("CLOSED");
  });

  it.each(Object.keys(ONE_RUN))("option %s is not optional", (name) => {
    const object = loadFixture();
    for (const junk of [undefined, "1", -1, {}]) {
      expect(outcome(() => object.testRun("pass", packet, { ...ONE_RUN, [name]: junk })))
        .toBe("BAD_ARGUMENT");
    }
    expect(outcome(() => object.testRun("pass", packet, { ...ONE_RUN, repeat: 0 })))
      .toBe("BAD_ARGUMENT");
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
    expect(thrown(() => addon().BpfMap.open(`${pins}/none`)))
      .toMatchObject({ code: "NOT_FOUND", object: `${pins}/none` });
    expect(outcome(() => { opened.pin("/tmp/not-a-bpffs"); })).not.toBe("ok");
  });

  it("what is pinned is not taken for something else", () => {
    mkdirSync(pins, { recursive: true });
    loadFixture().pinProgram("pass", `${pins}/program`);
    createMap({}).pin(`${pins}/a_map`);
    expect(thrown(() => addon().BpfMap.open(`${pins}/program`)))
      .toMatchObject({ code: "BAD_ARGUMENT" });
    expect(outcome(() => addon().XdpLink.open(`${pins}/a_map`))).toBe("BAD_ARGUMENT");
  });
}
