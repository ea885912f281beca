// ICMP errors about our own tunnels, sent by real routers and hosts. A link behind a router is narrower than the
// balancer can see: the router says so, to the outer source, and the balancer passes it on to the client as far as it
// concerns it. A backend that unwraps nothing says so too, and is looked after.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Status } from "../../src/api/schemas.ts";
import { configure, ip } from "../../scripts/lab_links.ts";
import { VIP4, VIP6 } from "../../scripts/lab_network.ts";
import { startInstance, verdictPackets, waitFor, type Instance } from "../../scripts/lab_services.ts";
import { runIn } from "../../scripts/namespaces.ts";
import { whyNotThorough } from "../support/counts.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { route, routeToSegment, Topology, type TopologyHost } from "./fixtures/topology.ts";

const LAN = 1;
const FAR = 2;
const NARROW_MTU = 1400;
const UPLOAD_BYTES = 1_000_000;
const ALL_CASES = [
  { forwarding: "ipip", backendFamily: 4, outerBytes: 20 },
  { forwarding: "ipip", backendFamily: 6, outerBytes: 40 },
  { forwarding: "gue", backendFamily: 4, outerBytes: 32 },
  { forwarding: "gue", backendFamily: 6, outerBytes: 52 },
  { forwarding: "gre", backendFamily: 4, outerBytes: 24 },
] as const;
/** In CI and test:long all of them; else the one with the most outer bytes. */
const CASES = whyNotThorough() === null ? ALL_CASES : ALL_CASES.filter(({ outerBytes }) => outerBytes === 52);

/** Those of every destination of every backend, each once. */
function pathMtusIn({ backends }: Pick<Status, "backends">): (number | null)[] {
  const destinations = backends.flatMap((backend) => backend.destinations);
  return [...new Set(destinations.map(({ pathMtu }) => pathMtu))];
}

async function events(instance: Instance): Promise<string> {
  return await instance.verb("events");
}

async function upload(client: TopologyHost, vip: string): Promise<string> {
  const url = `http://${vip === VIP6 ? `[${vip}]` : vip}/digest`;
  const script = `head -c ${UPLOAD_BYTES} /dev/zero | curl -sf -m 60 --data-binary @- -H 'Expect:' '${url}'`;
  return (await runIn(client.namespace, "bash", ["-o", "pipefail", "-c", script])).stdout.trim();
}

const DIGEST = createHash("sha256").update(new Uint8Array(UPLOAD_BYTES)).digest("hex");

describeKernel("errors about tunnels in the lab", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  describe.each(CASES)("$forwarding to IPv$backendFamily behind a narrow link", ({ forwarding, backendFamily, outerBytes }) => {
    let topology: Topology;
    let balancer: TopologyHost;
    let client: TopologyHost;
    let instance: Instance;

    beforeAll(async () => {
      topology = new Topology(`te${forwarding}${backendFamily}`);
      balancer = topology.balancer("balancer", [{ segment: LAN, last: 1 }]);
      client = topology.client("client", { segment: LAN, last: 2 }, balancer);
      const router = topology.router("router", [{ segment: LAN, last: 251 }, { segment: FAR, last: 251 }]);
      const backend = topology.host("web-1", [{ segment: FAR, last: 11 }]);
      ip(router.namespace, "link", "set", "eth1", "mtu", String(NARROW_MTU));
      ip(backend.namespace, "link", "set", "eth0", "mtu", String(NARROW_MTU));
      route(backend, "default", "default", router.at(FAR), NARROW_MTU);
      routeToSegment(balancer, FAR, router.at(LAN));
      await topology.serve(backend, true);
      instance = await topology.run(balancer, { forwarding, backendFamily, backends: [backend], health: "{ type: none }" });
    });
    afterAll(async () => { await topology?.close(); });

    it("the balancer learns its MTU from the router, and the client from the balancer: 1 MB arrives", async () => {
      for (const vip of [VIP4, VIP6]) expect(await upload(client, vip)).toBe(DIGEST);
      expect(await verdictPackets({ balancer }, "DROP_TUNNEL_ERROR")).toBeGreaterThan(0);
      expect(await verdictPackets({ balancer }, "TX_TOO_BIG")).toBeGreaterThan(0);
      for (const [family, vip] of [["-4", VIP4], ["-6", VIP6]] as const) {
        const { stdout } = await runIn(client.namespace, "ip", [family, "route", "get", vip]);
        expect(stdout).toContain(`mtu ${NARROW_MTU - outerBytes}`);
      }
    });

    it("is shown by status, by backends and in the metrics", async () => {
      const status = JSON.parse(await instance.verb("status", "-o", "json")) as Status;
      expect(pathMtusIn(status)).toEqual([NARROW_MTU]);
      expect(await instance.verb("backends")).toContain(`path MTU ${NARROW_MTU}`);
      const { stdout } = await runIn(balancer.namespace, "curl", ["-sf", "-m", "5", "http://127.0.0.1:9469/metrics"]);
      expect(stdout).toContain(`pointsman_backend_path_mtu_bytes{pool="web",backend="web-1"} ${NARROW_MTU}`);
    });

    it("is known by the supervisor that comes next", async () => {
      const before = await verdictPackets({ balancer }, "DROP_TUNNEL_ERROR");
      await instance.stop("SIGKILL");
      const { name, configPath } = instance;
      const again = await startInstance({ balancer }, name, readFileSync(configPath, "utf8"), dirname(configPath));
      try {
        expect(pathMtusIn(await again.api.status())).toEqual([NARROW_MTU]);
        expect(await upload(client, VIP4)).toBe(DIGEST);
        expect(await verdictPackets({ balancer }, "DROP_TUNNEL_ERROR")).toBe(before);
      } finally {
        await again.stop();
      }
    });
  });

  it("a backend that unwraps nothing is probed at once, and stays what its probes say", async () => {
    const topology = new Topology("teunwrapped");
    try {
      const balancer = topology.balancer("balancer", [{ segment: LAN, last: 1 }]);
      const client = topology.client("client", { segment: LAN, last: 2 }, balancer);
      const backend = topology.host("web-1", [{ segment: LAN, last: 11 }]);
      // However many there are to answer.
      configure(backend.namespace, { "net.ipv4.icmp_ratelimit": "0" });
      await topology.serve(backend, false);
      const instance = await topology.run(balancer, { forwarding: "ipip", backendFamily: 4, backends: [backend],
        health: "{ type: http, path: /health, port: 80, interval: 60s, timeout: 1s }" });
      await waitFor("an error about the tunnel", 20_000, async () => {
        await runIn(client.namespace, "curl", ["-s", "-m", "1", `http://${VIP4}/`], { check: false });
        return (await events(instance)).includes("is probed at once: its tunnel was answered: protocol unreachable");
      });
      expect(await verdictPackets({ balancer }, "DROP_TUNNEL_ERROR")).toBeGreaterThan(0);
      expect((await instance.api.status()).backends.map(({ state }) => state)).not.toContain("down");
    } finally {
      await topology.close();
    }
  });
});
