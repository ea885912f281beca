// `npm run lab`: raises the lab with an instance in it and keeps it until Ctrl-C, for people who want to
// look around. Knows how to say where things are; tests and benchmarks raise labs of their own.

import { parseArgs } from "node:util";
import type { Lab } from "./lab_network.ts";
import { raiseLab, VIP4, VIP6 } from "./lab_network.ts";
import type { Instance } from "./lab_services.ts";
import {
  instanceName, isTunnel, labConfig, labForwarding, serveBackend, startInstance,
} from "./lab_services.ts";
import { whyNoLab } from "./lab_available.ts";
import { deleteOwn, startReaper, sweepLeftovers } from "./namespaces.ts";
import { heading, say, showHosts, untilInterrupted } from "./transcript.ts";

const { values } = parseArgs({
  options: {
    backends: { type: "string", default: "3" },
    forwarding: { type: "string", default: "l2" },
    mode: { type: "string", default: "auto" },
    mtu: { type: "string", default: "1500" },
  },
});

async function run(): Promise<void> {
  const obstacle = await whyNoLab();
  if (obstacle !== null) throw new Error(obstacle);
  sweepLeftovers();
  const reaper = startReaper();
  const forwarding = labForwarding(values.forwarding);
  const mode = values.mode === "proxy" ? "proxy" : "auto";
  let instance: Instance | null = null;
  try {
    const lab = raiseLab({
      label: "lab", backends: Number(values.backends), mtu: Number(values.mtu), localVip: mode === "proxy",
    });
    for (const host of lab.backends) await serveBackend(host, { iperf: true, decap: isTunnel(forwarding) });
    const name = instanceName("lab");
    const config = { forwarding, mode, backends: lab.backends, backendFamily: 4, extra: "" } as const;
    instance = await startInstance(lab, name, labConfig(name, config));
    showHosts(lab);
    sayHowToLookAround(lab, instance);
    await untilInterrupted();
  } finally {
    await instance?.remove();
    deleteOwn();
    reaper.release();
  }
}

function sayHowToLookAround(lab: Lab, instance: Instance): void {
  heading("kept running; Ctrl-C ends it");
  const inside = (namespace: string, command: string): void => { say(`  nsenter --net=/run/netns/${namespace} ${command}`); };
  inside(lab.client.namespace, `curl http://${VIP4}/`);
  inside(lab.client.namespace, `curl 'http://[${VIP6}]/'`);
  inside(lab.client.namespace, `iperf3 -c ${VIP4}`);
  inside(lab.balancer.namespace, `node dist/src/main.js status --watch --instance ${instance.name}`);
}

await run().catch((error: unknown) => {
  process.stderr.write(`lab: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
