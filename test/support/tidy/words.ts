// The words of the house (DESIGN: Words, House style): one word for one thing, and none that only
// says that something is there. Knows declared names, not prose; other people's names may be used,
// not declared.

import typescript from "typescript";
import { withoutComments } from "./imports.ts";
import { filesOf } from "./tree.ts";
import type { Rule, Tree } from "./tree.ts";

/** Banned, and what to say instead. */
const INSTEAD: Readonly<Record<string, string>> = {
  real: "backend",
  reals: "backends",
  upstream: "backend",
  upstreams: "backends",
  helper: "what it does",
  helpers: "what they do",
  util: "what it does",
  utils: "what they do",
  manager: "what it does",
  managers: "what they do",
  handle: "what it does, or what it is",
  handles: "what it does, or what they are",
  handler: "what it does",
  handlers: "what they do",
};

/** `probeIntervalMs`, `flow_idle_ns` and `RING_SLOTS` to their words. */
export function wordsOf(identifier: string): string[] {
  return identifier
    .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
    .replace(/([A-Z]+)([A-Z][a-z])/g, "$1_$2")
    .toLowerCase()
    .split(/_+/)
    .filter(Boolean);
}

/** The names that a source declares. */
export function declaredIn(path: string, text: string): string[] {
  const source = typescript.createSourceFile(path, text, typescript.ScriptTarget.Latest, true);
  const names: string[] = [];
  const visit = (node: typescript.Node): void => {
    const { name } = node as { name?: typescript.Node };
    const declares =
      typescript.isVariableDeclaration(node) ||
      typescript.isFunctionLike(node) ||
      typescript.isParameter(node) ||
      typescript.isPropertySignature(node) ||
      typescript.isPropertyDeclaration(node) ||
      typescript.isClassLike(node) ||
      typescript.isInterfaceDeclaration(node) ||
      typescript.isTypeAliasDeclaration(node);
    if (
      declares &&
      name !== undefined &&
      (typescript.isIdentifier(name) || typescript.isPrivateIdentifier(name))
    )
      names.push(name.text);
    typescript.forEachChild(node, visit);
  };
  visit(source);
  return names;
}

/** Katran's "real", the server, and not the opposite of a fake one. */
function isServer(words: readonly string[], at: number): boolean {
  const next = words[at + 1];
  return (
    next === undefined ||
    ["server", "servers", "id", "ids", "ip", "address", "index", "count"].includes(next)
  );
}

function complaints(path: string, identifiers: Iterable<string>): string[] {
  return [...new Set(identifiers)].flatMap((identifier) =>
    wordsOf(identifier).flatMap((word, at, words) => {
      if (word === "real" && !isServer(words, at)) return [];
      const instead = Object.hasOwn(INSTEAD, word) ? INSTEAD[word] : undefined;
      return instead === undefined ? [] : [`${path}: ${identifier}: not "${word}"; say ${instead}`];
    }),
  );
}

function checkIdentifiers(tree: Tree): string[] {
  const script = filesOf(tree, /^(src|scripts|bench)\/.*\.(ts|mjs)$/)
    .flatMap(({ path, text }) => complaints(path, declaredIn(path, text)));
  // In C every identifier counts; strings and comments do not.
  const c = filesOf(tree, /^(bpf)\/.*\.[ch]$/).flatMap(({ path, text }) =>
    complaints(
      path,
      withoutComments(text)
        .replace(/"[^"\n]*"|<[^>\n]*>/g, "")
        .match(/[A-Za-z_]\w*/g) ?? [],
    ),
  );
  return [...script, ...c];
}

const BANNED_FILES = /^(utils?|helpers?|common|managers?|misc|shared|types|index)$/;

function checkFileNames(tree: Tree): string[] {
  return [...tree.keys()]
    .filter(
      (path) => /^(src|scripts|bench|test|native|bpf)\//.test(path) && path !== "src/index.ts",
    )
    .flatMap((path) => {
      const parts = path.split("/").map((part) => part.replace(/\..*$/, ""));
      const banned = parts.find((part) => wordsOf(part).some((word) => BANNED_FILES.test(word)));
      return banned === undefined ? [] : [`${path}: "${banned}" does not say what is in it`];
    });
}

/** Built from parts, or this file would break its own rule. */
const PLACES = new RegExp(
  [
    ["work", "place"],
    ["this sand", "box"],
    ["chat", "gpt"],
    ["\\bcopi", "lot\\b"],
    ["\\bai[- ]", "generated"],
    ["this", " session"],
  ]
    .map((parts) => parts.join(""))
    .join("|"),
  "i",
);
const ABSOLUTE = new RegExp(`(?<![\\w.])/(?:${["work", "home/\\w+", "Users/\\w+"].join("|")})/`);
const REGISTRY = new RegExp(
  [
    ["registry", "\\.npmjs"],
    ["npm", "mirror"],
    ["arti", "factory"],
    ["jf", "rog\\."],
    ["ver", "daccio"],
    ['"resol', 'ved":\\s*"http'],
  ]
    .map((parts) => parts.join(""))
    .join("|"),
  "i",
);

function checkPlaces(tree: Tree): string[] {
  return [...tree].flatMap(([path, text]) => [PLACES, ABSOLUTE, REGISTRY].flatMap((pattern) => {
    const hit = pattern.exec(text);
    if (hit === null) return [];
    const line = text.slice(0, hit.index).split("\n").length;
    return [`${path}:${line}: "${hit[0]}" belongs to a machine, not to the project`];
  }));
}

export const WORD_RULES: readonly Rule[] = [
  {
    name: "one word for one thing in TypeScript",
    check: checkIdentifiers,
    broken: { "src/model/a.ts": "export function pickUpstream(): void {}" },
    complaint: 'src/model/a.ts: pickUpstream: not "upstream"; say backend',
  },
  {
    name: "and in C",
    check: checkIdentifiers,
    broken: { "bpf/a.h": "/* a helper */ struct real_server { int x; };" },
    complaint: 'bpf/a.h: real_server: not "real"; say backend',
  },
  {
    name: "files say what is in them",
    check: checkFileNames,
    broken: { "src/model/string_utils.ts": "" },
    complaint: 'src/model/string_utils.ts: "string_utils" does not say what is in it',
  },
  {
    name: "nothing says where it was written, or which registry served it", check: checkPlaces,
    broken: { "README.md": `# a\n${["/wo", "rk/main"].join("")}` },
    complaint: `README.md:2: "${["/wo", "rk/"].join("")}" belongs to a machine, not to the project`,
  },
  {
    name: "the lock file names no registry",
    check: checkPlaces,
    broken: { "package-lock.json": `{ ${['"resol', 'ved": "http'].join("")}s://x/y.tgz" }` },
    complaint: `package-lock.json:1: "${['"resol', 'ved": "http'].join("")}" belongs to a machine, not to the project`,
  },
];
