// What one packet costs in the XDP program: its time per packet by BPF_PROG_TEST_RUN, which a
// wrapper (bench/bpf/packet_bench.bpf.c) makes repeatable, and its size in instructions. Next to
// each figure, in the same round, runs the baseline: swap the link-layer addresses and transmit.
// Knows the program's maps; knows no network, for none takes part.

import { mkdtempSync, rmSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { PointsmanRodata, VERDICT_NAMES } from "../src/dataplane/xdp/abi.gen.ts";
import { loadNative, type BpfProgramInfo, type Native } from "../src/dataplane/xdp/native.ts";
import type { VerdictName } from "../src/model/decide.ts";
import { BpfWorld } from "../test/support/bpf_world.ts";
import { compileProgram } from "./compile.ts";
import { describeMachine, machineLine, median, type Machine } from "./machine.ts";
import { REGIONS_BASE, regionCases, withPrefixes } from "./packet_regions.ts";
import {
  AFFINITY, AFFINITY_BASE, FLOWS, FLOWS_MAX, FRAME_BYTES, hopOf, LINK_ADDRESSES, packetCases, tableOf,
  TRACKING_BASE, withMarks, type Case, type Flows, type WorldSpec,
} from "./packet_cases.ts";

export interface PacketBenchOptions {
  /** The checkout. */
  readonly root: string;
  readonly rounds: number;
  readonly progress: (line: string) => void;
}

type Sizes = Pick<BpfProgramInfo, "xlatedInstructions" | "jitedBytes" | "verifiedInstructions">;

export interface PacketRow {
  readonly group: Case["group"];
  readonly name: string;
  readonly flows: Flows;
  readonly verdict: VerdictName;
  /** Every round's nanoseconds, wrapper included. */
  readonly wholeNs: readonly number[];
  /** The baseline's beside it, wrapper included. */
  readonly baselineNs: readonly number[];
  /** Median of the differences: what the program costs more than the baseline. */
  readonly costNs: number;
  /** Of the production program with these switches. */
  readonly program: Sizes;
}

export interface PacketBench {
  readonly machine: Machine;
  readonly command: string;
  readonly rounds: number;
  readonly packets: number;
  /** Load average of the last minute, at the start. */
  readonly load: number;
  /** Median of the baseline, wrapper included. */
  readonly baselineNs: number;
  readonly rows: readonly PacketRow[];
}

/** Of one timed run. */
const PACKETS = 200_000;
/** Where each packet is a new flow, the first run fills the table: then each evicts one. */
const FILL_PACKETS = Math.ceil(FLOWS_MAX * 1.25);
/** So that flows are remembered and caches filled before time is taken. */
const WARM_PACKETS = 65_536;

interface Runner {
  readonly one: Case;
  readonly world: BpfWorld;
  readonly plan: Uint8Array;
  readonly next: Uint32Array;
  readonly wholeNs: number[];
  readonly baselineNs: number[];
}

/** Runs the benchmark; needs root, clang, the addon. Bounded by rounds × cases × packets. */
export function benchPacket({ root, rounds, progress }: PacketBenchOptions): PacketBench {
  const load = loadavg()[0] ?? NaN;
  const native = loadNative(join(root, "build/pointsman.node"));
  const worlds = new Map<string, BpfWorld>();
  const directory = mkdtempSync(join(tmpdir(), "pointsman-bench-"));
  try {
    const object = compileProgram(root, "packet_bench", directory);
    const runners = [...packetCases(), ...regionCases()].map((one) =>
      runnerOf(one, worldOf(native, object, one.world, worlds)));
    for (const runner of runners) {
      const fill = runner.one.flows === "each packet a new flow";
      measure(runner, "measure_pointsman", fill ? FILL_PACKETS : WARM_PACKETS);
    }
    for (let round = 0; round < rounds; round++) {
      for (const runner of runners) {
        takeRound(runner);
      }
      progress(`round ${round + 1}/${rounds}`);
    }
    return resultOf(runners, rounds, load);
  } finally {
    for (const world of worlds.values()) world.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

function takeRound(runner: Runner): void {
  if (runner.one.flows === "64 K flows") measure(runner, "measure_pointsman", WARM_PACKETS);
  runner.baselineNs.push(measure(runner, "measure_baseline", PACKETS));
  runner.wholeNs.push(measure(runner, "measure_pointsman", PACKETS));
}

/** Of translated flows, where there are none. */
const FEW_ENTRIES = 16;

function worldOf(
  native: Native, object: string, spec: WorldSpec, worlds: Map<string, BpfWorld>,
): BpfWorld {
  const known = worlds.get(spec.key);
  if (known !== undefined) return known;
  const names = Object.keys(PointsmanRodata.offsets) as (keyof PointsmanRodata)[];
  const switches = Object.fromEntries(names.map((name) =>
    [name.replace(/[A-Z0-9]+/g, snake), spec.switches.includes(name)]));
  const world = new BpfWorld(native, {
    object, switches, flowsMax: spec.flowsMax, natFlowsMax: spec.natFlowsMax ?? FEW_ENTRIES, devices: [1],
    ...(spec.affinitiesMax === undefined ? {} : { affinitiesMax: spec.affinitiesMax }),
  });
  worlds.set(spec.key, world);
  world.fill(withPrefixes(withMarks(tableOf(spec.text), spec.marked), spec.regionPrefixes), {
    hop: hopOf, heartbeatNs: 1n, ringClass: "medium", linkAddresses: LINK_ADDRESSES,
  });
  return world;
}

/** featureL2 → feature_l2. */
function snake(capital: string): string {
  return /^[A-Z]/.test(capital) ? `_${capital.toLowerCase()}` : capital;
}

/** struct bench_plan of packet_bench.bpf.c. */
const PLAN_FRAME = 24;

function runnerOf(one: Case, world: BpfWorld): Runner {
  const plan = new Uint8Array(PLAN_FRAME + FRAME_BYTES);
  const ipHeader = one.family === 4 ? 20 : 40;
  const sourceOffset = 14 + (one.family === 4 ? 12 : 20);
  new Uint32Array(plan.buffer, 0, 5).set([0, FLOWS[one.flows], sourceOffset, 14 + ipHeader, one.clientsFirst === true ? 1 : 0]);
  plan.set(one.frame, PLAN_FRAME);
  const next = new Uint32Array(plan.buffer, 0, 1);
  return { one, world, plan, next, wholeNs: [], baselineNs: [] };
}

/** Nanoseconds per packet; throws unless each packet met the verdict that the case is about. */
function measure({ one, world, plan, next }: Runner, program: string, packets: number): number {
  world.map("bench_plans").update(new Uint8Array(4), plan, 0);
  const number = (VERDICT_NAMES as readonly string[]).indexOf(one.verdict);
  const before = world.verdict(number).packets;
  const { durationNs, action } = world.object.testRun(program, one.frame, {
    repeat: packets, flags: 0, context: null, outputSizeMax: 0, batchSize: 0,
  });
  next[0] = ((next[0] ?? 0) + packets) >>> 0;
  const counted = world.verdict(number).packets - before;
  const expected = program === "measure_baseline" ? 0 : packets;
  if (counted !== expected || action === 0) {
    const name = `${one.name}, ${one.flows}, ${program}`;
    const met = `${counted} of ${expected} packets met ${one.verdict}`;
    throw new Error(`${name}: ${met}, action ${action}`);
  }
  return durationNs;
}

function resultOf(runners: readonly Runner[], rounds: number, load: number): PacketBench {
  return {
    machine: describeMachine(), command: `pointsman bench packet --rounds ${rounds}`,
    rounds, packets: PACKETS, load,
    baselineNs: median(runners.flatMap(({ baselineNs }) => baselineNs)),
    rows: runners.map(({ one, world, wholeNs, baselineNs }) => {
      const info = world.object.programInfo("pointsman");
      const { xlatedInstructions, jitedBytes, verifiedInstructions } = info;
      return {
        group: one.group, name: one.name, flows: one.flows, verdict: one.verdict,
        wholeNs, baselineNs,
        costNs: median(wholeNs.map((ns, round) => ns - (baselineNs[round] ?? NaN))),
        program: { xlatedInstructions, jitedBytes, verifiedInstructions },
      };
    }),
  };
}

/** Tables: ways of forwarding by flows, flows and clients remembered, programs by what is switched on, connection IDs, verdicts. */
export function packetTable(result: PacketBench): string {
  const of = (group: Case["group"]): PacketRow[] =>
    result.rows.filter((row) => row.group === group);
  const flows = Object.keys(FLOWS) as Flows[];
  const names = [...new Set(of("forwarding").map(({ name }) => name))];
  const forwarding = names.map((name) => {
    const rows = of("forwarding").filter((row) => row.name === name);
    const cells = flows.map((each) => cell(rows.find((row) => row.flows === each)));
    return [name, ...cells, String(rows[0]?.program.xlatedInstructions)];
  });
  const features = of("features").map((row) => [
    row.name, cell(row), String(row.program.xlatedInstructions), String(row.program.jitedBytes),
  ]);
  return `${markdown(["TX_FORWARDED", ...flows, "instructions"], forwarding)}
64 K flows, l2, IPv4, by what is remembered: the time for one packet, and the whole time as a multiple of the
one without tracking and as a share of the one with \`full\`.

${markdown(["tracking", "ns", "of none's time", "of full's time"], trackingRows(of("tracking")))}
Flows of 64 K clients in turn, l2, IPv4, tracking full, by whether clients are remembered (\`affinityTimeout\`), and how many
times the whole time is longer then:

${markdown(["clients", ...affinityFlows(of("affinity"))], affinityRows(of("affinity")))}
Flows of 64 K clients in turn, l2, IPv4, no tracking, by the prefixes among which a client's region is looked up, and the
whole time as a multiple of that without regions:

${markdown(["prefixes", "ns", "of none's time"], regionRows(of("regions")))}
One packet, l2, IPv4, no tracking, through programs with more switched on than it needs:

${markdown(["switched on", "ns", "instructions", "bytes of machine code"], features)}
QUIC, l2, IPv4, no tracking, by how the connection ID hides its server:

${markdown(["connection ID", "ns"], of("quic").map((row) => [row.name, cell(row)]))}
One frame per verdict, everything switched on but the redirect:

${markdown(["verdict", "ns"], of("verdict").map((row) => [row.name, cell(row)]))}
Nanoseconds per packet beyond the baseline (swap the link-layer addresses and transmit), then, in
brackets, how many times the baseline's ${result.baselineNs.toFixed(0)} ns the whole took; both with the
wrapper that restores the packet. Medians of ${result.rounds} interleaved rounds of
${result.packets} packets of ${FRAME_BYTES} bytes on one core; load average
${result.load.toFixed(1)} at the start. A flow table has ${FLOWS_MAX} entries and is full where each
packet is a new flow. Sending itself is not in it.

Machine: ${machineLine(result.machine)}. Command: \`${result.command}\`.
`;
}

function trackingRows(rows: readonly PacketRow[]): string[][] {
  const [none, full] = [TRACKING_BASE, "full"].map((name) => rows.find((row) => row.name === name)!);
  const against = (row: PacketRow, other: PacketRow): string =>
    median(row.wholeNs.map((ns, round) => ns / (other.wholeNs[round] ?? NaN))).toFixed(2);
  return rows.map((row) => [row.name, cell(row), against(row, none!), against(row, full!)]);
}

function regionRows(rows: readonly PacketRow[]): string[][] {
  const none = rows.find((row) => row.name === REGIONS_BASE)!;
  return rows.map((row) => [row.name, cell(row), median(row.wholeNs.map((ns, round) => ns / (none.wholeNs[round] ?? NaN))).toFixed(2)]);
}

function affinityFlows(rows: readonly PacketRow[]): Flows[] {
  return [...new Set(rows.map(({ flows }) => flows))];
}

function affinityRows(rows: readonly PacketRow[]): string[][] {
  const at = (name: string, flows: Flows): PacketRow => rows.find((row) => row.name === name && row.flows === flows)!;
  const flows = affinityFlows(rows);
  const [without, remembered] = [AFFINITY_BASE, AFFINITY].map((name) => [name, ...flows.map((each) => cell(at(name, each)))]);
  const times = flows.map((each) => median(at(AFFINITY, each).wholeNs.map((ns, round) =>
    ns / (at(AFFINITY_BASE, each).wholeNs[round] ?? NaN))).toFixed(2));
  return [without!, remembered!, ["times", ...times]];
}

function cell(row: PacketRow | undefined): string {
  if (row === undefined) return "";
  const ratio = median(row.wholeNs.map((ns, round) => ns / (row.baselineNs[round] ?? NaN)));
  return `${row.costNs.toFixed(0)} (${ratio.toFixed(1)})`;
}

function markdown(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |\n`;
  const rule = head.map((_, column) => (column === 0 ? "---" : "---:"));
  return `${line(head)}|${rule.join("|")}|\n${rows.map(line).join("")}`;
}

/** The checkout, as seen from dist/bench. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
