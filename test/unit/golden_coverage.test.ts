// The golden packets cover every verdict in every way, family and protocol that it can meet; no packet covers what is
// said to be impossible; and a packet that goes missing is missed.

import { describe, expect, it } from "vitest";
import { VERDICT_NAMES } from "../../src/dataplane/xdp/abi.gen.ts";
import { IMPOSSIBLE, coveredBy, gaps, wanted } from "../support/golden_coverage.ts";
import { readGolden } from "../support/golden_packets.ts";

const golden = readGolden();

describe("golden packets", () => {
  it("cover every combination that is possible, and none that is not", () => {
    expect(gaps(golden)).toEqual({ missing: [], impossible: [] });
  });

  it("are asked for by the list of verdicts itself", () => {
    const verdicts = new Set(wanted().map((each) => each.split(" ")[0]));
    expect([...verdicts]).toEqual(VERDICT_NAMES.slice(1, -1));
  });

  it("are missed when they go", () => {
    const table = golden.table("keep");
    for (const each of ["TX_FORWARDED gue1-6 v4 tcp", "DROP_NO_ROOM gre6 v4 udp", "PASS_NOT_IP", "TX_ECHO_REPLY v6"]) {
      const cases = golden.cases.filter((one) => coveredBy(one, table) !== each);
      expect(cases.length).toBeLessThan(golden.cases.length);
      expect(gaps({ ...golden, cases }).missing).toEqual([each]);
    }
  });

  it("contradict what is wrongly said to be impossible", () => {
    const [first] = golden.cases.filter(({ verdict }) => verdict === "TX_REPLY");
    const [direct] = golden.cases.filter(({ name }) => name === "v4 l2 udp");
    const cases = [{ ...direct!, verdict: first!.verdict, before: direct!.frame }];
    expect(gaps({ ...golden, cases }).impossible).toEqual(["TX_REPLY l2 v4 udp"]);
    expect(IMPOSSIBLE.every(({ because }) => because.length > 0)).toBe(true);
  });
});
