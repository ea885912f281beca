// Generated parts of documents: filled between their markers, everything else untouched.

import { describe, expect, it } from "vitest";
import { fillBlocks, verdictTable } from "../../scripts/document_blocks.ts";

const blocks = new Map([["metrics", { source: "a.ts", text: "| new $& |" }]]);

describe("fillBlocks", () => {
  it("replaces what stands between the markers, and again", () => {
    const before = "# t\n<!-- metrics: generated from b.ts -->\nold\n<!-- /metrics -->\nend\n";
    const after =
      "# t\n<!-- metrics: generated from a.ts -->\n\n| new $& |\n\n<!-- /metrics -->\nend\n";
    expect(fillBlocks(before, blocks)).toBe(after);
    expect(fillBlocks(after, blocks)).toBe(after);
    expect(fillBlocks("# nothing\n", blocks)).toBe("# nothing\n");
  });
  it("refuses a block that nobody fills, and one that does not end", () => {
    expect(() => fillBlocks("<!-- ring: generated -->\n<!-- /ring -->", blocks)).toThrow(
      'nothing generates a block "ring"',
    );
    expect(() => fillBlocks("<!-- metrics: generated -->\n", blocks)).toThrow(
      'block "metrics" has no end',
    );
  });
});

describe("verdictTable", () => {
  it("has a row for each outcome, with the comment beside it", () => {
    const header =
      "enum verdict {\n\tVERDICT_CONTINUE = 0, /* no */\n\tPASS_A, /* first\n\t * and on */\n" +
      "\tDROP_B = 7, /* x | y */\n\tVERDICTS, /* how many */\n};";
    expect(verdictTable(header).split("\n").slice(2)).toEqual([
      "| `PASS_A` | to this host's own stack | first and on |", "| `DROP_B` | dropped | x \\| y |",
    ]);
    expect(() => verdictTable("")).toThrow("no enum verdict");
  });
});
