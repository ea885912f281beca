// Programs that others wrote and operators try first, through each way of forwarding: iperf3 by TCP and UDP, in
// either direction, and ping of iputils. A second at most each: what they say of speed is nobody's business here.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { VIP4, VIP6 } from "../../scripts/lab_network.ts";
import { isTranslated, verdictPackets } from "../../scripts/lab_services.ts";
import { runIn } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { waysOf } from "../support/lab_ways.ts";
import { serveLab } from "./fixtures/lab_fixture.ts";
import type { ServedLab } from "./fixtures/lab_fixture.ts";

const TCP_BYTES = 4_000_000;
const UDP_BITS = "2M";
const DATAGRAM_BYTES = 1200;
/** So much less than all that a busy machine may lose some. */
const UDP_SHARE_MIN = 0.5;
const PINGS = 3;
const CASES = [...waysOf("DIRECT", "gue/6"), ...waysOf("TRANSLATED", "nat/4")];

/** What iperf3 says with -J, of what we look at. */
interface Measured {
  readonly error?: string;
  readonly end: {
    readonly sum_received?: { readonly bytes: number };
    readonly sum?: { readonly packets: number; readonly lost_packets: number };
  };
}

describeKernel("programs of others in the lab", [...KERNEL, "tool:ethtool", "tool:iperf3", "tool:ping"], () => {
  describe.each(CASES)("$forwarding to IPv$backendFamily", ({ forwarding, backendFamily }) => {
    const own = backendFamily === 4 ? VIP4 : VIP6;
    const vips = isTranslated(forwarding) ? [own] : [VIP4, VIP6];
    let served: ServedLab;
    beforeAll(async () => {
      served = await serveLab({ label: "tools-", forwarding, backendFamily, backends: 2, iperf: true });
    });
    afterAll(async () => { await served?.close(); });

    async function measured(vip: string, ...args: string[]): Promise<Measured["end"]> {
      // A server that was busy with the last run a moment ago says so.
      for (let attempt = 1; ; attempt += 1) {
        const { stdout } = await runIn(served.lab.client.namespace, "iperf3",
          ["-c", vip, "-J", "--connect-timeout", "5000", ...args], { check: false, timeoutMs: 30_000 });
        const { error, end } = JSON.parse(stdout) as Measured;
        if (error === undefined) return end;
        if (attempt === 5) throw new Error(`iperf3 ${args.join(" ")} to ${vip}: ${error}`);
      }
    }

    /** What the balancer counted so far of the service that iperf3 uses. */
    async function passed(vip: string, protocol: "tcp" | "udp"): Promise<{ readonly packets: number; readonly bytes: number }> {
      const name = `iperf-${protocol}-${vip === VIP4 ? 4 : 6}`;
      return (await served.instance.api.services()).find((each) => each.name === name)!.traffic;
    }

    it.each(vips)("iperf3 to %s by TCP and UDP, up and down", async (vip) => {
      for (const direction of [[], ["-R"]]) {
        const before = [await passed(vip, "tcp"), await passed(vip, "udp")] as const;
        const { sum_received: received } = await measured(vip, "-n", String(TCP_BYTES), ...direction);
        // Who sends stops at so many, and what is under way then does not count; handshakes are far less.
        expect(received?.bytes).toBeGreaterThan(TCP_BYTES / 20);
        const { sum } = await measured(vip, "-u", "-t", "1", "-b", UDP_BITS, "-l", String(DATAGRAM_BYTES), ...direction);
        expect(sum!.packets - sum!.lost_packets).toBeGreaterThan(sum!.packets * UDP_SHARE_MIN);
        expect(sum!.packets).toBeGreaterThan(0);
        const [tcp, udp] = [await passed(vip, "tcp"), await passed(vip, "udp")];
        // What clients send was all forwarded by us, each datagram as a packet of its own; answers have another way, but
        // for what acknowledges them, and the datagram that asks for them.
        const isUp = direction.length === 0;
        expect(tcp.bytes - before[0].bytes).toBeGreaterThan(isUp ? received!.bytes : 0);
        expect(udp.packets - before[1].packets).toBeGreaterThanOrEqual(isUp ? sum!.packets - sum!.lost_packets : 1);
      }
      expect(await verdictPackets(served.lab, "TX_FORWARDED")).toBeGreaterThan(0);
    });

    it.each(vips)("ping hears %s, small and large", async (vip) => {
      const before = await verdictPackets(served.lab, "TX_ECHO_REPLY");
      const ping = (address: string, ...args: string[]): ReturnType<typeof runIn> =>
        runIn(served.lab.client.namespace, "ping", ["-n", "-i", "0.2", "-W", "2", ...args, address], { check: false });
      // 1400 bytes fit the link whole; the pattern shows a byte that changed on the way.
      for (const bytes of [56, 1400]) {
        const { stdout } = await ping(vip, "-c", String(PINGS), "-s", String(bytes), "-p", "a55a00ff");
        expect(stdout).toContain(`${PINGS} packets transmitted, ${PINGS} received, 0% packet loss`);
        expect(stdout).not.toMatch(/wrong data|BAD CHECKSUM|DUP!/);
      }
      expect(await verdictPackets(served.lab, "TX_ECHO_REPLY") - before).toBe(2 * PINGS);
    });
  });
});
