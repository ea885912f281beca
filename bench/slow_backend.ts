// Equal weights and one backend that is ten times slower than the others: how long requests take with each policy,
// in each plane that has it, beside HAProxy. Each contestant is asked in turn, round after round, at the same
// moments (open_loop_client.ts), and one connection is one request. Knows the lab; which policies there are is the
// config's business.

import type { ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { raiseLab, VIP4, type Lab } from "../scripts/lab_network.ts";
import { firstLine, instanceName, ROOT, startInstance, waitFor, type Instance } from "../scripts/lab_services.ts";
import { runIn, spawnIn, startReaper, sweepLeftovers } from "../scripts/namespaces.ts";
import { onPath } from "../scripts/search_path.ts";
import { parseConfig } from "../src/config/parse.ts";
import { algorithmKeys } from "../src/config/schema_algorithm.ts";
import { refusedByXdp } from "../src/model/features.ts";
import { describeMachine, type Machine } from "./machine.ts";
import type { Answered } from "./open_loop_client.ts";

export interface SlowBackendOptions {
  readonly rounds: number;
  readonly seconds: number;
  readonly only: RegExp | null;
  readonly progress: (line: string) => void;
}

export interface SlowBackendRow {
  readonly who: "pointsman proxy" | "pointsman XDP" | "HAProxy";
  readonly policy: string;
  /** For each round. */
  readonly rounds: readonly Round[];
}

export interface Round {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  /** Of the slow backend, 0 to 1. */
  readonly slowShare: number;
  readonly requests: number;
  readonly unanswered: number;
}

export interface SlowBackendBench {
  readonly machine: Machine;
  readonly command: string;
  readonly seconds: number;
  readonly rounds: number;
  readonly loadAverage: number;
  readonly setting: typeof SETTING;
  readonly haproxy: string | null;
  readonly rows: readonly SlowBackendRow[];
}

/** An equal share of the rate is a quarter more than the slow one can serve, and an eighth of what each other can. */
export const SETTING = { backends: 4, workers: 4, serviceMs: 10, slowMs: 100, ratePerSecond: 200 } as const;
const POLICIES = algorithmKeys.algorithm.unwrap().options;
const HAPROXY_POLICIES = ["roundrobin", "leastconn", "random(2)"] as const;
const FIRST_PORT = 9000;
const HAPROXY_PORT = FIRST_PORT + POLICIES.length;
const PORTS = POLICIES.length + HAPROXY_POLICIES.length;

const portOf = (policy: string): number => FIRST_PORT + POLICIES.findIndex((each) => each === policy);

interface Contestant extends Pick<SlowBackendRow, "who" | "policy"> {
  readonly lab: Lab;
  readonly port: number;
}

async function serve(lab: Lab): Promise<void> {
  const { workers, serviceMs, slowMs } = SETTING;
  await Promise.all(lab.backends.map(async ({ name, namespace }, at) => {
    const args = [name, FIRST_PORT, PORTS, workers, at === 0 ? slowMs : serviceMs].map(String);
    const server = spawnIn(namespace, process.execPath, [join(ROOT, "dist/bench/slow_server.js"), ...args]);
    await firstLine(server, `${name}'s server`);
  }));
}

/** What feedback steers in the XDP plane, which is not there at once. */
const STEERED = "least-response-time";
/** Every second, and in line with the requests; who answers late is not to be down for that. */
const PROBED = `{ type: http, port: ${FIRST_PORT + PORTS}, interval: 1s, fall: 1000 }`;
const SETTLED_WITHIN_MS = 300_000;

/**
 * A pool for each policy, since the load of a backend is that of all services of its pool. Nobody probes but where that
 * steers: it is load too.
 */
function configText(instance: string, lab: Lab, mode: "xdp" | "proxy", policies: readonly string[]): string {
  const backends = lab.backends.map(({ name, ipv4 }) => `{ name: ${name}, address: "${ipv4}" }`).join(", ");
  const pools = policies.map((policy) =>
    `  ${policy}: { health: ${mode === "xdp" && policy === STEERED ? PROBED : "{ type: none }"}, backends: [${backends}] }`);
  const services = policies.map((policy) =>
    `  - { name: ${policy}, address: "${VIP4}", port: ${portOf(policy)}, pool: ${policy}, forwarding: l2, algorithm: ${policy} }`);
  return `version: 1
instance: ${instance}
dataplane: { mode: ${mode}, interfaces: [eth0], hashSeed: "0123456789abcdef" }
pools:
${pools.join("\n")}
services:
${services.join("\n")}
`;
}

/** Policies that a plane serves. */
function servedBy(lab: Lab, mode: "xdp" | "proxy"): readonly string[] {
  if (mode === "proxy") return POLICIES;
  const parsed = parseConfig("bench.yaml", new TextEncoder().encode(configText("all", lab, mode, POLICIES)));
  if ("problems" in parsed) throw new Error(`the benchmark's config: ${JSON.stringify(parsed.problems)}`);
  const refused = new Set(refusedByXdp(parsed.config).map(({ service }) => service.split(" ")[0]));
  return POLICIES.filter((policy) => !refused.has(policy));
}

/** Until the slow one has what feedback leaves it, within the dead band. */
async function settle({ api }: Instance, slow: string): Promise<void> {
  await waitFor("feedback to settle", SETTLED_WITHIN_MS, async () => {
    const found = (await api.backends()).find(({ name }) => name === `${STEERED}/${slow}`);
    return Number(/feedback: (\d+)%/.exec(found?.reason ?? "")?.[1] ?? 100) <= 35;
  });
}

function startHaproxy(lab: Lab, directory: string): ChildProcess {
  const file = join(directory, "haproxy.cfg");
  const listens = HAPROXY_POLICIES.map((policy, at) => `listen p${at}
  bind ${VIP4}:${HAPROXY_PORT + at}
  balance ${policy}
${lab.backends.map(({ name, ipv4 }) => `  server ${name} ${ipv4}:${HAPROXY_PORT + at}`).join("\n")}`);
  writeFileSync(file, `global
  nbthread 1
defaults
  mode tcp
  timeout connect 10s
  timeout client 30s
  timeout server 30s
${listens.join("\n")}
`);
  return spawnIn(lab.balancer.namespace, "haproxy", ["-db", "-f", file], { stdio: "ignore" });
}

export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

async function ask({ lab, port }: Contestant, seconds: number, seed: number): Promise<Round> {
  const args = [VIP4, port, SETTING.ratePerSecond, seconds, seed].map(String);
  const ended = await runIn(lab.client.namespace, process.execPath, [join(ROOT, "dist/bench/open_loop_client.js"), ...args]);
  const answers = JSON.parse(ended.stdout) as readonly Answered[];
  const served = answers.filter(([name]) => name !== "");
  const took = served.map(([, ms]) => ms).sort((a, b) => a - b);
  return {
    p50Ms: percentile(took, 0.5), p99Ms: percentile(took, 0.99), p999Ms: percentile(took, 0.999),
    slowShare: served.filter(([name]) => name === lab.backends[0]!.name).length / Math.max(1, served.length),
    requests: answers.length, unanswered: answers.length - served.length,
  };
}

async function measure(contestants: readonly Contestant[], options: SlowBackendOptions): Promise<SlowBackendRow[]> {
  const rounds = new Map(contestants.map((each) => [each, [] as Round[]]));
  for (let round = 0; round < options.rounds; round++) {
    for (const each of contestants) {
      const result = await ask(each, options.seconds, round + 1);
      rounds.get(each)?.push(result);
      options.progress(`round ${round + 1}/${options.rounds}  ${each.who.padEnd(16)} ${each.policy.padEnd(18)} `
        + `p50 ${result.p50Ms.toFixed(0)}, p99 ${result.p99Ms.toFixed(0)} ms, `
        + `${(result.slowShare * 100).toFixed(1)} % to the slow one, ${result.unanswered} unanswered`);
    }
  }
  return contestants.map((each) => ({ who: each.who, policy: each.policy, rounds: rounds.get(each) ?? [] }));
}

/**
 * Runs the benchmark; needs root and the lab's programs. Some 10 s, a minute until feedback has settled, and a little more
 * than `seconds` for each policy and round.
 */
export async function benchSlowBackend(options: SlowBackendOptions): Promise<SlowBackendBench> {
  sweepLeftovers();
  const reaper = startReaper();
  const loadAverage = loadavg()[0]!;
  const directory = mkdtempSync(join(tmpdir(), "pointsman-slow-"));
  const closers: (() => Promise<void> | void)[] = [() => { rmSync(directory, { recursive: true, force: true }); }];
  try {
    const { only, rounds, seconds } = options;
    const contestants: Contestant[] = [];
    const isTaken = ({ who, policy }: Pick<Contestant, "who" | "policy">): boolean => only === null || only.test(`${who} ${policy}`);
    let settled: () => Promise<void> = () => Promise.resolve();
    for (const mode of ["xdp", "proxy"] as const) {
      const lab = raiseLab({ label: `slow-${mode}`, backends: SETTING.backends, mtu: 1500, localVip: mode === "proxy" });
      closers.push(() => { lab.close(); });
      await serve(lab);
      const name = instanceName(`slow-${mode}`);
      const served = servedBy(lab, mode);
      const instance = await startInstance(lab, name, configText(name, lab, mode, served));
      closers.push(() => instance.remove());
      const who = mode === "xdp" ? "pointsman XDP" : "pointsman proxy";
      contestants.push(...served.map((policy) => ({ who, policy, lab, port: portOf(policy) } as const)));
      if (mode === "xdp" && isTaken({ who, policy: STEERED })) settled = () => settle(instance, lab.backends[0]!.name);
      if (mode === "xdp" || !onPath("haproxy")) continue;
      const haproxy = startHaproxy(lab, directory);
      closers.push(() => { haproxy.kill("SIGKILL"); });
      contestants.push(...HAPROXY_POLICIES.map((policy, at) => ({ who: "HAProxy", policy, lab, port: HAPROXY_PORT + at } as const)));
    }
    const taken = contestants.filter(isTaken);
    await settled();
    return {
      machine: describeMachine(), command: `pointsman bench slow_backend --rounds ${rounds} --seconds ${seconds}`,
      seconds, rounds, loadAverage, setting: SETTING, haproxy: await haproxyVersion(), rows: await measure(taken, options),
    };
  } finally {
    for (const close of closers.reverse()) await close();
    reaper.release();
  }
}

/** Null where it is not installed. */
async function haproxyVersion(): Promise<string | null> {
  if (!onPath("haproxy")) return null;
  const { stdout } = await runIn(null, "haproxy", ["-v"]);
  return /version (\d[\w.]*)/.exec(stdout)?.[1] ?? "unknown";
}
