// Backends come, go, are drained, re-weighted and fall ill, five times a second, under connections that
// check every byte: with minimal and full tracking none breaks but for the death of its own backend.

import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { churn, churnConfig, type ChurnConfig, type ChurnResult } from "../../scripts/lab_churn.ts";
import type { Lab } from "../../scripts/lab_network.ts";
import { raiseLab, VIP4, VIP6 } from "../../scripts/lab_network.ts";
import type { Instance } from "../../scripts/lab_services.ts";
import { instanceName, serveBackend, startInstance } from "../../scripts/lab_services.ts";
import { long, randomised } from "../support/counts.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { Draws } from "../support/random.ts";

const BACKENDS = 7;
const EVERY_MS = 200;
const [CONNECTIONS, SECONDS] = long() ? [2000, 60] : [200, 5];

describeKernel("churn", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  let lab: Lab;
  let running: Instance | null = null;

  beforeAll(async () => {
    lab = raiseLab({ label: "churn", backends: BACKENDS, mtu: 1500, localVip: false });
    await Promise.all(lab.backends.map((host) => serveBackend(host, { iperf: false, decap: false })));
  });
  afterEach(async () => {
    await running?.remove();
    running = null;
  });
  afterAll(() => { lab?.close(); });

  function churning(
    address: typeof VIP4 | typeof VIP6, tracking: ChurnConfig["tracking"], seconds: number,
  ): Promise<ChurnResult> {
    return randomised("churn", async ({ seed }) => {
      const of: ChurnConfig = { forwarding: "l2", tracking };
      const name = instanceName("churn");
      running = await startInstance(lab, name, churnConfig(name, lab.backends, of));
      const draws = new Draws(seed);
      return churn({
        ...of, lab, client: lab.client, balancers: [running], address, connections: CONNECTIONS, seconds, everyMs: EVERY_MS,
        draw: (limit) => draws.below(limit),
      });
    });
  }

  it.each([[VIP4, "minimal"], ...(long() ? [[VIP6, "minimal"], [VIP4, "full"]] as const : [])] as const)(
    "breaks no connection to %s whose backend lives, with tracking: %s", { timeout: 180_000 }, async (address, tracking) => {
      const { counts, changes, moved, bereft } = await churning(address, tracking, SECONDS);
      const told = JSON.stringify({ counts, changes, bereft: bereft.length });
      expect(moved, told).toEqual([]);
      expect(counts.long, told).toBeGreaterThanOrEqual(CONNECTIONS);
      expect(counts.short, told).toBeGreaterThan(0);
      expect(counts.lines, told).toBeGreaterThan(counts.long);
    });

  it("breaks some without tracking: the load would notice", { timeout: 180_000 }, async () => {
    const { moved, bereft } = await churning(VIP4, "none", SECONDS);
    expect(moved.length, `beside ${bereft.length} whose backend died`).toBeGreaterThan(0);
    // By the answer of a backend that does not know them; one that still knows an older connection from the same port
    // answers for that one, which the client hears as silence or, seldom, as an end. Never by wrong bytes.
    const reasons = new Set(moved.map(({ reason }) => reason));
    expect(reasons).toContain("ECONNRESET");
    expect(["ECONNRESET", "silent", "closed"]).toEqual(expect.arrayContaining([...reasons]));
  });
});
