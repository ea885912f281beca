// A split and a damping with real flows in both planes. Of a split: the shares of new flows by the percentages, and that
// flows which are open stay where they are when a percentage moves. Of a damping: that a backend which flaps gets no new
// flow, and gets them again.

import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Lab } from "../../scripts/lab_network.ts";
import { raiseLab, VIP4, VIP6 } from "../../scripts/lab_network.ts";
import type { Instance } from "../../scripts/lab_services.ts";
import { instanceName, startInstance, waitFor } from "../../scripts/lab_services.ts";
import { spawnIn } from "../../scripts/namespaces.ts";
import { openInTurn, type FlowsInTurn } from "../support/flows_in_turn.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { byChance, type Weights } from "../support/traffic_shares.ts";

interface Way { readonly name: string; readonly protocol: "tcp" | "udp"; readonly vip: string; readonly port: number }
const TCP: Way = { name: "tcp", protocol: "tcp", vip: VIP4, port: 9000 };
const UDP: Way = { name: "udp", protocol: "udp", vip: VIP6, port: 9001 };
const FLAPPED: Way = { name: "flapped", protocol: "tcp", vip: VIP6, port: 9002 };
const PROBE_PORT = 9003;
const PORTS = 4;

const FLOWS = 480;
const PATIENCE_MS = 60_000;
/** Of which percentage the canary, web-3, has: web-1 and web-2 share the rest alike. */
const sharesAt = (percent: number): Weights => ({ "web-1": (100 - percent) / 2, "web-2": (100 - percent) / 2, "web-3": percent });
const CLIENT_PORT = { tcp: 10_000, udp: 10_000, moved: 20_000, held: 30_000, back: 40_000 } as const;

const fixture = (name: string): string => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));

function configText(instance: string, lab: Lab, plane: "xdp" | "proxy", percent: number): string {
  const backends = (...names: string[]): string => lab.backends.filter(({ name }) => names.includes(name))
    .map(({ name, ipv4 }) => `{ name: ${name}, address: "${ipv4}" }`).join(", ");
  const split = `split: [{ pool: web, percent: ${100 - percent} }, { pool: next, percent: ${percent} }]`;
  // Of UDP, what is new in a slot that changes is told from what was there by the table alone.
  const service = ({ name, protocol, vip, port }: Way, to: string): string =>
    `  - { name: ${name}, address: "${vip}", port: ${port}, protocol: ${protocol}, forwarding: l2, `
    + `${protocol === "udp" ? "tracking: full, " : ""}${to} }`;
  const probe = `type: udp, port: ${PROBE_PORT}, send: who, expect: web, interval: 250ms, timeout: 200ms, rise: 1, fall: 1`;
  return `version: 1
instance: ${instance}
dataplane: { mode: ${plane}, interfaces: [eth0], hashSeed: "0123456789abcdef" }
pools:
  web: { health: { type: none }, backends: [${backends("web-1", "web-2")}] }
  next: { health: { type: none }, backends: [${backends("web-3")}] }
  flapping:
    health: { ${probe}, damping: { changesMax: 3, within: 10m, hold: 15s } }
    backends: [${backends("web-1", "web-2", "web-3")}]
services:
${service(TCP, split)}
${service(UDP, split)}
${service(FLAPPED, "pool: flapping")}
`;
}

describeKernel("a split and a damping", KERNEL, () => {
  let lab: Lab;
  const servers = new Map<string, ChildProcess>();
  beforeAll(async () => {
    lab = raiseLab({ label: "split", backends: 3, mtu: 1500, localVip: true });
    for (const { name, namespace, ipv4, ipv6 } of lab.backends) {
      const args = [fixture("named_server.mjs"), name, TCP.port, PORTS, VIP4, VIP6, ipv4, ipv6].map(String);
      const server = spawnIn(namespace, process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
      const [line] = await once(createInterface({ input: server.stdout! }), "line") as [string];
      expect(line).toBe("ready");
      servers.set(name, server);
    }
  });
  afterAll(() => {
    for (const server of servers.values()) server.kill("SIGCONT");
    lab?.close();
  });

  async function open({ protocol, vip, port }: Way, firstPort: number, count = FLOWS): Promise<FlowsInTurn> {
    const flows = await openInTurn(lab, { protocol, address: vip, port, count, firstPort });
    expect(flows.names).toHaveLength(count);
    return flows;
  }

  describe.each(["xdp", "proxy"] as const)("in the %s plane", (plane) => {
    const name = instanceName(`split-${plane}`);
    let instance: Instance;
    beforeAll(async () => { instance = await startInstance(lab, name, configText(name, lab, plane, 20)); });
    afterAll(async () => { await instance?.remove(); });

    it("has new flows split by the percentages, and moves none that is open when they change", async () => {
      const clients = await Promise.all([TCP, UDP].map((way) => open(way, CLIENT_PORT[way.protocol])));
      for (const { names } of clients) {
        expect(byChance(names, sharesAt(20))).toEqual([]);
        expect(byChance(names, sharesAt(50))).not.toEqual([]);
      }
      instance.configure(configText(name, lab, plane, 50));
      await instance.api.reload("test");
      for (const client of clients) expect(await client.again()).toEqual(client.names);
      for (const way of [TCP, UDP]) {
        const moved = await open(way, CLIENT_PORT.moved);
        expect(byChance(moved.names, sharesAt(50))).toEqual([]);
        expect(byChance(moved.names, sharesAt(20))).not.toEqual([]);
        await moved.close();
      }
      for (const client of clients) {
        expect(await client.again()).toEqual(client.names);
        await client.close();
      }
    });

    it("holds a backend that flaps, which keeps its flows, and has it back when it has been quiet", async () => {
      const stateOf = async (): Promise<string | undefined> =>
        (await instance.api.backends()).find((each) => each.name === "flapping/web-2")?.state;
      const isHeard = (to: string): Promise<boolean> => stateOf().then((state) => state === to);
      await waitFor("web-2 to be up", PATIENCE_MS, () => isHeard("active"));
      const client = await open(FLAPPED, CLIENT_PORT.tcp);
      expect(byChance(client.names, { "web-1": 1, "web-2": 1, "web-3": 1 })).toEqual([]);
      for (const back of ["active", "damped"]) {
        servers.get("web-2")!.kill("SIGSTOP");
        await waitFor("web-2 to be down", PATIENCE_MS, () => isHeard("down"));
        servers.get("web-2")!.kill("SIGCONT");
        await waitFor(`web-2 to be ${back}`, PATIENCE_MS, () => isHeard(back));
      }
      const held = await open(FLAPPED, CLIENT_PORT.held, 60);
      expect(await stateOf()).toBe("damped");
      expect(new Set(held.names)).toEqual(new Set(["web-1", "web-3"]));
      await held.close();
      expect(await client.again()).toEqual(client.names);
      await client.close();
      await waitFor("web-2 to be back", PATIENCE_MS, () => isHeard("active"));
      const back = await open(FLAPPED, CLIENT_PORT.back);
      expect(byChance(back.names, { "web-1": 1, "web-2": 1, "web-3": 1 })).toEqual([]);
      await back.close();
    });
  });
});
