// What the benchmark with the slow backend found, as a Markdown table and an SVG chart.

import { init } from "echarts";
import { machineLine, median } from "./machine.ts";
import type { Round, SlowBackendBench, SlowBackendRow } from "./slow_backend.ts";

function middle({ rounds }: SlowBackendRow, of: (round: Round) => number): number {
  return median(rounds.map(of));
}

const name = ({ who, policy }: SlowBackendRow): string => `${who} ${policy}`;

export function slowBackendTable(result: SlowBackendBench): string {
  const { setting: { backends, workers, serviceMs, slowMs, ratePerSecond }, rows, haproxy } = result;
  const peer = rows.find(({ who, policy }) => who === "HAProxy" && policy === "leastconn");
  const peerP99 = peer === undefined ? NaN : middle(peer, ({ p99Ms }) => p99Ms);
  const lines = rows.map((row) => {
    const p99 = middle(row, ({ p99Ms }) => p99Ms);
    const unanswered = row.rounds.reduce((sum, each) => sum + each.unanswered, 0);
    const cells = [
      middle(row, ({ p50Ms }) => p50Ms).toFixed(0), p99.toFixed(0), middle(row, ({ p999Ms }) => p999Ms).toFixed(0),
      (middle(row, ({ slowShare }) => slowShare) * 100).toFixed(1),
      Number.isNaN(peerP99) ? "" : (p99 / peerP99).toFixed(2), String(unanswered),
    ];
    return `| ${row.who} | \`${row.policy}\` | ${cells.join(" | ")} |\n`;
  }).join("");
  return `| | policy | p50, ms | p99, ms | p99.9, ms | % to the slow one | p99 ÷ leastconn's | unanswered |
|---|---|---:|---:|---:|---:|---:|---:|
${lines}
${backends} backends of equal weight, each serving ${workers} requests at once, ${serviceMs} ms each;
one of them ${slowMs} ms. ${ratePerSecond} requests a second in an open loop, a connection each, at the same moments for
everybody; a request counts from when it was due. Medians of ${result.rounds} interleaved rounds of ${result.seconds} s.
${haproxy === null ? "HAProxy did not take part: it is not installed" : `HAProxy ${haproxy}, one thread`}. \
Load average ${result.loadAverage.toFixed(1)} at the start.

Machine: ${machineLine(result.machine)}. Command: \`${result.command}\`.
`;
}

/** p99 by policy. */
export function slowBackendChart({ rows }: SlowBackendBench): string {
  const chart = init(null, null, { renderer: "svg", ssr: true, width: 1000, height: 440 });
  chart.setOption({
    animation: false,
    backgroundColor: "#ffffff",
    title: { text: "One of four backends is ten times slower: latency by policy, ms", left: "center" },
    legend: { bottom: 0 },
    grid: { left: 60, right: 20, top: 50, bottom: 120 },
    xAxis: { type: "category", data: rows.map(name), axisLabel: { interval: 0, rotate: 35 } },
    yAxis: { type: "log", min: 1 },
    series: ([["p50", ({ p50Ms }) => p50Ms], ["p99", ({ p99Ms }) => p99Ms]] as [string, (round: Round) => number][])
      .map(([of, value]) => ({ name: of, type: "bar", data: rows.map((row) => Number(middle(row, value).toFixed(1))) })),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}
