// The rules of a pool in the XDP plane: a reserve comes when too few are up, a sorry backend when nobody is, and
// both go again, with every slot where it was.

import { afterAll, beforeAll, expect, it } from "vitest";
import type { Lab } from "../../scripts/lab_network.ts";
import { raiseLab, VIP4, VIP6 } from "../../scripts/lab_network.ts";
import type { Instance, ServedBackend } from "../../scripts/lab_services.ts";
import {
  curlShares, instanceName, labConfig, serveBackend, startInstance, udpShares, waitFor,
} from "../../scripts/lab_services.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";

const REQUESTS = 40;
const PATIENCE_MS = 20_000;

describeKernel("a pool with a reserve and a sorry backend", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  let lab: Lab;
  let instance: Instance;
  const served = new Map<string, ServedBackend>();
  const states = async (): Promise<string> => {
    const all = JSON.parse(await instance.verb("backends", "-o", "json")) as { name: string; state: string }[];
    return all.map(({ state }) => state).join(" ");
  };
  const slots = async (): Promise<string[]> =>
    (JSON.parse(await instance.verb("ring", "web-4", "-o", "json")) as { slots: string[] }).slots;
  const met = async (): Promise<string[]> => {
    const shares = [
      await curlShares(lab, VIP4, REQUESTS), await curlShares(lab, VIP6, REQUESTS),
      await udpShares(lab, VIP4, REQUESTS), await udpShares(lab, VIP6, REQUESTS),
    ];
    return [...new Set(shares.flatMap((each) => [...each.keys()]))].sort();
  };
  const signal = (name: "SIGSTOP" | "SIGCONT", ...backends: string[]): void => {
    for (const backend of backends) served.get(backend)?.process.kill(name);
  };

  beforeAll(async () => {
    lab = raiseLab({ label: "pools", backends: 4, mtu: 1500, localVip: true });
    for (const host of lab.backends) served.set(host.name, await serveBackend(host, { iperf: false, decap: false }));
    const name = instanceName("pools");
    const text = labConfig(name, { forwarding: "l2", mode: "xdp", backends: lab.backends, backendFamily: 4, extra: "" });
    instance = await startInstance(lab, name, text
      .replace("    backends:\n", "    reserves: { minimum: 2 }\n    sorry: web-4\n    backends:\n")
      .replace(/(name: web-3, [^}]+) }/, "$1, priority: 1 }"));
  });
  afterAll(async () => {
    signal("SIGCONT", ...served.keys());
    await instance?.remove();
    lab?.close();
  });

  it("has the reserve serve beside the rest, the sorry backend alone, and then nobody but the first", async () => {
    await waitFor("probes to succeed", PATIENCE_MS, async () => (await states()) === "active active standby standby");
    expect(await met()).toEqual(["web-1", "web-2"]);
    const before = await slots();

    signal("SIGSTOP", "web-1");
    await waitFor("the reserve", PATIENCE_MS, async () => (await states()) === "down active active standby");
    expect(await met()).toEqual(["web-2", "web-3"]);
    const meanwhile = await slots();
    // What web-2 had of its own stays; what it had borrowed may go to the reserve.
    const moved = before.flatMap((owner, slot) => (meanwhile[slot] === owner ? [] : [`${owner} ${meanwhile[slot]!}`]));
    expect([...new Set(moved)].sort()).toEqual(["web-1 web-2", "web-1 web-3", "web-2 web-3"]);

    signal("SIGSTOP", "web-2", "web-3");
    await waitFor("nobody to be up", PATIENCE_MS, async () => (await states()) === "down down down active");
    expect(await met()).toEqual(["web-4"]);

    signal("SIGCONT", "web-1", "web-2", "web-3");
    await waitFor("all to be back", PATIENCE_MS, async () => (await states()) === "active active standby standby");
    expect(await slots()).toEqual(before);
    expect(await met()).toEqual(["web-1", "web-2"]);
  });
});
