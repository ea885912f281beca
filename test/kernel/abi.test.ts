// The three locks of the ABI on what was really built: the object's fingerprint, the sizes that the
// kernel reports for its maps, and the bytes of its settings.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import * as abi from "../../src/dataplane/xdp/abi.gen.ts";
import { parseElf, sectionNamed } from "../../src/dataplane/xdp/elf.ts";
import { fingerprintOfObject } from "../../src/dataplane/xdp/fingerprint.ts";
import { loadNative } from "../../src/dataplane/xdp/native.ts";
import { ADDON_PATH, BPF_DIRECTORY, KERNEL, describeKernel } from "../support/kernel.ts";

const path = join(BPF_DIRECTORY, "pointsman.bpf.o");

describeKernel("the ABI of the built program", KERNEL, () => {
  it("its fingerprint is the generated one, and another object's is not", () => {
    expect(fingerprintOfObject(new Uint8Array(readFileSync(path)))).toBe(abi.ABI_FINGERPRINT);
    expect(abi.FINGERPRINTS.pointsman).toBe(abi.ABI_FINGERPRINT);
    const decap = fingerprintOfObject(
      new Uint8Array(readFileSync(join(BPF_DIRECTORY, "decap.bpf.o"))),
    );
    expect(decap).toBe(abi.FINGERPRINTS.decap);
    expect(decap).not.toBe(abi.ABI_FINGERPRINT);
  });

  it("a damaged object does not pass", () => {
    const bytes = new Uint8Array(readFileSync(path));
    // One letter of a member's name is enough. The section shares the file's memory.
    const types = sectionNamed(parseElf(bytes), ".BTF")!.bytes;
    const at = Buffer.from(types).indexOf("\0next_hop_active\0");
    expect(at).toBeGreaterThan(0);
    types[at + 1] = 0x78;
    expect(fingerprintOfObject(bytes)).not.toBe(abi.ABI_FINGERPRINT);
  });

  it("the kernel's maps have the sizes of their codecs", () => {
    const object = loadNative(ADDON_PATH).BpfObject.open(path);
    try {
      expect(
        object
          .mapNames()
          .filter((name) => !name.startsWith("."))
          .sort(),
      ).toEqual(expect.arrayContaining([...abi.POINTSMAN_MAPS]));
      expect(object.programNames().sort()).toEqual([...abi.POINTSMAN_PROGRAMS]);
      expect(object.section(".rodata")?.length).toBe(abi.PointsmanRodata.size);
      object.load();
      const sizes = (name: string): [number, number] => {
        const { keySize, valueSize } = object.map(name).info();
        return [keySize, valueSize];
      };
      expect(sizes("services")[0]).toBe(abi.ServiceKey.size);
      expect(sizes("destinations")).toEqual([4, abi.Destination.size]);
      expect(sizes("flows")).toEqual([abi.FlowKey.size, abi.FlowEntry.size]);
      expect(sizes("settings")).toEqual([4, abi.Settings.size]);
      expect(sizes("verdict_counts")).toEqual([4, abi.VerdictCount.size]);
    } finally {
      object.close();
    }
  });
});
