// What changes cost the connections that are open: the churn of scripts/lab_churn.ts under each way to
// remember flows, alone and under a flood of SYNs from invented addresses. Counts what broke; measures
// how much was remembered, and not how fast: that is `packet`.

import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { init } from "echarts";
import { churn, churnConfig, type ChurnConfig, type ChurnResult } from "../scripts/lab_churn.ts";
import { raiseLab, VIP4, type Lab } from "../scripts/lab_network.ts";
import { takeRedirects } from "../scripts/lab_links.ts";
import { instanceName, ROOT, serveBackend, startInstance, startLoad } from "../scripts/lab_services.ts";
import { runInSync, startReaper, sweepLeftovers } from "../scripts/namespaces.ts";
import { Draws } from "../test/support/random.ts";
import { seed } from "../test/support/counts.ts";
import { compileProgram } from "./compile.ts";
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

const WAYS = [
  { name: "none", tracking: "none", forwarding: "l2" },
  { name: "minimal", tracking: "minimal", forwarding: "l2" },
  { name: "full", tracking: "full", forwarding: "l2" },
] as const;

function contestants(only: RegExp | null): Contestant[] {
  const all = [0, FLOOD_RATE].flatMap((floodRate) => WAYS.map((way) => ({
    ...way, floodRate, name: floodRate === 0 ? way.name : `${way.name}, under a flood`,
  })));
  return all.filter(({ name }) => only === null || only.test(name));
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

function macOf(namespace: string): string {
  const [link] = JSON.parse(runInSync(namespace, "ip", ["-j", "link", "show", "eth0"]).stdout) as [{ address: string }];
  return link.address;
}

interface Flood { readonly perSecond: Promise<number> }

async function startFlood(lab: Lab, object: string, rate: number, seconds: number): Promise<Flood> {
  if (rate === 0) return { perSecond: Promise.resolve(0) };
  const { lastLine } = await startLoad(
    lab.client.namespace, "bench/syn_flood.js", object, "eth0", macOf(lab.client.namespace), macOf(lab.balancer.namespace),
    VIP4, "9", String(rate), String(seconds),
  );
  const perSecond = lastLine.then((last) => {
    const counted = last.startsWith("{") ? JSON.parse(last) as { sent: number; seconds: number } : null;
    return counted === null ? 0 : counted.sent / counted.seconds;
  });
  return { perSecond };
}

async function measure(lab: Lab, object: string, { name, floodRate, ...way }: Contestant, seconds: number): Promise<ChurnRow> {
  const of: ChurnConfig = { ...way, instance: instanceName("churn") };
  const running = await startInstance(lab, of.instance, churnConfig(lab.backends, of));
  try {
    const draws = new Draws(seed());
    const flood = await startFlood(lab, object, floodRate, seconds);
    const { counts, changes, moved, bereft }: ChurnResult = await churn({
      ...of, lab, running, address: VIP4, connections: CONNECTIONS, seconds, everyMs: EVERY_MS,
      draw: (limit) => draws.below(limit),
    });
    const { flowTable } = await running.api.status();
    return {
      name, connections: counts.long, questions: counts.short,
      changes: Object.values(changes).reduce((sum, each) => sum + each, 0),
      broken: moved.length, bereft: bereft.length,
      remembered: flowTable.count ?? 0, entryBytes: flowEntryBytes(running.process.pid ?? 0),
      floodPerSecond: await flood.perSecond,
    };
  } finally {
    await running.remove();
  }
}

export async function benchChurn({ seconds, only, progress }: ChurnBenchOptions): Promise<ChurnBench> {
  sweepLeftovers();
  const reaper = startReaper();
  const scratch = mkdtempSync(join(tmpdir(), "pointsman-churn-"));
  const lab = raiseLab({ label: "churn", backends: BACKENDS, mtu: 1500, localVip: false });
  try {
    takeRedirects(lab.network, lab.client.name);
    const object = compileProgram(ROOT, "syn_flood", scratch);
    for (const host of lab.backends) await serveBackend(host, { iperf: false, decap: false });
    const rows: ChurnRow[] = [];
    for (const contestant of contestants(only)) {
      const row = await measure(lab, object, contestant, seconds);
      progress(`${row.name}: ${row.broken} broken, ${row.bereft} whose backend died`);
      rows.push(row);
    }
    return {
      machine: describeMachine(), command: `pointsman bench churn --seconds ${seconds}`,
      seconds, seed: seed(), connections: CONNECTIONS, rows,
    };
  } finally {
    lab.close();
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
ill or well. Broken: although their backend lived. Remembered: entries of the flow table at the end; their memory,
as the kernel accounts for it, for a million connections in the same state. The flood's sources are invented, out of
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
    grid: { left: 60, right: 20, top: 50, bottom: 70 },
    xAxis: { type: "category", data: result.rows.map(({ name }) => name) },
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
