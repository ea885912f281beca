// How soon a backend that fails is down, for each kind of probe and each way to fail that it can see: servers on a
// host of the lab that all fail together, at one phase of the schedules after another. Compares with the bound,
// fall × interval + timeout. Knows the lab and the event log; what a verdict costs after that is `health`'s.

import { createInterface } from "node:readline";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ip } from "../scripts/lab_links.ts";
import { raiseLab, VIP4, type Lab, type LabHost } from "../scripts/lab_network.ts";
import { instanceName, ROOT, startInstance, waitFor } from "../scripts/lab_services.ts";
import { spawnIn, startReaper, sweepLeftovers } from "../scripts/namespaces.ts";
import { createCertificate } from "../test/support/certificate.ts";
import { FAILURES, KEYS, KINDS, PORTS, SEES, type Failure, type Kind, type Way } from "./detection_kinds.ts";
import { Events } from "./events.ts";
import type { Machine } from "./machine.ts";
import { describeMachine, machineLine, median } from "./machine.ts";

export interface DetectionBenchOptions {
  readonly rounds: number;
  readonly progress: (line: string) => void;
}

/** Milliseconds from a failure to the verdict, one entry per round. */
type Samples = Readonly<Record<Kind, Readonly<Partial<Record<Failure, readonly number[]>>>>>;

export interface DetectionBench {
  readonly machine: Machine;
  readonly command: string;
  readonly rounds: number;
  /** Of the last minute before. */
  readonly loadAverage: number;
  readonly rules: typeof RULES;
  readonly samples: Samples;
}

const RULES = { intervalMs: 500, timeoutMs: 300, rise: 2, fall: 2 } as const;
/** The event loop's and the kernel's. */
const GRACE_MS = 50;
/** The fractional part of the golden ratio: its multiples spread evenly over the schedules. */
const PHASE = 0.618_033_988_75;
const DAY_MS = 86_400_000;

const FAILURE_WORDS: Readonly<Record<Failure, string>> = {
  refused: "refuses", silent: "takes and is silent", unreachable: "host gone", garbage: "speaks nonsense",
  closes: "closes at once", ill: "says that it is ill",
};

/** Of a backend that fails at any moment, if nothing comes between: an agent's word counts at once. */
function boundMs(kind: Kind): number {
  const { intervalMs, timeoutMs, fall } = RULES;
  return (kind === "agent" ? 1 : fall) * intervalMs + timeoutMs;
}

function healthOf(kind: Kind, modeFile: string): string {
  const { intervalMs, timeoutMs, rise, fall } = RULES;
  const pace = `interval: ${intervalMs}ms, timeout: ${timeoutMs}ms`;
  if (kind === "agent") return `{ type: none, agent: { port: ${PORTS.agent}, ${pace} } }`;
  const type = kind === "http2" ? "http" : kind;
  const port = kind === "icmp" || kind === "exec" ? "" : `, port: ${PORTS[kind]}`;
  const script = `read way < ${modeFile}; case $way in silent) sleep 60;; ill) exit 1;; esac`;
  const keys = kind === "exec" ? `, command: /bin/sh, args: ["-c", "${script}"]` : KEYS[kind] === undefined ? "" : `, ${KEYS[kind]}`;
  return `{ type: ${type}${port}, ${pace}, rise: ${rise}, fall: ${fall}${keys} }`;
}

function configText(instance: string, { ipv4 }: LabHost, modeFile: string): string {
  const pools = KINDS.map((kind) =>
    `  ${kind}: { health: ${healthOf(kind, modeFile)}, backends: [{ name: a, address: "${ipv4}" }] }`);
  const services = KINDS.map((kind, at) => `  - { name: ${kind}, address: "${VIP4}", port: ${9001 + at}, pool: ${kind} }`);
  return `version: 1
instance: ${instance}
dataplane: { mode: proxy }
pools:
${pools.join("\n")}
services:
${services.join("\n")}
`;
}

/** The host of all servers, and its way to fail. */
class Patient {
  readonly #lab: Lab;
  readonly #modeFile: string;
  readonly #server: ReturnType<typeof spawnIn>;
  readonly #lines: AsyncIterator<string, undefined>;
  #isReachable = true;

  constructor(lab: Lab, directory: string, modeFile: string) {
    const { key, cert } = createCertificate("web.example", new Date(Date.now() - DAY_MS), new Date(Date.now() + 99 * DAY_MS));
    const [keyPath, certPath] = [join(directory, "key.pem"), join(directory, "cert.pem")];
    writeFileSync(keyPath, key);
    writeFileSync(certPath, cert);
    this.#lab = lab;
    this.#modeFile = modeFile;
    const program = join(ROOT, "dist/bench/detection_server.js");
    this.#server = spawnIn(this.host.namespace, process.execPath, [program, keyPath, certPath], { stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface({ input: this.#server.stdout! })[Symbol.asyncIterator]();
  }

  get host(): LabHost { return this.#lab.backends[0]!; }

  /** The server's next word. */
  async told(): Promise<string> {
    const { value } = await this.#lines.next();
    if (value === undefined) throw new Error("the server of the benchmark has ended");
    return value;
  }

  /** Resolves to when it was so (wall clock). */
  async become(way: Way | "unreachable"): Promise<number> {
    writeFileSync(this.#modeFile, `${way}\n`);
    if (way === "unreachable" || !this.#isReachable) {
      this.#isReachable = way !== "unreachable";
      ip(this.#lab.network, "link", "set", this.host.name, this.#isReachable ? "up" : "down");
    }
    if (way === "unreachable") return Date.now();
    this.#server.stdin?.write(`${way}\n`);
    return Number(await this.told());
  }
}

async function measure(patient: Patient, events: Events, { rounds, progress }: DetectionBenchOptions): Promise<Samples> {
  const samples = Object.fromEntries(KINDS.map((kind) =>
    [kind, Object.fromEntries(SEES[kind].map((failure) => [failure, [] as number[]]))])) as Record<Kind, Record<Failure, number[]>>;
  let turn = 0;
  for (let round = 0; round < rounds; round++) {
    for (const failure of FAILURES) {
      const seers = KINDS.filter((kind) => SEES[kind].includes(failure));
      turn += 1;
      await sleep(RULES.intervalMs * (1 + ((turn * PHASE) % 1)));
      const sinceMs = Date.now();
      const failedMs = await patient.become(failure);
      const verdicts = await Promise.all(seers.map((kind) => events.verdict(`${kind}/a`, "down", sinceMs)));
      const took = verdicts.map((ms) => ms + sinceMs - failedMs);
      seers.forEach((kind, at) => { samples[kind][failure].push(took[at]!); });
      // What was measured would mean nothing if a probe failed that has nothing to see.
      const stray = [...events.verdicts("down", sinceMs)].filter((name) => !seers.some((kind) => name === `${kind}/a`));
      if (stray.length > 0) throw new Error(`${stray.join()} was down of a server that ${FAILURE_WORDS[failure]}`);
      const wellMs = Date.now();
      await patient.become("well");
      await Promise.all(seers.map((kind) => events.verdict(`${kind}/a`, "up", wellMs)));
      progress(`round ${round + 1}/${rounds}  ${FAILURE_WORDS[failure].padEnd(22)} `
        + `${seers.map((kind, at) => `${kind} ${took[at]!}`).join(", ")} ms`);
    }
  }
  return samples;
}

/** Runs the benchmark; needs root and the lab's programs. Some 20 s for each round. */
export async function benchDetection(options: DetectionBenchOptions): Promise<DetectionBench> {
  sweepLeftovers();
  const reaper = startReaper();
  const loadAverage = loadavg()[0]!;
  const directory = mkdtempSync(join(tmpdir(), "pointsman-detection-"));
  const lab = raiseLab({ label: "detection", backends: 1, mtu: 1500, localVip: true });
  try {
    const modeFile = join(directory, "mode");
    writeFileSync(modeFile, "well\n");
    const patient = new Patient(lab, directory, modeFile);
    await patient.told();
    const name = instanceName("bench-detection");
    const text = configText(name, patient.host, modeFile);
    const instance = await startInstance(lab, name, text, undefined, [], undefined, ["--exec-probes"]);
    const events = new Events(instance.api);
    try {
      await waitFor("all to be up", 30_000, async () => (await instance.api.backends()).every(({ state }) => state === "active"));
      const samples = await measure(patient, events, options);
      const { rounds } = options;
      const command = `pointsman bench detection --rounds ${rounds}`;
      return { machine: describeMachine(), command, rounds, loadAverage, rules: RULES, samples };
    } finally {
      await events.close();
      await instance.remove();
    }
  } finally {
    lab.close();
    reaper.release();
    rmSync(directory, { recursive: true, force: true });
  }
}

export function detectionTable({ machine, command, rounds, loadAverage, rules, samples }: DetectionBench): string {
  const rows = KINDS.map((kind) => {
    const cells = FAILURES.map((failure) => {
      const taken = samples[kind][failure];
      return taken === undefined ? "–" : `${median(taken).toFixed(0)} (${Math.max(...taken)})`;
    });
    return `| \`${kind}\` | ${cells.join(" | ")} | ${boundMs(kind)} |\n`;
  }).join("");
  const all = KINDS.flatMap((kind) => Object.values(samples[kind]).flat().map((ms) => ms - boundMs(kind)));
  const late = all.filter((overMs) => overMs > GRACE_MS);
  return `| ms | ${FAILURES.map((failure) => FAILURE_WORDS[failure]).join(" | ")} | bound |
|---|${FAILURES.map(() => "---:").join("|")}|---:|
${rows}
From the failure to the verdict "down": the median and, in brackets, the worst of ${rounds} rounds, at phases spread over the
schedules; –: a probe of this kind has nothing to see there. Probes every ${rules.intervalMs} ms, timeout ${rules.timeoutMs} ms,
fall ${rules.fall}. The bound is fall × interval + timeout; an agent's word counts at once. ${all.length - late.length} of
${all.length} were within the bound and ${GRACE_MS} ms; the worst was ${Math.max(...all)} ms from it.
Load average ${loadAverage.toFixed(1)} at the start.

Machine: ${machineLine(machine)}. Command: \`${command}\`.
`;
}
