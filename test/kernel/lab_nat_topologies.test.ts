// Translation between two networks: clients behind one interface of the balancer, backends behind another, one
// of them behind a router. Backends know no virtual address, and nobody else has a route to clients.

import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { configure } from "../../scripts/lab_links.ts";
import { forgetVips, VIP4, VIP6 } from "../../scripts/lab_network.ts";
import { curlShares, tally, udpShares, verdictPackets, waitFor } from "../../scripts/lab_services.ts";
import { runIn } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { waysOf } from "../support/lab_ways.ts";
import { route, routeToSegment, Topology, type TopologyHost } from "./fixtures/topology.ts";

/** Of clients; of web-1 and the router; of web-2, behind that. */
const FRONT = 1;
const BACK = 2;
const FAR = 3;
const CONNECTIONS = 40;
const TRANSFER_BYTES = 1_000_000;
/** No backend has it. */
const SILENT_PORT = 9;
const CASES = waysOf("TRANSLATED", "nat/6", "fullnat/4");

/** From each of so many ports one datagram with this time to live; prints what became of it. */
const ASK_ONCE = `
  const { createSocket } = require("node:dgram");
  const [address, port, ttl, count] = process.argv.slice(1);
  for (let left = Number(count); left > 0; left -= 1) {
    const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
    const end = (what) => { clearInterval(again); clearTimeout(patience); socket.close(); console.log(what); };
    const again = setInterval(() => socket.send("hello"), 300);
    const patience = setTimeout(() => end("silence"), 3000);
    socket.on("error", (error) => end(error.code));
    socket.on("message", () => end("answer"));
    socket.connect(Number(port), address, () => { socket.setTTL(Number(ttl)); socket.send("hello"); });
  }`;

describeKernel("translation between networks in the lab", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  describe.each(CASES)("$forwarding to IPv$backendFamily", ({ forwarding, backendFamily }) => {
    const vip = backendFamily === 4 ? VIP4 : VIP6;
    let topology: Topology;
    let balancer: TopologyHost;
    let client: TopologyHost;
    beforeAll(async () => {
      topology = new Topology(`nt${forwarding}${backendFamily}`);
      balancer = topology.balancer("balancer", [{ segment: FRONT, last: 1 }, { segment: BACK, last: 1 }]);
      client = topology.client("client", { segment: FRONT, last: 2 }, balancer);
      const router = topology.router("router", [{ segment: BACK, last: 254 }, { segment: FAR, last: 254 }]);
      const backends = [
        await topology.backend("web-1", { segment: BACK, last: 11 }, forwarding),
        await topology.backend("web-2", { segment: FAR, last: 12 }, forwarding),
      ] as const;
      for (const { namespace } of backends) forgetVips(namespace);
      // Each host says so for each datagram, however many there are.
      for (const { namespace } of [...backends, router])
        configure(namespace, { "net.ipv4.icmp_ratelimit": "0", "net.ipv6.icmp.ratelimit": "0" });
      routeToSegment(balancer, FAR, router.at(BACK));
      route(backends[1], "default", "default", router.at(FAR));
      // What nat asks for: everybody behind the balancer leads clients' packets to it.
      if (forwarding === "nat")
        for (const host of [backends[0], router]) route(host, "default", "default", balancer.at(BACK));
      else routeToSegment(backends[0], FAR, router.at(BACK));
      await topology.run(balancer, {
        forwarding, backendFamily, backends, interfaces: ["eth0", "eth1"],
        services: `  - { name: silent, address: "${vip}", port: ${SILENT_PORT}, protocol: udp, pool: web, forwarding: ${forwarding} }\n`,
      });
    });
    afterAll(async () => { await topology?.close(); });

    /** What became of datagrams from so many ports, and how often. */
    async function askedOnce(port: number, ttl: number, count: number): Promise<ReadonlyMap<string, number>> {
      const { stdout } = await runIn(client.namespace, process.execPath,
        ["-e", ASK_ONCE, vip, String(port), String(ttl), String(count)]);
      return tally(stdout.trim().split("\n"), count);
    }

    it("connections and datagrams reach the backends of either network and come back", async () => {
      for (const shares of [await curlShares({ client }, vip, CONNECTIONS), await udpShares({ client }, vip, CONNECTIONS)]) {
        expect([...shares.keys()]).toEqual(["web-1", "web-2"]);
        expect([...shares.values()].reduce((sum, one) => sum + one, 0)).toBe(CONNECTIONS);
      }
      expect(await verdictPackets({ balancer }, "TX_REPLY")).toBeGreaterThan(CONNECTIONS * 4);
      expect(await verdictPackets({ balancer }, "DROP_NO_NEIGHBOUR")).toBe(0);
    });

    it("keeps the bytes of a download and an upload", async () => {
      const url = `http://${vip.includes(":") ? `[${vip}]` : vip}`;
      const sent = Uint8Array.from({ length: TRANSFER_BYTES }, (_, at) => at % 251);
      const digest = createHash("sha256").update(sent).digest("hex");
      // A port each time, so that both backends have some.
      for (let transfer = 0; transfer < 4; transfer += 1) {
        const script = `curl -sf -m 30 '${url}/bytes?n=${TRANSFER_BYTES}' | tee >(sha256sum | cut -d' ' -f1 >&2)`
          + ` | curl -sf -m 30 --data-binary @- -H 'Expect:' '${url}/digest'`;
        const ended = await runIn(client.namespace, "bash", ["-o", "pipefail", "-c", script]);
        expect([ended.stderr.trim(), ended.stdout.trim()]).toEqual([digest, digest]);
      }
    });

    it("an ICMP error of a backend reaches the client as one of the virtual address's", async () => {
      // The client's kernel tells its socket only if the quoted packet is the one that the socket sent.
      expect(await askedOnce(SILENT_PORT, 64, 8)).toEqual(new Map([["ECONNREFUSED", 8]]));
      expect(await verdictPackets({ balancer }, "TX_ICMP_ERROR")).toBeGreaterThanOrEqual(8);
    });

    it("an ICMP error of a router behind the balancer reaches the client", async () => {
      const told = async (): Promise<number> => timesExceeded(
        (await runIn(client.namespace, "cat", [`/proc/net/${backendFamily === 4 ? "snmp" : "snmp6"}`])).stdout);
      const before = await told();
      // One hop is the balancer's; what is for web-2 ends at the router, and web-1 answers.
      const shares = await askedOnce(7, 2, 16);
      expect([...shares.keys()]).toEqual(["answer", "silence"]);
      await waitFor("the errors", 10_000, async () => await told() - before >= shares.get("silence")!);
    });
  });
});

/** ICMP "time exceeded" messages that this kernel took in. */
function timesExceeded(text: string): number {
  const six = /^Icmp6InTimeExcds\s+(\d+)$/m.exec(text);
  if (six !== null) return Number(six[1]);
  const [names = [], values = []] = text.split("\n").filter((line) => line.startsWith("Icmp:")).map((line) => line.split(" "));
  return Number(values[names.indexOf("InTimeExcds")]);
}
