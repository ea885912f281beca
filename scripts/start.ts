// `npm start`: the main job on an embedded default, seen from outside. With XDP: a lab of namespaces,
// real TCP and UDP through the XDP program, a backend killed, the ring rewritten, traffic going on.
// Without: the proxy on 127.0.0.1, and why. Ends by itself unless --keep. Knows no map and no packet.

import { parseArgs } from "node:util";
import { raiseLab, VIP4, VIP6 } from "./lab_network.ts";
import type { Lab } from "./lab_network.ts";
import {
  curlShares,
  instanceName,
  isTunnel,
  labConfig,
  labForwarding,
  serveBackend,
  startInstance,
  udpShares,
  waitFor,
} from "./lab_services.ts";
import type { Instance, ServedBackend } from "./lab_services.ts";
import { deleteOwn, runIn, startReaper, sweepLeftovers } from "./namespaces.ts";
import { proxyDemonstration } from "./start_proxy.ts";
import { heading, indented, say, showHosts, showShares, untilInterrupted } from "./transcript.ts";
import { whyNoLab } from "./lab_available.ts";

const REQUESTS = 600;
const { values: options } = parseArgs({
  options: {
    keep: { type: "boolean", default: false },
    forwarding: { type: "string", default: "l2" },
    seconds: { type: "string", default: "3" },
  },
});

async function showTraffic(lab: Lab): Promise<void> {
  showShares(`TCP: ${REQUESTS} connections by curl to ${VIP4}:80`, await curlShares(lab, VIP4, REQUESTS));
  showShares(`TCP: ${REQUESTS} connections by curl to [${VIP6}]:80`, await curlShares(lab, VIP6, REQUESTS));
  showShares(`UDP: ${REQUESTS} datagrams to ${VIP4}:7, a port each`, await udpShares(lab, VIP4, REQUESTS));
  showShares(`UDP: ${REQUESTS} datagrams to [${VIP6}]:7, a port each`, await udpShares(lab, VIP6, REQUESTS));
}

async function showThroughput(lab: Lab, seconds: string): Promise<void> {
  const wrk = await runIn(lab.client.namespace, "wrk", ["-t1", "-c64", `-d${seconds}s`, `http://${VIP4}/`], {
    check: false,
  });
  for (const line of wrk.stdout.split("\n"))
    if (/Requests\/sec|Socket errors|requests in/.test(line)) say(`  wrk     ${line.trim()}`);
  for (const [what, more] of [
    ["upload", []],
    ["download", ["-R"]],
    ["UDP 64 B", ["-u", "-l", "64", "-b", "50M"]],
  ] as const) {
    const ended = await runIn(lab.client.namespace, "iperf3", ["-c", VIP4, "-t", seconds, "-f", "m", ...more], {
      check: false,
    });
    const lines = ended.stdout.split("\n").filter((line) => /receiver|error/.test(line));
    say(
      `  iperf3  ${what.padEnd(9)} ${
        lines
          .at(-1)
          ?.replace(/^\[.*?\]/, "")
          .trim() ?? ended.stderr.trim()
      }`,
    );
  }
}

async function killOne(lab: Lab, instance: Instance, served: readonly ServedBackend[]): Promise<void> {
  const victim = served[1];
  if (victim === undefined) return;
  heading(`${victim.host.name} is killed; the health checker takes it out of the ring`);
  victim.kill();
  await waitFor(`${victim.host.name} to be down`, 15_000, async () => {
    const backends = JSON.parse(await instance.verb("backends", "-o", "json")) as { name: string; state: string }[];
    return backends.some((backend) => backend.name === `web/${victim.host.name}` && backend.state === "down");
  });
  indented(await instance.verb("backends"));
  await showTraffic(lab);
}

async function killSupervisor(lab: Lab, instance: Instance): Promise<void> {
  heading("the supervisor is killed (kill -9); the XDP program goes on forwarding");
  await instance.stop("SIGKILL");
  showShares(
    `TCP: ${REQUESTS} connections by curl to ${VIP4}:80, without a supervisor`,
    await curlShares(lab, VIP4, REQUESTS),
  );
}

/** Tells the story in the lab; answers why it could not begin, or null once it is told. */
async function labDemonstration(): Promise<string | null> {
  sweepLeftovers();
  const reaper = startReaper();
  const forwarding = labForwarding(options.forwarding);
  let instance: Instance | null = null;
  try {
    heading("a lab: client, balancer and three backends in network namespaces");
    const lab = raiseLab({ label: "start", backends: 3, mtu: 1500, localVip: false });
    showHosts(lab);
    const served: ServedBackend[] = [];
    for (const host of lab.backends)
      served.push(await serveBackend(host, { iperf: true, decap: isTunnel(forwarding) }));
    const name = instanceName("start");
    const config = labConfig(name, { forwarding, mode: "xdp", backends: lab.backends, backendFamily: 4, extra: "" });
    try {
      instance = await startInstance(lab, name, config);
    } catch (error) {
      // What this host refuses shows only now; without XDP nobody here has the virtual addresses.
      const said = /^pointsman: ([A-Z_]+: .*)$/m.exec(String(error))?.[1];
      if (said === undefined) throw error;
      return said;
    }
    heading("pointsman status");
    indented(await instance.verb("status"));
    heading("traffic from the client, spread by the XDP program");
    await showTraffic(lab);
    heading("throughput (client, balancer and backends share this machine's cores)");
    await showThroughput(lab, options.seconds);
    await killOne(lab, instance, served);
    if (options.keep) await keep(lab, instance);
    else await killSupervisor(lab, instance);
    return null;
  } finally {
    heading("clean-up");
    await instance?.remove();
    deleteOwn();
    reaper.release();
    say("  namespaces, pins and processes are gone");
  }
}

async function keep(lab: Lab, instance: Instance): Promise<void> {
  heading("kept running; Ctrl-C ends it");
  say(`  nsenter --net=/run/netns/${lab.client.namespace} curl http://${VIP4}/`);
  say(`  nsenter --net=/run/netns/${lab.balancer.namespace} node dist/src/main.js status --instance ${instance.name}`);
  await untilInterrupted();
}

const obstacle = (await whyNoLab()) ?? (await labDemonstration());
if (obstacle !== null) await proxyDemonstration(obstacle, REQUESTS, options.keep);
