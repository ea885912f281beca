#!/usr/bin/env node
// Compiles the XDP programs with each clang that we support, has the ABI generated from each, and
// loads each into this kernel. All must agree with what is committed. Knows compilers; what they
// compile is CMakeLists.txt's business. Prints one line per compiler.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const CLANGS = ["clang-14", "clang-19"];

/** @param {string} command @param {readonly string[]} args */
function run(command, args) {
  const ended = spawnSync(command, args, { cwd: root, encoding: "utf8" });
  if (ended.status !== 0)
    throw new Error(
      `${command} ${args.join(" ")}: ${ended.error?.message ?? `${ended.stdout}${ended.stderr}`}`,
    );
}

/** @param {string} clang @param {string} directory @returns {string} where the objects are */
function compile(clang, directory) {
  const objects = join(directory, "bpf");
  run("cmake", ["-S", root, "-B", directory, `-DCLANG=${clang}`, `-DBPF_OUTPUT=${objects}`]);
  run("cmake", ["--build", directory]);
  return objects;
}

/** Loads every program once; the verifier judges each compiler's code anew. @param {string} path */
function load(path) {
  const native = createRequire(import.meta.url)(join(root, "build/pointsman.node"));
  const object = native.BpfObject.open(path);
  try {
    object.load();
    return object
      .programNames()
      .map(
        (/** @type {string} */ name) => `${name} ${object.programInfo(name).verifiedInstructions}`,
      );
  } finally {
    object.close();
  }
}

/** @param {string} clang */
async function check(clang) {
  const directory = mkdtempSync(join(tmpdir(), "pointsman-compilers-"));
  try {
    const objects = compile(clang, directory);
    const names = readdirSync(objects)
      .filter((name) => name.endsWith(".bpf.o"))
      .sort();
    const { abiHeaders, generateAbi } = await import(
      pathToFileURL(join(root, "dist/scripts/abi_source.js")).href
    );
    const files = names.map((name) => ({
      name,
      bytes: new Uint8Array(readFileSync(join(objects, name))),
    }));
    const text = generateAbi(abiHeaders(root), files);
    if (text !== readFileSync(join(root, "src/dataplane/xdp/abi.gen.ts"), "utf8")) {
      throw new Error(`${clang} gives another ABI than src/dataplane/xdp/abi.gen.ts has`);
    }
    const loaded = names.flatMap((name) => load(join(objects, name)));
    process.stdout.write(
      `${clang}: same ABI; loaded (instructions verified): ${loaded.join(", ")}\n`,
    );
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const present = CLANGS.filter(
  (clang) => spawnSync(clang, ["--version"], { stdio: "ignore" }).status === 0,
);
for (const clang of CLANGS) {
  if (present.includes(clang)) await check(clang);
  else process.stdout.write(`${clang}: not installed, left out (npm run setup -- --with ci)\n`);
}
if (present.length === 0) throw new Error(`none of ${CLANGS.join(", ")} is installed`);
