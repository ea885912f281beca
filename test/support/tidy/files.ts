// What every file of ours looks like: how it begins, how long it gets. Knows lines, not what they
// mean.

import { filesOf } from "./tree.ts";
import type { Rule, Tree } from "./tree.ts";

const SOURCE = /^(src|scripts|bench|test|native|bpf|examples)\/.*\.(ts|mjs|c|h|cc)$/;
const LONGEST_LINE = 140;

/** The lines of the first comment, up to an empty one; none when the file begins otherwise. */
export function headerOf(text: string): string[] {
  const lines = text.replace(/^#!.*\n/, "").split("\n");
  if (lines[0]?.startsWith("/*") === true) {
    const end = lines.findIndex((line) => line.includes("*/"));
    const block = lines
      .slice(0, end + 1)
      .map((line) => line.replace(/^\s*\/?\*+\/?\s?|\s*\*\/$/g, "").trim());
    const said = block.filter((line) => !line.startsWith("SPDX"));
    return paragraph(said[0] === "" ? said.slice(1) : said);
  }
  return paragraph(
    lines
      .filter((line) => !line.startsWith("// SPDX"))
      .map((line) => (line.startsWith("//") ? line.slice(2).trim() : "")),
  );
}

/** The lines up to the first empty one. */
function paragraph(lines: readonly string[]): string[] {
  const end = lines.indexOf("");
  return lines.slice(0, end === -1 ? lines.length : end);
}

function checkHeaders(tree: Tree): string[] {
  return filesOf(tree, SOURCE).flatMap(({ path, text }) => {
    const lines = headerOf(text).length;
    if (lines < 1) return [`${path}: begins without saying what it is`];
    return lines > 6 ? [`${path}: its first comment has ${lines} lines; two to five will do`] : [];
  });
}

function checkLengths(tree: Tree): string[] {
  return filesOf(tree, SOURCE)
    .filter(({ path }) => !path.includes(".gen.") && !path.includes("/fixtures/"))
    .flatMap(({ path, text }) => {
      const lines = text.split("\n");
      // The ABI is one list, which nobody reads from end to end.
      const most = path.startsWith("test/") || path === "bpf/abi.h" ? 500 : 400;
      const wide = lines.findIndex(
        (line) => line.length > (path.startsWith("test/") ? 160 : LONGEST_LINE),
      );
      return [
        ...(lines.length - 1 > most ? [`${path}: ${lines.length - 1} lines; ${most} at most`] : []),
        ...(wide !== -1 ? [`${path}:${wide + 1}: ${lines[wide]?.length ?? 0} columns`] : []),
      ];
    });
}

/** What npm scripts and the package's own fields refer to; `dist/X.js` stands for its source. */
function checkPackage(tree: Tree): string[] {
  const text = tree.get("package.json");
  if (text === undefined) return [];
  const { scripts = {}, bin = {} } = JSON.parse(text) as {
    scripts?: Record<string, string>;
    bin?: Record<string, string>;
  };
  const commands = [...Object.entries(scripts), ...Object.entries(bin)];
  return commands.flatMap(([name, command]) =>
    [...command.matchAll(/\b(?:dist|scripts)\/[\w./-]+\.(?:mjs|js)\b/g)].flatMap(([path]) => {
      const source = path.replace(/^dist\/(.*)\.js$/, "$1.ts");
      return tree.has(source)
        ? []
        : [`package.json: ${name} runs ${path}, but there is no ${source}`];
    }),
  );
}

interface LockedPackage {
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

/** npm ci refuses a lock file that lacks what is meant for other platforms, on this one too. */
function checkLockFile(tree: Tree): string[] {
  const text = tree.get("package-lock.json");
  if (text === undefined) return [];
  const { packages } = JSON.parse(text) as { packages: Record<string, LockedPackage> };
  return Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies)
      .filter(
        (name) =>
          packages[`node_modules/${name}`] === undefined &&
          packages[`${path}/node_modules/${name}`] === undefined,
      )
      .map((name) => `package-lock.json: lacks ${name}, which ${path} may want`),
  );
}

export const FILE_RULES: readonly Rule[] = [
  {
    name: "each file begins by saying what it is",
    check: checkHeaders,
    broken: { "src/model/a.ts": 'import { b } from "./b.ts";\n// too late' },
    complaint: "src/model/a.ts: begins without saying what it is",
  },
  {
    name: "files are at most 400 lines",
    check: checkLengths,
    broken: { "src/model/a.ts": "// a\n".repeat(401) },
    complaint: "src/model/a.ts: 401 lines; 400 at most",
  },
  {
    name: "lines have an end", check: checkLengths,
    broken: { "bpf/a.h": `/* ${"x".repeat(140)} */` }, complaint: "bpf/a.h:1: 146 columns",
  },
  {
    name: "npm scripts run what is there", check: checkPackage,
    broken: { "package.json": '{ "scripts": { "start": "exec node dist/scripts/start.js" } }' },
    complaint: "package.json: start runs dist/scripts/start.js, but there is no scripts/start.ts",
  },
  {
    name: "the lock file is whole, for every platform",
    check: checkLockFile,
    broken: {
      "package-lock.json":
        '{ "packages": { "node_modules/a": { "optionalDependencies": { "a-darwin": "1" } } } }',
    },
    complaint: "package-lock.json: lacks a-darwin, which node_modules/a may want",
  },
];
