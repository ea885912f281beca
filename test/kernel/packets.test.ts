// Golden packets through the XDP program: for each verdict, family of addresses and way of
// forwarding, one packet and what must become of it, to the byte. The head-room is poisoned first.

import { afterAll, beforeAll, expect, it } from "vitest";
import { residuesOf } from "../support/checksums.ts";
import { readGolden } from "../support/golden_packets.ts";
import { GoldenRun, expectedOutcome } from "../support/golden_run.ts";
import { ADDON_PATH, describeKernel } from "../support/kernel.ts";
import { withTrialObject } from "../support/trial.ts";

const golden = readGolden();

describeKernel("golden packets", ["capabilities", "addon", "tool:clang"], () => {
  let packets: GoldenRun;
  beforeAll(() => {
    packets = withTrialObject((object) => new GoldenRun(ADDON_PATH, object, golden));
  });
  afterAll(() => {
    packets.close();
  });

  for (const one of golden.cases) {
    it(`${one.verdict}: ${one.name}`, () => {
      expect(packets.run(one, false)).toEqual(expectedOutcome(one, false));
    });
  }

  it("every transmitted packet again, by redirect", () => {
    for (const one of golden.cases)
      if (one.verdict.startsWith("TX_"))
        expect(packets.run(one, true)).toEqual(expectedOutcome(one, true));
  });
});

describeKernel("golden packets, the list", [], () => {
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
