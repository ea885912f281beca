// Problems as people read them, line by line, and the failure that carries them. Apart from what writes YAML:
// every verb may have to say what is wrong, and few have a config to print.

import { Failure } from "../errors.ts";
import type { Problem } from "../model/config.ts";

/** So many problems are printed; a file with more has one cause, not a hundred. */
export const PROBLEMS_PRINTED_MAX = 100;

/** `file:line:column: path: reason (hint)`. A problem of the whole file has the path `(file)`. */
export function formatProblem(problem: Problem): string {
  const path = problem.path === "" ? "(file)" : problem.path;
  const hint = problem.hint === null ? "" : ` (${problem.hint})`;
  return `${problem.file}:${problem.line}:${problem.column}: ${path}: ${problem.reason}${hint}`;
}

/** One line each for the first hundred, warnings marked, and a line that counts the rest. */
export function formatProblems(problems: readonly Problem[]): string {
  const lines = problems.slice(0, PROBLEMS_PRINTED_MAX).map((problem) =>
    `${problem.severity === "warning" ? "warning: " : ""}${formatProblem(problem)}`);
  const rest = problems.length - lines.length;
  if (rest > 0) lines.push(`and ${rest} more`);
  return lines.join("\n");
}

/** The failure of a config that cannot be used. The message holds every problem that is printed. */
export function problemsToFailure(
  file: string, problems: readonly Problem[],
): Failure<"CONFIG_INVALID"> {
  const errors = problems.filter((problem) => problem.severity === "error").length;
  const counted = errors === 1 ? "1 problem" : `${errors} problems`;
  return new Failure(
    "CONFIG_INVALID", { problems }, `${file} has ${counted}`,
  );
}
