// The checkout as text, for the rules of tidy; a made-up one is a Map too. Knows which folders are
// not ours; knows no rule.

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** Paths from the root, with their texts. */
export type Tree = ReadonlyMap<string, string>;

/** A rule of the house. `check` answers "path: what is wrong", one line each. */
export interface Rule {
  readonly name: string;
  readonly check: (tree: Tree) => string[];
  /** A tree that breaks the rule, and nothing else of it; what `check` has to say about it. */
  readonly broken: Readonly<Record<string, string>>;
  readonly complaint: string;
}

const NOT_OURS = new Set([".git", "node_modules", "dist", "build", "out"]);
const TEXT =
  /\.(ts|mjs|js|c|h|cc|md|json|ya?ml|sh|txt|service)$|^(\.ci\/run|CMakeLists\.txt|Vagrantfile|\.npmrc|\.gitignore)$/;

export function readTree(root: string): Tree {
  const tree = new Map<string, string>();
  const visit = (directory: string): void => {
    for (const entry of readdirSync(join(root, directory), { withFileTypes: true })) {
      if (NOT_OURS.has(entry.name)) continue;
      const path = directory === "" ? entry.name : `${directory}/${entry.name}`;
      if (entry.isDirectory()) visit(path);
      else if (entry.isFile() && TEXT.test(path))
        tree.set(path, readFileSync(join(root, path), "utf8"));
    }
  };
  visit("");
  return tree;
}

/** The files whose path matches, sorted. */
export function filesOf(tree: Tree, pattern: RegExp): { path: string; text: string }[] {
  return [...tree].filter(([path]) => pattern.test(path)).sort(([a], [b]) => a < b ? -1 : 1)
    .map(([path, text]) => ({ path, text }));
}
