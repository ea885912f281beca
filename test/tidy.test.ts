// The rules of the house as tests. Each rule is first shown a tree that breaks it, since a rule
// that cannot fail is worth nothing, and then the checkout.

import { describe, expect, it } from "vitest";
import { ROOT } from "./support/kernel.ts";
import { DOCUMENT_RULES } from "./support/tidy/documents.ts";
import { FILE_RULES, headerOf } from "./support/tidy/files.ts";
import { IMPORT_RULES, importsOf, withoutComments } from "./support/tidy/imports.ts";
import { readTree } from "./support/tidy/tree.ts";
import { WORD_RULES, declaredIn, wordsOf } from "./support/tidy/words.ts";

const tree = readTree(ROOT);

describe.each([...IMPORT_RULES, ...WORD_RULES, ...FILE_RULES, ...DOCUMENT_RULES])(
  "$name",
  (rule) => {
    it("complains about a tree that breaks it", () => {
      expect(rule.check(new Map(Object.entries(rule.broken)))).toContain(rule.complaint);
    });
    it("has nothing to say about this one", () => {
      expect(rule.check(tree)).toEqual([]);
    });
  },
);

describe("what the rules read", () => {
  it("the whole checkout", () => {
    for (const path of [
      "package.json",
      "src/errors.ts",
      "bpf/abi.h",
      "test/tidy.test.ts",
      ".ci/run",
    ])
      expect([...tree.keys()]).toContain(path);
    expect([...tree.keys()].some((path) => path.includes("node_modules"))).toBe(false);
  });

  it("imports of every form", () => {
    const text = `
      import { a } from "./a.ts"; import type { B } from "../b.ts"; export type { C } from "./c.ts";
      const d = await import("./d.ts"); type E = import("./e.ts").E; new Worker(new URL("./f.js", import.meta.url));
      import * as fs from "node:fs"; // import "./comment.ts"`;
    expect(
      importsOf("src/x/y.ts", text).map(({ to, typeOnly }) => `${to}${typeOnly ? " (type)" : ""}`),
    ).toEqual([
      "src/x/a.ts",
      "src/b.ts (type)",
      "src/x/c.ts (type)",
      "src/x/d.ts",
      "src/x/e.ts (type)",
      "src/x/f.ts",
      "node:fs",
    ]);
  });

  it("words of every spelling, but only declared ones", () => {
    expect(wordsOf("probeIntervalMs")).toEqual(["probe", "interval", "ms"]);
    expect(wordsOf("RING_SLOTS")).toEqual(["ring", "slots"]);
    expect(wordsOf("XDPLink")).toEqual(["xdp", "link"]);
    expect(
      declaredIn(
        "a.ts",
        "const { b: c } = d; function e(f: G) { h.upstream(); } interface I { j: 1; k(): void }",
      ),
    ).toEqual(expect.arrayContaining(["e", "f", "I", "j", "k"]));
    expect(declaredIn("a.ts", "h.upstream();")).toEqual([]);
  });

  it("comments of both kinds, and code beside them", () => {
    expect(withoutComments('a(); // b\n/* c */ d("https://e");')).toBe('a(); \n d("https://e");');
    expect(headerOf("#!/usr/bin/env node\n// one\n// two\n//\n// more\nx")).toEqual(["one", "two"]);
    expect(headerOf("/* SPDX-License-Identifier: X\n *\n * one\n * two\n */\n")).toEqual([
      "one",
      "two",
    ]);
    expect(headerOf("/* one\n * two */\n")).toEqual(["one", "two"]);
    expect(headerOf("import x;")).toEqual([]);
  });
});
