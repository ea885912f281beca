// Golden packets through the XDP program: for each verdict, family of addresses and way of
// forwarding, one packet and what must become of it, to the byte. The head-room is poisoned first.

import { afterAll, beforeAll, expect, it } from "vitest";
import { VERDICT_NAMES } from "../../src/dataplane/xdp/abi.gen.ts";
import { loadNative } from "../../src/dataplane/xdp/native.ts";
import type { VerdictName } from "../../src/model/decide.ts";
import { BpfWorld } from "../support/bpf_world.ts";
import { residuesOf } from "../support/checksums.ts";
import { readGolden } from "../support/golden_packets.ts";
import type { GoldenCase } from "../support/golden_packets.ts";
import { ADDON_PATH, describeKernel } from "../support/kernel.ts";
import { withTrialObject } from "../support/trial.ts";

const XDP_DROP = 1,
  XDP_PASS = 2,
  XDP_TX = 3,
  XDP_REDIRECT = 4;
const INGRESS = 1;
const golden = readGolden();

describeKernel("golden packets", ["capabilities", "addon", "tool:clang"], () => {
  let worlds: readonly BpfWorld[] = [];
  beforeAll(() => {
    worlds = withTrialObject((object) =>
      [false, true].map(
        (redirect) =>
          new BpfWorld(loadNative(ADDON_PATH), {
            object,
            flowsMax: 1024,
            devices: [INGRESS],
            switches: { transmit_by_redirect: redirect },
          }),
      ),
    );
  });
  afterAll(() => {
    for (const world of worlds) world.close();
  });

  const filledFor = new Map<BpfWorld, GoldenCase["orphan"]>();

  function worldFor(orphan: GoldenCase["orphan"], transmitByRedirect: boolean): BpfWorld {
    const world = worlds[transmitByRedirect ? 1 : 0]!;
    if (filledFor.get(world) !== orphan) {
      world.fill(golden.table(orphan), {
        hop: ({ id }) => golden.hops.get(id)!,
        heartbeatNs: 0n,
        ringClass: "small",
      });
      filledFor.set(world, orphan);
    }
    return world;
  }

  function actionFor(verdict: VerdictName, transmitByRedirect: boolean): number {
    if (verdict.startsWith("PASS_")) return XDP_PASS;
    if (verdict.startsWith("DROP_")) return XDP_DROP;
    return transmitByRedirect ? XDP_REDIRECT : XDP_TX;
  }

  function check(one: GoldenCase, transmitByRedirect: boolean): void {
    const world = worldFor(one.orphan, transmitByRedirect);
    const before = world.verdicts();
    const run = world.run("poisoned", one.frame, one.frame.length + 64);
    const counted = [...world.verdicts()].filter(
      ([name, { packets }]) => packets !== before.get(name)!.packets,
    );
    expect(counted.map(([name]) => name)).toEqual([one.verdict]);
    expect(run.action).toBe(actionFor(one.verdict, transmitByRedirect));
    if (run.action === XDP_DROP) return;
    expect(hex(run.output!)).toBe(hex(one.expected));
  }

  for (const one of golden.cases) {
    it(`${one.verdict}: ${one.name}`, () => {
      check(one, false);
    });
  }

  it("every transmitted packet again, by redirect", () => {
    for (const one of golden.cases) if (one.verdict.startsWith("TX_")) check(one, true);
  });
});

describeKernel("golden packets, the list", [], () => {
  const outcomes = VERDICT_NAMES.slice(1, -1) as readonly VerdictName[];

  it("has every verdict there is, and no other", () => {
    expect([...new Set(golden.cases.map(({ verdict }) => verdict))].sort()).toEqual(
      [...outcomes].sort(),
    );
  });

  it("has every verdict for both families, where a family is known", () => {
    const lacking = outcomes
      .filter((verdict) => verdict !== "PASS_NOT_IP")
      .flatMap((verdict) =>
        ["v4 ", "v6 "]
          .filter(
            (family) =>
              !golden.cases.some((one) => one.verdict === verdict && one.name.startsWith(family)),
          )
          .map((family) => `${family}${verdict}`),
      );
    expect(lacking).toEqual([]);
  });

  it("expects right sums in everything that is transmitted", () => {
    for (const one of golden.cases) {
      if (!one.verdict.startsWith("TX_")) continue;
      const { headers, transport } = residuesOf(one.expected);
      expect(
        [...headers.map((sum) => sum ?? 0), transport ?? 0].every((sum) => sum === 0),
        one.name,
      ).toBe(true);
    }
  });
});

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
