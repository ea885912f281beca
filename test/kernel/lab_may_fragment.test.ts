// A tunnel without room, and clients that allow fragmentation: packets without DF, and datagrams that their own kernel
// cuts to pieces, in both families. The balancer cannot cut what does not fit, so it says how much does; a real kernel
// then cuts smaller pieces, whatever its socket asked for.

import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { configure } from "../../scripts/lab_links.ts";
import { VIP4, VIP6 } from "../../scripts/lab_network.ts";
import type { Lab } from "../../scripts/lab_network.ts";
import { udpShares, verdictPackets } from "../../scripts/lab_services.ts";
import { runIn } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { waysOf } from "../support/lab_ways.ts";
import { serveLab } from "./fixtures/lab_fixture.ts";
import type { ServedLab } from "./fixtures/lab_fixture.ts";

const BACKENDS = 2;
const DATAGRAMS = 20;
/** As much as a link of 1500 bytes carries in one packet, and more. */
const WHOLE_BYTES = 1472, CUT_BYTES = 8192;
const UPLOAD_BYTES = 1_000_000;
const CASES = waysOf("TUNNELS", "ipip/4", "gue/6");
const TOOLS = [...KERNEL, "tool:curl", "tool:ethtool"] as const;

describeKernel("a tunnel without room, for clients that allow fragmentation", TOOLS, () => {
  describe.each(CASES)("$forwarding to IPv$backendFamily", ({ forwarding, backendFamily }) => {
    let served: ServedLab;
    let lab: Lab;
    beforeAll(async () => {
      served = await serveLab({ label: "cut-", forwarding, backendFamily, backends: BACKENDS, tunnelRoom: 0 });
      ({ lab } = served);
    });
    afterAll(async () => { await served?.close(); });

    /** Nothing that an earlier test has learned. */
    async function forget(): Promise<void> {
      for (const family of ["-4", "-6"]) await runIn(lab.client.namespace, "ip", [family, "route", "flush", "cache"]);
    }

    async function arrive(vip: string, bytes: number): Promise<void> {
      await forget();
      const told = await verdictPackets(lab, "TX_TOO_BIG");
      const shares = await udpShares(lab, vip, DATAGRAMS, bytes);
      expect([...shares.values()].reduce((sum, one) => sum + one, 0)).toBe(DATAGRAMS);
      expect(await verdictPackets(lab, "TX_TOO_BIG")).toBeGreaterThan(told);
    }

    it.each([VIP4, VIP6])("8 KB to %s arrive, once the client was told by its first fragments", async (vip) => {
      await arrive(vip, CUT_BYTES);
    });

    it("datagrams and 1 MB without DF arrive, once the client was told", async () => {
      configure(lab.client.namespace, { "net.ipv4.ip_no_pmtu_disc": "1" });
      try {
        await arrive(VIP4, WHOLE_BYTES);
        await forget();
        const script = `head -c ${UPLOAD_BYTES} /dev/zero | curl -sf -m 30 --data-binary @- -H 'Expect:' 'http://${VIP4}/digest'`;
        const { stdout } = await runIn(lab.client.namespace, "bash", ["-o", "pipefail", "-c", script]);
        expect(stdout.trim()).toBe(createHash("sha256").update(new Uint8Array(UPLOAD_BYTES)).digest("hex"));
      } finally {
        configure(lab.client.namespace, { "net.ipv4.ip_no_pmtu_disc": "0" });
      }
    });
  });
});
