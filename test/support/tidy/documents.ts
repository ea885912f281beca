// Documents against the code: what they list exists, and what exists is listed. Knows Markdown's
// headings, tables and backticks.

import { filesOf } from "./tree.ts";
import type { Rule, Tree } from "./tree.ts";

/** The text without fenced blocks: nothing in them is a heading or a reference. */
export function prose(markdown: string): string {
  return markdown.replace(/^```[\s\S]*?^```/gm, "");
}

/** The first words in backticks of each table row; a row may name several. */
function firstCells(markdown: string): string[] {
  return [...markdown.matchAll(/^\|([^|\n]*)\|/gm)].flatMap(([, cell = ""]) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, name = ""]) => name),
  );
}

/** The section under the first heading that matches, down to the next one of its level. */
function section(markdown: string, title: RegExp): string {
  const lines = prose(markdown).split("\n");
  const begin = lines.findIndex((line) => /^#+ /.test(line) && title.test(line));
  if (begin === -1) return "";
  const level = /^#+/.exec(lines[begin]!)![0].length;
  const end = lines.findIndex((line, at) => at > begin && new RegExp(`^#{1,${level}} `).test(line));
  return lines.slice(begin, end === -1 ? lines.length : end).join("\n");
}

function difference(
  path: string,
  listed: readonly string[],
  existing: readonly string[],
  noun: string,
): string[] {
  return [
    ...existing
      .filter((name) => !listed.includes(name))
      .map((name) => `${path}: the ${noun} ${name} is not listed`),
    ...listed
      .filter((name) => !existing.includes(name))
      .map((name) => `${path}: there is no ${noun} ${name}`),
  ];
}

/** The codes that src/errors.ts declares, in the body of `interface Failures`. */
export function failureCodes(errors: string): string[] {
  const body = /interface Failures \{([\s\S]*?)\n\}/.exec(errors)?.[1] ?? "";
  return [...body.matchAll(/^\s+([A-Z][A-Z_]+):/gm)].map(([, code = ""]) => code);
}

function checkFailureCodes(tree: Tree): string[] {
  const [readme, errors] = [tree.get("README.md"), tree.get("src/errors.ts")];
  if (readme === undefined || errors === undefined) return [];
  const listed = firstCells(section(readme, /error codes|failure codes/i)).filter((name) =>
    /^[A-Z][A-Z_]+$/.test(name),
  );
  return difference("README.md", listed, failureCodes(errors), "failure code");
}

/** The outcomes of `enum verdict`: neither the step in between nor the count. */
export function verdictsOf(header: string): string[] {
  const body = /enum verdict \{([\s\S]*?)\};/.exec(header)?.[1] ?? "";
  return [...body.replace(/\/\*[\s\S]*?\*\//g, "").matchAll(/\b([A-Z][A-Z_]+)\b/g)]
    .map(([, name = ""]) => name)
    .filter((name) => /^(PASS|TX|DROP)_/.test(name));
}

function checkVerdicts(tree: Tree): string[] {
  const header = tree.get("bpf/abi.h");
  if (header === undefined) return [];
  const verdicts = verdictsOf(header);
  const wrong: string[] = [];
  const readme = tree.get("README.md");
  if (readme !== undefined) {
    const listed = firstCells(section(readme, /^#+ verdicts/i)).filter((name) =>
      /^[A-Z][A-Z_]+$/.test(name),
    );
    wrong.push(...difference("README.md", listed, verdicts, "verdict"));
  }
  const model = /export type VerdictName =([\s\S]*?);/.exec(tree.get("src/model/decide.ts") ?? "");
  if (model !== null) {
    const named = [...(model[1] ?? "").matchAll(/"([A-Z_]+)"/g)].map(([, name = ""]) => name);
    wrong.push(...difference("src/model/decide.ts", named, verdicts, "verdict"));
  }
  return wrong;
}

/**
 * Paths in backticks: with a slash or an extension of ours. What is built, absolute or a pattern is
 * let be.
 */
function referencedPaths(markdown: string): string[] {
  return [...prose(markdown).matchAll(/`([\w.@-]+(?:\/[\w.@-]+)*\/?)`/g)]
    .map(([, path = ""]) => path)
    .filter((path) =>
      /^(src|bpf|native|scripts|test|bench|examples|schema|docs|\.ci)\/|^[\w-]+\.(ts|mjs|md|json|yaml|c|h|cc)$/.test(
        path,
      ),
    );
}

function exists(tree: Tree, path: string): boolean {
  const folder = path.endsWith("/") ? path : `${path}/`;
  if (tree.has(path)) return true;
  for (const known of tree.keys()) {
    // A bare file name stands for the one file of that name.
    if (known.startsWith(folder) || (!path.includes("/") && known.endsWith(`/${path}`)))
      return true;
  }
  return false;
}

function checkReferences(tree: Tree): string[] {
  return filesOf(tree, /^(ARCHITECTURE|README)\.md$|^docs\/.*\.md$/).flatMap(({ path, text }) =>
    [...new Set(referencedPaths(text))]
      .filter((reference) => !exists(tree, reference))
      .map((reference) => `${path}: there is no ${reference}`),
  );
}

/** Filed runs are tables as a command printed them, to be pasted: they have no title of their own. */
function checkTitles(tree: Tree): string[] {
  return filesOf(tree, /^(?!bench\/runs\/.*\/).*\.md$/).flatMap(({ path, text }) => {
    const titles = prose(text).split("\n").filter((line) => /^# /.test(line)).length;
    return titles === 1 ? [] : [`${path}: ${titles} titles; one is right`];
  });
}

function checkLinks(tree: Tree): string[] {
  const links = (text: string): RegExpMatchArray[] => [
    ...prose(text).matchAll(/\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)/g),
  ];
  return filesOf(tree, /\.md$/).flatMap(({ path, text }) =>
    links(text).flatMap(([, target = ""]) => {
      const from = path.split("/").slice(0, -1);
      for (const part of target.split("/")) {
        if (part === "..") from.pop();
        else if (part !== "." && part !== "") from.push(part);
      }
      const full = from.join("/");
      // Pictures are no text, so the tree does not hold them.
      return /\.(svg|png)$/.test(full) || exists(tree, full) || full === "LICENSE"
        ? []
        : [`${path}: leads to ${full}, which is not there`];
    }),
  );
}

export const DOCUMENT_RULES: readonly Rule[] = [
  {
    name: "README lists every failure code",
    check: checkFailureCodes,
    broken: {
      "README.md": "# a\n## Error codes\n| `MAP_FULL` | b |",
      "src/errors.ts": "interface Failures {\n  MAP_FULL: {};\n  SYSTEM: {};\n}",
    },
    complaint: "README.md: the failure code SYSTEM is not listed",
  },
  {
    name: "and no other",
    check: checkFailureCodes,
    broken: {
      "README.md": "# a\n## Error codes\n| `MAP_FULL`, `GONE` | b |",
      "src/errors.ts": "interface Failures {\n  MAP_FULL: {};\n}",
    },
    complaint: "README.md: there is no failure code GONE",
  },
  {
    name: "README's table of verdicts is the program's",
    check: checkVerdicts,
    broken: {
      "README.md": "# a\n## Verdicts\n| `PASS_A` | b |",
      "bpf/abi.h": "enum verdict { PASS_A, /* x */ DROP_B, VERDICTS, };",
    },
    complaint: "README.md: the verdict DROP_B is not listed",
  },
  {
    name: "so is the model's list",
    check: checkVerdicts,
    broken: {
      "src/model/decide.ts": 'export type VerdictName = | "PASS_A" | "PASS_C";',
      "bpf/abi.h": "enum verdict { PASS_A };",
    },
    complaint: "src/model/decide.ts: there is no verdict PASS_C",
  },
  {
    name: "documents name files that are there",
    check: checkReferences,
    broken: { "ARCHITECTURE.md": "# a\nsee `src/model/gone.ts`" },
    complaint: "ARCHITECTURE.md: there is no src/model/gone.ts",
  },
  {
    name: "and link to documents that are there",
    check: checkLinks,
    broken: { "docs/a.md": "# a\n[b](../docs/b.md)" },
    complaint: "docs/a.md: leads to docs/b.md, which is not there",
  },
  {
    name: "one title per document", check: checkTitles,
    broken: { "docs/a.md": "# a\n# b\n" }, complaint: "docs/a.md: 2 titles; one is right",
  },
];
