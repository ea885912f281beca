// least-response-time in the XDP plane by what clients wait for: of three backends that answer their probes alike, one
// answers clients' first datagrams late, and gets fewer new flows until it is as fast as the others. Probes go to another
// port, by another protocol.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { forgetVips, raiseLab, VIP4, VIP6, type Lab } from "../../scripts/lab_network.ts";
import { curlShares, instanceName, serveBackend, startInstance, waitFor, type Instance } from "../../scripts/lab_services.ts";
import { runIn } from "../../scripts/namespaces.ts";
import { askInTurn } from "../support/flows_in_turn.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { waysOf } from "../support/lab_ways.ts";

/** Of probes: so long that what a busy machine adds makes no difference beside the dead band. */
const PROBE_MS = 200;
/** Before the client asks again. */
const LATE_MS = 400;
const HEALTH = "{ type: http, path: /health, port: 80, interval: 1s, timeout: 1s, fall: 1000, "
  + "feedback: { interval: 1s, deadBand: 30, moved: 10 } }";
const FLOWS = 150;
/** Of one round, while shares change. */
const ROUND = 45;
const CONNECTIONS = 30;
const PATIENCE_MS = 180_000;

function configText(instance: string, { backends }: Lab, forwarding: string, family: 4 | 6): string {
  const members = backends.map(({ name, ipv4, ipv6 }) => `{ name: ${name}, address: "${family === 4 ? ipv4 : ipv6}" }`);
  const address = family === 4 ? VIP4 : VIP6;
  const more = `address: "${address}", pool: web, forwarding: ${forwarding}`;
  return `version: 1
instance: ${instance}
dataplane: { mode: xdp, interfaces: [eth0], hashSeed: "0123456789abcdef" }
pools: { web: { health: ${HEALTH}, backends: [${members.join(", ")}] } }
services:
  - { name: asked, port: 7, protocol: udp, algorithm: least-response-time, ${more} }
  - { name: connected, port: 80, protocol: tcp, ${more} }
`;
}

describeKernel("a backend that answers clients late", [...KERNEL, "tool:curl"], () => {
  describe.each(waysOf("TRANSLATED", "nat/4", "fullnat/6"))("by $forwarding, over IPv$backendFamily", ({ forwarding, backendFamily }) => {
    const vip = backendFamily === 4 ? VIP4 : VIP6;
    let lab: Lab;
    let instance: Instance;
    let nextPort = 10_000;
    const tell = async (at: number, what: string): Promise<void> => {
      await runIn(lab.backends[at]!.namespace, "curl", ["-sf", "-m", "5", "-X", "POST", `http://127.0.0.1/${what}`]);
    };
    beforeAll(async () => {
      lab = raiseLab({ label: `handshakes${backendFamily}`, backends: 3, mtu: 1500, localVip: false });
      await Promise.all(lab.backends.map((host) => serveBackend(host, { iperf: false, decap: false })));
      for (const at of lab.backends.keys()) await tell(at, `slow?ms=${PROBE_MS}`);
      if (forwarding === "nat") lab.returnThroughBalancer();
      for (const { namespace } of lab.backends) forgetVips(namespace);
      const name = instanceName(`handshakes${backendFamily}`);
      instance = await startInstance(lab, name, configText(name, lab, forwarding, backendFamily));
    });
    afterAll(async () => {
      await instance?.remove();
      lab?.close();
    });

    /** Flows that nobody had before: only those show how long their backend takes. */
    const place = async (count: number): Promise<{ readonly owner: string; readonly has: string }[]> => {
      const firstPort = nextPort;
      nextPort += count;
      const said = await askInTurn(lab, { protocol: "udp", address: vip, port: 7, count, firstPort });
      const client = backendFamily === 4 ? lab.client.ipv4 : `[${lab.client.ipv6}]`;
      return await Promise.all(said.map(async (words, at) => {
        const { configuredOwner } = await instance.api.explain({ service: "asked", client: `${client}:${firstPort + at}` });
        return { owner: configuredOwner?.replace("web/", "") ?? "", has: words.split("\n")[0]! };
      }));
    };
    const reasonOf = async (name: string): Promise<string> =>
      (await instance.api.backends()).find((each) => each.name === `web/${name}`)?.reason ?? "";
    const shareOf = async (name: string): Promise<number> => Number(/feedback: (\d+)%/.exec(await reasonOf(name))?.[1] ?? 100);
    const totals = async (what: string): Promise<Record<string, number>> => {
      const { stdout } = await runIn(lab.balancer.namespace, "curl", ["-sf", "http://127.0.0.1:9469/metrics"]);
      const found = stdout.matchAll(new RegExp(`^pointsman_backend_${what}_total\\{pool="web",backend="(.*)"\\} (.*)$`, "gm"));
      return Object.fromEntries([...found].map(([, name = "", value]): [string, number] => [name, Number(value)]));
    };

    it("is served by the ring while all are alike, and each answer is counted once", async () => {
      expect((await place(FLOWS)).filter(({ owner, has }) => owner !== has)).toEqual([]);
      const { steps } = await instance.api.explain({ service: "asked", client: backendFamily === 4 ? "198.51.100.1:9" : "[2001:db8::1]:9" });
      expect(steps.find(({ step }) => step === "algorithm")?.detail).toContain("probes and clients' handshakes take");
      const sum = (of: Record<string, number>): number => Object.values(of).reduce((a, b) => a + b, 0);
      const before = sum(await totals("answers"));
      expect(before).toBe(FLOWS);
      await curlShares(lab, vip, CONNECTIONS);
      expect(sum(await totals("answers")) - before).toBe(CONNECTIONS);
    });

    it("gets fewer new flows when one is late for clients alone, and none of another's moves", async () => {
      await tell(1, `late?ms=${LATE_MS}`);
      await waitFor("web-2 to have less", PATIENCE_MS, async () => {
        await place(ROUND);
        return await shareOf("web-2") <= 45;
      });
      expect(await reasonOf("web-2")).toContain("with clients' handshakes");
      const flows = await place(FLOWS);
      expect(flows.filter(({ owner, has }) => owner !== has && owner !== "web-2")).toEqual([]);
      const own = flows.filter(({ owner }) => owner === "web-2");
      const kept = own.filter(({ has }) => has === "web-2").length;
      expect(own.length).toBeGreaterThan(FLOWS / 6);
      expect(kept).toBeGreaterThan(0);
      expect(kept / own.length).toBeLessThan(0.7);
      const [waited, answers] = [await totals("answer_wait_seconds"), await totals("answers")];
      const meanOf = (name: string): number => waited[name]! / answers[name]!;
      expect(meanOf("web-2")).toBeGreaterThan(5 * Math.max(meanOf("web-1"), meanOf("web-3")));
    });

    it("has all of its own again when it is fast", async () => {
      await tell(1, "late?ms=0");
      await waitFor("web-2 to have all", PATIENCE_MS, async () => {
        await place(ROUND);
        return await shareOf("web-2") === 100;
      });
      expect((await place(FLOWS)).filter(({ owner, has }) => owner !== has)).toEqual([]);
    });
  });
});
