// `doctor`: what this host can do, which plane `auto` would choose, and the remedy for each thing missing.

import { probeHost } from "../dataplane/probe.ts";
import type { Io } from "./io.ts";
import { EXIT } from "./io.ts";
import { loadConfig } from "./offline.ts";

const LEVEL_WIDTH = "MISSING".length;

export function doctorVerb(io: Io, options: { readonly config?: string; readonly output: "table" | "json" }): number {
  const config = options.config === undefined ? null : loadConfig(io, options.config);
  const report = probeHost(config, io.env);
  if (options.output === "json") {
    io.out(`${JSON.stringify(report, null, 2)}\n`);
    return EXIT.done;
  }
  const width = Math.max(...report.checks.map(({ name }) => name.length));
  for (const { name, level, found, remedy } of report.checks) {
    io.out(`${(level === "ok" ? level : level.toUpperCase()).padEnd(LEVEL_WIDTH)}  ${name.padEnd(width)}  ${found}\n`);
    if (remedy !== null) io.out(`${" ".repeat(width + 11)}→ ${remedy}\n`);
  }
  io.out(`\nauto would choose ${report.mode}: ${report.reason}\n`);
  if (config === null) io.out("interfaces and services were not looked at; name a configuration file with -c\n");
  return EXIT.done;
}
