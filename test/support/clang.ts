// Compiles small C programs for BPF at test time, so that tests read what a compiler really writes.
// Knows clang's command line; knows no program of ours.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe } from "vitest";
import { onPath } from "../../scripts/search_path.ts";

/** The compilers that this machine has, of those that CI builds with. */
export const CLANGS: readonly string[] = ["clang", "clang-14", "clang-19"].filter(onPath);

/** Why nothing can be compiled for BPF here, or null. */
export const NO_CLANG: string | null = CLANGS.length > 0 ? null : "clang is not installed";

/**
 * describe() for what needs a compiler: skipped with the reason in its name, or, under
 * KERNEL_TESTS=required, run and failing.
 */
export function describeCompiled(title: string, without: string | null, body: () => void): void {
  if (without === null || process.env["KERNEL_TESTS"] === "required") describe(title, body);
  else describe.skip(`${title} [skipped: ${without}]`, body);
}

const triplet = process.arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";

/** The object file of a C source; `files` are headers beside it. Throws what the compiler said. */
export function compileBpf(
  source: string,
  files: Readonly<Record<string, string>> = {},
  clang = CLANGS[0] ?? "clang",
): Uint8Array {
  const directory = mkdtempSync(join(tmpdir(), "pointsman-clang-"));
  try {
    for (const [name, text] of Object.entries({ ...files, "program.bpf.c": source })) {
      writeFileSync(join(directory, name), text);
    }
    const ended = spawnSync(clang, [
      "-O2", "-g", "-target", "bpf", "-mcpu=v3", "-isystem", `/usr/include/${triplet}`,
      "-c", "program.bpf.c", "-o", "program.bpf.o",
    ], { cwd: directory, encoding: "utf8" });
    if (ended.status !== 0) throw new Error(`${clang} failed: ${ended.stderr}`);
    return new Uint8Array(readFileSync(join(directory, "program.bpf.o")));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
