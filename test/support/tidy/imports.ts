// Who may import whom (DESIGN: main → cli → supervisor → {config, health, dataplane, observe} →
// model), and which doors lead outside. Knows imports as the compiler sees them, types included.

import { posix } from "node:path";
import typescript from "typescript";
import { filesOf } from "./tree.ts";
import type { Rule, Tree } from "./tree.ts";

export interface Import {
  readonly from: string;
  /** A path from the root for our own files, else the module's name. */
  readonly to: string;
  readonly own: boolean;
  readonly typeOnly: boolean;
}

/** Every import and re-export of a file. */
export function importsOf(path: string, text: string): Import[] {
  const source = typescript.createSourceFile(path, text, typescript.ScriptTarget.Latest, true);
  const found: Import[] = [];
  const add = (name: string, typeOnly: boolean): void => {
    const own = name.startsWith(".");
    found.push({
      from: path,
      to: own ? posix.join(posix.dirname(path), name) : name,
      own,
      typeOnly,
    });
  };
  const visit = (node: typescript.Node): void => {
    if (typescript.isImportDeclaration(node) && typescript.isStringLiteral(node.moduleSpecifier)) {
      add(
        node.moduleSpecifier.text,
        node.importClause?.phaseModifier === typescript.SyntaxKind.TypeKeyword,
      );
    } else if (
      typescript.isExportDeclaration(node) &&
      node.moduleSpecifier !== undefined &&
      typescript.isStringLiteral(node.moduleSpecifier)
    ) {
      add(node.moduleSpecifier.text, node.isTypeOnly);
    } else if (
      typescript.isImportTypeNode(node) &&
      typescript.isLiteralTypeNode(node.argument) &&
      typescript.isStringLiteral(node.argument.literal)
    ) {
      add(node.argument.literal.text, true);
    } else if (
      typescript.isCallExpression(node) &&
      node.expression.kind === typescript.SyntaxKind.ImportKeyword
    ) {
      const [argument] = node.arguments;
      if (argument !== undefined && typescript.isStringLiteralLike(argument))
        add(argument.text, false);
    } else if (typescript.isNewExpression(node) && node.expression.getText() === "URL") {
      // new Worker(new URL("./worker.js", import.meta.url)): the built name of a source.
      const [argument, base] = node.arguments ?? [];
      if (
        argument !== undefined &&
        typescript.isStringLiteralLike(argument) &&
        base?.getText() === "import.meta.url"
      ) {
        add(argument.text.replace(/\.js$/, ".ts"), false);
      }
    }
    typescript.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

/**
 * What each room may import, longest match first: a folder with its slash, or one file.
 * `contract.ts` and `schemas*.ts` are shapes that rooms agree on, so those below may know them too.
 */
const ROOMS: readonly (readonly [room: string, may: readonly string[]])[] = [
  ["src/model/", []],
  ["src/errors.ts", ["src/model/"]],
  ["src/version.ts", []],
  ["src/env.ts", []],
  ["src/env_real.ts", ["src/env.ts", "src/env_group.ts", "src/env_peer.ts", "src/errors.ts", "src/model/"]],
  ["src/env_peer.ts", ["src/env.ts"]],
  ["src/env_group.ts", ["src/env.ts"]],
  ["src/config/", ["src/model/", "src/env.ts", "src/errors.ts"]],
  ["src/geo/", ["src/model/", "src/env.ts"]],
  ["src/health/", ["src/model/", "src/env.ts", "src/errors.ts"]],
  [
    "src/dataplane/xdp/",
    ["src/dataplane/dataplane.ts", "src/dataplane/address_mark.ts", "src/model/", "src/env.ts",
      "src/errors.ts"],
  ],
  [
    "src/dataplane/proxy/",
    ["src/dataplane/dataplane.ts", "src/dataplane/address_mark.ts", "src/model/", "src/env.ts",
      "src/errors.ts"],
  ],
  [
    "src/dataplane/",
    ["src/dataplane/xdp/", "src/dataplane/proxy/", "src/model/", "src/env.ts", "src/errors.ts"],
  ],
  [
    "src/observe/",
    [
      "src/supervisor/contract.ts",
      "src/api/schemas",
      "src/dataplane/dataplane.ts",
      "src/model/",
      "src/env.ts",
      "src/errors.ts",
      "src/version.ts",
    ],
  ],
  [
    "src/api/",
    [
      "src/supervisor/contract.ts",
      "src/config/",
      "src/model/",
      "src/env.ts",
      "src/errors.ts",
      "src/version.ts",
    ],
  ],
  [
    "src/supervisor/",
    [
      "src/api/schemas",
      "src/config/",
      "src/geo/",
      "src/health/",
      "src/dataplane/dataplane.ts",
      "src/dataplane/open.ts",
      "src/observe/",
      "src/model/",
      "src/env.ts",
      "src/errors.ts",
      "src/version.ts",
    ],
  ],
  [
    "src/cli/",
    [
      "src/create.ts",
      "src/supervisor/",
      "src/api/",
      "src/config/",
      "src/geo/",
      "src/health/",
      "src/dataplane/",
      "src/observe/",
      "src/model/",
      "src/env.ts",
      "src/errors.ts",
      "src/version.ts",
    ],
  ],
  ["src/create.ts", ["src/"]],
  ["src/index.ts", ["src/"]],
  ["src/main.ts", ["src/"]],
];

function importsIn(tree: Tree, pattern: RegExp): Import[] {
  return filesOf(tree, pattern).flatMap(({ path, text }) => importsOf(path, text));
}

function checkRooms(tree: Tree): string[] {
  return importsIn(tree, /^src\/.*\.ts$/)
    .filter((one) => one.own)
    .flatMap(({ from, to }) => {
      const room = ROOMS.find(([name]) => from.startsWith(name));
      if (room === undefined)
        return [`${from}: belongs to no room; add it to test/support/tidy/imports.ts`];
      const [name, may] = room;
      const ownRoom = name.endsWith("/") && to.startsWith(name);
      const elsewhere = ROOMS.find(([other]) => to.startsWith(other))?.[0];
      if (ownRoom && elsewhere === name) return [];
      return may.some((allowed) => to.startsWith(allowed)) ? [] : [`${from}: may not import ${to}`];
    });
}

/** Packages by room: the model is pure, and each library has one place. */
const LIBRARIES: Readonly<Record<string, RegExp>> = {
  "ipaddr.js": /^src\/(model\/address|config\/formats)\.ts$/,
  "xxhash-wasm": /^src\/model\/xxh64\.ts$/,
  re2js: /^src\/model\/expression\.ts$/,
  maxmind: /^src\/geo\//,
  "dns-packet": /^src\/health\/probes\/dns\.ts$/,
  yaml: /^src\/config\//,
  zod: /^src\/(config|api|supervisor)\//,
  pino: /^src\/env_real\.ts$/,
  "prom-client": /^src\/observe\//,
  fastify: /^src\/(api\/|observe\/|create\.ts)/,
  undici: /^src\/api\/client\.ts$/,
  commander: /^src\/cli\//,
  "cli-table3": /^src\/cli\//,
  chokidar: /^src\/cli\//,
};

function checkLibraries(tree: Tree): string[] {
  return importsIn(tree, /^src\/.*\.ts$/)
    .filter((one) => !one.own && !one.to.startsWith("node:"))
    .flatMap(({ from, to }) => {
      const place = LIBRARIES[to];
      if (place === undefined) return [`${from}: imports ${to}, which has no room yet`];
      return place.test(from) ? [] : [`${from}: ${to} stays in ${place.source}`];
    });
}

/** The files that may reach outside: the real Env, and the command line in front of it. */
const DOORS = /^src\/(env_real\.ts|env_group\.ts|env_peer\.ts|main\.ts|cli\/)/;
const OUTSIDE =
  /^node:(net|dgram|tls|fs|fs\/promises|child_process|os|dns|timers|timers\/promises|readline|perf_hooks)$/;
/** Pure parts of Node, and the two that take a socket or a path from a door. */
const INSIDE =
  /^node:(path|url|crypto|events|util|assert|buffer|stream|worker_threads|module|http|https)$/;

function checkDoors(tree: Tree): string[] {
  return importsIn(tree, /^src\/.*\.ts$/)
    .filter((one) => one.to.startsWith("node:"))
    .flatMap(({ from, to, typeOnly }) => {
      if (typeOnly || DOORS.test(from) || INSIDE.test(to)) return [];
      return [
        `${from}: ${OUTSIDE.test(to) ? "reaches outside by" : "imports the unknown"} ${to}; use Env`,
      ];
    });
}

/** A session of Node's HTTP/2 can abort the process when it ends, by what its peer has sent. */
function checkSessions(tree: Tree): string[] {
  return importsIn(tree, /^src\/.*\.ts$/)
    .filter((one) => one.to === "node:http2")
    .map(({ from }) => `${from}: node:http2 can abort the process; src/health/probes/http2_client.ts is the client`);
}

const AMBIENT = [
  /\bDate\.now\b/,
  /\bnew Date\(\s*\)/,
  /\bMath\.random\b/,
  /\bperformance\.now\b/,
  /\bset(?:Timeout|Interval)\(/,
  /\bfetch\(/,
  /\bprocess\.(?:env|argv|exit|exitCode|hrtime|cwd|stdin|stdout|stderr|on|once|kill|uptime|pid|getuid)\b/,
  /\brandom(?:Bytes|UUID|Int|FillSync)\b/,
  /\bconsole\./,
];

function checkAmbient(tree: Tree): string[] {
  return filesOf(tree, /^src\/.*\.ts$/)
    .filter(({ path }) => !DOORS.test(path))
    .flatMap(({ path, text }) => {
      const code = withoutComments(text);
      return AMBIENT.flatMap((pattern) => {
        const hit = pattern.exec(code);
        return hit === null ? [] : [`${path}: ${hit[0]} is not to be had here; use Env`];
      });
    });
}

/**
 * Line and block comments blanked; strings are left, since none of ours holds what is looked for.
 */
export function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\/|(?<![:"'`])\/\/.*$/gm, "");
}

function checkAddon(tree: Tree): string[] {
  return filesOf(tree, /^src\/.*\.ts$/).flatMap(({ path, text }) => {
    const requires = withoutComments(text).includes("createRequire");
    return requires && !/^src\/(dataplane\/xdp\/native|version)\.ts$/.test(path)
      ? [`${path}: only native.ts requires the addon`]
      : [];
  });
}

/**
 * Files that nothing leads to from a program, the library, a script, a benchmark, an example or a
 * test.
 */
function checkReachable(tree: Tree): string[] {
  const begin =
    /^(src\/(main|index)\.ts|(scripts|bench|test|examples)\/.*\.(ts|mjs)|.*\.config\.[jt]s)$/;
  const reached = new Set(filesOf(tree, begin).map(({ path }) => path));
  const queue = [...reached];
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    for (const { to, own } of importsOf(path, tree.get(path) ?? "")) {
      if (!own || reached.has(to) || !tree.has(to)) continue;
      reached.add(to);
      queue.push(to);
    }
  }
  return filesOf(tree, /^src\/.*\.ts$/)
    .filter(({ path }) => !reached.has(path))
    .map(({ path }) => `${path}: nothing leads to it`);
}

function checkBarrels(tree: Tree): string[] {
  return filesOf(tree, /^(src|scripts|bench|test)\/.*\.ts$/).flatMap(({ path, text }) => {
    const code = withoutComments(text);
    const wrong = [];
    if (/^export\s+default\b/m.test(code)) wrong.push(`${path}: name what it exports, no default`);
    if (path !== "src/index.ts" && /^export\s[^;()=]*\sfrom\s+"/m.test(code))
      wrong.push(`${path}: only src/index.ts re-exports`);
    return wrong;
  });
}

export const IMPORT_RULES: readonly Rule[] = [
  {
    name: "rooms import only downwards; the two planes, and health and data plane, never each other",
    check: checkRooms,
    broken: { "src/dataplane/xdp/a.ts": 'import type { B } from "../proxy/b.ts";' },
    complaint: "src/dataplane/xdp/a.ts: may not import src/dataplane/proxy/b.ts",
  },
  {
    name: "the model imports only itself",
    check: checkRooms,
    broken: { "src/model/a.ts": 'export type A = import("../env.ts").Env;' },
    complaint: "src/model/a.ts: may not import src/env.ts",
  },
  {
    name: "each library has its room",
    check: checkLibraries,
    broken: { "src/model/a.ts": 'import { z } from "zod";' },
    complaint: "src/model/a.ts: zod stays in ^src\\/(config|api|supervisor)\\/",
  },
  {
    name: "sockets, files and processes come through Env",
    check: checkDoors,
    broken: { "src/health/a.ts": 'import { connect } from "node:net";' },
    complaint: "src/health/a.ts: reaches outside by node:net; use Env",
  },
  {
    name: "no peer gets a session of Node's HTTP/2",
    check: checkSessions,
    broken: { "src/health/a.ts": 'import { connect } from "node:http2";' },
    complaint: "src/health/a.ts: node:http2 can abort the process; src/health/probes/http2_client.ts is the client",
  },
  {
    name: "so do time, randomness and the process",
    check: checkAmbient,
    broken: { "src/model/a.ts": "export const now = Date.now();" },
    complaint: "src/model/a.ts: Date.now is not to be had here; use Env",
  },
  {
    name: "only native.ts requires the addon",
    check: checkAddon,
    broken: { "src/cli/a.ts": 'import { createRequire } from "node:module";' },
    complaint: "src/cli/a.ts: only native.ts requires the addon",
  },
  {
    name: "no dead files",
    check: checkReachable,
    broken: { "src/main.ts": 'import "./a.ts";', "src/a.ts": "", "src/b.ts": 'import "./a.ts";' },
    complaint: "src/b.ts: nothing leads to it",
  },
  {
    name: "no default exports and no barrels",
    check: checkBarrels,
    broken: {
      "src/model/a.ts": 'export { b } from "./b.ts";\nexport type { C }\n  from "./c.ts";',
    },
    complaint: "src/model/a.ts: only src/index.ts re-exports",
  },
];
