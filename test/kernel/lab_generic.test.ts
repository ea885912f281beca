// Generic XDP with real sockets, by every way of forwarding: the program runs in the network stack, on socket
// buffers, as it does where a driver knows of no XDP. One lab, whose way of forwarding is changed while it runs.
// Senders finish their checksums and split their segments themselves (`tx off`), which generic mode asks for; what
// becomes of packets where they do not: lab_offloads.test.ts, and host_findings.test.ts for the refusal.

import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { forgetVips, VIP4, VIP6 } from "../../scripts/lab_network.ts";
import type { Lab } from "../../scripts/lab_network.ts";
import {
  curlShares, isTranslated, labConfig, udpShares, verdictPackets, waitFor,
} from "../../scripts/lab_services.ts";
import type { Instance, Shares } from "../../scripts/lab_services.ts";
import type { LabWay } from "../../scripts/lab_coverage.ts";
import { runIn } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { waysOf } from "../support/lab_ways.ts";
import { serveLab } from "./fixtures/lab_fixture.ts";
import type { ServedLab } from "./fixtures/lab_fixture.ts";

const CONNECTIONS = 40;
const LONG_DATAGRAMS = 20;
const LONG_DATAGRAM_BYTES = 8192;
const TRANSFER_BYTES = 1_000_000;
const XDP = "generic";
/** What is tried here is the way of packets, and the backends are there from the start. */
const HEALTH = "{ type: none }";

/** gue1 is a gue. */
const nameOf = ({ forwarding }: LabWay): string => (forwarding === "gue1" ? "gue" : forwarding);
const host = (address: string): string => (address.includes(":") ? `[${address}]` : address);
const DIGEST = createHash("sha256").update(Uint8Array.from({ length: TRANSFER_BYTES }, (_, at) => at % 251)).digest("hex");

function expectAll(shares: Shares, wanted: number): void {
  expect([...shares.keys()]).toEqual(["web-1", "web-2"]);
  expect([...shares.values()].reduce((a, b) => a + b, 0)).toBe(wanted);
}

describeKernel("generic XDP in the lab", [...KERNEL, "tool:curl", "tool:ethtool", "tool:ping"], () => {
  let served: ServedLab;
  let lab: Lab;
  let instance: Instance;
  beforeAll(async () => {
    served = await serveLab({
      label: "generic-", forwarding: "l2", backendFamily: 4, backends: 2, xdp: XDP, decap: true, health: HEALTH,
    });
    ({ lab, instance } = served);
  });
  afterAll(async () => { await served?.close(); });

  /** Changes the way of forwarding, by a reload, and waits until the backends' link addresses are known. */
  async function forward(way: LabWay): Promise<void> {
    instance.configure(labConfig(instance.name, {
      ...way, mode: "xdp", backends: lab.backends, extra: `  xdp: ${XDP}\n`, health: HEALTH,
    }));
    await instance.api.reload("test");
    await waitFor("the backends' link addresses", 10_000, async () => {
      const ways = (await instance.api.backends()).flatMap(({ destinations }) => destinations);
      return ways.length > 0 && ways.every((each) => each.forwarding === nameOf(way) && each.neighbour?.startsWith("resolved") === true);
    });
    const { mode, interfaces } = await instance.api.status();
    expect([mode, ...interfaces.map((each) => each.mode)]).toEqual(["xdp", XDP]);
  }

  /** Connections, datagrams, those in pieces, a megabyte down and up, and an echo. */
  async function tryAll(vip: string): Promise<void> {
    expectAll(await curlShares(lab, vip, CONNECTIONS), CONNECTIONS);
    expectAll(await udpShares(lab, vip, CONNECTIONS), CONNECTIONS);
    expectAll(await udpShares(lab, vip, LONG_DATAGRAMS, LONG_DATAGRAM_BYTES), LONG_DATAGRAMS);
    const url = `http://${host(vip)}`;
    const script = `curl -sf -m 30 '${url}/bytes?n=${TRANSFER_BYTES}' | tee >(sha256sum | cut -d' ' -f1 >&2)`
      + ` | curl -sf -m 30 --data-binary @- -H 'Expect:' '${url}/digest'`;
    const { stderr, stdout } = await runIn(lab.client.namespace, "bash", ["-o", "pipefail", "-c", script]);
    expect([stderr.trim(), stdout.trim()]).toEqual([DIGEST, DIGEST]);
    await runIn(lab.client.namespace, "ping", ["-n", "-c", "1", "-W", "2", vip]);
  }

  describe("by direct server return", () => {
    it.each(waysOf("DIRECT", "l2/6", "ipip/4", "gue/6", "gre/4"))("carries everything by $forwarding to IPv$backendFamily in generic mode", async (way) => {
      await forward(way);
      const before = await verdictPackets(lab, "TX_FORWARDED");
      for (const vip of [VIP4, VIP6]) await tryAll(vip);
      // Each connection has more packets than one, and nothing else has led there.
      expect(await verdictPackets(lab, "TX_FORWARDED") - before).toBeGreaterThan(2 * (2 * CONNECTIONS + LONG_DATAGRAMS * 6));
    });
  });

  describe("by translation", () => {
    beforeAll(() => {
      lab.returnThroughBalancer();
      for (const { namespace } of lab.backends) forgetVips(namespace);
    });

    it.each(waysOf("TRANSLATED", "nat/6", "fullnat/4"))("carries everything by $forwarding to IPv$backendFamily, and back, in generic mode", async (way) => {
      expect(isTranslated(way.forwarding)).toBe(true);
      await forward(way);
      const before = await verdictPackets(lab, "TX_REPLY");
      await tryAll(way.backendFamily === 4 ? VIP4 : VIP6);
      expect(await verdictPackets(lab, "TX_REPLY") - before).toBeGreaterThan(2 * CONNECTIONS + LONG_DATAGRAMS * 6);
    });
  });
});
