// Compiles a program of bpf/ for this machine, with the fuzzer and the sanitizers in it, and
// generates what the C of this folder cannot know: the program's maps, its switches, its worlds.
// Knows clang; knows no packet.

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onPath } from "../../scripts/search_path.ts";
import { ROOT } from "../support/kernel.ts";
import type { Write } from "./recorded_maps.ts";
import type { Target } from "./targets.ts";

const HERE = join(ROOT, "test/fuzz");
const SANITIZERS = "-fsanitize=fuzzer,address,undefined";
const FLAGS = [
  "-O1", "-g", SANITIZERS, "-fno-sanitize-recover=undefined",
  // Headers lie at odd addresses, and the kernel's machines take that.
  "-fno-sanitize=alignment",
];

/**
 * Every value inside of AES is new: taken for coverage, they would be all that the fuzzer looks for. Its
 * own tests hold it, and the sanitizers watch it here too.
 */
const UNCOVERED = "fun:aes_encrypt\nfun:aes_decrypt\n";

/** The first compiler that has the fuzzer's library, and why there is none. */
export function fuzzingClang(): { clang: string } | { reason: string } {
  const there = ["clang", "clang-14", "clang-19"].filter(onPath);
  if (process.platform !== "linux") return { reason: `this is ${process.platform}` };
  if (there.length === 0) return { reason: "clang is not installed (npm run setup)" };
  const scratch = mkdtempSync(join(tmpdir(), "pointsman-fuzz-"));
  try {
    const source = join(scratch, "nothing.c");
    writeFileSync(source, "int LLVMFuzzerTestOneInput(const char *d, long s) { return !d && s; }\n");
    const works = there.find(
      (clang) => spawnSync(clang, [SANITIZERS, source, "-o", join(scratch, "nothing")]).status === 0,
    );
    if (works !== undefined) return { clang: works };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return { reason: `${there.join(", ")} has no libFuzzer (npm run setup -- --with fuzz)` };
}

/** Compiles into `directory` and returns the program's path. `sources` is bpf/, or a copy of it. */
export function buildTarget(
  clang: string,
  target: Target,
  directory: string,
  sources = join(ROOT, "bpf"),
): string {
  const include = ["-I", ownHeaders(directory), "-I", join(HERE, "include"), "-I", HERE, "-I", sources];
  const source = join(sources, `${target.name}.bpf.c`);
  const preprocessed = run(clang, [...include, "-E", "-P", source]);
  writeFileSync(join(directory, "generated.h"), generated(preprocessed, target.worlds()));
  const program = join(directory, target.name);
  const units = [`${target.name}.c`, "kernel.c", "sockets.c", "clock_and_chance.c"].map((unit) => join(HERE, unit));
  const ignored = join(directory, "uncovered.txt");
  writeFileSync(ignored, UNCOVERED);
  run(clang, [...FLAGS, `-fsanitize-coverage-ignorelist=${ignored}`, "-I", directory, ...include, ...units, "-o", program]);
  return program;
}

/** Where the programs find libbpf.h under the name that they know. */
function ownHeaders(directory: string): string {
  const own = join(directory, "include");
  mkdirSync(join(own, "bpf"), { recursive: true });
  writeFileSync(join(own, "bpf/bpf_helpers.h"), '#include "libbpf.h"\n');
  return own;
}

function run(command: string, args: readonly string[]): string {
  const ended = spawnSync(command, args, { encoding: "utf8", maxBuffer: 1 << 28 });
  if (ended.error !== undefined) throw ended.error;
  if (ended.status !== 0) throw new Error(`${command} failed: ${ended.stderr}`);
  return ended.stdout;
}

function generated(preprocessed: string, worlds: readonly (readonly Write[])[]): string {
  const maps = mapsIn(preprocessed);
  const switches = [...preprocessed.matchAll(/const volatile (?:_Bool|bool) (\w+) =/g)];
  const names = new Set(maps.map(({ name }) => name));
  return [
    `static const struct map maps[] = {\n${maps.map(mapLine).join("")}};`,
    `enum { MAPS = ${maps.length}, SWITCHES = ${switches.length}, WORLDS = ${worlds.length} };`,
    `static const volatile bool *const switches[] = { ${switches.map(([, name]) => `&${name!}`).join(", ")} };`,
    ...worlds.map((writes, number) => {
      const kept = writes.filter(({ map }) => names.has(map));
      return `static const struct write world_${number}[] = {\n${kept.map(writeLine).join("")}};`;
    }),
    `static const struct world worlds[] = {\n${worlds
      .map((_, number) => `\t{ world_${number}, sizeof(world_${number}) / sizeof(struct write) },\n`)
      .join("")}};`,
    "",
  ].join("\n");
}

interface DeclaredMap {
  readonly name: string;
  readonly body: string;
}

/** A map is a variable of a struct that begins with its type (libbpf's form). */
function mapsIn(preprocessed: string): DeclaredMap[] {
  const declared = /struct\s*\{([^{}]*\(\*type\)[^{}]*)\}\s*(\w+)\s*;/g;
  return [...preprocessed.matchAll(declared)].map(([, body, name]) => ({ body: body!, name: name! }));
}

function mapLine({ name, body }: DeclaredMap): string {
  const number = (member: string): string => `sizeof(*${name}.${member}) / sizeof(int)`;
  const size = (member: string): string =>
    new RegExp(`\\*${member}\\s*;`).test(body) ? `sizeof(*${name}.${member})`
      : body.includes(`(*${member}_size)`) ? number(`${member}_size`) : "0";
  return (
    `\t{ .id = &${name}, .name = "${name}", .type = ${number("type")}, .key_size = ${size("key")},\n` +
    `\t  .value_size = ${size("value")}, .entries_max = ${number("max_entries")} },\n`
  );
}

function writeLine({ kind, map, key, value, size }: Write): string {
  return `\t{ ${kind}, "${map}", ${bytes(key)}, ${key.length}, ${bytes(value)}, ${value.length}, ${size} },\n`;
}

function bytes(all: Uint8Array): string {
  return `"${[...all].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")}"`;
}
