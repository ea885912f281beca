// Compiles one C source for BPF, outside the build: for tests, and for what other kernels are shown.
// Knows clang's command line, which is CMakeLists.txt's without warnings; knows no program of ours.

import { spawnSync } from "node:child_process";
import { onPath } from "./search_path.ts";

/** Those that CI builds with. */
const COMPILERS = ["clang-14", "clang-19"];

/** The compilers of this machine; plain `clang` is one of the others where there are others. */
export function compilersHere(): string[] {
  const found = COMPILERS.filter(onPath);
  return found.length > 0 ? found : ["clang"].filter(onPath);
}

const triplet = process.arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";

/** Throws what the compiler said. `include` is a directory of headers, beside the source's own. */
export function compileBpfFile(
  clang: string,
  source: string,
  output: string,
  include: readonly string[] = [],
): void {
  const ended = spawnSync(
    clang,
    [
      "-O2", "-g", "-target", "bpf", "-mcpu=v3", "-isystem", `/usr/include/${triplet}`,
      ...include.flatMap((directory) => ["-I", directory]), "-c", source, "-o", output,
    ],
    { encoding: "utf8" },
  );
  if (ended.error !== undefined) throw ended.error;
  if (ended.status !== 0) throw new Error(`${clang} failed: ${ended.stderr}`);
}
