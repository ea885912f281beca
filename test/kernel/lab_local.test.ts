// Balancer and backend on one host: packets that the ring gives to the balancer itself are passed to its
// stack, whatever the way of forwarding. And two balancers that are each other's backends, where the second
// one, which has the same table, finds that it is meant and sends nothing on.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { VIP4, VIP6 } from "../../scripts/lab_network.ts";
import { curlShares, udpShares, verdictPackets, type Instance } from "../../scripts/lab_services.ts";
import { runIn } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { waysOf } from "../support/lab_ways.ts";
import { Topology, type TopologyHost } from "./fixtures/topology.ts";

const LAN = 1;
const CONNECTIONS = 60;
const LONG_BYTES = 8192;
const CASES = waysOf("DIRECT", "ipip/6");

interface Traffic {
  readonly name: string;
  readonly traffic: { readonly packets: number };
}

async function packetsOf(instance: Instance, backend: string): Promise<number> {
  const { backends } = JSON.parse(await instance.verb("status", "-o", "json")) as { backends: Traffic[] };
  return backends.find(({ name }) => name === `web/${backend}`)!.traffic.packets;
}

describeKernel("a backend on the balancer in the lab", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  describe.each(CASES)("$forwarding to IPv$backendFamily", ({ forwarding, backendFamily }) => {
    let topology: Topology;
    let balancer: TopologyHost;
    let client: TopologyHost;
    let instance: Instance;
    beforeAll(async () => {
      topology = new Topology(`local${forwarding}${backendFamily}`);
      balancer = topology.balancer("web-1", [{ segment: LAN, last: 1 }]);
      client = topology.client("client", { segment: LAN, last: 2 }, balancer);
      await topology.serve(balancer, false);
      const other = await topology.backend("web-2", { segment: LAN, last: 11 }, forwarding);
      instance = await topology.run(balancer, { forwarding, backendFamily, backends: [balancer, other] });
    });
    afterAll(async () => { await topology?.close(); });

    it.each([VIP4, VIP6])("takes its share of connections and datagrams to %s, long ones too", async (vip) => {
      const before = await verdictPackets({ balancer }, "PASS_LOCAL");
      for (const shares of [
        await curlShares({ client }, vip, CONNECTIONS), await udpShares({ client }, vip, CONNECTIONS),
        await udpShares({ client }, vip, CONNECTIONS, LONG_BYTES),
      ]) {
        expect([...shares.keys()]).toEqual(["web-1", "web-2"]);
        expect([...shares.values()].reduce((sum, one) => sum + one, 0)).toBe(CONNECTIONS);
      }
      expect(await verdictPackets({ balancer }, "PASS_LOCAL")).toBeGreaterThan(before);
    });

    it("is counted as a backend, and nothing is lost", async () => {
      expect(await packetsOf(instance, "web-1")).toBe(await verdictPackets({ balancer }, "PASS_LOCAL"));
      expect(await verdictPackets({ balancer }, "DROP_NO_NEIGHBOUR")).toBe(0);
    });

    it.each([VIP4, VIP6])("gets all of %s when the other is drained", async (vip) => {
      await instance.verb("drain", "web-2");
      expect(await curlShares({ client }, vip, CONNECTIONS)).toEqual(new Map([["web-1", CONNECTIONS]]));
      await instance.verb("undrain", "web-2");
    });
  });
});

const MUTUAL = waysOf("MUTUAL", "l2/4");

describeKernel("balancers that are each other's backends in the lab", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  describe.each(MUTUAL)("$forwarding to IPv$backendFamily", (way) => {
    let topology: Topology;
    let hosts: readonly TopologyHost[];
    let client: TopologyHost;
    beforeAll(async () => {
      topology = new Topology("mutual");
      hosts = [1, 3].map((last, index) => topology.balancer(`web-${index + 1}`, [{ segment: LAN, last }]));
      client = topology.client("client", { segment: LAN, last: 2 }, hosts[0]!);
      for (const host of hosts) await topology.serve(host, false);
      for (const host of hosts) await topology.run(host, { ...way, backends: hosts });
    });
    afterAll(async () => { await topology?.close(); });

    it.each([VIP4, VIP6])("share what comes to %s, and send it on once at most", async (vip) => {
      const count = async (of: number, verdict: "PASS_LOCAL" | "TX_FORWARDED"): Promise<number> =>
        await verdictPackets({ balancer: hosts[of]! }, verdict);
      const before = [await count(0, "TX_FORWARDED"), await count(1, "PASS_LOCAL"), await count(0, "PASS_LOCAL")];
      for (const shares of [await curlShares({ client }, vip, CONNECTIONS), await udpShares({ client }, vip, CONNECTIONS)]) {
        expect([...shares.keys()]).toEqual(["web-1", "web-2"]);
        expect([...shares.values()].reduce((sum, one) => sum + one, 0)).toBe(CONNECTIONS);
      }
      const sent = await count(0, "TX_FORWARDED") - before[0]!;
      expect(sent).toBeGreaterThan(0);
      expect(await count(1, "PASS_LOCAL") - before[1]!).toBe(sent);
      expect(await count(1, "TX_FORWARDED")).toBe(0);
      expect(await count(0, "PASS_LOCAL")).toBeGreaterThan(before[2]!);
    });

    it("a client on one of them meets that one", async () => {
      const ended = await runIn(hosts[1]!.namespace, "curl", ["-sf", "-m", "5", `http://${VIP4}/`]);
      expect(ended.stdout).toBe("web-2\n");
    });
  });
});
