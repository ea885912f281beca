// `check` and `config show`: a configuration file without a running instance. Knows the config room and
// how to print problems.

import { effectiveConfigText, formatProblem } from "../config/format.ts";
import { parseConfig } from "../config/parse.ts";
import type { Problem } from "../model/config.ts";
import { readConfigFile } from "./changes.ts";
import type { Io } from "./io.ts";
import { EXIT } from "./io.ts";
import { loadConfig } from "./offline.ts";

/** More than these are counted, not printed. */
const PROBLEMS_PRINTED_MAX = 100;

export function printProblems(io: Io, problems: readonly Problem[]): void {
  for (const problem of problems.slice(0, PROBLEMS_PRINTED_MAX)) {
    io.err(`${problem.severity === "warning" ? "warning: " : ""}${formatProblem(problem)}\n`);
  }
  const more = problems.length - PROBLEMS_PRINTED_MAX;
  if (more > 0) io.err(`and ${more} more\n`);
}

/** Prints every problem; 2 when there is an error, 0 for warnings alone. */
export function checkVerb(io: Io, file: string, output: "table" | "json"): number {
  const result = parseConfig(file, readConfigFile(io, file));
  const problems = "problems" in result ? result.problems : result.warnings;
  const valid = !("problems" in result);
  if (output === "json") io.out(`${JSON.stringify({ valid, problems }, null, 2)}\n`);
  else {
    printProblems(io, problems);
    if ("config" in result) {
      const backends = result.config.pools.reduce((sum, pool) => sum + pool.backends.length, 0);
      io.out(`${file} is valid: ${result.config.services.length} service(s), ${backends} backend(s)\n`);
    }
  }
  return valid ? EXIT.done : EXIT.usage;
}

/** The file as it is, or with every default; of a running instance, what it has in force. */
export async function showConfigVerb(
  io: Io, options: { readonly config?: string; readonly effective: boolean }, running: () => Promise<unknown>,
): Promise<number> {
  if (options.config === undefined) io.out(`${JSON.stringify(await running(), null, 2)}\n`);
  else if (options.effective) io.out(effectiveConfigText(loadConfig(io, options.config)));
  else io.out(new TextDecoder().decode(readConfigFile(io, options.config)));
  return EXIT.done;
}
