#!/usr/bin/env node
// Runs the tests: `npm test [-- FILTER…] [--project unit|kernel] [--long]`. Starts vitest once per
// project, with root for the kernel's, and ends with "N passed, N failed". The projects run side by
// side, since the kernel's tests mostly wait, and print one after the other. Knows processes and
// files; what to run and how to count is test_plan.mjs's.

import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { cpus, release, tmpdir, totalmem } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import {
  addReport,
  chooseFiles,
  commandLine,
  conclude,
  noTotals,
  planRuns,
  titlePattern,
} from "./test_plan.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/** @returns {{ path: string, text: string }[]} every test file */
function testFiles() {
  return readdirSync(join(root, "test"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".test.ts"))
    .map((name) => ({
      path: `test/${name}`,
      text: readFileSync(join(root, "test", name), "utf8"),
    }));
}

/**
 * Runs a command to its end. Its output is held back until `turn` has come.
 * @param {string} command @param {readonly string[]} args
 * @param {Promise<unknown> | null} turn null when it has come
 * @returns {Promise<number>} the exit status
 */
async function runToEnd(command, args, turn) {
  const child = spawn(command, args, {
    cwd: root,
    stdio: turn === null ? ["ignore", "inherit", "inherit"] : ["ignore", "pipe", "pipe"],
  });
  /** @type {{ to: NodeJS.WriteStream, bytes: Uint8Array }[] | null} */
  let held = [];
  for (const [from, to] of /** @type {const} */ ([
    [child.stdout, process.stdout],
    [child.stderr, process.stderr],
  ]))
    from?.on("data", (/** @type {Uint8Array} */ bytes) => {
      if (held === null) to.write(bytes);
      else held.push({ to, bytes });
    });
  const release = () => {
    for (const { to, bytes } of held ?? []) to.write(bytes);
    held = null;
  };
  const released = Promise.resolve(turn).then(release, release);
  /** @param {NodeJS.Signals} signal */
  const pass = (signal) => child.kill(signal);
  process.on("SIGINT", pass).on("SIGTERM", pass);
  try {
    /** @type {number} */
    const status = await new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code) => { resolve(code ?? 1); });
    });
    await released;
    return status;
  } finally {
    process.off("SIGINT", pass).off("SIGTERM", pass);
  }
}

/** @param {string} path @returns {import("./test_plan.mjs").Report | null} */
function readReport(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return null;
  }
}

/** Long runs are filed with what made them. @param {string} line @param {number} seconds */
function fileResults(line, seconds) {
  const commit = spawnSync(
    "git",
    ["-c", `safe.directory=${root}`, "rev-parse", "--short", "HEAD"],
    { cwd: root, encoding: "utf8" },
  );
  const machine = {
    cpu: cpus()[0]?.model ?? "?", cores: cpus().length, memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(), node: process.version, arch: process.arch,
  };
  const now = new Date().toISOString();
  const directory = join(root, "test/results");
  const path = join(directory, `${now.slice(0, 19).replace(/[:T]/g, "-")}.json`);
  mkdirSync(directory, { recursive: true });
  writeFileSync(
    path,
    `${JSON.stringify(
      {
        when: now,
        commit: commit.stdout.trim(),
        command: ["npm run test:long", ...process.argv.slice(2)].join(" "),
        seed: process.env["SEED"] ?? "1",
        machine,
        seconds,
        result: line,
      },
      null,
      2,
    )}\n`,
  );
  process.stdout.write(`filed in ${relative(root, path)}\n`);
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { project: { type: "string" }, long: { type: "boolean", default: false } },
  });
  const { project } = values;
  if (project !== undefined && project !== "unit" && project !== "kernel") {
    process.stderr.write(`--project is unit or kernel, not ${project}\n`);
    return 2;
  }
  if (values.long) process.env["POINTSMAN_LONG"] = "1";
  // A project whose output is held back sees no terminal.
  if (process.stdout.isTTY && process.env["NO_COLOR"] === undefined) process.env["FORCE_COLOR"] ??= "1";
  const chosen = chooseFiles(positionals, testFiles());
  const filters = [...chosen.files, ...titlePattern(chosen.titles)];
  const uid = process.getuid?.() ?? 1;
  const sudo =
    uid !== 0 &&
    project !== "unit" &&
    spawnSync("sudo", ["-n", "true"], { stdio: "ignore" }).status === 0;
  const scratch = mkdtempSync(join(tmpdir(), "pointsman-test-"));
  const totals = noTotals();
  const begun = process.hrtime.bigint();
  try {
    /** @type {Promise<number> | null} */
    let before = null;
    const running = planRuns(
      { filters: positionals, project: project ?? null, long: values.long },
      { uid, sudo },
    ).map((run) => {
      if (run.note !== null) process.stdout.write(`${run.note}\n`);
      const output = join(scratch, `${run.project}.json`);
      const line = commandLine(run, { root, node: process.execPath, variables: process.env }, [
        "--configLoader",
        "runner",
        "--passWithNoTests",
        "--reporter=default",
        "--reporter=json",
        `--outputFile.json=${output}`,
        ...filters,
      ]);
      before = runToEnd(line.command, line.args, before);
      return { output, ended: before };
    });
    // All of them, also when one could not be started: the scratch directory is theirs until then.
    const ends = await Promise.allSettled(running.map(({ ended }) => ended));
    for (const [index, end] of ends.entries()) {
      if (end.status === "rejected") throw end.reason;
      addReport(totals, readReport(running[index]?.output ?? ""), end.value, chosen.titles.length > 0);
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  for (const [reason, count] of totals.reasons)
    process.stdout.write(`skipped ${count}: ${reason}\n`);
  const end = conclude(totals);
  if (values.long)
    fileResults(
      end.line,
      Math.round(Number((process.hrtime.bigint() - begun) / 1_000_000n) / 1000),
    );
  if (totals.passed + totals.failed === 0) process.stdout.write("no test ran\n");
  process.stdout.write(`${end.line}\n`);
  return end.status;
}

process.exitCode = await main();
