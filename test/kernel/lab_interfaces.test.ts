// A balancer between two networks: clients and backends on either, so packets come by one interface and
// leave by the other, or by the same one. Replies travel by a router. And hairpins: a client on the
// network of the backend that it meets, and one on a backend itself.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { VIP4, VIP6 } from "../../scripts/lab_network.ts";
import { curlShares, udpShares, verdictPackets, type Instance } from "../../scripts/lab_services.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { waysOf } from "../support/lab_ways.ts";
import { route, Topology, type TopologyHost } from "./fixtures/topology.ts";

const FRONT = 1;
const BACK = 2;
const CONNECTIONS = 60;
const CASES = waysOf("DIRECT", "l2/4", "gue/6");

describeKernel("several interfaces in the lab", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  describe.each(CASES)("$forwarding to IPv$backendFamily", ({ forwarding, backendFamily }) => {
    const interfaces = backendFamily === 4 ? ["eth0", "eth1"] : ["eth1", "eth0"];
    let topology: Topology;
    let balancer: TopologyHost;
    let backends: TopologyHost[];
    let clients: Record<"front" | "back", TopologyHost>;
    let instance: Instance;
    beforeAll(async () => {
      topology = new Topology(`if${forwarding}${backendFamily}`);
      balancer = topology.balancer("balancer", [{ segment: FRONT, last: 1 }, { segment: BACK, last: 1 }]);
      const router = topology.router("router", [{ segment: FRONT, last: 254 }, { segment: BACK, last: 254 }]);
      backends = [
        await topology.backend("web-1", { segment: FRONT, last: 11 }, forwarding),
        await topology.backend("web-2", { segment: BACK, last: 11 }, forwarding),
      ];
      clients = {
        front: topology.client("front", { segment: FRONT, last: 2 }, balancer),
        back: topology.client("back", { segment: BACK, last: 2 }, balancer),
      };
      for (const [host, segment] of [[backends[0]!, FRONT], [backends[1]!, BACK], [clients.front, FRONT], [clients.back, BACK]] as const)
        route(host, "default", "default", router.at(segment));
      instance = await topology.run(balancer, { forwarding, backendFamily, backends, interfaces });
    });
    afterAll(async () => { await topology?.close(); });

    describe.each(["front", "back"] as const)("from the %s", (where) => {
      it.each([VIP4, VIP6])("connections and datagrams to %s reach the backends of both networks", async (vip) => {
        const lab = { client: clients[where] };
        for (const shares of [await curlShares(lab, vip, CONNECTIONS), await udpShares(lab, vip, CONNECTIONS)]) {
          expect([...shares.keys()]).toEqual(["web-1", "web-2"]);
          expect([...shares.values()].reduce((sum, one) => sum + one, 0)).toBe(CONNECTIONS);
        }
      });
    });

    it.each([VIP4, VIP6])("a client on a backend meets that backend at %s, and no balancer", async (vip) => {
      const before = await verdictPackets({ balancer }, "TX_FORWARDED");
      for (const host of backends) {
        expect(await curlShares({ client: host }, vip, 10)).toEqual(new Map([[host.name, 10]]));
        expect(await udpShares({ client: host }, vip, 10)).toEqual(new Map([[host.name, 10]]));
      }
      expect(await verdictPackets({ balancer }, "TX_FORWARDED")).toBe(before);
    });

    it("went through the program on both interfaces", async () => {
      const status = JSON.parse(await instance.verb("status", "-o", "json")) as { interfaces: { name: string }[] };
      expect(status.interfaces.map(({ name }) => name)).toEqual(interfaces);
      expect(await verdictPackets({ balancer }, "DROP_NO_NEIGHBOUR")).toBe(0);
    });
  });
});
