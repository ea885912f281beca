// What `npm test` decides and counts: privileges, filters, and a last line that cannot look like
// success when something failed or nothing ran.

import { describe, expect, it } from "vitest";
import {
  addReport,
  chooseFiles,
  commandLine,
  conclude,
  noTotals,
  planRuns,
  titlePattern,
} from "../../scripts/test_plan.mjs";

const ask = { filters: [], project: null, long: false } as const;

describe("planRuns", () => {
  it("root runs both projects itself", () => {
    expect(planRuns(ask, { uid: 0, sudo: false })).toEqual([
      { project: "unit", sudo: false, note: null }, { project: "kernel", sudo: false, note: null },
    ]);
  });
  it("another user asks sudo for the kernel's alone, and says so when it cannot", () => {
    expect(planRuns(ask, { uid: 1000, sudo: true }).map((run) => run.sudo)).toEqual([false, true]);
    expect(planRuns(ask, { uid: 1000, sudo: false })[1]?.note).toContain("not root");
  });
  it("one project is one run", () => {
    expect(planRuns({ ...ask, project: "unit" }, { uid: 0, sudo: false })).toHaveLength(1);
    expect(planRuns({ ...ask, project: "kernel" }, { uid: 0, sudo: false })[0]?.project).toBe(
      "kernel",
    );
  });
});

describe("commandLine", () => {
  const here = {
    root: "/r", node: "/opt/node/bin/node",
    variables: { SEED: "7", HOME: "/h", CI: undefined, PATH: "/opt/u/bin:/usr/bin:/sbin" },
  };
  it("is this node's vitest, of one project", () => {
    const run = { project: "unit", sudo: false, note: null } as const;
    expect(commandLine(run, here, ["x"])).toEqual({
      command: "/opt/node/bin/node",
      args: ["/r/node_modules/vitest/vitest.mjs", "run", "--project", "unit", "x"],
    });
  });
  it("through sudo by its absolute path, with what the tests have to know and no more", () => {
    const run = { project: "kernel", sudo: true, note: null } as const;
    const { command, args } = commandLine(run, here, []);
    // The user's PATH, and what only root has on it: sysctl and ethtool are there.
    expect([command, ...args].slice(0, 6)).toEqual([
      "sudo", "-n", "env", "SEED=7",
      "PATH=/opt/u/bin:/usr/bin:/sbin:/usr/local/sbin:/usr/sbin", "/opt/node/bin/node",
    ]);
  });
});

describe("chooseFiles", () => {
  const files = [
    { path: "test/unit/ring.test.ts", text: 'assertProperty("ring-shares", …)' },
    { path: "test/unit/abi.test.ts", text: "it(…)" },
  ];
  it("by path, by the name of a randomised test, else by title", () => {
    expect(chooseFiles(["abi"], files)).toEqual({ files: ["test/unit/abi.test.ts"], titles: [] });
    expect(chooseFiles(["ring-shares"], files)).toEqual({
      files: ["test/unit/ring.test.ts"],
      titles: [],
    });
    expect(chooseFiles(["a (title)"], files)).toEqual({ files: [], titles: ["a (title)"] });
    expect(titlePattern(["a (b)", "c"])).toEqual(["--testNamePattern", "a \\(b\\)|c"]);
    expect(titlePattern([])).toEqual([]);
  });
});

describe("the last line", () => {
  const test = (status: string, fullName = "x"): { status: string; fullName: string } => ({
    status,
    fullName,
  });
  const file = (
    status: string,
    ...assertionResults: { status: string; fullName: string }[]
  ): {
    name: string;
    status: string;
    assertionResults: { status: string; fullName: string }[];
  } => ({ name: "f", status, assertionResults });

  it("counts what passed, failed and was skipped, with the reasons", () => {
    const totals = noTotals();
    addReport(totals, { testResults: [file("failed", test("passed"), test("failed"))] }, 1, false);
    addReport(
      totals,
      { testResults: [file("passed", test("pending", "xdp [skipped: no BPF] works"))] },
      0,
      false,
    );
    expect(conclude(totals)).toEqual({ line: "1 passed, 1 failed, 1 skipped", status: 1 });
    expect([...totals.reasons]).toEqual([["no BPF", 1]]);
  });

  it("a file that does not load is a failure, and so is a bad end that no test explains", () => {
    const broken = noTotals();
    addReport(broken, { testResults: [file("failed")] }, 1, false);
    expect(conclude(broken)).toEqual({ line: "0 passed, 1 failed", status: 1 });
    const crashed = noTotals();
    addReport(crashed, { testResults: [file("passed", test("passed"))] }, 1, false);
    expect(conclude(crashed)).toEqual({ line: "1 passed, 1 failed", status: 1 });
    const silent = noTotals();
    addReport(silent, null, 137, false);
    expect(conclude(silent).status).toBe(1);
  });

  it("nothing run is a failure, also when a title matches none", () => {
    const none = noTotals();
    addReport(none, { testResults: [] }, 0, false);
    addReport(none, { testResults: [file("passed", test("skipped"))] }, 0, true);
    expect(conclude(none)).toEqual({ line: "0 passed, 0 failed", status: 1 });
    const skipped = noTotals();
    addReport(
      skipped,
      { testResults: [file("passed", test("pending", "a [skipped: no root]"))] },
      0,
      false,
    );
    expect(conclude(skipped)).toEqual({ line: "0 passed, 0 failed, 1 skipped", status: 1 });
  });

  it("all passed is success", () => {
    const totals = noTotals();
    addReport(totals, { testResults: [file("passed", test("passed"), test("passed"))] }, 0, false);
    expect(conclude(totals)).toEqual({ line: "2 passed, 0 failed", status: 0 });
  });
});
