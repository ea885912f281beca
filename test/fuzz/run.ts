// `npm run fuzz [-- SECONDS] [--target NAME]`: fuzzes every target for ten minutes, or so long, both
// at once, and keeps what reaches new code in the corpus. What it finds wrong it prints, with the
// input to put into the corpus once it is fixed.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { seed } from "../support/counts.ts";
import { buildTarget, fuzzingClang } from "./build.ts";
import { corpusPath, fuzz, keepCorpus } from "./fuzzing.ts";
import { readCorpus } from "./inputs.ts";
import { TARGETS } from "./targets.ts";
import type { Target } from "./targets.ts";

const SECONDS = 600;

async function fuzzTarget(clang: string, target: Target, seconds: number): Promise<boolean> {
  const scratch = mkdtempSync(join(tmpdir(), `pointsman-fuzz-${target.name}-`));
  try {
    const program = buildTarget(clang, target, scratch);
    const inputs = [...target.seeds(), ...readCorpus(corpusPath(target))];
    const limits = { seed: seed(), runs: null, seconds };
    const { complaint, input, executed } = await fuzz(program, scratch, inputs, limits);
    const say = (text: string): void => { process.stdout.write(`${target.name}: ${text}\n`); };
    if (complaint !== null) {
      say(`${complaint}\n${input ?? "no input was kept"}`);
      return false;
    }
    const kept = await keepCorpus(program, scratch, target);
    say(`${executed} inputs in ${seconds} s, seed ${limits.seed}; ${kept} kept in the corpus`);
    return true;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true, options: { target: { type: "string" } },
  });
  const seconds = Number(positionals[0] ?? SECONDS);
  const targets = TARGETS.filter(({ name }) => (values.target ?? name) === name);
  if (!Number.isInteger(seconds) || seconds < 1 || targets.length === 0) {
    process.stderr.write("fuzz: [SECONDS] [--target pointsman|decap]\n");
    return 2;
  }
  const found = fuzzingClang();
  if ("reason" in found) {
    process.stderr.write(`fuzz: ${found.reason}\n`);
    return 1;
  }
  const fine = await Promise.all(targets.map((one) => fuzzTarget(found.clang, one, seconds)));
  return fine.every(Boolean) ? 0 : 1;
}

process.exitCode = await main();
