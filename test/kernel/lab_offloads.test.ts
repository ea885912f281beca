// Uploads with the sizes and offloads that a network card would bring: jumbo frames, which reach a program in
// several buffers; GRO on the interface that packets arrive on; checksums that their sender left unfinished, which
// generic XDP carries along. What cannot work is refused beforehand: host_findings.test.ts.

import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { VIP4, VIP6 } from "../../scripts/lab_network.ts";
import type { Lab } from "../../scripts/lab_network.ts";
import { ROOT, verdictPackets } from "../../scripts/lab_services.ts";
import { runIn, runInSync } from "../../scripts/namespaces.ts";
import { whyNotThorough } from "../support/counts.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { serveLab } from "./fixtures/lab_fixture.ts";
import type { ServedLab, ServedLabOptions } from "./fixtures/lab_fixture.ts";

const UPLOAD_BYTES = 1_000_000;
const JUMBO = 9000;
/** A datagram of one jumbo packet: without IPv6 and UDP headers, and with room for the backend's name in the answer. */
const DATAGRAM_BYTES = 8900;
const DATAGRAMS = 20;
/** More than a program gets in one buffer (4096 less head room and the kernel's end). */
const ONE_BUFFER = 3506;

interface Case {
  readonly name: string;
  readonly options: Pick<ServedLabOptions, "forwarding" | "backendFamily" | "mtu" | "xdp">;
  /** `ethtool -K eth0` on the client. */
  readonly client: readonly string[];
  /** The same on the balancer. */
  readonly balancer: readonly string[];
}

const CASES: readonly Case[] = [
  { name: "jumbo frames, native", client: [], balancer: [],
    options: { forwarding: "l2", backendFamily: 4, mtu: JUMBO, xdp: "native" } },
  { name: "jumbo frames in a tunnel, native, with GRO on the ingress", client: [], balancer: ["gro", "on"],
    options: { forwarding: "gue", backendFamily: 6, mtu: JUMBO, xdp: "native" } },
  { name: "jumbo frames in a tunnel, generic", client: ["tso", "off", "gso", "off"], balancer: [],
    options: { forwarding: "ipip", backendFamily: 4, mtu: JUMBO, xdp: "generic" } },
  { name: "unfinished checksums and GRO on the ingress, generic", client: ["tx", "on", "tso", "off", "gso", "off"], balancer: ["gro", "on"],
    options: { forwarding: "ipip", backendFamily: 4, mtu: 1500, xdp: "generic" } },
];

/** In CI and test:long all of them; else the one of each mode that has the most to it. */
const TRIED = whyNotThorough() === null ? CASES : CASES.filter(({ balancer }) => balancer.length > 0);

describeKernel("offloads in the lab", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  describe.each(TRIED)("$name", ({ options, client, balancer }) => {
    let served: ServedLab;
    let lab: Lab;
    beforeAll(async () => {
      served = await serveLab({ label: "off-", backends: 2, ...options });
      ({ lab } = served);
      for (const [host, switches] of [[lab.client, client], [lab.balancer, balancer]] as const)
        if (switches.length > 0) runInSync(host.namespace, "ethtool", ["-K", "eth0", ...switches]);
    });
    afterAll(async () => { await served?.close(); });

    it("runs in the mode that was asked for", async () => {
      expect(await served.instance.verb("status")).toContain(`eth0 (${options.xdp ?? ""})`);
    });

    it.each([VIP4, VIP6] as const)("1 MB to %s arrives as it was sent", async (vip) => {
      const before = await verdictPackets(lab, "TX_FORWARDED");
      const url = `http://${vip === VIP6 ? `[${vip}]` : vip}/digest`;
      const script = `head -c ${UPLOAD_BYTES} /dev/zero | curl -sf -m 30 --data-binary @- -H 'Expect:' '${url}'`;
      const { stdout } = await runIn(lab.client.namespace, "bash", ["-o", "pipefail", "-c", script]);
      expect(stdout.trim()).toBe(createHash("sha256").update(new Uint8Array(UPLOAD_BYTES)).digest("hex"));
      if (options.mtu === JUMBO) {
        // So few packets carry it only if they were large.
        const packets = await verdictPackets(lab, "TX_FORWARDED") - before;
        expect(packets).toBeLessThan(UPLOAD_BYTES / ONE_BUFFER);
      }
      expect(await verdictPackets(lab, "TX_TOO_BIG") + await verdictPackets(lab, "DROP_TOO_BIG")).toBe(0);
    });

    it.each([VIP4, VIP6] as const)("datagrams to %s arrive as they were sent", async (vip) => {
      const bytes = options.mtu === JUMBO ? DATAGRAM_BYTES : 1400;
      const { stdout } = await runIn(lab.client.namespace, process.execPath,
        [`${ROOT}/dist/scripts/lab_client.js`, "udp", vip, "7", String(DATAGRAMS), String(bytes)]);
      const answers = stdout.trim().split("\n");
      expect(answers).toHaveLength(DATAGRAMS);
      expect([...new Set(answers)].sort()).toEqual(lab.backends.map(({ name }) => name));
    });
  });
});

/**
 * Generic XDP gets packets whose sum is to be finished by a network card: it covers the pseudo-header alone,
 * uninverted, and nothing in the frame says so. What is added to or taken from a sum then goes the wrong way.
 */
describeKernel("unfinished checksums of translated packets in the lab", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  it("are wrong once finished; where the client finishes them, all is well", async () => {
    const served = await serveLab({ label: "sums-", forwarding: "fullnat", backendFamily: 4, backends: 1, xdp: "generic" });
    try {
      const { lab } = served;
      const answers = async (): Promise<boolean> =>
        (await runIn(lab.client.namespace, "curl", ["-sf", "-m", "2", `http://${VIP4}/`], { check: false })).status === 0;
      // As a card would, the switch finishes the sums of what goes to the backend.
      runInSync(lab.network, "ethtool", ["-K", "web-1", "tx", "off"]);
      runInSync(lab.client.namespace, "ethtool", ["-K", "eth0", "tso", "off", "gso", "off"]);
      expect(await answers()).toBe(true);
      runInSync(lab.client.namespace, "ethtool", ["-K", "eth0", "tx", "on", "tso", "off", "gso", "off"]);
      expect(await answers()).toBe(false);
      runInSync(lab.client.namespace, "ethtool", ["-K", "eth0", "tx", "off"]);
      expect(await answers()).toBe(true);
    } finally {
      await served.close();
    }
  });
});
