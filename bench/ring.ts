// What the ring costs and how even it stays: building, lending, lending after one change; the
// busiest survivor when backends are out; what a change of the config moves. Knows the model and a
// seed. Alone: node dist/bench/ring.js [--evenness | --disruption] [--draws N] [--seed N] [-o json]

import { loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { lend, type LendingBackend } from "../src/model/lending.ts";
import { buildRing, ringStats } from "../src/model/ring.ts";
import { ADMISSION_MAX } from "../src/model/table.ts";
import { describeMachine, type Machine, machineLine, median } from "./machine.ts";

const SIZE = 65537;

type WeightOf = (index: number) => number;
const WEIGHTS: Readonly<Record<string, WeightOf>> = {
  "equal": () => 1,
  "1:2:5:10": (index) => [1, 2, 5, 10][index % 4] ?? 1,
  "one 1000 among 1": (index) => (index === 0 ? 1000 : 1),
};

type Change = (backend: LendingBackend, index: number) => LendingBackend;
const down: Change = (backend) => ({ ...backend, alive: false });

/** A pool of so many; the salt makes its addresses others'. */
function pool(count: number, weightOf: WeightOf, salt = 0): LendingBackend[] {
  return Array.from({ length: count }, (_, index) => ({
    key: `10.${salt >>> 24}.${(salt >>> 16) & 255}.${index}:${salt & 65535}`,
    weight: weightOf(index), alive: true, admission: ADMISSION_MAX,
  }));
}

/** Some backends changed, picked by a predicate on their index. */
function changed(
  backends: readonly LendingBackend[], where: (index: number) => boolean, change: Change,
): LendingBackend[] {
  return backends.map((backend, index) => (where(index) ? change(backend, index) : backend));
}

export const RING_TIMES = {
  buildMs: "build", lendNoneMs: "lend, all up", lendTenthMs: "lend, 10 % out",
  lendOneMoreMs: "lend, one more out", lendHalfMs: "lend, half out",
  lendTwoLeftMs: "lend, all but two out", lendRampMs: "lend, all at 1 %",
} as const;
export type RingTime = keyof typeof RING_TIMES;

export interface RingBench {
  readonly machine: Machine;
  readonly size: number;
  readonly rounds: number;
  /** Load average of the last minute when it began: others slow the figures down. */
  readonly load: number;
  readonly command: string;
  /** Milliseconds. The fastest round says what the work takes, the median what others leave of it. */
  readonly rows: readonly {
    readonly backends: number;
    readonly weights: string;
    readonly medians: Readonly<Record<RingTime, number>>;
    readonly fastest: Readonly<Record<RingTime, number>>;
  }[];
}

type Operations = Readonly<Record<RingTime, () => void>>;

function operationsOf(count: number, weightOf: WeightOf): Operations {
  const all = pool(count, weightOf);
  const ring = buildRing(all, SIZE);
  const tenth = changed(all, (index) => index % 10 === 9, down);
  const oneMore = changed(tenth, (index) => index === 1, down);
  const half = changed(all, (index) => index % 2 === 1, down);
  const twoLeft = changed(all, (index) => index !== 1 && index !== 2, down);
  const ramp = changed(all, () => true, (backend) => ({ ...backend, admission: 655 }));
  return {
    buildMs: () => { buildRing(all, SIZE); },
    lendNoneMs: () => { lend(ring, all); },
    lendTenthMs: () => { lend(ring, tenth); },
    lendOneMoreMs: () => { lend(ring, oneMore); },
    lendHalfMs: () => { lend(ring, half); },
    lendTwoLeftMs: () => { lend(ring, twoLeft); },
    lendRampMs: () => { lend(ring, ramp); },
  };
}

function perTime<T>(valueOf: (time: RingTime) => T): Record<RingTime, T> {
  const times = Object.keys(RING_TIMES) as RingTime[];
  return Object.fromEntries(times.map((time) => [time, valueOf(time)])) as Record<RingTime, T>;
}

/** Rounds are interleaved over everything that is measured, after two that are thrown away. */
export function benchRing(options: { readonly rounds: number } = { rounds: 15 }): RingBench {
  const load = loadavg()[0] ?? NaN;
  const times = Object.keys(RING_TIMES) as RingTime[];
  const shapes = Object.entries(WEIGHTS);
  const cases = [3, 100, 1000].flatMap((backends) => shapes.map(([weights, weightOf]) => ({
    backends, weights, operations: operationsOf(backends, weightOf),
    taken: perTime((): number[] => []),
  })));
  for (let round = -2; round < options.rounds; round++) {
    for (const { operations, taken } of cases) {
      for (const time of times) {
        const begun = process.hrtime.bigint();
        operations[time]();
        const ended = process.hrtime.bigint();
        if (round >= 0) taken[time].push(Number(ended - begun) / 1e6);
      }
    }
  }
  const rows = cases.map(({ backends, weights, taken }) => ({
    backends, weights,
    medians: perTime((time) => median(taken[time])),
    fastest: perTime((time) => Math.min(...taken[time])),
  }));
  const command = "pointsman bench ring";
  const { rounds } = options;
  return { machine: describeMachine(), size: SIZE, rounds, load, command, rows };
}

export function ringTable(result: RingBench): string {
  const times = Object.keys(RING_TIMES) as RingTime[];
  const head = ["backends", "weights", ...times.map((time) => RING_TIMES[time])];
  const rows = result.rows.map(({ backends, weights, medians, fastest }) => [
    String(backends), weights,
    ...times.map((time) => `${figure(medians[time])} (${figure(fastest[time])})`),
  ]);
  return layTable(result, head, rows, `\
Milliseconds for a ring of ${result.size} slots: the median of ${result.rounds} interleaved rounds and,
in brackets, the fastest. Load average ${result.load.toFixed(1)} at the start.`);
}

function figure(ms: number): string {
  return ms.toFixed(ms < 10 ? 2 : 0);
}

export interface Draws {
  readonly draws: number;
  readonly seed: number;
}

export interface Evenness {
  readonly machine: Machine;
  readonly draws: number;
  readonly seed: number;
  readonly command: string;
  /**
   * Busiest: the largest of slots ÷ ideal among survivors; idlest: the smallest. Ideals are the
   * survivors'.
   */
  readonly rows: readonly {
    readonly backends: number;
    readonly out: number;
    readonly weights: string;
    readonly busiestMean: number;
    readonly busiestP999: number;
    readonly idlestMean: number;
  }[];
}

const EVENNESS_CASES: readonly (readonly [backends: number, out: number, weights: string])[] = [
  [100, 10, "equal"], [100, 10, "1:2:5:10"], [100, 50, "equal"], [100, 50, "1:2:5:10"],
  [1000, 100, "equal"], [1000, 100, "1:2:5:10"], [1000, 500, "equal"], [1000, 500, "1:2:5:10"],
  [100, 98, "1:2:5:10"], [1000, 990, "1:2:5:10"],
];

/** Each draw takes other keys and other backends out; the ring is the configured one, then lent. */
export function benchEvenness(options: Draws): Evenness {
  const rows = EVENNESS_CASES.map(([backends, out, weights]) => {
    const random = uniform(options.seed);
    const busiest: number[] = [];
    const idlest: number[] = [];
    for (let draw = 0; draw < options.draws; draw++) {
      const ratios = survivorRatios(backends, out, WEIGHTS[weights] ?? (() => 1), random);
      busiest.push(Math.max(...ratios));
      idlest.push(Math.min(...ratios));
    }
    busiest.sort((left, right) => left - right);
    return {
      backends, out, weights, busiestMean: mean(busiest),
      busiestP999: busiest[Math.ceil(options.draws * 0.999) - 1] ?? NaN, idlestMean: mean(idlest),
    };
  });
  const command = commandOf("evenness", options);
  return { machine: describeMachine(), ...options, command, rows };
}

/** slots ÷ ideal of each backend that is still there. */
function survivorRatios(
  count: number, out: number, weightOf: WeightOf, random: () => number,
): number[] {
  const all = pool(count, weightOf, Math.floor(random() * 2 ** 32));
  const order = Array.from(all.keys());
  const gone = new Set<number>();
  while (gone.size < out) {
    const at = Math.floor(random() * order.length);
    gone.add(order[at] ?? 0);
    order[at] = order.at(-1) ?? 0;
    order.pop();
  }
  const backends = changed(all, (index) => gone.has(index), down);
  const survivors = backends.map(({ key, weight, alive }) => ({ key, weight: alive ? weight : 0 }));
  const stats = ringStats(lend(buildRing(all, SIZE), backends), survivors);
  return stats.filter(({ weight }) => weight > 0).map(({ slots, ideal }) => slots / ideal);
}

export function evennessTable(result: Evenness): string {
  const head = [
    "backends", "out", "weights", "busiest, mean", "busiest, 99.9th percentile", "idlest, mean",
  ];
  const rows = result.rows.map((row) => [
    String(row.backends), String(row.out), row.weights,
    row.busiestMean.toFixed(3), row.busiestP999.toFixed(3), row.idlestMean.toFixed(3),
  ]);
  return layTable(result, head, rows, `\
Slots ÷ ideal of the busiest and of the idlest survivor over ${result.draws} draws,
seed ${result.seed}, ${SIZE} slots.`);
}

export interface Disruption {
  readonly machine: Machine;
  readonly draws: number;
  readonly seed: number;
  readonly command: string;
  /** Shares of all slots that go from one backend that stays to another that stays; means. */
  readonly rows: readonly {
    readonly backends: number;
    readonly failure: number;
    readonly removal: number;
    readonly addition: number;
    readonly weight: number;
  }[];
}

/**
 * The same backend fails (lending), is removed, is added, or has its weight doubled (all three: a
 * new ring).
 */
export function benchDisruption(options: Draws): Disruption {
  const random = uniform(options.seed);
  const rows = [3, 10, 100, 1000].map((count) => {
    const sums = { failure: 0, removal: 0, addition: 0, weight: 0 };
    for (let draw = 0; draw < options.draws; draw++) {
      const all = pool(count, () => 1, Math.floor(random() * 2 ** 32));
      const concerned = Math.floor(random() * count);
      const only = (index: number): boolean => index === concerned;
      const ring = buildRing(all, SIZE);
      const without = buildRing(changed(all, only, (backend) => ({ ...backend, weight: 0 })), SIZE);
      const heavier = buildRing(changed(all, only, (backend) => ({ ...backend, weight: 2 })), SIZE);
      sums.failure += foreignShare(ring, lend(ring, changed(all, only, down)), concerned);
      sums.removal += foreignShare(ring, without, concerned);
      sums.addition += foreignShare(without, ring, concerned);
      sums.weight += foreignShare(ring, heavier, concerned);
    }
    return {
      backends: count, failure: sums.failure / options.draws, removal: sums.removal / options.draws,
      addition: sums.addition / options.draws, weight: sums.weight / options.draws,
    };
  });
  const command = commandOf("disruption", options);
  return { machine: describeMachine(), ...options, command, rows };
}

function foreignShare(before: Uint16Array, after: Uint16Array, concerned: number): number {
  let moved = 0;
  for (let slot = 0; slot < SIZE; slot++) {
    const from = before[slot];
    const to = after[slot];
    if (from !== to && from !== concerned && to !== concerned) moved += 1;
  }
  return moved / SIZE;
}

export function disruptionTable(result: Disruption): string {
  const head = ["backends", "failure, drain, ramp, recovery", "removed", "added", "weight doubled"];
  const percent = (share: number): string => (share === 0 ? "0" : `${(share * 100).toFixed(2)} %`);
  const rows = result.rows.map((row) => [
    String(row.backends), ...[row.failure, row.removal, row.addition, row.weight].map(percent),
  ]);
  return layTable(result, head, rows, `\
Share of all ${SIZE} slots that move between two backends that are not concerned: mean of
${result.draws} draws, seed ${result.seed}, equal weights.`);
}

function commandOf(what: string, { draws, seed }: Draws): string {
  return `node dist/bench/ring.js --${what} --draws ${draws} --seed ${seed}`;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Numbers in [0, 1) from a 32-bit seed: SplitMix32. */
function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let word = state;
    word = Math.imul(word ^ (word >>> 16), 0x21f0aaad);
    word = Math.imul(word ^ (word >>> 15), 0x735a2d97);
    return ((word ^ (word >>> 15)) >>> 0) / 2 ** 32;
  };
}

/** A Markdown table, what its figures are, and where they come from. */
function layTable(
  { machine, command }: { readonly machine: Machine; readonly command: string },
  head: readonly string[], rows: readonly (readonly string[])[], legend: string,
): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |\n`;
  return `${line(head)}${line(head.map(() => "---:"))}${rows.map(line).join("")}
${legend}
Machine: ${machineLine(machine)}. Command: \`${command}\`.
`;
}

function main(args: readonly string[]): void {
  const { values } = parseArgs({
    args: [...args],
    options: {
      evenness: { type: "boolean", default: false },
      disruption: { type: "boolean", default: false },
      draws: { type: "string" }, seed: { type: "string", default: "1" },
      output: { type: "string", short: "o", default: "table" },
    },
  });
  const draws = (usual: number): Draws => (
    { draws: Number(values.draws ?? usual), seed: Number(values.seed) }
  );
  const show = <T>(result: T, table: (result: T) => string): void => {
    const json = values.output === "json";
    process.stdout.write(json ? `${JSON.stringify(result, null, 2)}\n` : table(result));
  };
  if (values.evenness) show(benchEvenness(draws(1000)), evennessTable);
  else if (values.disruption) show(benchDisruption(draws(20)), disruptionTable);
  else show(benchRing(), ringTable);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main(process.argv.slice(2));
