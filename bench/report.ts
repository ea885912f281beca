// A throughput result as a Markdown table and an SVG chart (echarts, rendered without a browser).

import { init } from "echarts";
import { machineLine } from "./machine.ts";
import type { Metric, ThroughputResult } from "./throughput.ts";
import { METRICS } from "./throughput.ts";

const metrics = Object.keys(METRICS) as Metric[];

function figure(value: number): string {
  if (value === 0) return "–";
  if (value >= 1000) return `${(value / 1000).toFixed(1)} k`;
  return value.toFixed(value >= 100 ? 0 : 1);
}

/** One row per contestant; each cell is the median and, in brackets, its ratio to direct. */
export function throughputTable(result: ThroughputResult): string {
  const head = `| | ${metrics.map((metric) => METRICS[metric]).join(" | ")} |\n|---|${metrics.map(() => "---:").join("|")}|\n`;
  const rows = result.contestants
    .map(({ name, medians, ratios }) => {
      const cells = metrics.map((metric) => {
        const ratio = ratios[metric];
        return `${figure(medians[metric])}${ratio === null || ratio === 0 ? "" : ` (${ratio.toFixed(2)})`}`;
      });
      return `| ${name} | ${cells.join(" | ")} |\n`;
    })
    .join("");
  const absent = result.absent.map(({ name, reason }) => `${name} did not take part: ${reason}.\n`).join("");
  return `${head}${rows}
Medians of ${result.rounds} interleaved rounds of ${result.seconds} s, ${result.backends} backends; in brackets the ratio to direct in
the same run; –: nothing came through (HAProxy forwards no UDP). Client, balancer and backends share
the cores of one machine, so the ratios count, not the figures.

Machine: ${machineLine(result.machine)}. Command: \`${result.command}\`.
${absent}`;
}

/** Bars of the ratio to direct, one group per metric. */
export function throughputChart(result: ThroughputResult): string {
  const chart = init(null, null, { renderer: "svg", ssr: true, width: 1000, height: 460 });
  chart.setOption({
    animation: false,
    backgroundColor: "#ffffff",
    title: { text: "Throughput beside a direct connection (1 = direct)", left: "center" },
    legend: { bottom: 0 },
    grid: { left: 50, right: 20, top: 50, bottom: 80 },
    xAxis: {
      type: "category",
      data: metrics.map((metric) =>
        METRICS[metric].replace(/, .*/, "").concat(metric === "fresh" ? " new" : metric === "kept" ? " kept" : ""),
      ),
    },
    yAxis: { type: "value", min: 0 },
    series: result.contestants
      .filter(({ name }) => name !== "direct")
      .map(({ name, ratios }) => ({
        name,
        type: "bar",
        data: metrics.map((metric) => Number((ratios[metric] ?? 0).toFixed(3))),
      })),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}
