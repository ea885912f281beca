// Runs inside a virtual machine with another kernel (scripts/old_kernel.ts): loads every program in
// every shape and sends the golden packets through. Prints one line of JSON. Knows where the image
// puts things; shares what it does with test/kernel.

import { readdirSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { loadNative } from "../../src/dataplane/xdp/native.ts";
import { BpfWorld } from "../support/bpf_world.ts";
import { DecapRun, compareWithGolden } from "../support/decap_run.ts";
import { readGolden } from "../support/golden_packets.ts";
import { GoldenRun, expectedOutcome } from "../support/golden_run.ts";
import { featuresOf, off, smallPlanes } from "../support/switches.ts";

const [addon, objects] = process.argv.slice(2) as [string, string];
const golden = readGolden();
const report = {
  kernel: release(), programs: 0, packets: 0, failures: [] as string[],
  /** What has to fail here, and did: a program for newer kernels, an expectation that is wrong. */
  noticed: [] as string[],
};

function attempt(what: string, body: () => void): void {
  try {
    body();
  } catch (error) {
    const { log = null } = error as { log?: string | null };
    const said = (log ?? String(error)).trim().split("\n").slice(-4).join(" | ");
    report.failures.push(`${what}: ${said}`);
    // At once: who waits may lose patience before there is a report.
    process.stdout.write(`FAILED ${what}: ${said}\n`);
  }
}

function loadAsCompiled(path: string): void {
  attempt(`${path} as compiled`, () => {
    const object = loadNative(addon).BpfObject.open(path);
    try {
      object.load();
      for (const program of object.programNames())
        if (object.programInfo(program).jitedBytes === 0) throw new Error(`${program} has no code`);
      report.programs += object.programNames().length;
    } finally {
      object.close();
    }
  });
}

function loadSpecialised(path: string): void {
  const features = featuresOf(path);
  const each = features.map((one) => off(one));
  for (const switches of [...each, off(...features), ...smallPlanes(path)]) {
    attempt(`${path} with ${JSON.stringify(switches)}`, () => {
      new BpfWorld(loadNative(addon), {
        object: path, switches, flowsMax: 1024, devices: [],
      }).close();
      report.programs += 1;
    });
  }
}

function sendGoldenPackets(path: string): void {
  const run = new GoldenRun(addon, path, golden);
  for (const one of golden.cases) {
    for (const redirect of one.verdict.startsWith("TX_") ? [false, true] : [false]) {
      attempt(`${path}: ${one.name}`, () => {
        const found = JSON.stringify(run.run(one, redirect));
        const expected = JSON.stringify(expectedOutcome(one, redirect));
        report.packets += 1;
        if (found !== expected) throw new Error(`${found} instead of ${expected}`);
      });
    }
  }
  noticeWrongExpectation(run);
  run.close();
}

/** The comparison can fail: one byte of what is expected is changed. */
function noticeWrongExpectation(run: GoldenRun): void {
  const one = golden.cases.find(({ verdict }) => verdict === "TX_FORWARDED")!;
  const wrong = Uint8Array.from(one.expected);
  wrong[wrong.length - 1]! ^= 1;
  const found = JSON.stringify(run.run(one, false));
  if (found !== JSON.stringify(expectedOutcome({ ...one, expected: wrong }, false)))
    report.noticed.push("a wrong byte");
}

function decapsulateGoldenPackets(path: string): void {
  const run = new DecapRun(addon, path, {});
  const { compared, wrong } = compareWithGolden(run, golden);
  report.packets += compared;
  report.failures.push(...wrong.map((what) => `${path}: ${what}`));
  run.close();
}

/** Loading can fail: this is for kernels that are newer than the one that is to be tried. */
function refuseNewer(path: string): void {
  const object = loadNative(addon).BpfObject.open(path);
  try {
    object.load();
  } catch (error) {
    if ((error as { code?: string }).code !== "VERIFIER") throw error;
    report.noticed.push("an instruction of a newer kernel");
  }
  object.close();
}

for (const compiler of readdirSync(objects)) {
  const at = (name: string): string => join(objects, compiler, `${name}.bpf.o`);
  for (const name of ["pointsman", "decap", "probe", "trial"]) loadAsCompiled(at(name));
  loadSpecialised(at("pointsman"));
  attempt("golden packets", () => { sendGoldenPackets(at("trial")); });
  attempt("decap", () => { decapsulateGoldenPackets(at("decap")); });
  attempt("newer", () => { refuseNewer(at("newer")); });
}
process.stdout.write(`\nREPORT ${JSON.stringify(report)}\n`);
