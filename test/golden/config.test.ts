// The config goldens: each test/golden/config/NAME.case is a file, a line of dashes, and what `check` finds
// in it. Adding a case needs no code; UPDATE_GOLDEN=1 rewrites the expectations, which CI forbids.
//
// A first line `@bytes` says that \xNN in the source stands for a byte; `@repeat N` that the source comes N
// times; `@effective` that the expectation is the effective config and not only its validity; `@host LOW
// HIGH / RESERVED` what the host's own connections come from.

import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { effectiveConfigText } from "../../src/config/format.ts";
import { formatProblems } from "../../src/config/problem_lines.ts";
import { hostFacts } from "../../src/config/host.ts";
import type { HostFacts } from "../../src/config/host.ts";
import { parseConfig } from "../../src/config/parse.ts";

const folder = new URL("./config/", import.meta.url);
const names = readdirSync(folder).filter((name) => name.endsWith(".case")).sort();
const updates = process.env["UPDATE_GOLDEN"] === "1";
const ci = (process.env["CI"] ?? "") !== "";
const DASHES = /^-{10,}\n/m;

interface Case {
  readonly head: string;
  readonly bytes: Uint8Array;
  readonly effective: boolean;
  readonly host: HostFacts | null;
  readonly expected: string;
}

function readCase(text: string): Case {
  const line = DASHES.exec(text);
  const end = line?.index ?? text.length;
  const expected = line === null ? "" : text.slice(end + line[0].length);
  const directive = /^@(bytes|effective|repeat (\d+)|host (.+))\n/.exec(text);
  const source = text.slice(directive?.[0].length ?? 0, end);
  let bytes: Uint8Array = Buffer.from(source);
  if (directive?.[1] === "bytes") {
    const raw = source.replace(/\\x([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
    bytes = Buffer.from(raw, "latin1");
  }
  if (directive?.[2] !== undefined) bytes = Buffer.from(source.repeat(Number(directive[2])));
  const [ports = "", reserved = ""] = (directive?.[3] ?? "").split("/");
  const host = hostFacts({
    read: (path) => Buffer.from(path.endsWith("reserved_ports") ? reserved : ports),
  });
  return { host, head: text.slice(0, end), bytes, effective: directive?.[1] === "effective", expected };
}

function outcome({ bytes, effective, host }: Case): string {
  const result = parseConfig("case.yaml", bytes, host);
  if ("problems" in result) return `${formatProblems(result.problems)}\n`;
  const warnings = result.warnings.length === 0 ? "" : `${formatProblems(result.warnings)}\n`;
  return `${warnings}valid\n${effective ? effectiveConfigText(result.config) : ""}`;
}

test("CI never rewrites goldens", () => {
  expect(updates && ci).toBe(false);
});

test("there are cases", () => {
  expect(names.length).toBeGreaterThanOrEqual(60);
});

test.each(names)("%s", (name) => {
  const path = new URL(name, folder);
  const golden = readCase(readFileSync(path, "utf8"));
  const actual = outcome(golden);
  if (updates && !ci) writeFileSync(path, `${golden.head}${"-".repeat(20)}\n${actual}`);
  else expect(actual).toBe(golden.expected);
});
