// What changes cost the connections that are open: the churn of scripts/lab_churn.ts under each way to
// remember flows, alone and under a flood of SYNs from invented addresses. Counts what broke; measures
// how much was remembered, and not how fast: that is `packet`.

import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { init } from "echarts";
import { forwardBetweenBackends, loseHost, spreadFlows } from "../scripts/lab_balancers.ts";
import { churn, churnConfig, type ChurnConfig, type ChurnOptions, type ChurnResult } from "../scripts/lab_churn.ts";
import { raiseLab, VIP4, type FarClient, type Lab, type LabHost } from "../scripts/lab_network.ts";
import {
  instanceName, ROOT, serveBackend, startDecap, startInstance, type Instance, type Load,
} from "../scripts/lab_services.ts";
import { startReaper, sweepLeftovers } from "../scripts/namespaces.ts";
import { Draws } from "../test/support/random.ts";
import { seed } from "../test/support/counts.ts";
import { compileProgram } from "./compile.ts";
import { startFlood, type Flood } from "./flood.ts";
import type { Machine } from "./machine.ts";
import { describeMachine, machineLine } from "./machine.ts";

export interface ChurnBenchOptions {
  readonly seconds: number;
  readonly only: RegExp | null;
  readonly progress: (line: string) => void;
}

interface Contestant extends Pick<ChurnConfig, "tracking" | "forwarding" | "keys"> {
  readonly name: string;
  /** SYNs per second from invented addresses; 0: none. */
  readonly floodRate: number;
  /** Half-way, one of two balancers is. */
  readonly isOneLost: boolean;
}

export interface ChurnRow {
  readonly name: string;
  readonly connections: number;
  readonly questions: number;
  readonly changes: number;
  /** Although their backend lived. */
  readonly broken: number;
  readonly bereft: number;
  /** At the end. */
  readonly remembered: number;
  /** Of an entry, as the kernel accounts for the table. */
  readonly entryBytes: number;
  /** SYNs that the flood sent, per second. */
  readonly floodPerSecond: number;
}

export interface ChurnBench {
  readonly machine: Machine;
  readonly command: string;
  readonly seconds: number;
  readonly seed: number;
  readonly connections: number;
  readonly rows: readonly ChurnRow[];
}

const CONNECTIONS = 2000;
const BACKENDS = 7;
const EVERY_MS = 200;
const FLOOD_RATE = 500_000;
const MILLION = 1_000_000;
/** The addresses of both balancers, for those who take alternates from them alone. */
const BALANCERS = "198.18.0.0/29";

const SECOND_CHANCE = { name: "minimal + second chance", tracking: "minimal", forwarding: "gue", keys: "secondChance: true" } as const;
const WAYS = [
  { name: "none", tracking: "none", forwarding: "l2" },
  { name: "minimal", tracking: "minimal", forwarding: "l2" },
  SECOND_CHANCE,
  { name: "full", tracking: "full", forwarding: "l2" },
] as const;

function contestants(only: RegExp | null): Contestant[] {
  const alone = [0, FLOOD_RATE].flatMap((floodRate) => WAYS.map((way) => ({
    ...way, floodRate, isOneLost: false, name: floodRate === 0 ? way.name : `${way.name}, under a flood`,
  })));
  const lost = WAYS.map((way) => ({ ...way, floodRate: 0, isOneLost: true, name: `${way.name}, one of two balancers lost` }));
  return [...alone, ...lost].filter(({ name }) => only === null || only.test(name));
}

/** The greatest table with keys of flows that a process holds is `flows`; what the kernel accounts for an entry of it. */
function flowEntryBytes(pid: number): number {
  const directory = `/proc/${pid}/fdinfo`;
  const tables = readdirSync(directory).map((fd) => {
    const text = readFileSync(join(directory, fd), "utf8");
    const number = (name: string): number => Number(new RegExp(`^${name}:\\s*(\\d+)`, "m").exec(text)?.[1] ?? 0);
    return { key: number("key_size"), value: number("value_size"), entries: number("max_entries"), bytes: number("memlock") };
  }).filter(({ key, value, entries }) => key === 40 && value === 16 && entries > 1);
  const [table] = tables.sort((a, b) => b.entries - a.entries);
  return table === undefined ? 0 : table.bytes / table.entries;
}

async function floodOf(lab: Lab, object: string, rate: number, seconds: number): Promise<Flood> {
  return rate === 0 ? { sent: Promise.resolve(0), perSecond: Promise.resolve(0) }
    : startFlood(lab, object, { address: VIP4, port: 9, rate, seconds });
}

/** Where a row is measured: its own, since backends keep connections whose clients have gone, and their ports come round again. */
interface Ground {
  readonly lab: Lab;
  /** The client of the rows with two balancers, which its router spreads its flows over. */
  readonly far: FarClient;
  readonly second: LabHost;
  /** Of the program that floods. */
  readonly object: string;
}

async function raiseGround(object: string): Promise<Ground> {
  const lab = raiseLab({ label: "churn", backends: BACKENDS, mtu: 1500, localVip: false });
  try {
    const far = lab.addFarClient(1500);
    const second = lab.addBalancer();
    forwardBetweenBackends(lab);
    await Promise.all(lab.backends.map((host) => serveBackend(host, { iperf: false, decap: false })));
    return { lab, far, second, object };
  } catch (error) {
    lab.close();
    throw error;
  }
}

/** What unwraps on the backends, for a row that needs it. */
async function startDecaps({ lab }: Ground, { forwarding }: Contestant): Promise<readonly Load[]> {
  if (forwarding !== "gue") return [];
  return Promise.all(lab.backends.map((host) => startDecap(host, "--second-chance", "--source", BALANCERS)));
}

async function measure(ground: Ground, contestant: Contestant, seconds: number): Promise<ChurnRow> {
  const { lab, far, second } = ground;
  const { isOneLost } = contestant;
  const hosts = isOneLost ? [lab.balancer, second] : [lab.balancer];
  const instances: Instance[] = [];
  const decaps = await startDecaps(ground, contestant);
  try {
    for (const balancer of hosts) {
      const name = instanceName(balancer.name);
      instances.push(await startInstance({ balancer }, name, churnConfig(name, lab.backends, contestant)));
    }
    spreadFlows(far.router, hosts);
    const [first, other] = instances;
    const loses = other === undefined ? {} : { loses: { balancer: other, kill: async () => {
      await other.stop("SIGKILL");
      loseHost(lab, far.router, hosts, second);
    } } };
    return await run(ground, contestant, seconds, first!, {
      ...contestant, ...loses, lab, balancers: instances, client: isOneLost ? far : lab.client,
    });
  } finally {
    for (const instance of instances) await instance.remove();
    for (const { process } of decaps) process.kill("SIGTERM");
  }
}

async function measureAlone(object: string, contestant: Contestant, seconds: number): Promise<ChurnRow> {
  const ground = await raiseGround(object);
  try {
    return await measure(ground, contestant, seconds);
  } finally {
    ground.lab.close();
  }
}

type Under = Pick<ChurnOptions, "tracking" | "forwarding" | "lab" | "balancers" | "client">;

async function run(
  { lab, object }: Ground, { name, floodRate }: Contestant, seconds: number, first: Instance, under: Under,
): Promise<ChurnRow> {
  const draws = new Draws(seed());
  const flood = await floodOf(lab, object, floodRate, seconds);
  const { counts, changes, moved, bereft }: ChurnResult = await churn({
    ...under, address: VIP4, connections: CONNECTIONS, seconds, everyMs: EVERY_MS,
    draw: (limit) => draws.below(limit),
  });
  const { flowTable } = await first.api.status();
  return {
    name, connections: counts.long, questions: counts.short,
    changes: Object.values(changes).reduce((sum, each) => sum + each, 0),
    broken: moved.length, bereft: bereft.length,
    remembered: flowTable.count ?? 0, entryBytes: flowEntryBytes(first.process.pid ?? 0),
    floodPerSecond: await flood.perSecond,
  };
}

export async function benchChurn({ seconds, only, progress }: ChurnBenchOptions): Promise<ChurnBench> {
  sweepLeftovers();
  const reaper = startReaper();
  const scratch = mkdtempSync(join(tmpdir(), "pointsman-churn-"));
  try {
    const object = compileProgram(ROOT, "syn_flood", scratch);
    const rows: ChurnRow[] = [];
    for (const contestant of contestants(only)) {
      const row = await measureAlone(object, contestant, seconds);
      progress(`${row.name}: ${row.broken} broken, ${row.bereft} whose backend died`);
      rows.push(row);
    }
    return {
      machine: describeMachine(), command: `pointsman bench churn --seconds ${seconds}`,
      seconds, seed: seed(), connections: CONNECTIONS, rows,
    };
  } finally {
    reaper.release();
    rmSync(scratch, { recursive: true, force: true });
  }
}

function thousands(value: number): string {
  return value >= 10_000 ? `${Math.round(value / 1000)} k` : String(Math.round(value));
}

export function churnTable(result: ChurnBench): string {
  const rows = result.rows.map((row) => {
    const state = (row.remembered / result.connections) * row.entryBytes;
    return `| ${row.name} | ${row.changes} | ${row.connections} | ${thousands(row.questions)} | ${row.broken} | ${row.bereft} `
      + `| ${thousands(row.remembered)} | ${(state * MILLION / 2 ** 20).toFixed(0)} | ${thousands(row.floodPerSecond)} |\n`;
  }).join("");
  return `| tracking | changes | connections | questions | broken | backend died | remembered | MiB per million | SYNs/s of the flood |
|---|---:|---:|---:|---:|---:|---:|---:|---:|
${rows}
${result.connections} connections, each opened anew when it broke, that check a line every 500 ms, beside connections for one question
each; ${result.seconds} s, a change every ${EVERY_MS} ms: a backend of ${BACKENDS} added, removed, drained, undrained, re-weighted,
ill or well; of two balancers behind a router that spreads flows over both, one is lost half-way, with all that it remembered.
The second chance goes with gue, the others with l2. Each row has a lab of its own. Broken: although their backend lived; one that
broke before it heard who that was is laid to a death that took effect meanwhile. Remembered: entries of the flow table at
the end; their memory, as the kernel accounts for it, for a million connections in the same state. The flood's sources are invented, out of
2^32 pairs of address and port.

Machine: ${machineLine(result.machine)}. Command: \`${result.command}\`, seed ${result.seed}.
`;
}

/** What broke, of a thousand connections that were open. */
export function churnChart(result: ChurnBench): string {
  const chart = init(null, null, { renderer: "svg", ssr: true, width: 1000, height: 400 });
  const share = (broken: number, { connections, questions }: ChurnRow): number =>
    Number((broken * 1000 / Math.max(1, connections + questions)).toFixed(3));
  chart.setOption({
    animation: false,
    backgroundColor: "#ffffff",
    title: { text: "Broken of a thousand connections, five changes a second", left: "center" },
    legend: { bottom: 0 },
    grid: { left: 60, right: 20, top: 50, bottom: 100 },
    xAxis: {
      type: "category", data: result.rows.map(({ name }) => name), axisLabel: { interval: 0, width: 75, overflow: "break" },
    },
    yAxis: { type: "value", min: 0 },
    series: [
      { name: "although their backend lived", type: "bar", data: result.rows.map((row) => share(row.broken, row)) },
      { name: "their backend died", type: "bar", data: result.rows.map((row) => share(row.bereft, row)) },
    ],
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}
