// The benchmark suites by name, and where their results go. Called by `pointsman bench`.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { benchChurn, churnChart, churnTable } from "./churn.ts";
import { benchDetection, detectionTable } from "./detection.ts";
import { benchHealth, healthTable } from "./health.ts";
import { benchPacket, packetTable, ROOT } from "./packet.ts";
import { benchSchedule, scheduleTable } from "./schedule.ts";
import { benchSlowBackend } from "./slow_backend.ts";
import { slowBackendChart, slowBackendTable } from "./slow_backend_report.ts";
import { throughputChart, throughputTable } from "./report.ts";
import { benchRing, ringTable } from "./ring.ts";
import { benchThroughput } from "./throughput.ts";

interface Options {
  readonly output: "table" | "json";
  readonly seconds: number;
  readonly rounds: number;
  readonly target: readonly string[];
  readonly only?: string;
  readonly file?: string;
}
type Print = (text: string) => void;

/** A result as JSON, as Markdown, and as files by name. */
interface Report { readonly value: unknown; readonly text: string; readonly files: Readonly<Record<string, string>> }
type Suite = (options: Options, progress: Print) => Promise<Report>;

const SUITES: Readonly<Record<string, Suite>> = {
  churn: async ({ seconds, only }, progress) => {
    const result = await benchChurn({ seconds, only: only === undefined ? null : new RegExp(only, "i"), progress });
    return { value: result, text: churnTable(result), files: { "churn.svg": churnChart(result) } };
  },
  detection: async ({ rounds }, progress) => {
    const result = await benchDetection({ rounds, progress });
    return { value: result, text: detectionTable(result), files: {} };
  },
  health: async ({ rounds }, progress) => {
    const result = await benchHealth({ rounds, backends: 3, progress });
    return { value: result, text: healthTable(result), files: {} };
  },
  packet: ({ rounds }, progress) => {
    const result = benchPacket({ root: ROOT, rounds, progress });
    return Promise.resolve({ value: result, text: packetTable(result), files: {} });
  },
  ring: ({ rounds }) => {
    const result = benchRing({ rounds });
    return Promise.resolve({ value: result, text: ringTable(result), files: {} });
  },
  schedule: async ({ rounds }, progress) => {
    const result = await benchSchedule({ rounds, progress });
    return { value: result, text: scheduleTable(result), files: {} };
  },
  slow_backend: async ({ rounds, seconds, only }, progress) => {
    const result = await benchSlowBackend({ rounds, seconds, only: only === undefined ? null : new RegExp(only, "i"), progress });
    return { value: result, text: slowBackendTable(result), files: { "slow_backend.svg": slowBackendChart(result) } };
  },
  throughput: async (options, progress) => {
    const result = await benchThroughput({
      rounds: options.rounds, seconds: options.seconds, backends: 2, targets: options.target,
      only: options.only === undefined ? null : new RegExp(options.only, "i"), progress,
    });
    const text = throughputTable(result);
    return { value: result, text, files: { "throughput.svg": throughputChart(result) } };
  },
};

/** Runs one suite, or all; resolves to the exit code. */
export async function runBench(suite: string, options: Options, out: Print, err: Print): Promise<number> {
  const names = suite === "all" ? Object.keys(SUITES) : [suite];
  for (const name of names) {
    const run = SUITES[name];
    if (run === undefined) {
      err(`there is no suite ${name}; there are ${Object.keys(SUITES).join(", ")}\n`);
      return 2;
    }
    const report = await run(options, (line) => { err(`${line}\n`); });
    out(options.output === "json" ? `${JSON.stringify(report.value, null, 2)}\n` : report.text);
    if (options.file !== undefined) file(options.file, name, report);
  }
  return 0;
}

function file(directory: string, name: string, report: Report): void {
  mkdirSync(directory, { recursive: true });
  const all = { [`${name}.json`]: `${JSON.stringify(report.value, null, 2)}\n`, [`${name}.md`]: report.text, ...report.files };
  for (const [path, text] of Object.entries(all)) writeFileSync(join(directory, path), text);
}
