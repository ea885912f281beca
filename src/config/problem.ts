// What the rooms of this folder share about problems: paths, quoting, order. Knows the shape of a
// Problem; must never know what makes a config right or wrong.

import type { Problem } from "../model/config.ts";

/** Where a value is: keys of mappings and indexes of lists, from the top. */
export type Path = readonly (string | number)[];

export interface Place {
  readonly line: number;
  readonly column: number;
}

/**
 * A problem before its place is looked up: the value at the path, its key, or a place known
 * already.
 */
export interface Finding {
  readonly severity: "error" | "warning";
  readonly path: Path;
  readonly at: "key" | "value" | Place;
  readonly reason: string;
  readonly hint: string | null;
}

/** `services[0].port`; keys that are no plain words are quoted. The top is the empty text. */
export function pathText(path: Path): string {
  let text = "";
  for (const segment of path) {
    if (typeof segment === "number") text += `[${segment}]`;
    else if (!/^[A-Za-z_][A-Za-z0-9_-]*$/.test(segment)) text += `[${quoted(segment)}]`;
    else text += text === "" ? segment : `.${segment}`;
  }
  return text;
}

/** A value of the file inside a sentence: quoted, and no longer than anybody wants to read. */
export function quoted(text: string): string {
  return JSON.stringify(text.length <= 60 ? text : `${text.slice(0, 57)}...`);
}

/** In the order of the file; on one spot errors come first; each is said once. */
export function orderProblems(problems: readonly Problem[]): Problem[] {
  const ordered = problems.toSorted((a, b) =>
    a.line - b.line || a.column - b.column || compareText(a.severity, b.severity)
    || compareText(a.path, b.path) || compareText(a.reason, b.reason));
  return ordered.filter((problem, index) => {
    const before = ordered[index - 1];
    return before === undefined || before.line !== problem.line || before.column !== problem.column
      || before.path !== problem.path || before.reason !== problem.reason;
  });
}

/** By code unit, the same on every machine and in every locale. */
export function compareText(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
