// The pace of ICMP errors: a burst, then no more than the interval allows, on each CPU by itself; and
// none at all where they are switched off.

import { join } from "node:path";
import { expect, it } from "vitest";
import { loadNative } from "../../src/dataplane/xdp/native.ts";
import { BpfWorld } from "../support/bpf_world.ts";
import { readGolden } from "../support/golden_packets.ts";
import { ADDON_PATH, BPF_DIRECTORY, describeKernel, KERNEL } from "../support/kernel.ts";

const BURST = 64;
const HOUR_NS = 3_600_000_000_000n;
const golden = readGolden();
const big = golden.cases.find(({ name }) => name === "v4 l2-narrow much too big")!;

describeKernel("the pace of ICMP errors", KERNEL, () => {
  /** How many of so many packets that are too big are answered, and how many dropped. */
  function answers(
    count: number, icmpIntervalNs: bigint, switches: Readonly<Record<string, boolean>>,
  ): { told: number; dropped: number } {
    const native = loadNative(ADDON_PATH);
    const object = join(BPF_DIRECTORY, "pointsman.bpf.o");
    const world = new BpfWorld(native, { object, switches, flowsMax: 1024, devices: [] });
    try {
      const hop = ({ id }: { readonly id: number }) => golden.hops.get(id)!;
      const surroundings = { hop, heartbeatNs: 0n, icmpIntervalNs, ringClass: "small" } as const;
      world.fill(golden.table("keep"), surroundings);
      for (let sent = 0; sent < count; sent += 1) {
        world.run("pointsman", big.frame, big.frame.length + 64);
      }
      const counts = world.verdicts();
      const [told, dropped] = (["TX_TOO_BIG", "DROP_TOO_BIG"] as const)
        .map((name) => counts.get(name)!.packets);
      return { told: told!, dropped: dropped! };
    } finally {
      world.close();
    }
  }

  it("a burst on each CPU, and no more within the interval", () => {
    const most = BURST * loadNative(ADDON_PATH).possibleCpus();
    const { told, dropped } = answers(most + 100, HOUR_NS, {});
    expect(told + dropped).toBe(most + 100);
    expect(told).toBeGreaterThanOrEqual(BURST);
    expect(told).toBeLessThanOrEqual(most);
  });

  it("as many as there are without an interval, and none when they are switched off", () => {
    expect(answers(500, 0n, {})).toEqual({ told: 500, dropped: 0 });
    expect(answers(500, 0n, { feature_icmp_errors: false })).toEqual({ told: 0, dropped: 500 });
  });
});
