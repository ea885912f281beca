// least-response-time in the XDP plane: of three backends one answers its probes late, and gets fewer new flows until it
// is as fast as the others. Which flows it is does not depend on chance: each flow has an owner, and only those
// of the slow backend may be with somebody else.

import { afterAll, beforeAll, expect, it } from "vitest";
import type { Lab } from "../../scripts/lab_network.ts";
import { raiseLab, VIP4 } from "../../scripts/lab_network.ts";
import { instanceName, serveBackend, startInstance, waitFor, type Instance } from "../../scripts/lab_services.ts";
import { runIn } from "../../scripts/namespaces.ts";
import { askInTurn } from "../support/flows_in_turn.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";

/** So late that a busy machine makes no difference beside the dead band. */
const USUAL_MS = 200;
const SLOW_MS = 700;
const HEALTH = "{ type: http, path: /health, port: 80, interval: 1s, timeout: 1s, fall: 1000, "
  + "feedback: { interval: 1s, deadBand: 30, moved: 10 } }";
const FLOWS = 300;
const PATIENCE_MS = 120_000;

function configText(instance: string, { backends }: Lab): string {
  return `version: 1
instance: ${instance}
dataplane: { mode: xdp, interfaces: [eth0], hashSeed: "0123456789abcdef" }
pools:
  web:
    health: ${HEALTH}
    backends: [${backends.map(({ name, ipv4 }) => `{ name: ${name}, address: ${ipv4} }`).join(", ")}]
services:
  - { name: named, address: "${VIP4}", port: 9, pool: web, forwarding: l2, algorithm: least-response-time }
`;
}

describeKernel("a backend that answers probes late", [...KERNEL, "tool:curl"], () => {
  let lab: Lab;
  let instance: Instance;
  const answerAfter = async (at: number, ms: number): Promise<void> => {
    await runIn(lab.backends[at]!.namespace, "curl", ["-sf", "-m", "5", "-X", "POST", `http://127.0.0.1/slow?ms=${ms}`]);
  };
  beforeAll(async () => {
    lab = raiseLab({ label: "feedback", backends: 3, mtu: 1500, localVip: false });
    await Promise.all(lab.backends.map((host) => serveBackend(host, { iperf: false, decap: false })));
    for (const at of lab.backends.keys()) await answerAfter(at, USUAL_MS);
    const name = instanceName("feedback");
    instance = await startInstance(lab, name, configText(name, lab));
  });
  afterAll(async () => {
    await instance?.remove();
    lab?.close();
  });

  /** Of its share, in percent, as feedback has it. */
  const shareOf = async (name: string): Promise<number> => {
    const found = (await instance.api.backends()).find((each) => each.name === `web/${name}`);
    return Number(/feedback: (\d+)%/.exec(found?.reason ?? "")?.[1] ?? 100);
  };

  /** New flows from these ports on: whose each is, and who has it. */
  const place = async (firstPort: number): Promise<{ readonly owner: string; readonly has: string }[]> => {
    const names = await askInTurn(lab, { protocol: "tcp", address: VIP4, port: 9, count: FLOWS, firstPort });
    return await Promise.all(names.map(async (has, at) => {
      const { configuredOwner } = await instance.api.explain({ service: "named", client: `${lab.client.ipv4}:${firstPort + at}` });
      return { owner: configuredOwner?.replace("web/", "") ?? "", has };
    }));
  };

  it("is served by the ring while all are alike", async () => {
    expect((await place(10_000)).filter(({ owner, has }) => owner !== has)).toEqual([]);
    const { steps } = await instance.api.explain({ service: "named", client: `${lab.client.ipv4}:9999` });
    expect(steps.find(({ step }) => step === "algorithm")?.detail).toContain("how long probes take steers its shares");
  });

  it("gets fewer new flows when one is slow, and none of another's moves", async () => {
    await answerAfter(1, SLOW_MS);
    await waitFor("web-2 to have less", PATIENCE_MS, async () => await shareOf("web-2") <= 45);
    const flows = await place(20_000);
    expect(flows).toHaveLength(FLOWS);
    expect(flows.filter(({ owner, has }) => owner !== has && owner !== "web-2")).toEqual([]);
    const own = flows.filter(({ owner }) => owner === "web-2");
    const kept = own.filter(({ has }) => has === "web-2").length;
    expect(own.length).toBeGreaterThan(FLOWS / 6);
    expect(kept).toBeGreaterThan(0);
    expect(kept / own.length).toBeLessThan(0.7);
    expect(instance.log()).toContain("% of the flows of web");
  });

  it("has all of its own again when it is fast", async () => {
    await answerAfter(1, USUAL_MS);
    await waitFor("web-2 to have all", PATIENCE_MS, async () => await shareOf("web-2") === 100);
    expect((await place(30_000)).filter(({ owner, has }) => owner !== has)).toEqual([]);
  });
});
