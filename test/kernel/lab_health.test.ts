// A backend that stops answering without dying: its server is stopped, so connections are taken and
// probes hang. It leaves the ring, moves nobody else, and comes back; in both planes. That it does so in
// time is shown under a fake clock, and measured by the benchmark.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Lab } from "../../scripts/lab_network.ts";
import { raiseLab, VIP4, VIP6 } from "../../scripts/lab_network.ts";
import type { Instance, ServedBackend } from "../../scripts/lab_services.ts";
import {
  curlShares, instanceName, labConfig, serveBackend, startInstance, udpShares, waitFor,
} from "../../scripts/lab_services.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";

const REQUESTS = 60;
const PATIENCE_MS = 20_000;

interface Backend { readonly name: string; readonly state: string; readonly reason: string }

describeKernel("a backend that stops answering", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  let lab: Lab;
  const served: ServedBackend[] = [];
  beforeAll(async () => {
    lab = raiseLab({ label: "health", backends: 3, mtu: 1500, localVip: true });
    for (const host of lab.backends) {
      served.push(await serveBackend(host, { iperf: false, decap: false }));
    }
  });
  afterAll(() => { lab?.close(); });

  describe.each(["xdp", "proxy"] as const)("in the %s plane", (mode) => {
    let instance: Instance;
    const backend = async (name: string): Promise<Backend | undefined> => {
      const all = JSON.parse(await instance.verb("backends", "-o", "json")) as Backend[];
      return all.find((each) => each.name === `web/${name}`);
    };
    const slots = async (): Promise<string[]> => {
      const ring = await instance.verb("ring", "web-4", "-o", "json");
      return (JSON.parse(ring) as { slots: string[] }).slots;
    };
    const met = async (): Promise<string[]> => {
      const shares = [
        await curlShares(lab, VIP4, REQUESTS), await curlShares(lab, VIP6, REQUESTS),
        await udpShares(lab, VIP4, REQUESTS), await udpShares(lab, VIP6, REQUESTS),
      ];
      return [...new Set(shares.flatMap((each) => [...each.keys()]))].sort();
    };
    beforeAll(async () => {
      const name = instanceName(`health-${mode}`);
      const { backends } = lab;
      const options = { forwarding: "l2", mode, backends, backendFamily: 4, extra: "" } as const;
      instance = await startInstance(lab, name, labConfig(name, options));
    });
    afterAll(async () => {
      served[1]?.process.kill("SIGCONT");
      await instance?.remove();
    });

    it("leaves the ring, moves nobody else, and comes back to its own slots", async () => {
      expect(await met()).toEqual(["web-1", "web-2", "web-3"]);
      const before = await slots();

      served[1]?.process.kill("SIGSTOP");
      await waitFor("web-2 to be down", PATIENCE_MS, async () =>
        (await backend("web-2"))?.state === "down");
      expect((await backend("web-2"))?.reason).toMatch(/timeout/);
      const without = await slots();
      expect(without.some((owner) => owner.endsWith("web-2"))).toBe(false);
      const moved = before.filter((owner, slot) =>
        !owner.endsWith("web-2") && without[slot] !== owner);
      expect(moved).toEqual([]);
      expect(await met()).toEqual(["web-1", "web-3"]);

      served[1]?.process.kill("SIGCONT");
      await waitFor("web-2 to be up", PATIENCE_MS, async () =>
        (await backend("web-2"))?.state === "active");
      expect(await slots()).toEqual(before);
      expect(await met()).toEqual(["web-1", "web-2", "web-3"]);
    });
  });
});
