// An upgrade under traffic, and the way back: a supervisor of a release whose maps have another shape is killed, another
// one takes its plane over, under connections that check every byte and a stream of numbered datagrams. The flows are
// those that only the flow tables know: they began before a backend was added.

import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { raiseLab, VIP4, VIP6, type Lab } from "../../scripts/lab_network.ts";
import {
  instanceName, labConfig, serveBackend, startInstance, startLoad, verdictPackets, type Instance, type Load,
} from "../../scripts/lab_services.ts";
import { buildEarlierRelease, type EarlierRelease } from "../support/earlier_release.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";

const [CONNECTIONS, PORTS] = [40, 8];

describeKernel("an upgrade under traffic", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  let earlier: EarlierRelease;
  let lab: Lab | undefined;
  let instance: Instance | undefined;

  beforeAll(async () => { earlier = await buildEarlierRelease(); }, 120_000);
  afterAll(async () => {
    await instance?.remove();
    lab?.close();
    earlier?.remove();
  });

  async function takeOver(of: Lab, before: Instance, text: string, built?: string): Promise<Instance> {
    const counted = await verdictPackets(of, "TX_FORWARDED");
    await before.stop("SIGKILL");
    const next = await startInstance(of, before.name, text, join(before.configPath, ".."), [], built);
    expect(next.log()).toContain("took over the plane of another version");
    expect(next.log()).not.toContain("cannot be taken over");
    const status = JSON.parse(await next.verb("status", "-o", "json")) as { adopted: boolean; mode: string };
    expect(status).toMatchObject({ adopted: true, mode: "xdp" });
    expect(await verdictPackets(of, "TX_FORWARDED")).toBeGreaterThanOrEqual(counted);
    return next;
  }

  it.each(["l2", "fullnat"] as const)("loses no packet and no flow, there and back: %s", async (forwarding) => {
    const raised = lab = raiseLab({ label: `up${forwarding}`, backends: 3, mtu: 1500, localVip: false });
    for (const each of raised.backends) await serveBackend(each, { iperf: false, decap: false });
    const name = instanceName(`up${forwarding}`);
    const config = (count: number): string => labConfig(name, {
      forwarding, mode: "xdp", backends: raised.backends.slice(0, count), backendFamily: 4, extra: "",
    }).replaceAll(new RegExp(`(address: "${VIP6}".*forwarding: l2)`, "g"), "$1, tracking: full");
    let running = instance = await startInstance(raised, name, config(2), undefined, [], join(earlier.root, "dist"));
    const begin = (kind: "hold" | "stream", address: string, count: number): Promise<Load> => startLoad(
      raised.client.namespace, "scripts/lab_client.js", kind, address, "7", String(count), "0");
    const loads: Load[] = [];
    for (const address of forwarding === "l2" ? [VIP4, VIP6] : [VIP4]) {
      loads.push(await begin("hold", address, CONNECTIONS), await begin("stream", address, PORTS));
    }
    running.configure(config(3));
    await running.verb("reload");
    running = instance = await takeOver(raised, running, config(3));
    running = instance = await takeOver(raised, running, config(3), join(earlier.root, "dist"));
    running = instance = await takeOver(raised, running, config(3));
    for (const load of loads) load.process.kill("SIGTERM");
    for (const load of loads) {
      const said = await load.lastLine;
      const [good, bad] = [...said.matchAll(/\d+/g)].map(([digits]) => Number(digits));
      if (said.startsWith("held")) expect([good, bad], said).toEqual([CONNECTIONS, 0]);
      else expect(bad, said).toBe(good);
    }
    await running.remove();
    instance = undefined;
    raised.close();
    lab = undefined;
  }, 180_000);
});
