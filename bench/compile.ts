// Compiles a program of bench/bpf, which no installation needs. Knows the compiler's options.

import { spawnSync } from "node:child_process";
import { join } from "node:path";

/** @returns the path of the object, in `directory`. Throws what clang says. */
export function compileProgram(root: string, name: string, directory: string): string {
  const object = join(directory, `${name}.bpf.o`);
  const triplet = process.arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
  const ended = spawnSync("clang", [
    "-O2", "-g", "-target", "bpf", "-mcpu=v3", "-isystem", `/usr/include/${triplet}`,
    "-I", join(root, "bpf"), "-c", join(root, "bench/bpf", `${name}.bpf.c`), "-o", object,
  ], { encoding: "utf8" });
  if (ended.status !== 0) throw new Error(`clang failed: ${ended.error?.message ?? ended.stderr}`);
  return object;
}
