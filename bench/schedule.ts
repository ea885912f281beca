// What a thousand backends that are probed every second cost, and whether probes keep their schedule: the
// supervisor's processor time, when probes come to the backends, and how those of the first second after a restart
// are spread. What other hosts' kernels do is not the supervisor's time (takeOver()). Knows the lab and /proc; what a
// probe finds is not looked at, but that nobody is down.

import { readFileSync, mkdtempSync, rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ip, takeOver } from "../scripts/lab_links.ts";
import { raiseLab, VIP4, type Lab } from "../scripts/lab_network.ts";
import { instanceName, ROOT, startInstance, waitFor, type Instance } from "../scripts/lab_services.ts";
import { spawnIn, startReaper, sweepLeftovers } from "../scripts/namespaces.ts";
import type { Machine } from "./machine.ts";
import { describeMachine, machineLine, median } from "./machine.ts";

export interface ScheduleBenchOptions {
  readonly rounds: number;
  readonly progress: (line: string) => void;
}

const KINDS = ["tcp", "http"] as const;
type Kind = typeof KINDS[number];

export interface ScheduleRow {
  readonly kind: Kind;
  /** Of one core, percent, for each round. */
  readonly cpuPercent: readonly number[];
  readonly probes: number;
  /** How far the time between two probes of a backend was from the interval, milliseconds. */
  readonly offMs: { readonly p50: number; readonly p99: number; readonly most: number };
  /** Probes in the busiest 10 ms of the first interval after a restart. */
  readonly busiest: number;
  /** From its first probe to the last backend's first. */
  readonly spreadMs: number;
}

export interface ScheduleBench {
  readonly machine: Machine;
  readonly command: string;
  readonly rounds: number;
  readonly loadAverage: number;
  readonly rows: readonly ScheduleRow[];
}

const BACKENDS = 1000;
const INTERVAL_MS = 1000;
const WINDOW_MS = 10_000;
const PORT = 8001;
/** Of all backends: one host of the lab has all addresses of it. */
const PREFIX = "198.18.16.0/22";
const BIN_MS = 10;
/** USER_HZ, which is 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;
/** What the issue of health checks asks for. */
const GOALS = { cpuPercent: 25, offMs: 50 } as const;

/** Milliseconds of processor time that a process has had. */
function processorMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 1000 / TICKS_PER_SECOND;
}

function configText(instance: string, kind: Kind): string {
  const backends = Array.from({ length: BACKENDS }, (_, at) =>
    `{ name: b${at + 1}, address: "198.18.${16 + ((at + 1) >> 8)}.${(at + 1) & 255}" }`);
  return `version: 1
instance: ${instance}
dataplane: { mode: proxy }
pools:
  web:
    health: { type: ${kind}, port: ${PORT}, interval: 1s, timeout: 900ms, jitter: 0 }
    backends: [${backends.join(", ")}]
services:
  - { name: web, address: "${VIP4}", port: 80, pool: web }
`;
}

type Arrival = readonly [place: number, atMs: number];

class Server {
  readonly #process: ReturnType<typeof spawnIn>;
  readonly #lines: AsyncIterator<string, undefined>;

  constructor(lab: Lab) {
    const { namespace, ipv4 } = lab.backends[0]!;
    ip(namespace, "route", "add", "local", PREFIX, "dev", "lo");
    ip(lab.balancer.namespace, "route", "add", PREFIX, "via", ipv4);
    this.#process = spawnIn(namespace, process.execPath, [join(ROOT, "dist/bench/schedule_server.js"), String(PORT)],
      { stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface({ input: this.#process.stdout! })[Symbol.asyncIterator]();
  }

  async ready(): Promise<void> { await this.#line(); }

  /** What came since the last time. */
  async came(): Promise<readonly Arrival[]> {
    this.#process.stdin?.write("came\n");
    return JSON.parse(await this.#line()) as readonly Arrival[];
  }

  async #line(): Promise<string> {
    const { value } = await this.#lines.next();
    if (value === undefined) throw new Error("the server of the benchmark has ended");
    return value;
  }
}

/** Distances from the interval, sorted. */
export function distances(arrivals: readonly Arrival[]): number[] {
  const last = new Map<number, number>();
  const off: number[] = [];
  for (const [place, atMs] of arrivals) {
    const before = last.get(place);
    if (before !== undefined) off.push(Math.abs(atMs - before - INTERVAL_MS));
    last.set(place, atMs);
  }
  return off.sort((a, b) => a - b);
}

/** Of the first probe of each backend. */
function spreadOf(arrivals: readonly Arrival[]): Pick<ScheduleRow, "busiest" | "spreadMs"> {
  const first = new Map<number, number>();
  for (const [place, atMs] of arrivals) if (!first.has(place)) first.set(place, atMs);
  const times = [...first.values()].sort((a, b) => a - b);
  if (times.length !== BACKENDS) throw new Error(`${times.length} of ${BACKENDS} backends were probed`);
  const bins = new Map<number, number>();
  for (const atMs of times) {
    const bin = Math.floor((atMs - times[0]!) / BIN_MS);
    bins.set(bin, (bins.get(bin) ?? 0) + 1);
  }
  return { busiest: Math.max(...bins.values()), spreadMs: times.at(-1)! - times[0]! };
}

async function expectAllUp(instance: Instance): Promise<void> {
  await waitFor("all to be up", 30_000, async () =>
    (await instance.api.backends()).every(({ state, reason }) => state === "active" && reason !== "not probed yet"));
}

async function measure(lab: Lab, server: Server, kind: Kind, { rounds, progress }: ScheduleBenchOptions): Promise<ScheduleRow> {
  const name = instanceName(`schedule-${kind}`);
  const home = mkdtempSync(join(tmpdir(), "pointsman-schedule-"));
  let instance = await startInstance(lab, name, configText(name, kind), home);
  try {
    await expectAllUp(instance);
    const cpuPercent: number[] = [];
    const off: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const pid = instance.process.pid!;
      await server.came();
      const [beforeMs, startMs] = [processorMs(pid), performance.now()];
      await sleep(WINDOW_MS);
      cpuPercent.push((processorMs(pid) - beforeMs) / (performance.now() - startMs) * 100);
      off.push(...distances(await server.came()));
      progress(`round ${round + 1}/${rounds}  ${kind}  ${cpuPercent.at(-1)!.toFixed(1)} % of a core`);
    }
    await expectAllUp(instance);
    await instance.stop();
    await server.came();
    instance = await startInstance(lab, name, configText(name, kind), home);
    await sleep(2 * INTERVAL_MS);
    const spread = spreadOf(await server.came());
    off.sort((a, b) => a - b);
    const percentile = (share: number): number => off[Math.min(off.length - 1, Math.floor(off.length * share))] ?? NaN;
    const offMs = { p50: percentile(0.5), p99: percentile(0.99), most: off.at(-1) ?? NaN };
    return { kind, cpuPercent, probes: off.length, offMs, ...spread };
  } finally {
    await instance.remove();
    rmSync(home, { recursive: true, force: true });
  }
}

/** Runs the benchmark; needs root and the lab's programs. Some 40 s, and 20 s for each round. */
export async function benchSchedule(options: ScheduleBenchOptions): Promise<ScheduleBench> {
  sweepLeftovers();
  const reaper = startReaper();
  const loadAverage = loadavg()[0]!;
  const lab = raiseLab({ label: "schedule", backends: 1, mtu: 1500, localVip: true });
  try {
    takeOver(lab.network, lab.balancer.name);
    const server = new Server(lab);
    await server.ready();
    const rows: ScheduleRow[] = [];
    for (const kind of KINDS) rows.push(await measure(lab, server, kind, options));
    const { rounds } = options;
    return { machine: describeMachine(), command: `pointsman bench schedule --rounds ${rounds}`, rounds, loadAverage, rows };
  } finally {
    lab.close();
    reaper.release();
  }
}

export function scheduleTable({ machine, command, rounds, loadAverage, rows }: ScheduleBench): string {
  const lines = rows.map(({ kind, cpuPercent, probes, offMs, busiest, spreadMs }) =>
    `| \`${kind}\` | ${median(cpuPercent).toFixed(1)} | ${Math.max(...cpuPercent).toFixed(1)} | ${probes} `
    + `| ${offMs.p50.toFixed(1)} | ${offMs.p99.toFixed(1)} | ${offMs.most.toFixed(0)} | ${busiest} | ${spreadMs.toFixed(0)} |\n`).join("");
  return `| probe | % of a core | most | probes | off, p50 ms | off, p99 ms | off, most ms | busiest 10 ms | spread, ms |
|---|---:|---:|---:|---:|---:|---:|---:|---:|
${lines}
${BACKENDS} backends, each probed every ${INTERVAL_MS} ms without jitter, ${rounds} rounds of ${WINDOW_MS / 1000} s.
Off: how far the time between two probes of a backend, as they came to it, was from the interval;
the goal is ${GOALS.offMs} ms at p99, and ${GOALS.cpuPercent} % of a core. Busiest: of the first probes after a restart,
how many came in the same ${BIN_MS} ms (${BACKENDS * BIN_MS / INTERVAL_MS} would be even); spread: from the first backend's to the last's.
Load average ${loadAverage.toFixed(1)} at the start.

Machine: ${machineLine(machine)}. Command: \`${command}\`.
`;
}
