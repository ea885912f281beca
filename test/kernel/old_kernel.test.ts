// The programs on an older kernel: Debian 12's, booted under software emulation. Everything loads
// there in every shape, and the golden packets become what they become here.

import { describe, expect, it } from "vitest";
import { bootOldKernel, fileReport, whyNoOldKernel } from "../../scripts/old_kernel.ts";
import { compilersHere } from "../../scripts/compile_bpf.ts";
import { long } from "../support/counts.ts";
import { readGolden } from "../support/golden_packets.ts";

/** Minutes on an idle machine; emulation shares it with whatever else runs. */
const PATIENCE_MS = 660_000;
const without = (long() ? null : "part of `npm run test:long`") ?? whyNoOldKernel();

describe.skipIf(without !== null)(
  without === null ? "an older kernel" : `an older kernel [skipped: ${without}]`,
  () => {
    it("loads every program and treats every golden packet alike", async () => {
      const begun = Date.now();
      const report = await bootOldKernel();
      if (long()) fileReport(report, Math.round((Date.now() - begun) / 1000));
      const compilers = compilersHere().length;
      expect(report.failures).toEqual([]);
      expect(report.packets).toBeGreaterThan(readGolden().cases.length * compilers);
      expect(report.programs).toBeGreaterThan(10 * compilers);
      // Both comparisons have been seen to fail, there and then.
      const failing = ["a wrong byte", "an instruction of a newer kernel"];
      expect(report.noticed).toEqual(Array.from({ length: compilers }, () => failing).flat());
    }, PATIENCE_MS);
  },
);
