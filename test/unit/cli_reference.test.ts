// The command line and its documents: every command is in the README's table and its reference, and neither
// names a command or an option that does not exist.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { commandReference } from "../../src/cli/reference.ts";
import { ROOT } from "../support/kernel.ts";

const reference = commandReference();
/** Words up to the first argument or option. */
const named = (text: string): string => /^[a-z][a-z-]*(?: [a-z][a-z-]*)*/.exec(text)?.[0] ?? "";
const matches = (text: string, pattern: RegExp): string[] =>
  [...text.matchAll(pattern)].map((match) => match[1] ?? "");
const commands = matches(reference, /^## `([^`]+)`$/gm).map(named);
const options = new Set(matches(reference, /^\| `[^`]*(--[a-z-]+)/gm));
const readme = readFileSync(join(ROOT, "README.md"), "utf8");
const section = /^## Command line\n([\s\S]*?)^## /m.exec(readme)?.[1] ?? "";

it("every command is in the README's table, and the table has no other", () => {
  expect(commands.length).toBeGreaterThan(20);
  const rows = section.split("\n").filter((line) => line.startsWith("| `"));
  const shown = rows.flatMap((row) => matches(row.split(" | ")[0] ?? "", /`([^`]+)`/g)).map(named);
  expect([...shown].sort()).toEqual([...commands].sort());
});

it("every option that the README names exists", () => {
  const others = ["--global", "--with"]; // npm's and the set-up's
  const shown = matches(readme, /(?<![\w-])(--[a-z][a-z-]*)/g).filter((each) => !others.includes(each));
  expect(shown.length).toBeGreaterThan(20);
  const known = new Set([...options, "--keep", "--forwarding", "--help", "--version"]); // of npm start, and every command's
  expect(shown.filter((each) => !known.has(each))).toEqual([]);
});

it("the reference has every option of a command, with its choices and default, in the committed document", () => {
  for (const line of [
    "| `-o, --output <format>` | how to print (table, json) | `table` |",
    "| `--in <pcap>` | pcap or pcapng with Ethernet frames | required |",
    "| `--detach-on-exit` | stop forwarding when the supervisor ends (xdp goes on otherwise) |  |",
  ]) expect(reference).toContain(line);
  expect(readFileSync(join(ROOT, "docs/cli.md"), "utf8")).toContain(reference.trim());
});
