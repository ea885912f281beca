// What `npm start` and the lab print: headings, shares per backend, a program's output indented. Knows
// text only.

import type { Shares } from "./lab_services.ts";

export function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function heading(text: string): void {
  say(`\n── ${text} ${"─".repeat(Math.max(0, 96 - text.length))}`);
}

export function indented(text: string): void {
  for (const line of text.trimEnd().split("\n")) say(`  ${line}`);
}

/** One line per backend: how many answers, and what share of all. */
export function showShares(what: string, shares: Shares): void {
  const total = [...shares.values()].reduce((sum, n) => sum + n, 0);
  say(`  ${what}`);
  for (const [name, n] of shares) {
    const share = ((100 * n) / total).toFixed(1).padStart(5);
    say(`    ${(name || "(no answer)").padEnd(12)} ${String(n).padStart(5)}  ${share} %  ${"▪".repeat(Math.round((40 * n) / total))}`);
  }
}
