// Backends behind routers. Two gateways of which each leads to one backend, and a third that can take over:
// the route changes, the gateway's link address changes, the gateway goes and comes back, and packets follow
// without anybody applying anything. Connections that are open all the while stay whole.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { configure, ip } from "../../scripts/lab_links.ts";
import { VIP4, VIP6 } from "../../scripts/lab_network.ts";
import {
  curlShares, ROOT, udpShares, verdictPackets, waitFor, type Instance,
} from "../../scripts/lab_services.ts";
import { runIn, runInSync } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { waysOf } from "../support/lab_ways.ts";
import { route, routeToSegment, Topology, type TopologyHost } from "./fixtures/topology.ts";

/** The balancer's network, that of web-1 (two gateways lead there) and that of web-2. */
const LAN = 1;
const ONE = 2;
const TWO = 3;
const CONNECTIONS = 40;
const HELD = 8;
const NEW_MAC = "02:00:00:00:fe:01";
const CASES = waysOf("DIRECT", "ipip/6");
const VIPS = [VIP4, VIP6];

describeKernel("gateways in the lab", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  describe.each(CASES)("$forwarding to IPv$backendFamily", ({ forwarding, backendFamily }) => {
    let topology: Topology;
    let balancer: TopologyHost;
    let client: TopologyHost;
    let instance: Instance;
    /** To web-1, to web-2, and to web-1 as well. */
    let gateways: readonly [TopologyHost, TopologyHost, TopologyHost];

    beforeAll(async () => {
      topology = new Topology(`gw${forwarding}${backendFamily}`);
      balancer = topology.balancer("balancer", [{ segment: LAN, last: 1 }]);
      client = topology.client("client", { segment: LAN, last: 2 }, balancer);
      gateways = [
        topology.router("gw-1", [{ segment: LAN, last: 251 }, { segment: ONE, last: 251 }]),
        topology.router("gw-2", [{ segment: LAN, last: 252 }, { segment: TWO, last: 252 }]),
        topology.router("gw-3", [{ segment: LAN, last: 253 }, { segment: ONE, last: 253 }]),
      ];
      const backends = [
        await topology.backend("web-1", { segment: ONE, last: 11 }, forwarding),
        await topology.backend("web-2", { segment: TWO, last: 11 }, forwarding),
      ] as const;
      // Replies never travel by the gateway that comes and goes.
      route(backends[0], "default", "default", gateways[2].at(ONE));
      route(backends[1], "default", "default", gateways[1].at(TWO));
      // Without a tunnel the routers have to know where the virtual addresses are.
      for (const [gateway, backend] of [[0, 0], [1, 1], [2, 0]] as const)
        route(gateways[gateway], VIP4, VIP6, backends[backend]);
      routeToSegment(balancer, ONE, gateways[0].at(LAN));
      routeToSegment(balancer, TWO, gateways[1].at(LAN));
      instance = await topology.run(balancer, { forwarding, backendFamily, backends, health: "{ type: none }" });
      await leadsBy("web-1", "251");
      await leadsBy("web-2", "252");
    });
    afterAll(async () => { await topology?.close(); });

    async function wayTo(backend: string): Promise<string> {
      const { backends } = JSON.parse(await instance.verb("status", "-o", "json")) as {
        backends: { name: string; destinations: { neighbour: string | null }[] }[];
      };
      const found = backends.find(({ name }) => name === backend || name === `web/${backend}`);
      return found?.destinations[0]?.neighbour ?? "";
    }

    /** `last`: of the gateway's address, as it is written in the backends' family. */
    async function leadsBy(backend: string, last: string): Promise<void> {
      const text = backendFamily === 4 ? `198.18.${LAN}.${last} on` : `::${Number(last).toString(16)} on`;
      await waitFor(`${backend} behind ${last}`, 20_000, async () => {
        const way = await wayTo(backend);
        return way.startsWith("resolved") && way.includes(text);
      });
    }

    async function everybodyAnswers(): Promise<void> {
      for (const vip of VIPS) {
        for (const shares of [await curlShares({ client }, vip, CONNECTIONS), await udpShares({ client }, vip, CONNECTIONS)]) {
          expect([...shares.keys()]).toEqual(["web-1", "web-2"]);
          expect([...shares.values()].reduce((sum, one) => sum + one, 0)).toBe(CONNECTIONS);
        }
      }
    }

    /** Connections to both families that talk before, during and after the change; what became of them. */
    async function meanwhile(change: () => Promise<void> | void): Promise<string[]> {
      const clients = VIPS.map(async (vip) => (await runIn(client.namespace, process.execPath,
        [`${ROOT}/dist/scripts/lab_client.js`, "hold", vip, "7", String(HELD), "1.5"])).stdout.trim().split("\n")[1] ?? "");
      const forwarded = await verdictPackets({ balancer }, "TX_FORWARDED");
      await waitFor("the connections to talk", 20_000, async () =>
        await verdictPackets({ balancer }, "TX_FORWARDED") > forwarded + 4 * HELD);
      await change();
      return await Promise.all(clients);
    }

    const WHOLE = VIPS.map(() => `held ${HELD}, broken 0`);

    it("each leads to its backend", async () => {
      await everybodyAnswers();
    });

    it("a route by another one is followed while connections are open", async () => {
      // Known already, as a router that takes over is: nothing is lost while it is asked for.
      const { ipv4, ipv6 } = gateways[2].at(LAN);
      for (const address of [ipv4, ipv6])
        runInSync(balancer.namespace, "bash", ["-c", `echo > /dev/udp/${address}/9`], { check: false });
      expect(await meanwhile(async () => {
        routeToSegment(balancer, ONE, gateways[2].at(LAN));
        await leadsBy("web-1", "253");
        ip(gateways[0].namespace, "link", "set", "eth0", "down");
      })).toEqual(WHOLE);
      await everybodyAnswers();
    });

    it("a new link address is followed while connections are open", async () => {
      const gateway = gateways[2].namespace;
      // As after a failover: the new owner tells everybody.
      configure(gateway, { "net.ipv4.conf.eth0.arp_notify": "1", "net.ipv6.conf.eth0.ndisc_notify": "1" });
      expect(await meanwhile(async () => {
        ip(gateway, "link", "set", "eth0", "address", NEW_MAC);
        await waitFor("the new link address", 20_000, async () => (await wayTo("web-1")).includes(NEW_MAC));
      })).toEqual(WHOLE);
      await everybodyAnswers();
    });

    it("what is behind one that does not answer is dropped and counted, until it answers", async () => {
      const gateway = gateways[2].namespace;
      const before = await verdictPackets({ balancer }, "DROP_NO_NEIGHBOUR");
      ip(gateway, "link", "set", "eth0", "down");
      // The kernel finds out by itself, within a minute; this is quicker.
      runInSync(balancer.namespace, "ip", ["neigh", "flush", "dev", "eth0"]);
      runInSync(balancer.namespace, "ip", ["-6", "neigh", "flush", "dev", "eth0"]);
      await waitFor("an unresolved way", 20_000, async () => (await wayTo("web-1")).startsWith("unresolved"));
      await leadsBy("web-2", "252");
      const shares = await udpShares({ client }, VIP4, CONNECTIONS);
      expect([...shares.keys()]).toEqual(["", "web-2"]);
      expect(await verdictPackets({ balancer }, "DROP_NO_NEIGHBOUR")).toBeGreaterThanOrEqual(before + shares.get("")!);
      ip(gateway, "link", "set", "eth0", "up");
      // A link that was down has lost its IPv6 addresses, and with them the routes of the others to it stay.
      ip(gateway, "addr", "replace", `${gateways[2].at(LAN).ipv6}/64`, "dev", "eth0", "nodad");
      await leadsBy("web-1", "253");
      await everybodyAnswers();
    });
  });
});
