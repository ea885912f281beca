// The identification of outer IPv4 headers (RFC 6864): each outer packet that may be cut to pieces has one of its own,
// whatever those inside have, so that pieces of different packets never make one; others need none.

import { afterAll, beforeAll, expect, it } from "vitest";
import { parseAddress } from "../../src/model/address.ts";
import { residuesOf } from "../support/checksums.ts";
import { readGolden } from "../support/golden_packets.ts";
import { GoldenRun } from "../support/golden_run.ts";
import type { GoldenCase } from "../support/golden_packets.ts";
import { ADDON_PATH, describeKernel } from "../support/kernel.ts";
import { withTrialObject } from "../support/trial.ts";

const PACKETS = 1000;
const OUTER_AT = 14, ID_AT = OUTER_AT + 4;
const golden = readGolden();
const named = (wanted: string): GoldenCase => golden.cases.find(({ name }) => name === wanted)!;

describeKernel("outer identifications", ["capabilities", "addon", "tool:clang"], () => {
  let packets: GoldenRun;
  beforeAll(() => {
    packets = withTrialObject((object) => new GoldenRun(ADDON_PATH, object, golden));
  });
  afterAll(() => { packets.close(); });

  function identifications(cases: readonly GoldenCase[]): number[] {
    return Array.from({ length: PACKETS }, (_, number) => {
      // As it left: an outcome has the identification taken out.
      const { frame } = packets.run({ ...cases[number % cases.length]!, fresh: null }, false);
      const bytes = Uint8Array.from(Buffer.from(frame!, "hex"));
      expect(residuesOf(bytes).headers[0]).toBe(0);
      expect(bytes.subarray(OUTER_AT + 16, OUTER_AT + 20)).toEqual(parseAddress("10.0.0.11")!.bytes.subarray(12));
      return (bytes[ID_AT]! << 8) | bytes[ID_AT + 1]!;
    });
  }

  it.each(["ipip4", "gre4", "gue4", "gue1-4"])("%s: none twice in a row of packets that have the same", (way) => {
    expect(new Set(identifications([named(`v4 ${way} may be fragmented`)])).size).toBe(PACKETS);
  });

  it("fragments of one datagram, which have one, go in packets that have none in common", () => {
    const pieces = ["first", "middle", "last"].map((which) => named(`v4 ipip4 udp ${which} fragment`));
    expect(new Set(identifications(pieces)).size).toBe(PACKETS);
  });

  it("packets that forbid fragmentation, and those of IPv6, go without", () => {
    expect(new Set(identifications([named("v4 ipip4 udp"), named("v6 ipip4 udp"), named("v6 gue4 udp")]))).toEqual(new Set([0]));
  });
});
