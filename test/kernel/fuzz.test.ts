// The programs under the coverage-guided fuzzer, natively and with sanitizers: the seeds, the corpus
// and a while on from there. First it has to find what is wrong in programs that are wrong.

import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { randomised, whyNotThorough } from "../support/counts.ts";
import { buildTarget, fuzzingClang } from "../fuzz/build.ts";
import { corpusPath, fuzz } from "../fuzz/fuzzing.ts";
import { readCorpus } from "../fuzz/inputs.ts";
import { MUTANTS, breakSources } from "../fuzz/mutants.ts";
import { TARGETS } from "../fuzz/targets.ts";
import { missing } from "../support/kernel.ts";

/** Compilers and fuzzers share the machine with whatever else runs. */
const PATIENCE_MS = 600_000;
const CORPUS_BYTES_MAX = 300_000;
const found = fuzzingClang();
const clang = "clang" in found ? found.clang : "";
const without = whyNotThorough() ?? ("reason" in found ? found.reason : missing("programs"));

async function inScratch<T>(body: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "pointsman-fuzz-"));
  try {
    return await body(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

describe.skipIf(without !== null)(
  without === null ? "the fuzzer" : `the fuzzer [skipped: ${without}]`,
  { timeout: PATIENCE_MS },
  () => {
    it.each(MUTANTS)("finds $name", async (mutant) => {
      await randomised("fuzz", ({ seed, count: runs }) =>
        inScratch(async (scratch) => {
          const target = TARGETS.find(({ name }) => name === mutant.target)!;
          const sources = join(scratch, "bpf");
          breakSources(mutant, sources);
          const program = buildTarget(clang, target, scratch, sources);
          // From the golden packets alone: what the corpus knows it need not find. It ends when it has found something,
          // which one seed does not always do after as many inputs: some are kept by the time that they took.
          const { complaint } = await fuzz(program, scratch, target.seeds(mutant.near), {
            seed, runs: runs * 10, seconds: null,
          });
          expect(complaint).toMatch(mutant.complaint);
        }),
      );
    });

    it.each(TARGETS)("finds nothing in $name", async (target) => {
      await randomised("fuzz", ({ seed, count: runs }) =>
        inScratch(async (scratch) => {
          const program = buildTarget(clang, target, scratch);
          const inputs = [...target.seeds(), ...readCorpus(corpusPath(target))];
          const { complaint, input, executed } = await fuzz(program, scratch, inputs, {
            seed, runs, seconds: null,
          });
          expect({ complaint, input }).toEqual({ complaint: null, input: null });
          expect(executed).toBeGreaterThanOrEqual(runs);
        }),
      );
    });

    it("keeps a corpus that a checkout does not feel", () => {
      const sizes = TARGETS.map((target) => corpusPath(target)).map((path) =>
        existsSync(path) ? statSync(path).size : 0,
      );
      for (const size of sizes) expect(size).toBeGreaterThan(0);
      expect(sizes.reduce((total, size) => total + size, 0)).toBeLessThan(CORPUS_BYTES_MAX);
    });
  },
);
