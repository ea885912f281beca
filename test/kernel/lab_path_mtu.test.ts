// Path MTU discovery through the balancer, both ways. Backends answer the client directly with
// full-sized packets that a router in between cannot send on, and its error, which goes to the virtual
// address, finds the backend that sent them. And a client's full-sized packets do not fit a tunnel: the
// balancer says so. Without either the transfer stands still: the black hole of many balancers.

import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { VIP4, VIP6 } from "../../scripts/lab_network.ts";
import type { Lab, LabHost } from "../../scripts/lab_network.ts";
import { verdictPackets, type DirectForwarding } from "../../scripts/lab_services.ts";
import { runIn } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { waysOf } from "../support/lab_ways.ts";
import { serveLab } from "./fixtures/lab_fixture.ts";
import type { ServedLab } from "./fixtures/lab_fixture.ts";

const BACKENDS = 2;
const TRANSFER_BYTES = 1_000_000;
const FAR_LINK_MTU = 1400;
/** The hash seed is given, so these ports meet both backends today and tomorrow. */
const PORTS = { [VIP4]: 21_201, [VIP6]: 21_301 } as const;
const TRANSFERS = 6;
const CASES = waysOf("DIRECT", "l2/4", "ipip/6", "gre/4");

/** SHA-256 of the sequence that /bytes sends. */
function expectedDigest(): string {
  const bytes = Uint8Array.from({ length: TRANSFER_BYTES }, (_, at) => at % 251);
  return createHash("sha256").update(bytes).digest("hex");
}

describeKernel("path MTU discovery in the lab", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  describe.each(CASES)("$forwarding to IPv$backendFamily", ({ forwarding, backendFamily }) => {
    let served: ServedLab;
    let lab: Lab;
    let far: LabHost;
    beforeAll(async () => {
      served = await serveLab({ label: "mtu-", forwarding, backendFamily, backends: BACKENDS });
      ({ lab } = served);
      far = lab.addFarClient(FAR_LINK_MTU);
    });
    afterAll(async () => { await served?.close(); });

    it.each([VIP4, VIP6] as const)("1 MB from %s arrives, once each backend was told", async (vip) => {
      const url = `http://${vip === VIP6 ? `[${vip}]` : vip}/bytes?n=${TRANSFER_BYTES}`;
      const before = await verdictPackets(lab, "TX_ICMP_ERROR");
      for (let transfer = 0; transfer < TRANSFERS; transfer += 1) {
        const port = PORTS[vip] + transfer;
        const script = `curl -sf -m 30 --local-port ${port} '${url}' | sha256sum | cut -d' ' -f1`;
        const { stdout } = await runIn(far.namespace, "bash", ["-o", "pipefail", "-c", script]);
        expect(stdout.trim()).toBe(expectedDigest());
      }
      // The kernel of each backend learns it once; nothing else here sends errors.
      expect(await verdictPackets(lab, "TX_ICMP_ERROR") - before).toBeGreaterThanOrEqual(BACKENDS);
      const family = vip === VIP6 ? "-6" : "-4";
      const address = vip === VIP6 ? far.ipv6 : far.ipv4;
      for (const { namespace, name } of lab.backends) {
        const route = await runIn(namespace, "ip", [family, "route", "get", address, "from", vip]);
        expect(route.stdout, name).toContain(`mtu ${FAR_LINK_MTU}`);
      }
    });
  });
});

/** RFC 791, 8200, 2784, 768 and GUE's first word. */
const OUTER_IP_BYTES = { 4: 20, 6: 40 } as const;
const SHIM_BYTES: Readonly<Record<DirectForwarding, number>> = { l2: 0, ipip: 0, gre: 4, gue: 12, gue1: 8 };
/** In short, the least and the most outer bytes. */
const NARROW = waysOf("TUNNELS", "ipip/4", "gue/6").map((way) =>
  ({ ...way, outerBytes: OUTER_IP_BYTES[way.backendFamily] + SHIM_BYTES[way.forwarding] }));

describeKernel("a tunnel without room in the lab", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  describe.each(NARROW)("$forwarding to IPv$backendFamily backends", (tunnel) => {
    const { forwarding, backendFamily, outerBytes } = tunnel;
    let served: ServedLab;
    let lab: Lab;
    beforeAll(async () => {
      served = await serveLab({
        label: "narrow-", forwarding, backendFamily, backends: BACKENDS, tunnelRoom: 0,
      });
      ({ lab } = served);
    });
    afterAll(async () => { await served?.close(); });

    it.each([VIP4, VIP6] as const)("1 MB to %s arrives, once the client was told", async (vip) => {
      const before = await verdictPackets(lab, "TX_TOO_BIG");
      const url = `http://${vip === VIP6 ? `[${vip}]` : vip}/digest`;
      const bytes = `head -c ${TRANSFER_BYTES} /dev/zero`;
      const script = `${bytes} | curl -sf -m 30 --data-binary @- -H 'Expect:' '${url}'`;
      const { stdout } = await runIn(lab.client.namespace, "bash", ["-o", "pipefail", "-c", script]);
      expect(stdout.trim())
        .toBe(createHash("sha256").update(new Uint8Array(TRANSFER_BYTES)).digest("hex"));
      expect(await verdictPackets(lab, "TX_TOO_BIG")).toBeGreaterThan(before);
      const family = vip === VIP6 ? "-6" : "-4";
      const route = await runIn(lab.client.namespace, "ip", [family, "route", "get", vip]);
      expect(route.stdout).toContain(`mtu ${1500 - outerBytes}`);
    });
  });
});
