// The table of what the labs show, held against the files of the tests: none is renamed, moved or given other
// cases without the table saying so.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { coverageTable, LAB_SHOWN, LAB_WAYS, wayName } from "../../scripts/lab_coverage.ts";
import { LAB_FORWARDINGS } from "../../scripts/lab_services.ts";
import { ROOT } from "../support/kernel.ts";
import { waysOf } from "../support/lab_ways.ts";

interface Claim {
  readonly file: string;
  readonly test: string;
  readonly ways: string;
}

/** What is wrong with the claim that the file has this test, run for that list of ways; null: nothing. */
function lacks({ file, test, ways }: Claim, read: (path: string) => string | null): string | null {
  const text = read(`test/kernel/${file}`);
  if (text === null) return `there is no test/kernel/${file}`;
  const titles = [...text.matchAll(/\bit(?:\.each\([\s\S]*?\))?\(\s*"((?:[^"\\]|\\.)*)"/g)].map(([, title]) => title);
  if (!titles.includes(test)) return `${file} has no test "${test}"`;
  return text.includes(`waysOf("${ways}"`) ? null : `${file} does not take its cases from ${ways}`;
}

function read(path: string): string | null {
  return existsSync(join(ROOT, path)) ? readFileSync(join(ROOT, path), "utf8") : null;
}

describe("what the labs show", () => {
  it.each(LAB_SHOWN)("$what: $test", (shown) => {
    expect(lacks(shown, read)).toBeNull();
  });

  it("is missed when a test is renamed, moved, or given other cases", () => {
    const [shown] = LAB_SHOWN;
    const text = read(`test/kernel/${shown!.file}`)!;
    expect(lacks(shown!, () => text.replace(shown!.test, "something else"))).toContain("has no test");
    expect(lacks(shown!, () => text.replace("waysOf(\"DIRECT\"", "waysOf(\"MUTUAL\""))).toContain("its cases");
    expect(lacks(shown!, () => null)).toContain("there is no");
  });

  it("has every way of forwarding of the lab with both families of backends, by both protocols", () => {
    for (const forwarding of LAB_FORWARDINGS) for (const family of [4, 6]) for (const protocol of ["TCP", "UDP"] as const) {
      const found = LAB_SHOWN.some(({ ways, protocols }) => protocols.includes(protocol)
        && LAB_WAYS[ways].some((way) => way.forwarding === forwarding && way.backendFamily === family));
      expect(found, `${forwarding} to IPv${family} by ${protocol}`).toBe(true);
    }
  });

  it("stands in the documentation", () => {
    expect(read("docs/forwarding.md")).toContain(coverageTable());
  });
});

describe("the ways that a lab test tries", () => {
  it("are all in test:long, and else those that it names", () => {
    vi.stubEnv("POINTSMAN_LONG", "");
    expect(waysOf("DIRECT", "l2/4", "ipip/6").map(wayName)).toEqual(["l2/4", "ipip/6"]);
    vi.stubEnv("POINTSMAN_LONG", "1");
    expect(waysOf("DIRECT", "l2/4")).toEqual(LAB_WAYS.DIRECT);
    expect(() => waysOf("TUNNELS", "l2/4")).toThrow("TUNNELS has no way l2/4");
    vi.unstubAllEnvs();
  });
});
