// `npm start` where XDP cannot run: the proxy plane on 127.0.0.1 against three embedded backends, with
// the same story: traffic, a backend killed, traffic going on. Knows nothing of namespaces.

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { firstLine, ROOT, tally, waitFor } from "./lab_services.ts";
import type { Shares } from "./lab_services.ts";
import { runIn } from "./namespaces.ts";
import { heading, indented, say, showShares, untilInterrupted } from "./transcript.ts";

const LOOPBACK = "127.0.0.1";
const NAMES = ["web-1", "web-2", "web-3"];
const MAIN = join(ROOT, "dist/src/main.js");

/** A port that is free for TCP and UDP just now. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, LOOPBACK);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const datagrams = createSocket("udp4");
  datagrams.bind(port, LOOPBACK);
  await once(datagrams, "listening");
  datagrams.close();
  server.close();
  await once(server, "close");
  return port;
}

interface Ports {
  readonly web: number;
  readonly echo: number;
  readonly metrics: number;
}

function configText(instance: string, directory: string, vip: Ports, backends: readonly Ports[]): string {
  const pool = (name: string, port: (of: Ports) => number): string => `  ${name}:
    health: { type: tcp, interval: 500ms, timeout: 300ms, rise: 2, fall: 2 }
    backends:
${backends.map((ports, i) => `      - { name: ${NAMES[i] ?? ""}, address: ${LOOPBACK}, port: ${port(ports)} }`).join("\n")}`;
  return `version: 1
instance: ${instance}
dataplane: { mode: auto, interfaces: [lo] }
control: { socket: ${join(directory, "control.sock")} }
observe: { listen: "${LOOPBACK}:${vip.metrics}" }
stateDirectory: ${join(directory, "state")}
pools:
${pool("web", (ports) => ports.web)}
${pool("echo", (ports) => ports.echo)}
services:
  - { name: web, address: ${LOOPBACK}, port: ${vip.web}, protocol: tcp, forwarding: fullnat, pool: web }
  - { name: echo, address: ${LOOPBACK}, port: ${vip.echo}, protocol: udp, forwarding: fullnat, pool: echo }
`;
}

async function ask(what: "tcp" | "udp", port: number, count: number): Promise<Shares> {
  const ended = await runIn(null, process.execPath, [
    join(ROOT, "dist/scripts/lab_client.js"),
    what,
    LOOPBACK,
    String(port),
    String(count),
  ]);
  return tally(
    ended.stdout.split("\n").filter((line) => line !== ""),
    count,
  );
}

async function showTraffic(vip: Ports, count: number): Promise<void> {
  showShares(`TCP: ${count} connections to ${LOOPBACK}:${vip.web}`, await ask("tcp", vip.web, count));
  showShares(`UDP: ${count} datagrams to ${LOOPBACK}:${vip.echo}, a port each`, await ask("udp", vip.echo, count));
}

/** Runs the story; `obstacle` says why there is no XDP. */
export async function proxyDemonstration(obstacle: string, count: number, keep: boolean): Promise<void> {
  heading("no XDP on this machine: the proxy plane serves instead");
  say(`  ${obstacle}`);
  const directory = mkdtempSync(join(tmpdir(), "pointsman-"));
  const processes: ChildProcess[] = [];
  const start = async (what: string, ...args: string[]): Promise<ChildProcess> => {
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    processes.push(child);
    await firstLine(child, what);
    return child;
  };
  try {
    const ports: Ports[] = [];
    for (let i = 0; i <= NAMES.length; i++) {
      ports.push({ web: await freePort(), echo: await freePort(), metrics: await freePort() });
    }
    const [vip, ...backends] = ports;
    if (vip === undefined) throw new Error("no ports");
    const served: ChildProcess[] = [];
    for (const [i, of] of backends.entries()) {
      served.push(
        await start(
          `backend ${NAMES[i] ?? ""}`,
          join(ROOT, "dist/scripts/lab_backend.js"),
          NAMES[i] ?? "",
          String(of.web),
          String(of.echo),
          LOOPBACK,
        ),
      );
    }
    const file = join(directory, "pointsman.yaml");
    writeFileSync(file, configText("start", directory, vip, backends));
    await start("pointsman run", MAIN, "run", "-c", file);
    const verb = async (...args: string[]): Promise<string> =>
      (await runIn(null, process.execPath, [MAIN, ...args, "--socket", join(directory, "control.sock")])).stdout;
    await waitFor("the instance to be ready", 20_000, async () => {
      const answer = await fetch(`http://${LOOPBACK}:${vip.metrics}/readyz`).catch(() => null);
      return answer?.status === 200;
    });
    heading("pointsman status");
    indented(await verb("status"));
    heading("traffic through the proxy");
    await showTraffic(vip, count);
    heading("web-2 is killed; the health checker takes it out of the ring");
    served[1]?.kill("SIGKILL");
    await waitFor("web-2 to be down", 15_000, async () => {
      const known = JSON.parse(await verb("backends", "-o", "json")) as { backend: string; state: string }[];
      return known.filter(({ backend, state }) => backend === "web-2" && state === "down").length === 2;
    });
    indented(await verb("backends"));
    await showTraffic(vip, count);
    if (keep) await untilInterrupted();
  } finally {
    heading("clean-up");
    for (const child of processes) child.kill("SIGTERM");
    for (const child of processes) {
      if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    }
    rmSync(directory, { recursive: true, force: true });
    say("  processes and files are gone");
  }
}
