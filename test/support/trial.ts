// The packet path with its test programs (test/kernel/fixtures/trial.bpf.c), compiled at test time
// from the sources of the checkout. Knows folders; knows no packet.

import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compileBpf } from "./clang.ts";
import { ROOT } from "./kernel.ts";

/** Calls the body with the path of an object that has the programs of trial.bpf.c. */
export function withTrialObject<T>(body: (object: string) => T, clang?: string): T {
  return withObject(
    readFileSync(join(ROOT, "test/kernel/fixtures/trial.bpf.c"), "utf8"),
    body,
    clang,
  );
}

/** The same with a source of your own, which may include whatever is in bpf/. */
export function withObject<T>(source: string, body: (object: string) => T, clang?: string): T {
  const directory = mkdtempSync(join(tmpdir(), "pointsman-trial-"));
  try {
    const path = join(directory, "trial.bpf.o");
    writeFileSync(path, compileBpf(source, bpfSources(), clang));
    return body(path);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function bpfSources(): Record<string, string> {
  const directory = join(ROOT, "bpf");
  return Object.fromEntries(
    readdirSync(directory)
      .filter((name) => /\.[ch]$/.test(name))
      .map((name) => [name, readFileSync(join(directory, name), "utf8")]),
  );
}
