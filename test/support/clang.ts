// Compiles small C programs for BPF at test time, so that tests read what a compiler really writes.
// Knows which compilers there are; knows no program of ours.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe } from "vitest";
import { compileBpfFile } from "../../scripts/compile_bpf.ts";
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
    const output = join(directory, "program.bpf.o");
    compileBpfFile(clang, join(directory, "program.bpf.c"), output);
    return new Uint8Array(readFileSync(output));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
