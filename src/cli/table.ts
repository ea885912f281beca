// Tables, durations and amounts as people read them in a terminal. Knows cli-table3 and text; knows no
// service.

import Table from "cli-table3";

const NO_FRAME = {
  top: "",
  "top-mid": "",
  "top-left": "",
  "top-right": "",
  bottom: "",
  "bottom-mid": "",
  "bottom-left": "",
  "bottom-right": "",
  left: "",
  "left-mid": "",
  mid: "",
  "mid-mid": "",
  right: "",
  "right-mid": "",
  middle: "  ",
};

/** Columns without a frame, so that lines can be cut with awk. Numbers stand at the right. */
export function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const numeric = head.map((_, column) => rows.length > 0 && rows.every((row) => typeof row[column] === "number"));
  const drawn = new Table({
    head: head.map((title) => title.toUpperCase()),
    chars: NO_FRAME,
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
    colAligns: numeric.map((right) => (right ? "right" : "left")),
  });
  for (const row of rows) drawn.push(row.map((cell) => (cell === "" ? "-" : String(cell))));
  return (
    drawn
      .toString()
      .split("\n")
      .map((line) => line.trimEnd())
      .join("\n") + "\n"
  );
}

/** `950ms`, `12s`, `5m 3s`, `2h 4m`, `3d 1h`. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)}ms`;
  const seconds = Math.floor(ms / 1000);
  const parts: [number, string][] = [
    [Math.floor(seconds / 86400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "m"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([n]) => n > 0);
  return parts
    .slice(first, first + 2)
    .filter(([n]) => n > 0)
    .map(([n, unit]) => `${n}${unit}`)
    .join(" ");
}

/** `0`, `950`, `12.3k`, `4.5M`: three significant digits, decimal prefixes. */
export function amount(value: number): string {
  const prefixes = ["", "k", "M", "G", "T", "P"];
  let scaled = value;
  let prefix = 0;
  while (Math.abs(scaled) >= 999.5 && prefix < prefixes.length - 1) {
    scaled /= 1000;
    prefix++;
  }
  const digits = Number.isInteger(scaled) || Math.abs(scaled) >= 99.5 ? 0 : Math.abs(scaled) >= 9.95 ? 1 : 2;
  return scaled.toFixed(digits) + (prefixes[prefix] ?? "");
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(share !== 0 && share < 0.001 ? 3 : 1)}%`;
}

/** Local date and time to the second. */
export function dateTime(ms: number): string {
  const at = new Date(ms);
  const two = (n: number): string => String(n).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** "90s", "5m", "1h30m" to milliseconds, or null. */
export function parseDuration(text: string): number | null {
  if (!/^(\d+(ms|s|m|h|d))+$/.test(text)) return null;
  const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
  let total = 0;
  for (const [, digits, unit] of text.matchAll(/(\d+)(ms|s|m|h|d)/g))
    total += Number(digits) * (units[unit ?? ""] ?? NaN);
  return total;
}
