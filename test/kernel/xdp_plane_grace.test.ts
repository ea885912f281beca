// Why the grace period is there: a packet that is slow and a ring that is overwritten too early give a
// ring of two pieces, and with the grace period they do not. The packet runs in a thread of its own.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { PlaneMaps } from "../../src/dataplane/xdp/maps.ts";
import type { HeldVersion } from "../../src/dataplane/xdp/kernel_state.ts";
import type { XdpPlane } from "../../src/dataplane/xdp/xdp_plane.ts";
import { deleteOwn } from "../../scripts/namespaces.ts";
import { compileBpf } from "../support/clang.ts";
import { ADDON_PATH, describeKernel, KERNEL, ROOT } from "../support/kernel.ts";
import { filesDirectory, removeFiles } from "./fixtures/native_fixture.ts";
import {
  config, createWire, freshInstance, native, open, pinDirectory, tableOf, until,
} from "./fixtures/plane_fixture.ts";

/** Runs the slow packet until told to stop; Node reads this without a compiler. */
const READER = `
const { workerData: { addon, object, pins, shared } } = require("node:worker_threads");
const native = require(addon);
const words = new BigUint64Array(shared);
const loaded = native.BpfObject.open(object);
const maps = ["service_active", "service_versions", "rings_medium"];
for (const name of maps) loaded.reuseMap(name, native.BpfMap.open(pins + "/map-" + name));
loaded.load();
const counts = loaded.map("torn_counts");
const options = { repeat: 20, flags: 0, context: null, outputSizeMax: 0, batchSize: 0 };
const read = (which) => new BigUint64Array(counts.lookup(new Uint8Array([which, 0, 0, 0])).slice().buffer)[0];
while (Atomics.load(words, 0) === 0n) {
  loaded.testRun("torn", new Uint8Array(64), options);
  Atomics.store(words, 1, read(0));
  Atomics.store(words, 2, read(1));
}
loaded.close();
`;

let plane: XdpPlane;
let reader: Worker;
const words = new BigUint64Array(new SharedArrayBuffer(24));

function rings(): number {
  return Number(Atomics.load(words, 1));
}

function tornRings(): number {
  return Number(Atomics.load(words, 2));
}

describeKernel("the grace period", [...KERNEL, "tool:clang"], () => {
  beforeAll(async () => {
    createWire("grace");
    const instance = freshInstance();
    const of = config({ instance, backends: "[{ name: a, address: 10.1.0.11 }]" });
    plane = await open(of);
    await plane.apply(tableOf(of, plane.ledger()));
    await plane.settled();
    const headers = Object.fromEntries(["abi.h", "abi_quic.h", "abi_regions.h", "maps.h"].map((name) => [name, readFileSync(join(ROOT, "bpf", name), "utf8")]));
    const object = join(filesDirectory(), "torn.bpf.o");
    writeFileSync(object, compileBpf(readFileSync(join(import.meta.dirname, "fixtures/torn.bpf.c"), "utf8"), headers));
    reader = new Worker(READER, {
      eval: true, workerData: { addon: ADDON_PATH, object, pins: pinDirectory(instance), shared: words.buffer },
    });
  });
  afterAll(async () => {
    Atomics.store(words, 0, 1n);
    await new Promise((resolve) => { reader.once("exit", resolve); });
    await plane.close({ detach: true, drainMs: 0 });
    removeFiles();
    deleteOwn();
  });

  it("keeps a ring whole for a packet that is under way; without it the ring is torn", async () => {
    const { maps, state } = plane.inside;
    const version = state.services.get(0)!.versions[state.services.get(0)!.active]!;
    if (!state.rings.has("medium/1")) maps.placeRing("medium", 1, maps.createRing("medium"));
    const publish = publisher(maps, version);
    publish(1);
    await native().gracePeriod();
    publish(2);
    await native().gracePeriod();
    await reportedAgain();

    // As the plane does it: the idle half is written only when nobody can be reading it.
    const before = tornRings();
    for (let round = 0; round < 50; round++) {
      publish(1 + round % 7);
      await native().gracePeriod();
    }
    await reportedAgain();
    expect(tornRings()).toBe(before);

    // Too early: straight after the flip.
    let round = 0;
    await until("a torn ring", () => {
      for (let burst = 0; burst < 50; burst++) publish(1 + (round += 1) % 7);
      return tornRings() > before;
    });
    expect(tornRings()).toBeGreaterThan(before);
  });
});

/** The reader reports after each twenty packets: what it saw until now is then counted. */
async function reportedAgain(): Promise<void> {
  const begun = rings();
  await until("the reader reports", () => rings() > begun + 40);
}

/** Writes one number all over the ring that is not shown, and shows it. */
function publisher(maps: PlaneMaps, version: HeldVersion): (id: number) => void {
  let half = maps.readActive(0);
  let { ringId } = version.scheme;
  return (id) => {
    half = half === 0 ? 1 : 0;
    ringId = ringId === 0 ? 1 : 0;
    maps.ring("medium", ringId).fill(id);
    maps.writeVersion(0, half, { ...version, scheme: { ...version.scheme, ringId } });
    maps.activateVersion(0, half);
  };
}
