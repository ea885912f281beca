#!/usr/bin/env node
// Builds everything that can be built here: addon and XDP programs (build/), JavaScript (dist/),
// and the generated files that are committed. Knows the order and the stamps; what belongs in a
// generated file is scripts/generate.ts's business, how C is compiled CMakeLists.txt's.
//
//   --check           a stale generated file is an error (also when CI is set); nothing is written
//   --native          the addon and the programs only
//   --plane proxy     no native build
//   --require-native  missing tools are an error
//   --quiet           no word when nothing was to be done

import { spawnSync } from "node:child_process";
import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
} from "node:fs";
import { delimiter, dirname, join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { GENERATED, NATIVE, SCRIPT, leftoverOutputs, missingForNative, whyNotReuse } from "./build_plan.mjs";
import { withLock } from "./lock.mjs";
import { digest, isFresh, writeStamp } from "./stamp.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/**
 * @typedef {{ check: boolean, native: boolean, plane: string, "require-native": boolean, quiet: boolean }} Options
 */

/** @param {string} line */
function say(line) {
  process.stdout.write(`build: ${line}\n`);
}

class BuildFailed extends Error {}

/**
 * Runs a command with its output shown.
 * @param {string} command
 * @param {readonly string[]} args
 * @returns {number}
 */
function run(command, args) {
  const ended = spawnSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
  if (ended.error !== undefined) throw new BuildFailed(`${command}: ${ended.error.message}`);
  return ended.status ?? 1;
}

/** @returns {import("./build_plan.mjs").Facts} */
export function gatherFacts() {
  /** @param {string} command */
  const onPath = (command) => (process.env["PATH"] ?? "").split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  const asked = spawnSync("pkg-config", ["--modversion", "libbpf"], { encoding: "utf8" });
  return {
    platform: process.platform,
    onPath,
    libbpfVersion: asked.status === 0 ? asked.stdout.trim() : null,
  };
}

/** @param {typeof NATIVE} step @param {readonly string[]} texts */
function stateOf(step, texts = []) {
  const wanted = digest(root, step.inputs, [process.arch, ...texts]);
  const stamp = join(root, step.stamp);
  return {
    wanted,
    stamp,
    fresh: isFresh(
      stamp,
      wanted,
      step.outputs.map((path) => join(root, path)),
    ),
  };
}

/** @param {string} path @returns {string | null} */
function resolvePath(path) {
  try {
    return realpathSync(path);
  } catch {
    return null;
  }
}

/** Removes a build/ of another checkout, or of tools that are gone. */
function forgetForeignBuild() {
  const cache = join(root, "build/CMakeCache.txt");
  if (!existsSync(cache)) return;
  const reason = whyNotReuse(readFileSync(cache, "utf8"), { root, resolve: resolvePath });
  if (reason === null) return;
  say(`build/ ${reason}: beginning anew`);
  rmSync(join(root, "build"), { recursive: true, force: true });
}

/**
 * What fails is added to `failures`: the JavaScript is built all the same.
 * @param {Options} options
 * @param {string[]} failures
 * @returns {boolean} whether the programs are there afterwards
 */
function buildNative(options, failures) {
  const state = stateOf(NATIVE);
  if (state.fresh) return true;
  const missing = missingForNative(gatherFacts());
  if (missing.length > 0) {
    const line = `the addon and the XDP programs are left out; missing: ${missing.join(", ")}`;
    if (options["require-native"]) failures.push(line);
    // Programs of other sources would be worse than none.
    for (const path of NATIVE.outputs) rmSync(join(root, path), { recursive: true, force: true });
    say(`${line}. The proxy plane works without them`);
    return false;
  }
  say("the addon and the XDP programs");
  rmSync(state.stamp, { force: true });
  forgetForeignBuild();
  const cmakeJs = join(root, "node_modules/cmake-js/bin/cmake-js");
  if (run(process.execPath, [cmakeJs, "build", "--log-level", "warn"]) !== 0) {
    failures.push("the native build failed");
    return false;
  }
  const absent = NATIVE.outputs.filter((path) => !existsSync(join(root, path)));
  if (absent.length > 0) failures.push(`the native build made no ${absent.join(", ")}`);
  else writeStamp(state.stamp, state.wanted);
  return absent.length === 0;
}

/** @returns {number} the compiler's exit status; JavaScript is written in any case */
function compileScripts() {
  mkdirSync(join(root, "dist"), { recursive: true });
  return run(process.execPath, [
    join(root, "node_modules/typescript/bin/tsc"),
    "-p",
    "tsconfig.build.json",
    "--pretty",
    "false",
  ]);
}

/** @param {string} base @returns {string[]} the files of the compiled folders, below `base` */
function compiledFiles(base) {
  return ["src", "scripts", "bench", "test"].flatMap((folder) => {
    const path = join(base, folder);
    if (!existsSync(path)) return [];
    return readdirSync(path, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(base, join(entry.parentPath, entry.name)));
  });
}

/** @returns {{ failed: boolean }} */
function buildScripts() {
  const state = stateOf(SCRIPT);
  if (state.fresh) return { failed: false };
  say("JavaScript");
  rmSync(state.stamp, { force: true });
  const failed = compileScripts() !== 0;
  for (const path of leftoverOutputs(compiledFiles(join(root, "dist")), compiledFiles(root)))
    rmSync(join(root, "dist", path));
  const main = join(root, "dist/src/main.js");
  if (existsSync(main)) chmodSync(main, 0o755);
  if (!failed) writeStamp(state.stamp, state.wanted);
  return { failed };
}

/**
 * @param {Options} options
 * @param {boolean} programs
 * @param {string[]} failures
 * @returns {Promise<boolean>} whether a source was changed
 */
async function generate(options, programs, failures) {
  const generator = join(root, "dist/scripts/generate.js");
  if (!existsSync(generator)) return false;
  const { generateAll } = await import(`${pathToFileURL(generator).href}?${Date.now()}`);
  /** @type {{ changed: string[], refused: string[] }} */
  const { changed, refused } = await generateAll({ root, write: !options.check, programs });
  failures.push(...refused);
  if (changed.length === 0) return false;
  if (options.check) {
    failures.push(`stale: ${changed.join(", ")}; run "npm run generate" and commit what it writes`);
    return false;
  }
  say(`generated ${changed.join(", ")}`);
  return changed.some((path) => path.endsWith(".ts"));
}

/** @param {Options} options */
async function build(options) {
  /** @type {string[]} */
  const failures = [];
  const programs =
    options.plane === "proxy" ? stateOf(NATIVE).fresh : buildNative(options, failures);
  if (!options.native) await buildRest(options, programs, failures);
  if (failures.length > 0) throw new BuildFailed(failures.join("; "));
}

/** @param {Options} options @param {boolean} programs @param {string[]} failures */
async function buildRest(options, programs, failures) {
  let scripts = buildScripts();
  const generated = stateOf(GENERATED, [String(programs)]);
  if (!generated.fresh) {
    // The first compilation may have failed for want of what is generated here: the second one
    // counts.
    const complaints = failures.length;
    if (await generate(options, programs, failures)) scripts = buildScripts();
    if (!scripts.failed && failures.length === complaints)
      writeStamp(generated.stamp, stateOf(GENERATED, [String(programs)]).wanted);
  }
  if (scripts.failed) failures.push("the TypeScript compiler found errors");
}

/**
 * Whether everything is built from what is here now; for set-up, which then starts no build.
 * @param {string} plane
 */
export function isBuilt(plane) {
  if (!existsSync(join(root, "node_modules"))) return false;
  const programs = stateOf(NATIVE).fresh;
  if (!programs && plane !== "proxy" && process.platform === "linux") return false;
  return stateOf(SCRIPT).fresh && stateOf(GENERATED, [String(programs)]).fresh;
}

async function main() {
  const { values } = parseArgs({
    options: {
      check: {
        type: "boolean",
        default: process.env["CI"] !== undefined && process.env["CI"] !== "",
      },
      native: { type: "boolean", default: false },
      plane: { type: "string", default: "all" },
      "require-native": { type: "boolean", default: false },
      quiet: { type: "boolean", default: false },
    },
  });
  const options = /** @type {Options} */ (values);
  const waiting = (/** @type {string} */ owner) => {
    say(`process ${owner} is building; waiting`);
  };
  await withLock(join(root, ".build-lock"), { waiting }, () => build(options));
  if (!options.quiet) say("done");
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof BuildFailed)) throw error;
    process.stderr.write(`build: ${error.message}\n`);
    process.exitCode = 1;
  }
}
