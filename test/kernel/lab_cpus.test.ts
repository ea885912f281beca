// A flow's packets come by one receive queue and CPU, then by another one, and stay with the backend that only
// memory leads to: it is being drained, so the ring has given its slots away.

import { availableParallelism } from "node:os";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { raiseLab, VIP4, VIP6, type Lab } from "../../scripts/lab_network.ts";
import {
  curlShares, instanceName, labConfig, serveBackend, startInstance, startLoad, waitFor, type Instance, type LabForwarding, type Load,
} from "../../scripts/lab_services.ts";
import { runIn, runInSync } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";

const CPUS = [0, 1] as const;
const MOVES = 6;
const FLOWS = 30;

const WAYS: readonly (readonly [LabForwarding, "minimal" | "full" | null])[] = [
  ["l2", "full"], ["l2", "minimal"], ["nat", null], ["fullnat", null],
];

/** What the CPU with this number sends to the balancer arrives in the queue with this number, and is served by that CPU. */
function oneQueuePerCpu({ network, balancer }: Lab): void {
  const channels = (namespace: string, link: string): void => {
    runInSync(namespace, "ethtool", ["-L", link, "rx", "2", "tx", "2"]);
  };
  channels(balancer.namespace, "eth0");
  channels(network, balancer.name);
  for (const cpu of CPUS) {
    // Of the namespace's own links, which another /sys shows.
    runInSync(null, "ip", ["netns", "exec", network, "sh", "-c",
      `echo ${1 << cpu} > /sys/class/net/${balancer.name}/queues/tx-${cpu}/xps_cpus`]);
  }
}

/** Packets that the program has met, by receive queue. */
async function byQueue({ balancer }: Lab): Promise<number[]> {
  const { stdout } = await runIn(balancer.namespace, "ethtool", ["-S", "eth0"]);
  return CPUS.map((queue) => Number(new RegExp(`rx_queue_${queue}_xdp_packets: (\\d+)`).exec(stdout)?.[1] ?? Number.NaN));
}

describeKernel("flows on the move between CPUs", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  let lab: Lab;
  let instance: Instance | null = null;

  beforeAll(async () => {
    lab = raiseLab({ label: "cpus", backends: 3, mtu: 1500, localVip: false });
    oneQueuePerCpu(lab);
    await Promise.all(lab.backends.map((host) => serveBackend(host, { iperf: false, decap: false })));
  });
  afterEach(async () => {
    await instance?.remove();
    instance = null;
  });
  afterAll(() => { lab?.close(); });

  async function start([forwarding, tracking]: typeof WAYS[number], family: 4 | 6): Promise<Instance> {
    // From here on, since the ways that need it come last.
    if (tracking === null) lab.returnThroughBalancer();
    const name = instanceName("cpus");
    const text = labConfig(name, {
      forwarding, mode: "xdp", backends: lab.backends, backendFamily: family, extra: "", health: "{ type: none }",
    });
    const told = tracking === null ? text : text.replaceAll("hash: 5-tuple", `hash: 5-tuple, tracking: ${tracking}`);
    instance = await startInstance(lab, name, told);
    return instance;
  }

  /** Has all threads of the loads run on one CPU after the other, on each until its queue has brought their packets. */
  async function moveAbout(loads: readonly Load[]): Promise<void> {
    for (let move = 0; move < MOVES; move++) {
      const cpu = CPUS[move % CPUS.length]!;
      await Promise.all(loads.map(({ process: { pid } }) => runIn(null, "taskset", ["-acp", String(cpu), String(pid)])));
      const before = await byQueue(lab);
      await waitFor(`packets by queue ${cpu}`, 20_000, async () => (await byQueue(lab))[cpu]! >= before[cpu]! + 2 * FLOWS);
    }
  }

  (availableParallelism() < CPUS.length ? it.skip : it).each(WAYS.flatMap((way) => [4, 6].map((family) => [...way, family] as const)))(
    "%s, tracking %s, IPv%i", { timeout: 60_000 }, async (forwarding, tracking, family) => {
      const at = family === 4 ? VIP4 : VIP6;
      const running = await start([forwarding, tracking], family as 4 | 6);
      const loads = await Promise.all((["hold", "stream"] as const).map((kind) => startLoad(
        lab.client.namespace, "scripts/lab_client.js", kind, at, "7", String(FLOWS), "0",
      )));
      await moveAbout(loads);
      await running.verb("drain", "web-1");
      await moveAbout(loads);
      for (const load of loads) load.process.kill("SIGTERM");
      const [held, streamed] = await Promise.all(loads.map(({ lastLine }) => lastLine));
      expect(held).toBe(`held ${FLOWS}, broken 0`);
      // A busy machine may lose datagrams in the queues of sockets; to another backend goes none.
      expect(streamed).toMatch(/^sent \d+, answered [1-9]\d*, moved 0$/);
      expect([...(await curlShares(lab, at, FLOWS)).keys()], "new ones").not.toContain("web-1");
    });
});
