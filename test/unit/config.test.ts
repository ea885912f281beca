// The config room in the small: where a problem is, how it is printed, what bounds the work, and that every
// rule has a golden case that it is needed for. Whole files and their problems are test/golden/config.

import { readFileSync, readdirSync } from "node:fs";
import { parse } from "yaml";
import { expect, test } from "vitest";
import { isFailure } from "../../src/errors.ts";
import type { Problem } from "../../src/model/config.ts";
import { formatProblem, formatProblems, problemsToFailure } from "../../src/config/problem_lines.ts";
import * as formats from "../../src/config/formats.ts";
import { draftConfig } from "../../src/config/draft.ts";
import { parseConfig } from "../../src/config/parse.ts";
import { orderProblems, pathText } from "../../src/config/problem.ts";
import { ADDRESS_RULES } from "../../src/config/rules_addresses.ts";
import { NAME_RULES } from "../../src/config/rules_names.ts";
import { PLANE_RULES } from "../../src/config/rules_plane.ts";
import { TRAFFIC_RULES } from "../../src/config/rules_traffic.ts";
import { CONFIG_BYTES_MAX, decodeText } from "../../src/config/text.ts";
import { parsePrefix } from "../../src/model/address.ts";

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

function problemsOf(text: string): readonly Problem[] {
  const result = parseConfig("a.yaml", bytesOf(text));
  return "problems" in result ? result.problems : result.warnings;
}

function problem(fields: Partial<Problem>): Problem {
  return { severity: "error", file: "f", line: 1, column: 1, path: "p", reason: "r", hint: null, ...fields };
}

test("a problem is one line: file, line, column, path, reason, hint", () => {
  expect(formatProblem(problem({ line: 3, column: 7, path: "services[0].port", reason: "is wrong" })))
    .toBe("f:3:7: services[0].port: is wrong");
  expect(formatProblem(problem({ hint: "do this" }))).toBe("f:1:1: p: r (do this)");
  expect(formatProblem(problem({ path: "" }))).toBe("f:1:1: (file): r");
});

test("paths are dotted, indexes in brackets, odd keys quoted", () => {
  expect(pathText(["services", 0, "policy", "allow", 3])).toBe("services[0].policy.allow[3]");
  expect(pathText(["pools", "a.b", "health"])).toBe('pools["a.b"].health');
  expect(pathText([])).toBe("");
});

test("a hundred problems are printed, the rest counted", () => {
  const many = Array.from({ length: 250 }, (_, index) => problem({ line: index + 1 }));
  const lines = formatProblems(many).split("\n");
  expect(lines).toHaveLength(101);
  expect(lines[99]).toBe("f:100:1: p: r");
  expect(lines[100]).toBe("and 150 more");
  expect(formatProblems(many.slice(0, 100)).split("\n")).toHaveLength(100);
});

test("problems come in the order of the file, each once", () => {
  const [a, b, c] = [problem({ line: 2 }), problem({ line: 1, column: 9 }), problem({ line: 1, severity: "warning", reason: "w" })];
  expect(orderProblems([a, b, c, a])).toEqual([c, b, a]);
});

test("the failure of a config holds all problems and counts errors alone", () => {
  const problems = [problem({}), problem({ severity: "warning", reason: "w" })];
  const failure = problemsToFailure("f", problems);
  expect(isFailure(failure, "CONFIG_INVALID")).toBe(true);
  expect(failure.details.problems).toEqual(problems);
  expect(failure.message).toBe("f has 1 problem");
});

test("the place of an unknown key is the key, of a wrong value the value, of a missing key what lacks it", () => {
  const text = [
    "version: 1",
    "dataplane:",
    "  mode: proxy",
    "  speed:   fast",
    "log:",
    "  level:   loud",
    "services:",
    "  - name: a",
    "    port: 80",
    "    pool: p",
    "",
  ].join("\n");
  const places = problemsOf(text).map(({ line, column, path }) => [line, column, path]);
  expect(places).toEqual([[4, 3, "dataplane.speed"], [6, 12, "log.level"], [8, 5, "services[0].address"], [10, 11, "services[0].pool"]]);
});

test("columns count characters, also after wide ones and in files with Windows line ends", () => {
  expect(problemsOf("version: 1 # \u00e4\u00f6\u00fc\r\nservices: []\r\ndataplane: { mode: proxy, \u00e9: 1 }\r\n"))
    .toContainEqual(expect.objectContaining({ line: 3, column: 27, reason: "unknown key" }));
});

test("a value with an empty text is where its key is", () => {
  const [first] = problemsOf("version: 1\nlog:\n  level:\n\n\nservices: []\ndataplane: { mode: proxy }\n");
  expect(first).toMatchObject({ line: 3, column: 3, path: "log.level" });
});

test("the size limit is exact", () => {
  const full = new Uint8Array(CONFIG_BYTES_MAX).fill(0x20);
  expect(decodeText(full)).toHaveProperty("text");
  expect(decodeText(new Uint8Array(CONFIG_BYTES_MAX + 1).fill(0x20))).toHaveProperty("problem");
});

test.each([
  ["a stray continuation byte", [0x61, 0x80], 1, 2],
  ["an overlong slash", [0x0a, 0x61, 0xc0, 0xaf], 2, 2],
  ["a surrogate", [0x0a, 0x0a, 0xed, 0xa0, 0x80], 3, 1],
  ["a character cut off by the end", [0xc3, 0xa9, 0xe2, 0x82], 1, 2],
  ["a character cut off by a line end", [0xe2, 0x82, 0x0a, 0x61], 1, 1],
  ["a byte after a wide character", [0xf0, 0x9f, 0x9a, 0x82, 0xff], 1, 3],
])("%s is not UTF-8, and its place is found", (_, bytes, line, column) => {
  expect(decodeText(Uint8Array.from(bytes))).toMatchObject({ problem: { line, column, reason: "is not valid UTF-8" } });
});

test.each(["\u0000", "\u0007", "\u000b", "\u001b", "\u007f", "\u0085", "\u009f", "\r"])("%j is a control character", (character) => {
  expect(decodeText(bytesOf(`a\nbc${character}d`))).toMatchObject({ problem: { line: 2, column: 3 } });
});

test.each(["\t", "\n", "\r\n", "\u00a0", "\u{1f682}"])("%j is text", (character) => {
  expect(decodeText(bytesOf(`a${character}b`))).toEqual({ text: `a${character}b` });
});

// What makes a YAML parser slow or deep: each of these took it from 8 s to out of memory without bounds.
test.each([
  ["open brackets", "[".repeat(4 << 20), "is nested too deeply"],
  ["open braces", "{a: ".repeat(1 << 20), "is nested too deeply"],
  ["nested dashes", "- ".repeat(2 << 20), "is nested too deeply"],
  ["nested question marks", "? ".repeat(2 << 20), "is nested too deeply"],
  ["nested mappings", Array.from({ length: 1000 }, (_, index) => `${" ".repeat(index)}a:`).join("\n"), "is nested too deeply"],
  ["commas", `[${",".repeat(4_000_000)}]`, "has more than 1500000 YAML tokens"],
  ["documents", "---\n".repeat(1 << 20), "has more than 1500000 YAML tokens"],
  ["anchors", "&a ".repeat(1_300_000), "has more than 1500000 YAML tokens"],
])("%s end early", (_, text, reason) => {
  expect(problemsOf(text)).toEqual([expect.objectContaining({ severity: "error", path: "", reason })]);
});

test("many keys, all alike or all different, take no square of time", () => {
  // With the parser's own check for duplicates, 350,000 keys did not end within five minutes.
  const alike = problemsOf(`version: 1\nservices: []\n${"k: v\n".repeat(30_000)}`);
  expect(alike.filter(({ reason }) => reason === "the key appears twice")).toHaveLength(29_999);
  const different = problemsOf(`version: 1\nservices: []\n${Array.from({ length: 30_000 }, (_, key) => `k${key}: v\n`).join("")}`);
  expect(different.filter(({ reason }) => reason === "unknown key")).toHaveLength(30_000);
});

test.each([
  ["500ms", 500], ["2s", 2000], ["1m", 60_000], ["1h", 3_600_000], ["0s", 0], ["90s", 90_000],
  ["2", null], ["1.5s", null], ["-1s", null], ["1 s", null], ["s", null], ["1S", null], ["01s", null], ["1d", null], ["", null],
])("the duration %j is %j ms", (text, expected) => {
  expect(formats.durationMs(text)).toBe(expected);
});

test.each([
  ["10.0.0.0/8", "10.0.0.0/8"], ["0.0.0.0/0", "0.0.0.0/0"], ["10.1.2.3/32", "10.1.2.3/32"], ["10.1.2.3/9", "10.0.0.0/9"],
  ["2001:DB8::/32", "2001:db8::/32"], ["::/0", "::/0"], ["2001:db8::ffff/127", "2001:db8::fffe/127"],
  ["10.0.0.0/33", null], ["10.0.0.0/-1", null], ["10.0.0.0/08", null], ["10.0.0.0/", null], ["/8", null], ["10.0.0.0/8/8", null],
  ["::ffff:10.0.0.0/104", null], ["2001:db8::/129", null], ["10.0.0.0", null], ["10/8", null],
])("the prefix %j is %j", (text, expected) => {
  expect(parsePrefix(text)?.text ?? null).toBe(expected);
});

test("every rule is needed for a golden case, and finds nothing in the plainest config", () => {
  const folder = new URL("../golden/config/", import.meta.url);
  const sources = readdirSync(folder).map((name) => readFileSync(new URL(name, folder), "utf8").split(/^-{10,}\n/m)[0] ?? "")
    .filter((source) => !source.startsWith("@"));
  const drafts = sources.flatMap((source) => {
    try {
      return [draftConfig(parse(source, { logLevel: "silent" }))];
    } catch {
      return [];
    }
  });
  expect(drafts.length).toBeGreaterThan(50);
  const plain = draftConfig(parse("version: 1\ndataplane: { mode: proxy }\nservices: [{ name: a, address: 192.0.2.1, port: 80, "
    + "backends: [{ name: b, address: 10.0.0.1 }] }]"));
  for (const rule of [...NAME_RULES, ...ADDRESS_RULES, ...TRAFFIC_RULES, ...PLANE_RULES]) {
    expect(drafts.some((draft) => [...rule(draft)].length > 0), rule.name).toBe(true);
    expect([...rule(plain)], rule.name).toEqual([]);
  }
});

test("a wrong type hides no other mistake, wherever it is", () => {
  const text = `version: one
dataplane: { mode: proxy, interfaces: 7 }
pools:
  a: { health: { type: tcp, rise: x }, backends: [{ name: b, address: 10.0.0.1, weight: x }, { name: b, address: 10.0.0.1 }] }
services:
  - { name: s, address: 192.0.2.1, port: 80, pool: a, hash: x, proxy: 3 }
  - { name: s, address: 192.0.2.1, port: 80, pool: c, policy: { allow: [x, 10.0.0.0/8], deny: [10.0.0.0/8] } }
`;
  const reasons = problemsOf(text).map(({ reason }) => reason).join("\n");
  for (const part of ["backend name", "ring key", "service name", "already the address", "no pool", "both allowed and denied"]) {
    expect(reasons).toContain(part);
  }
});

test("in mode auto a config tells what either plane would ignore", () => {
  const text = `version: 1
dataplane: { interfaces: [eth9] }
limits: { flows: 2048 }
services:
  - name: web
    address: 203.0.113.10
    port: 80
    protocol: tcp
    forwarding: l2
    health: { type: none }
    proxy: { connectRetries: 5 }
    backends: [{ name: a, address: 10.0.0.1 }]
`;
  const parsed = parseConfig("f", Buffer.from(text));
  if (!("config" in parsed)) throw new Error(JSON.stringify(parsed.problems));
  expect(parsed.warnings).toEqual([]);
  expect(parsed.ignored.xdp.map(({ path }) => path)).toEqual(["services[0].proxy.connectRetries"]);
  expect(parsed.ignored.proxy.map(({ path, line }) => [path, line])).toEqual([
    ["dataplane.interfaces", 2], ["limits.flows", 3], ["services[0].forwarding", 9],
  ]);
});
