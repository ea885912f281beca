// `bench`: finds the benchmark suite of a checkout and runs it. The packed program has none: the suite
// needs the lab and its programs.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Failure } from "../errors.ts";
import type { Io } from "./io.ts";

export interface BenchOptions {
  readonly output: "table" | "json";
  readonly seconds: number;
  readonly rounds: number;
  readonly target: readonly string[];
  readonly only?: string;
  /** Directory for the results; printed only unless given. */
  readonly file?: string;
}

interface Suite {
  runBench(suite: string, options: BenchOptions, out: (text: string) => void, err: (text: string) => void): Promise<number>;
}

export async function benchVerb(io: Io, suite: string, options: BenchOptions): Promise<number> {
  const path = join(io.env.root, "dist/bench/main.js");
  if (!existsSync(path)) {
    throw new Failure("FILE_UNREADABLE", { path }, "the benchmark suite is part of a checkout: clone the repository and run npm run bench");
  }
  const loaded = await import(pathToFileURL(path).href) as Suite;
  return loaded.runBench(suite, options, (text) => { io.out(text); }, (text) => { io.err(text); });
}
