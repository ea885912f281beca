// What `npm start` and the lab print: headings, shares per backend, a program's output indented. Knows
// text only.

import type { Lab } from "./lab_network.ts";
import { VIP4, VIP6 } from "./lab_network.ts";
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

/** Every host of a lab with its addresses and its namespace. */
export function showHosts(lab: Lab): void {
  for (const { name, ipv4, ipv6, namespace } of [lab.client, lab.balancer, ...lab.backends]) {
    say(`  ${name.padEnd(10)} ${ipv4.padEnd(12)} ${ipv6.padEnd(14)} ${namespace}`);
  }
  say(`  virtual addresses ${VIP4} and ${VIP6}, which the client reaches through the balancer`);
}

/** Resolves at the first SIGINT or SIGTERM. */
export function untilInterrupted(): Promise<void> {
  return new Promise((resolve) => {
    // An idle promise does not keep the process alive; a timer does.
    const alive = setInterval(() => undefined, 60_000);
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.once(signal, () => { clearInterval(alive); resolve(); });
    }
  });
}
