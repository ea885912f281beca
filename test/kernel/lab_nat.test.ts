// Translation with real sockets: backends that know no virtual address answer through the balancer, by nat
// (where the way to clients leads through it) and by fullnat (where they need to know nothing).

import { createHash } from "node:crypto";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { forgetVips, VIP4, VIP6 } from "../../scripts/lab_network.ts";
import type { Lab, LabHost } from "../../scripts/lab_network.ts";
import {
  curlShares, startInstance, startLoad, udpShares, verdictPackets, waitFor,
} from "../../scripts/lab_services.ts";
import type { Instance } from "../../scripts/lab_services.ts";
import { runIn, runInSync } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { waysOf } from "../support/lab_ways.ts";
import { serveLab } from "./fixtures/lab_fixture.ts";
import type { ServedLab } from "./fixtures/lab_fixture.ts";

const BACKENDS = 3;
const CONNECTIONS = 60;
const DATAGRAM_BYTES = 8192;
const TRANSFER_BYTES = 20_000_000;
const FAR_BYTES = 1_000_000;
const FAR_LINK_MTU = 1400;
const SHORT = "  nat: { timeouts: { syn: 1s, established: 20s, fin: 1s, rst: 1s, udp: 1s } }\n";
/** A second virtual address, with the same backends. */
const OTHERS = { 4: "198.18.100.2", 6: "2001:db8:100::2" } as const;
const CASES = waysOf("TRANSLATED", "nat/4", "fullnat/6");
const HELD = 20;

/** From each of so many ports one datagram to either address; prints who did not answer, or for whom. */
const TWO_ADDRESSES = `
  const { createSocket } = require("node:dgram");
  const [family, one, other, count] = process.argv.slice(1);
  const ask = (port) => new Promise((resolve) => {
    const socket = createSocket(family === "4" ? "udp4" : "udp6");
    const answers = [];
    const end = () => { clearInterval(again); clearTimeout(patience); socket.close(); resolve(answers.sort().join()); };
    socket.on("message", (message, from) => {
      const said = message.toString().split("\\n")[1] + " from " + from.address;
      if (!answers.includes(said)) answers.push(said);
      if (answers.length === 2) end();
    });
    const send = () => { for (const to of [one, other]) socket.send("for " + to, 7, to); };
    const again = setInterval(send, 500);
    const patience = setTimeout(end, 5000);
    socket.bind(port, send);
  });
  (async () => {
    const wanted = [one, other].map((to) => "for " + to + " from " + to).sort().join();
    for (let port = 23000; port < 23000 + Number(count); port++) {
      const found = await ask(port);
      console.log(found === wanted ? "right" : port + ": " + found);
    }
  })();`;

const host = (address: string): string => (address.includes(":") ? `[${address}]` : address);

function sequenceDigest(bytes: number): string {
  return createHash("sha256").update(Uint8Array.from({ length: bytes }, (_, at) => at % 251)).digest("hex");
}

describeKernel("translation in the lab", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  describe.each(CASES)("$forwarding to IPv$backendFamily", ({ forwarding, backendFamily }) => {
    const vip = backendFamily === 4 ? VIP4 : VIP6;
    const other = OTHERS[backendFamily];
    let served: ServedLab;
    let lab: Lab;
    let instance: Instance;
    beforeAll(async () => {
      served = await serveLab({
        label: "nat-", forwarding, backendFamily, backends: BACKENDS, extra: SHORT,
        services: `  - { name: other, address: "${other}", port: 7, protocol: udp, pool: web, forwarding: ${forwarding} }\n`,
      });
      ({ lab, instance } = served);
      const route = backendFamily === 4 ? ["route", "add", `${other}/32`, "via", lab.balancer.ipv4]
        : ["-6", "route", "add", `${other}/128`, "via", lab.balancer.ipv6];
      runInSync(lab.client.namespace, "ip", route);
      for (const { namespace } of lab.backends) forgetVips(namespace);
    });
    afterAll(async () => {
      await instance?.stop();
      await served?.close();
    });

    it("spreads connections and datagrams over all backends and loses none", async () => {
      for (const shares of [await curlShares(lab, vip, CONNECTIONS), await udpShares(lab, vip, CONNECTIONS)]) {
        expect([...shares.keys()]).toEqual(["web-1", "web-2", "web-3"]);
        expect([...shares.values()].reduce((a, b) => a + b, 0)).toBe(CONNECTIONS);
      }
      expect(await verdictPackets(lab, "TX_REPLY")).toBeGreaterThan(CONNECTIONS * 4);
    });

    it("keeps the bytes of a large download and a large upload", async () => {
      const url = `http://${host(vip)}`;
      const script =
        `curl -sf -m 120 '${url}/bytes?n=${TRANSFER_BYTES}' | tee >(sha256sum | cut -d' ' -f1 >&2)` +
        ` | curl -sf -m 120 --data-binary @- -H 'Expect:' '${url}/digest'`;
      const ended = await runIn(lab.client.namespace, "bash", ["-o", "pipefail", "-c", script], { timeoutMs: 150_000 });
      expect([ended.stderr.trim(), ended.stdout.trim()]).toEqual([0, 1].map(() => sequenceDigest(TRANSFER_BYTES)));
    });

    it("8 KB arrive and come back in pieces, from every backend", async () => {
      const replies = await verdictPackets(lab, "TX_REPLY");
      const shares = await udpShares(lab, vip, CONNECTIONS, DATAGRAM_BYTES);
      expect([...shares.keys()]).toEqual(["web-1", "web-2", "web-3"]);
      expect([...shares.values()].reduce((a, b) => a + b, 0)).toBe(CONNECTIONS);
      expect(await verdictPackets(lab, "TX_REPLY") - replies).toBeGreaterThanOrEqual(CONNECTIONS * 6);
    });

    it("one port of a client meets two virtual addresses, and each answers for itself", async () => {
      const ports = 12;
      const { stdout } = await runIn(lab.client.namespace, process.execPath,
        ["-e", TWO_ADDRESSES, String(backendFamily), vip, other, String(ports)], { timeoutMs: 90_000 });
      expect(stdout.trim().split("\n")).toEqual(Array.from({ length: ports }, () => "right"));
      if (forwarding !== "nat") return;
      // Of a dozen pairs some share a backend, where one of the two cannot have the client's own port.
      const metrics = await runIn(lab.balancer.namespace, "curl", ["-sf", "http://127.0.0.1:9469/metrics"]);
      const translated = /pointsman_nat_claims_total\{outcome="port_translated"\} (\d+)/.exec(metrics.stdout)?.[1];
      expect(Number(translated)).toBeGreaterThan(0);
    });

    it("a client on a backend meets every backend, its own host among them", async () => {
      const [one, ...others] = lab.backends;
      const at = backendFamily === 4 ? "ipv4" : "ipv6";
      const route = (host: LabHost, to: string): void => {
        runInSync(host.namespace, "ip", [...backendFamily === 4 ? [] : ["-6"], "route", "replace", to, "via", lab.balancer[at]]);
      };
      route(one!, vip);
      // As docs/nat.md says of clients beside backends.
      if (forwarding === "nat") for (const host of others) route(host, one![at]);
      for (const shares of [await curlShares({ client: one! }, vip, CONNECTIONS), await udpShares({ client: one! }, vip, CONNECTIONS)]) {
        expect([...shares.keys()]).toEqual(["web-1", "web-2", "web-3"]);
        expect([...shares.values()].reduce((a, b) => a + b, 0)).toBe(CONNECTIONS);
      }
    });

    it("1 MB to a client behind a narrow link arrives, once each backend was told", async () => {
      const far = lab.addFarClient(FAR_LINK_MTU);
      if (forwarding === "nat") lab.returnThroughBalancer();
      const before = await verdictPackets(lab, "TX_ICMP_ERROR");
      for (let transfer = 0; transfer < 6; transfer += 1) {
        const script = `curl -sf -m 30 --local-port ${21_401 + transfer} 'http://${host(vip)}/bytes?n=${FAR_BYTES}' | sha256sum | cut -d' ' -f1`;
        const { stdout } = await runIn(far.namespace, "bash", ["-o", "pipefail", "-c", script]);
        expect(stdout.trim()).toBe(sequenceDigest(FAR_BYTES));
      }
      expect(await verdictPackets(lab, "TX_ICMP_ERROR") - before).toBeGreaterThan(0);
    });

    it("open connections outlive the supervisor, and end with their timeouts", async () => {
      const load = await startLoad(lab.client.namespace, "scripts/lab_client.js", "hold", vip, "7", String(HELD), "6");
      await instance.stop("SIGKILL");
      const text = await runIn(lab.balancer.namespace, "cat", [instance.configPath]);
      instance = await startInstance(lab, instance.name, text.stdout, join(instance.configPath, ".."));
      expect(await load.lastLine).toBe(`held ${HELD}, broken 0`);
      const underWay = async (): Promise<number> =>
        (JSON.parse(await instance.verb("status", "-o", "json")) as { nat: { count: number } }).nat.count;
      await waitFor("the flows to end", 60_000, async () => await underWay() === 0);
      const log = await instance.verb("status", "-o", "json");
      // Of the file, whose timeouts are short for the test's sake, and of nothing else.
      const warnings = [expect.stringContaining("dataplane.nat.timeouts.established") as string];
      expect(JSON.parse(log)).toMatchObject({ adopted: true, warnings });
    });
  });
});
