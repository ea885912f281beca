// Runs a fuzz target: over its seeds and its corpus, then onwards from there, for a number of runs
// or a time; and keeps what it found. Knows libFuzzer's options and exit codes; knows no packet.

import { spawn } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../support/kernel.ts";
import { readCorpus, readDirectory, writeCorpus, writeDirectory } from "./inputs.ts";
import type { Target } from "./targets.ts";

/** Of what the fuzzer makes up; zeros at the end are not counted. */
const INPUT_BYTES_MAX = 1600;

export interface Limits {
  readonly seed: number;
  /** Inputs to try, or null for no end of them. */
  readonly runs: number | null;
  readonly seconds: number | null;
}

export interface Outcome {
  /** What is wrong, or null. */
  readonly complaint: string | null;
  /** The input that showed it, as a line of the corpus. */
  readonly input: string | null;
  readonly executed: number;
  readonly output: string;
}

export function corpusPath(target: Target): string {
  return join(ROOT, "test/fuzz/corpus", `${target.name}.txt`);
}

/** Fuzzes from these inputs on; `scratch` gets a directory with all that is worth keeping. */
export async function fuzz(
  program: string,
  scratch: string,
  inputs: readonly Uint8Array[],
  limits: Limits,
): Promise<Outcome> {
  const found = join(scratch, "found");
  const artifacts = join(scratch, "artifacts");
  writeDirectory(found, inputs);
  mkdirSync(artifacts, { recursive: true });
  const { output, status } = await run(program, [
    `-seed=${limits.seed}`, `-max_len=${INPUT_BYTES_MAX}`, "-use_value_profile=1", "-timeout=20",
    "-rss_limit_mb=2048", "-print_final_stats=1", `-artifact_prefix=${artifacts}/`,
    ...(limits.runs === null ? [] : [`-runs=${limits.runs}`]),
    ...(limits.seconds === null ? [] : [`-max_total_time=${limits.seconds}`]),
    found,
  ]);
  const executed = Number(/stat::number_of_executed_units:\s*(\d+)/.exec(output)?.[1] ?? 0);
  const [kept] = readdirSync(artifacts);
  const input =
    kept === undefined ? null : Buffer.from(readDirectory(artifacts).get(kept)!).toString("hex");
  return { complaint: status === 0 ? null : complaintIn(output), input, executed, output };
}

function complaintIn(output: string): string {
  const [line] = /^.*(?:COMPLAINT:|runtime error:|ERROR: AddressSanitizer|ERROR: libFuzzer).*$/m.exec(output) ?? [];
  return line ?? `the fuzzer ended badly:\n${output.slice(-2000)}`;
}

/** Of all that was found, what reaches more than the seeds do becomes the corpus. */
export async function keepCorpus(program: string, scratch: string, target: Target): Promise<number> {
  const merged = join(scratch, "merged");
  const seeds = target.seeds();
  writeDirectory(merged, seeds);
  const known = new Set(readdirSync(merged));
  const old = join(scratch, "old");
  writeDirectory(old, readCorpus(corpusPath(target)));
  const { output, status } = await run(program, ["-merge=1", merged, old, join(scratch, "found")]);
  if (status !== 0) throw new Error(`merging failed: ${output.slice(-2000)}`);
  const kept = [...readDirectory(merged)].filter(([name]) => !known.has(name));
  mkdirSync(join(ROOT, "test/fuzz/corpus"), { recursive: true });
  writeCorpus(corpusPath(target), kept.map(([, bytes]) => bytes));
  return kept.length;
}

async function run(
  program: string,
  args: readonly string[],
): Promise<{ output: string; status: number }> {
  const variables = { ...process.env, ASAN_OPTIONS: "detect_leaks=0", UBSAN_OPTIONS: "print_stacktrace=1" };
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"], env: variables });
  const said: Buffer[] = [];
  child.stderr.on("data", (bytes: Buffer) => said.push(bytes));
  const status = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => { resolve(code ?? 128); });
  });
  return { output: Buffer.concat(said).toString(), status };
}
