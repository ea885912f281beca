// The throughput benchmark: every contestant in a lab of its own, measured in turn, round after round,
// so that a slow minute of a shared machine hits all of them. iperf3 up and down, wrk with kept and with
// new connections. Figures are medians; what is quoted is the ratio to direct in the same run.

import { runIn, startReaper, sweepLeftovers } from "../scripts/namespaces.ts";
import type { Contestant } from "./contestants.ts";
import { givenContestants, raiseContestants } from "./contestants.ts";
import type { Machine } from "./machine.ts";
import { describeMachine, median } from "./machine.ts";

export interface ThroughputOptions {
  readonly rounds: number;
  readonly seconds: number;
  readonly backends: number;
  /** Names of contestants to take, or null for all. */
  readonly only: RegExp | null;
  /** NAME=ADDRESS of hosts to measure instead of raising labs; empty: labs. */
  readonly targets: readonly string[];
  readonly progress: (line: string) => void;
}

export const METRICS = {
  upload: "iperf3 upload, Gb/s",
  download: "iperf3 download, Gb/s",
  kept: "wrk, kept connections, requests/s",
  fresh: "wrk, a connection per request, requests/s",
  udp: "iperf3 UDP 64 B, packets/s received",
} as const;
export type Metric = keyof typeof METRICS;

export interface ThroughputResult {
  readonly machine: Machine;
  readonly command: string;
  readonly rounds: number;
  readonly seconds: number;
  readonly backends: number;
  readonly absent: readonly { readonly name: string; readonly reason: string }[];
  readonly contestants: readonly {
    readonly name: string;
    /** Every round's figure; 0 where the run failed. */
    readonly samples: Readonly<Record<Metric, readonly number[]>>;
    readonly medians: Readonly<Record<Metric, number>>;
    /** Median to direct's median; null without direct. */
    readonly ratios: Readonly<Record<Metric, number | null>>;
  }[];
}

interface IperfReport {
  end?: {
    sum_received?: { bits_per_second?: number };
    sum?: { packets?: number; lost_packets?: number; seconds?: number };
  };
}

async function iperf(contestant: Contestant, seconds: number, more: readonly string[]): Promise<IperfReport> {
  const ended = await runIn(
    contestant.client,
    "iperf3",
    ["-c", contestant.target, "-t", String(seconds), "-J", ...more],
    { check: false, timeoutMs: (seconds + 15) * 1000 },
  );
  try {
    return JSON.parse(ended.stdout) as IperfReport;
  } catch {
    return {};
  }
}

async function wrk(contestant: Contestant, seconds: number, more: readonly string[]): Promise<number> {
  const ended = await runIn(
    contestant.client,
    "wrk",
    ["-t1", "-c64", `-d${seconds}s`, ...more, `http://${contestant.target}/`],
    { check: false, timeoutMs: (seconds + 15) * 1000 },
  );
  return Number(/Requests\/sec:\s*([\d.]+)/.exec(ended.stdout)?.[1] ?? 0);
}

const MEASURE: Readonly<Record<Metric, (contestant: Contestant, seconds: number) => Promise<number>>> = {
  upload: async (contestant, seconds) =>
    ((await iperf(contestant, seconds, [])).end?.sum_received?.bits_per_second ?? 0) / 1e9,
  download: async (contestant, seconds) =>
    ((await iperf(contestant, seconds, ["-R"])).end?.sum_received?.bits_per_second ?? 0) / 1e9,
  kept: (contestant, seconds) => wrk(contestant, seconds, []),
  fresh: (contestant, seconds) => wrk(contestant, seconds, ["-H", "Connection: close"]),
  udp: async (contestant, seconds) => {
    const { end } = await iperf(contestant, seconds, ["-u", "-l", "64", "-b", "0"]);
    const sum = end?.sum;
    return sum?.packets === undefined || sum.seconds === undefined || sum.seconds === 0
      ? 0
      : (sum.packets - (sum.lost_packets ?? 0)) / sum.seconds;
  },
};

const metrics = Object.keys(METRICS) as Metric[];

function byMetric<T>(value: (metric: Metric) => T): Record<Metric, T> {
  return Object.fromEntries(metrics.map((metric) => [metric, value(metric)])) as Record<Metric, T>;
}

/** Runs the benchmark; needs root and the lab's programs. Bounded by rounds × contestants × metrics × seconds. */
export async function benchThroughput(options: ThroughputOptions): Promise<ThroughputResult> {
  sweepLeftovers();
  const reaper = startReaper();
  const raised: Contestant[] = [];
  try {
    const { contestants, absent } =
      options.targets.length > 0
        ? { contestants: givenContestants(options.targets), absent: [] }
        : await raiseContestants(options.backends, options.only);
    raised.push(...contestants);
    const samples = new Map(contestants.map(({ name }) => [name, byMetric<number[]>(() => [])]));
    for (let round = 0; round < options.rounds; round++) {
      for (const metric of metrics) {
        for (const contestant of contestants) {
          const figure = await MEASURE[metric](contestant, options.seconds);
          samples.get(contestant.name)?.[metric].push(figure);
          options.progress(
            `round ${round + 1}/${options.rounds}  ${contestant.name.padEnd(20)} ${METRICS[metric].padEnd(44)} ${figure.toPrecision(4)}`,
          );
        }
      }
    }
    const medians = new Map(
      contestants.map(({ name }) => [name, byMetric((metric) => median(samples.get(name)?.[metric] ?? []))]),
    );
    const direct = medians.get("direct");
    return {
      machine: describeMachine(),
      command: `pointsman bench throughput --rounds ${options.rounds} --seconds ${options.seconds}`,
      rounds: options.rounds,
      seconds: options.seconds,
      backends: options.backends,
      absent,
      contestants: contestants.map(({ name }) => {
        const own = medians.get(name) ?? byMetric(() => NaN);
        return {
          name,
          samples: samples.get(name) ?? byMetric<number[]>(() => []),
          medians: own,
          ratios: byMetric((metric) =>
            direct === undefined || direct[metric] === 0 ? null : own[metric] / direct[metric],
          ),
        };
      }),
    };
  } finally {
    for (const contestant of raised) await contestant.close();
    reaper.release();
  }
}
