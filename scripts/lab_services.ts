// What runs in the lab: the backends' servers, a pointsman instance on the balancer, and the client's
// traffic. Knows the programs and how to ask them who answered; knows nothing of packets or maps.

import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { connectClient, type Client } from "../src/api/client.ts";
import type { VerdictName } from "../src/model/decide.ts";
import type { Lab, LabHost } from "./lab_network.ts";
import { VIP4, VIP6 } from "./lab_network.ts";
import { ownName, runIn, spawnIn } from "./namespaces.ts";

/** The package's root: this file is scripts/ there, or dist/scripts/. */
export const ROOT = fileURLToPath(
  new URL(import.meta.url.includes("/dist/") ? "../.." : "..", import.meta.url),
).replace(/\/$/, "");
const BUILT = join(ROOT, "dist");

export interface ServedBackend {
  readonly host: LabHost;
  readonly process: ChildProcess;
  /** Ends every process of this backend at once, as a power cut would. */
  kill(): void;
}

/** Starts a lab backend, and iperf3 bound to the virtual addresses, or its own, when asked. Resolves when it serves. */
export async function serveBackend(
  host: LabHost,
  options: { readonly iperf: boolean | "own addresses"; readonly decap: boolean },
): Promise<ServedBackend> {
  const processes: ChildProcess[] = [];
  const start = (command: string, args: readonly string[]): ChildProcess => {
    const child = spawnIn(host.namespace, command, args);
    processes.push(child);
    return child;
  };
  // Direct server return and tunnels reach it by the virtual addresses, the proxy by its own.
  const addresses = [VIP4, VIP6, host.ipv4, host.ipv6];
  const program = join(BUILT, "scripts/lab_backend.js");
  const server = start(process.execPath, [program, host.name, "80", "7", ...addresses]);
  await firstLine(server, `${host.name}'s server`);
  if (options.iperf !== false) {
    for (const address of options.iperf === true ? [VIP4, VIP6] : [host.ipv4, host.ipv6])
      start("iperf3", ["-s", "-B", address, "-p", "5201"]);
  }
  if (options.decap) processes.push((await startDecap(host)).process);
  return {
    host,
    process: server,
    kill: () => {
      for (const child of processes) child.kill("SIGKILL");
    },
  };
}

/**
 * Starts the backend's side of a tunnel, which unwraps packets for the virtual addresses, with more options;
 * with `-o json`, its last line has the counters.
 */
export function startDecap({ namespace }: LabHost, ...options: readonly string[]): Promise<Load> {
  const addresses = [VIP4, VIP6].flatMap((address) => ["--address", address]);
  return startLoad(namespace, "src/main.js", "decap", "--interface", "eth0", ...addresses, ...options);
}

/** Waits for a program's first line; what it said instead is in the error. */
export async function firstLine(child: ChildProcess, what: string): Promise<string> {
  let said = "";
  const take = (chunk: Buffer): void => {
    said += chunk.toString();
  };
  child.stdout?.on("data", take);
  child.stderr?.on("data", take);
  const ended = once(child, "exit").then(([status]) => {
    throw new Error(`${what} ended with ${String(status)}: ${said.trim()}`);
  });
  await Promise.race([
    ended,
    (async () => {
      while (!said.includes("\n")) await sleep(5);
    })(),
  ]);
  ended.catch(() => undefined);
  return said;
}

/** A program of the lab's that runs for a while. */
export interface Load {
  readonly process: ChildProcess;
  /** The last line that it printed, once it has ended. */
  readonly lastLine: Promise<string>;
  /** All that it has printed so far. */
  said(): string;
}

/** Starts one of dist/, `scripts/lab_client.js` say, in a namespace; resolves when it has printed its first line. */
export async function startLoad(namespace: string, program: string, ...args: readonly string[]): Promise<Load> {
  const child = spawnIn(namespace, process.execPath, [join(BUILT, program), ...args]);
  let said = "";
  child.stdout?.on("data", (chunk: Buffer) => { said += chunk.toString(); });
  const lastLine = once(child, "close").then(() => said.trim().split("\n").at(-1) ?? "");
  await firstLine(child, program);
  return { process: child, lastLine, said: () => said };
}

/** Ways of forwarding that the lab's hosts are made for; gue1 is gue without its header. */
export const LAB_FORWARDINGS = ["l2", "ipip", "gue", "gue1", "gre", "nat", "fullnat"] as const;
export type LabForwarding = (typeof LAB_FORWARDINGS)[number];
export type TranslatedForwarding = "nat" | "fullnat";
/** Backends answer clients themselves. */
export type DirectForwarding = Exclude<LabForwarding, TranslatedForwarding>;

/** Throws for what the lab cannot do. */
export function labForwarding(text: string): LabForwarding {
  const found = LAB_FORWARDINGS.find((each) => each === text);
  if (found === undefined)
    throw new Error(`--forwarding ${text}: the lab has ${LAB_FORWARDINGS.join(", ")}`);
  return found;
}

/** Whether the backends have to unwrap what the balancer sends. */
export function isTunnel(forwarding: LabForwarding): boolean {
  return forwarding !== "l2" && !isTranslated(forwarding);
}

/** Whether the balancer changes addresses, and the backends answer by way of it. */
export function isTranslated(forwarding: LabForwarding): forwarding is TranslatedForwarding {
  return forwarding === "nat" || forwarding === "fullnat";
}

export interface LabConfig {
  readonly forwarding: LabForwarding;
  readonly mode: "auto" | "xdp" | "proxy";
  readonly backends: readonly LabHost[];
  /** Family of the backends' addresses; tunnels may mix it with the service's. */
  readonly backendFamily: 4 | 6;
  readonly extra: string;
  /** Where XDP attaches; absent: eth0. */
  readonly interfaces?: readonly string[];
  /** Another key of `dataplane`; absent: none. */
  readonly dataplane?: string;
  /** Absent: by HTTP, often. */
  readonly health?: string;
  /** More services, as lines of the list. */
  readonly services?: string;
}

const HEALTH = "{ type: http, path: /health, port: 80, interval: 500ms, timeout: 300ms, rise: 2, fall: 2 }";

/**
 * The lab's configuration: HTTP and both echo services on each virtual address, iperf3 by source. Translation
 * keeps the family, and has the virtual address of its backends'.
 */
export function labConfig(instance: string, config: LabConfig): string {
  const backends = config.backends
    .map((host) => `      - { name: ${host.name}, address: "${config.backendFamily === 4 ? host.ipv4 : host.ipv6}" }`)
    .join("\n");
  const service = (name: string, address: string, port: number, protocol: string, hash: string): string =>
    `  - { name: ${name}, address: "${address}", port: ${port}, protocol: ${protocol}, hash: ${hash}, pool: web,`
    + ` forwarding: ${config.forwarding === "gue1" ? "gue, gue: { variant: 1 }" : config.forwarding} }`;
  const services = (
    [
      [4, VIP4],
      [6, VIP6],
    ] as const
  ).filter(([family]) => !isTranslated(config.forwarding) || family === config.backendFamily).flatMap(([family, address]) => [
    service(`web-${family}`, address, 80, "tcp", "5-tuple"),
    service(`echo-tcp-${family}`, address, 7, "tcp", "5-tuple"),
    service(`echo-udp-${family}`, address, 7, "udp", "5-tuple"),
    service(`iperf-tcp-${family}`, address, 5201, "tcp", "source-ip"),
    service(`iperf-udp-${family}`, address, 5201, "udp", "source-ip"),
  ]);
  return `version: 1
instance: ${instance}
dataplane:
  mode: ${config.mode}
  interfaces: [${(config.interfaces ?? ["eth0"]).join(", ")}]
  hashSeed: "0123456789abcdef"
${config.dataplane === undefined ? "" : `  ${config.dataplane}\n`}${config.extra}pools:
  web:
    health: ${config.health ?? HEALTH}
    backends:
${backends}
services:
${services.join("\n")}
${config.services ?? ""}`;
}

/** A running `pointsman run`, its verbs, and its files. */
export interface Instance {
  readonly name: string;
  readonly configPath: string;
  readonly process: ChildProcess;
  /** Its control API, without a process for each question; until it is stopped. */
  readonly api: Client;
  /** What it logged so far. */
  log(): string;
  /** Runs a verb against it, in the balancer's namespace; throws for a status other than 0. */
  verb(...args: string[]): Promise<string>;
  /** Replaces the configuration file; SIGHUP is the caller's. */
  configure(text: string): void;
  /** Ends it (SIGTERM unless told) and waits. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** Detaches the data plane and removes the files. */
  remove(): Promise<void>;
}

export function instanceName(label: string): string {
  return ownName(label);
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}

/** Has a running supervisor take its plane down, and waits for its end: no process is needed to ask for that. */
async function endDetached(child: ChildProcess, api: Client): Promise<boolean> {
  if (hasEnded(child)) return false;
  try {
    await api.detach("lab");
    await waitFor("the instance to end", 20_000, () => Promise.resolve(hasEnded(child)));
  } catch {
    return false;
  }
  return child.exitCode === 0;
}

/**
 * Starts `pointsman run` on the balancer, by way of the command `through`, and waits until it is ready. `built`: the
 * dist/ that it runs, where it is not this checkout's. `more`: options of `run`.
 */
export async function startInstance(
  lab: { readonly balancer: { readonly namespace: string } }, name: string, text: string,
  directory?: string, through: readonly string[] = [], built = BUILT, more: readonly string[] = [],
): Promise<Instance> {
  const home = directory ?? mkdtempSync(join(tmpdir(), "pointsman-"));
  const configPath = join(home, "pointsman.yaml");
  writeFileSync(configPath, text);
  const main = join(built, "src/main.js");
  const run = ["run", "-c", configPath, "--state-directory", join(home, "state"), ...more];
  const [command = process.execPath, ...args] = [...through, process.execPath, main, ...run];
  const child = spawnIn(lab.balancer.namespace, command, args);
  let log = "";
  let closing: Promise<void> | null = null;
  for (const stream of [child.stdout, child.stderr])
    stream?.on("data", (chunk: Buffer) => {
      log += chunk.toString();
    });
  const verb = async (...args: string[]): Promise<string> =>
    (await runIn(lab.balancer.namespace, process.execPath, [main, ...args, "--instance", name])).stdout;
  const api = connectClient(`/run/pointsman/${name}.sock`, name);
  const instance: Instance = {
    name,
    configPath,
    process: child,
    api,
    verb,
    log: () => log,
    configure: (next) => {
      writeFileSync(configPath, next);
    },
    stop: async (signal = "SIGTERM") => {
      closing ??= api.close();
      await closing;
      if (hasEnded(child)) return;
      child.kill(signal);
      await once(child, "exit");
    },
    remove: async () => {
      const isDetached = await endDetached(child, api);
      await instance.stop();
      // What a supervisor that has ended left behind, or one that does not answer, is the command's.
      if (!isDetached)
        await runIn(lab.balancer.namespace, process.execPath, [main, "detach", "--instance", name], { check: false });
      rmSync(home, { recursive: true, force: true });
    },
  };
  await waitFor("the instance to be ready", 60_000, async () => {
    if (child.exitCode !== null) throw new Error(`pointsman run ended with ${child.exitCode}: ${log}`);
    const answer = await runIn(
      lab.balancer.namespace,
      "curl",
      ["-s", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:9469/readyz"],
      { check: false },
    );
    return answer.stdout === "200";
  }).catch(async (error: unknown) => {
    // A directory of the caller's may hold the state of an earlier instance: only our own goes.
    if (directory === undefined) await instance.remove();
    else await instance.stop();
    throw new Error(`${String(error)}\n${log}`);
  });
  return instance;
}

/** How many packets ended with this verdict, as the instance's metrics have it. */
export async function verdictPackets(lab: Pick<Lab, "balancer">, verdict: VerdictName): Promise<number> {
  const url = "http://127.0.0.1:9469/metrics";
  const { stdout } = await runIn(lab.balancer.namespace, "curl", ["-sf", "-m", "5", url]);
  const name = `pointsman_verdict_packets_total{verdict="${verdict}"}`;
  const line = stdout.split("\n").find((each) => each.startsWith(name));
  if (line === undefined) throw new Error(`the metrics have no ${name}`);
  return Number(line.slice(name.length));
}

/** Asks again and again, with a generous deadline, until the condition holds. */
export async function waitFor(what: string, deadlineMs: number, condition: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + deadlineMs;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited ${deadlineMs} ms in vain for ${what}`);
    await sleep(50);
  }
}

/** Who answered how often; requests that nobody answered are under "". */
export type Shares = ReadonlyMap<string, number>;

export function tally(answers: readonly string[], wanted: number): Shares {
  const shares = new Map<string, number>();
  for (const answer of answers) shares.set(answer, (shares.get(answer) ?? 0) + 1);
  const lost = wanted - answers.length;
  if (lost > 0) shares.set("", lost);
  return new Map([...shares].sort(([a], [b]) => a.localeCompare(b)));
}

/** `count` HTTP requests from the client by curl, each on a connection of its own. */
export async function curlShares(lab: Pick<Lab, "client">, address: string, count: number): Promise<Shares> {
  const host = address.includes(":") ? `[${address}]` : address;
  const ended = await runIn(
    lab.client.namespace,
    "curl",
    ["-s", "-Z", "--parallel-max", "16", "-m", "3", "-H", "Connection: close", `http://${host}/?[1-${count}]`],
    { check: false },
  );
  return tally(
    ended.stdout.split("\n").filter((line) => line !== ""),
    count,
  );
}

/** `count` datagrams from the client, of at least so many bytes, each from a port of its own. */
export async function udpShares(
  lab: Pick<Lab, "client">, address: string, count: number, bytes = 0,
): Promise<Shares> {
  const ended = await runIn(lab.client.namespace, process.execPath, [
    join(BUILT, "scripts/lab_client.js"),
    "udp",
    address,
    "7",
    String(count),
    String(bytes),
  ]);
  return tally(
    ended.stdout.split("\n").filter((line) => line !== ""),
    count,
  );
}
