// How soon a backend that stops answering is out of the kernel's ring: its server is stopped by
// SIGSTOP, so that probes hang, at one phase of the schedule after another. Compares with the bound,
// fall × interval + timeout + 100 ms. Knows the lab and the event log; measures no traffic.

import { setTimeout as sleep } from "node:timers/promises";
import { raiseLab } from "../scripts/lab_network.ts";
import type { ServedBackend } from "../scripts/lab_services.ts";
import {
  instanceName, labConfig, serveBackend, startInstance, waitFor,
} from "../scripts/lab_services.ts";
import { startReaper, sweepLeftovers } from "../scripts/namespaces.ts";
import type { Client } from "../src/api/client.ts";
import { connectClient } from "../src/api/client.ts";
import { controlSocketPath } from "../src/supervisor/places.ts";
import { Events, type Written } from "./events.ts";
import type { Machine } from "./machine.ts";
import { describeMachine, machineLine, median } from "./machine.ts";

export interface HealthBenchOptions {
  readonly rounds: number;
  readonly backends: number;
  readonly progress: (line: string) => void;
}

/** Milliseconds, one entry per round. */
export interface HealthSamples {
  /** From SIGSTOP to the last slot written. */
  readonly outMs: readonly number[];
  /** From the judge's verdict "down" to the last slot written. */
  readonly outVerdictMs: readonly number[];
  /** From SIGCONT to the last slot given back. */
  readonly backMs: readonly number[];
  /** From the verdict "up" to the last slot given back. */
  readonly backVerdictMs: readonly number[];
}

export interface HealthBench {
  readonly machine: Machine;
  readonly command: string;
  readonly rounds: number;
  readonly backends: number;
  readonly rules: typeof RULES;
  readonly outBoundMs: number;
  readonly backBoundMs: number;
  readonly samples: HealthSamples;
}

/** Those of the lab's config, which is checked against them. */
const RULES = { intervalMs: 500, timeoutMs: 300, rise: 2, fall: 2 } as const;
const HEALTH = "interval: 500ms, timeout: 300ms, rise: 2, fall: 2";
/** What the supervisor and the plane may take. */
const GRACE_MS = 100;
const PATIENCE_MS = 30_000;
/** The fractional part of the golden ratio: its multiples spread evenly over the schedule. */
const PHASE = 0.618_033_988_75;

function signalled(
  events: Events, server: ServedBackend, signal: "SIGSTOP" | "SIGCONT",
): Promise<Written> {
  const sinceMs = Date.now();
  server.process.kill(signal);
  return events.written(`web/${server.host.name}`, signal === "SIGSTOP" ? "down" : "up", sinceMs);
}

async function measure(
  client: Client, servers: readonly ServedBackend[], options: HealthBenchOptions,
): Promise<HealthSamples> {
  const events = new Events(client);
  const samples = {
    outMs: [] as number[], outVerdictMs: [] as number[],
    backMs: [] as number[], backVerdictMs: [] as number[],
  };
  try {
    for (let round = 0; round < options.rounds; round++) {
      const server = servers[round % servers.length];
      if (server === undefined) throw new Error("there are no backends");
      await sleep(RULES.intervalMs * (1 + ((round * PHASE) % 1)));
      const out = await signalled(events, server, "SIGSTOP");
      await expectSlots(client, server, false);
      const back = await signalled(events, server, "SIGCONT");
      await expectSlots(client, server, true);
      samples.outMs.push(out.totalMs);
      samples.outVerdictMs.push(out.verdictMs);
      samples.backMs.push(back.totalMs);
      samples.backVerdictMs.push(back.verdictMs);
      options.progress(`round ${round + 1}/${options.rounds}  ${server.host.name}`
        + `  out after ${out.totalMs.toFixed(0)} ms (${out.verdictMs.toFixed(2)} of them after the`
        + ` verdict), back after ${back.totalMs.toFixed(0)} ms (${back.verdictMs.toFixed(2)})`);
    }
  } finally {
    for (const { process } of servers) process.kill("SIGCONT");
    await events.close();
  }
  return samples;
}

/** What was measured would mean nothing if the ring had not followed. */
async function expectSlots(client: Client, server: ServedBackend, some: boolean): Promise<void> {
  const name = `web/${server.host.name}`;
  const slots = (await client.backends()).find((each) => each.name === name)?.slots ?? -1;
  if (slots > 0 !== some) throw new Error(`${name} has ${slots} slots`);
}

/** Runs the benchmark; needs root and the lab's programs. Some 3 s for each round. */
export async function benchHealth(options: HealthBenchOptions): Promise<HealthBench> {
  sweepLeftovers();
  const reaper = startReaper();
  const { rounds, backends } = options;
  const lab = raiseLab({ label: "health", backends, mtu: 1500, localVip: false });
  try {
    const servers: ServedBackend[] = [];
    for (const host of lab.backends) {
      servers.push(await serveBackend(host, { iperf: false, decap: false }));
    }
    const name = instanceName("bench-health");
    const text = labConfig(name, {
      forwarding: "l2", mode: "xdp", backends: lab.backends, backendFamily: 4, extra: "",
    });
    if (!text.includes(HEALTH)) throw new Error("the lab's health check is not what is measured");
    const instance = await startInstance(lab, name, text);
    const socket = controlSocketPath(name, {
      uid: process.getuid?.() ?? 0, variables: process.env,
    });
    const client = connectClient(socket, name);
    try {
      await waitFor("all to be up", PATIENCE_MS, async () =>
        (await client.backends()).every(({ state }) => state === "active"));
      const { intervalMs, timeoutMs, rise, fall } = RULES;
      return {
        machine: describeMachine(),
        command: `pointsman bench health --rounds ${rounds}`,
        rounds, backends, rules: RULES,
        outBoundMs: fall * intervalMs + timeoutMs + GRACE_MS,
        backBoundMs: rise * intervalMs + timeoutMs + GRACE_MS,
        samples: await measure(client, servers, options),
      };
    } finally {
      await client.close();
      await instance.remove();
    }
  } finally {
    lab.close();
    reaper.release();
  }
}

function row(what: string, values: readonly number[], boundMs: number | null): string {
  const digits = boundMs === null ? 2 : 0;
  const cells = [Math.min(...values), median(values), Math.max(...values)]
    .map((value) => value.toFixed(digits));
  const within = boundMs === null ? "" : values.filter((value) => value <= boundMs).length;
  const kept = boundMs === null ? "" : `${within} of ${values.length} within ${boundMs}`;
  return `| ${what} | ${cells.join(" | ")} | ${kept} |\n`;
}

export function healthTable(result: HealthBench): string {
  const { samples, rules, rounds, backends, outBoundMs, backBoundMs } = result;
  return `| ms | least | median | most | bound |
|---|---:|---:|---:|---:|
${row("SIGSTOP to the last slot written", samples.outMs, outBoundMs)}\
${row("the verdict \"down\" to the last slot written", samples.outVerdictMs, null)}\
${row("SIGCONT to the last slot given back", samples.backMs, backBoundMs)}\
${row("the verdict \"up\" to the last slot given back", samples.backVerdictMs, null)}
${rounds} rounds over ${backends} backends, XDP l2; HTTP probes every ${rules.intervalMs} ms, \
timeout ${rules.timeoutMs} ms, rise ${rules.rise}, fall ${rules.fall}.
The bound is fall (rise) × interval + timeout + ${GRACE_MS} ms.

Machine: ${machineLine(result.machine)}. Command: \`${result.command}\`.
`;
}
