// QUIC connection IDs from outside, in both planes and families: a client that keeps its ID and changes
// its address and port keeps its backend, through a change of the ring and of the keys.

import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Lab } from "../../scripts/lab_network.ts";
import { raiseLab, VIP4, VIP6 } from "../../scripts/lab_network.ts";
import type { Instance } from "../../scripts/lab_services.ts";
import { instanceName, ROOT, serveBackend, startInstance, waitFor } from "../../scripts/lab_services.ts";
import { runIn, runInSync } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";

const BACKENDS = 3;
const KEYS = ["8f95f09245765f80256934e50c66207f", "fdf726a9893ec05c0632d3956680baf0"] as const;
/** One by one pass, one by four, one in plaintext. */
const CONFIGS = [
  `{ id: 0, serverIdBytes: 3, nonceBytes: 13, key: "${KEYS[0]}" }`,
  `{ id: 1, serverIdBytes: 3, nonceBytes: 6, lengthEncoded: true, key: "${KEYS[1]}" }`,
  "{ id: 2, serverIdBytes: 3, nonceBytes: 4 }",
];

/** Sends an ID in a short header from each source address, a port each; prints who answered each. */
const CLIENT = `
  const { createSocket } = require("node:dgram");
  const [, vip, count, ...rest] = process.argv;
  const sources = rest.slice(0, Number(count));
  const packets = rest.slice(Number(count)).map((hex) =>
    Buffer.concat([Buffer.from([0x41]), Buffer.from(hex, "hex"), Buffer.alloc(24, 7)]));
  async function ask(source, packet) {
    return await new Promise((resolve) => {
      const socket = createSocket(vip.includes(":") ? "udp6" : "udp4");
      const send = () => socket.send(packet, 7, vip);
      const again = setInterval(send, 500);
      const end = (name) => { clearInterval(again); clearTimeout(patience); socket.close(); resolve(name); };
      const patience = setTimeout(() => end("nobody"), 8000);
      socket.on("message", (answer) => end(answer.toString("latin1").split("\\n")[0]));
      socket.bind(0, source, send);
    });
  }
  (async () => {
    for (const packet of packets) {
      const names = [];
      for (const source of sources) names.push(await ask(source, packet));
      console.log(names.join(" "));
    }
  })();`;

function config(name: string, mode: string, lab: Lab, configs: readonly string[], weights: readonly number[]): string {
  const backends = lab.backends.map((host, at) =>
    `      - { name: ${host.name}, address: "${host.ipv4}", weight: ${weights[at] ?? 100},`
    + ` serverIds: ["00000${at + 1}", "00001${at + 1}"] }`);
  const services = [VIP4, VIP6].map((vip) =>
    `  - { name: quic-${vip === VIP4 ? 4 : 6}, address: "${vip}", port: 7, protocol: udp, pool: quic,`
    + ` forwarding: l2, tracking: full, quicLb: { configs: [${configs.join(", ")}] } }`);
  return `version: 1
instance: ${name}
dataplane: { mode: ${mode}, interfaces: [eth0], hashSeed: "0123456789abcdef" }
pools:
  quic:
    health: { type: none }
    backends:
${backends.join("\n")}
services:
${services.join("\n")}
`;
}

describeKernel("QUIC connection IDs in the lab", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  describe.each(["xdp", "proxy"] as const)("%s plane", (mode) => {
    let lab: Lab;
    let instance: Instance;
    let name: string;
    beforeAll(async () => {
      lab = raiseLab({ label: `quic-${mode}`, backends: BACKENDS, mtu: 1500, localVip: mode === "proxy" });
      await Promise.all(lab.backends.map((each) => serveBackend(each, { iperf: false, decap: false })));
      // The addresses that the client moves to.
      runInSync(lab.client.namespace, "ip", ["addr", "add", "198.18.0.201/24", "dev", "eth0"]);
      runInSync(lab.client.namespace, "ip", ["addr", "add", "2001:db8::201/64", "dev", "eth0", "nodad"]);
      name = instanceName(`quic-${mode}`);
      instance = await startInstance(lab, name, config(name, mode, lab, CONFIGS.slice(0, 1), [100, 100, 100]));
    });
    afterAll(async () => {
      await instance?.remove();
      lab?.close();
    });

    const minted = new Map<string, string>();

    /** As a server would, by the command line; a server's ID under a config is minted once, and serves again. */
    async function mint(server: string, configId: number): Promise<string> {
      const key = `${server} ${configId}`;
      const known = minted.get(key);
      if (known !== undefined) return known;
      const { stdout } = await runIn(lab.client.namespace, process.execPath, [
        join(ROOT, "dist/src/main.js"), "quic-lb", "encode", "-c", instance.configPath, "--service", "quic-4",
        "--backend", server, "--config-id", String(configId),
      ]);
      minted.set(key, stdout.trim());
      return stdout.trim();
    }

    /** Who answers each ID, from two addresses of the client and three ports of each. */
    async function answers(vip: string, ids: readonly string[]): Promise<string[]> {
      const own = vip === VIP4 ? [lab.client.ipv4, "198.18.0.201"] : [lab.client.ipv6, "2001:db8::201"];
      const sources = [...own, ...own, ...own];
      const { stdout } = await runIn(lab.client.namespace, process.execPath,
        ["-e", CLIENT, vip, String(sources.length), ...sources, ...ids], { timeoutMs: 120_000 });
      return stdout.trim().split("\n").map((line) => [...new Set(line.split(" "))].join(" "));
    }

    async function change(configs: readonly string[], weights: readonly number[]): Promise<void> {
      instance.configure(config(name, mode, lab, configs, weights));
      await instance.verb("reload");
    }

    const names = ["web-1", "web-2", "web-3"];

    it.each([VIP4, VIP6])("keep a client that moves at its backend, at %s", async (vip) => {
      const ids: string[] = [];
      for (const server of names) ids.push(await mint(server, 0));
      expect(await answers(vip, ids)).toEqual(names);
    });

    it("say nothing where no server has them: flow and ring decide, and somebody answers", async () => {
      const [stranger] = await answers(VIP4, [`00${"ab".repeat(16)}`]);
      expect(stranger!.split(" ").every((each) => names.includes(each))).toBe(true);
    });

    it("of an old config and of a new one lead to their backends while keys rotate", async () => {
      const old: string[] = [];
      for (const server of names) old.push(await mint(server, 0));
      const moving = answers(VIP4, [...old, ...old, ...old]);
      await change(CONFIGS, [0, 0, 100]);
      // Whoever has an ID does not care for the ring, which has nobody but web-3 now.
      expect(await moving).toEqual([...names, ...names, ...names]);
      const fresh: string[] = [];
      for (const configId of [1, 2]) for (const server of names) fresh.push(await mint(server, configId));
      expect(await answers(VIP6, [...fresh, ...old])).toEqual([...names, ...names, ...names]);
      await change(CONFIGS.slice(1), [0, 0, 100]);
      expect(await answers(VIP4, fresh)).toEqual([...names, ...names]);
      // The old number means nothing any more. These clients are new, and the ring knows one backend.
      await waitFor("the old IDs to mean nothing", 20_000, async () =>
        (await answers(VIP6, [old[0]!]))[0] === "web-3");
    });

    it("are counted, and no key is shown", async () => {
      const { stdout } = await runIn(lab.balancer.namespace, "curl", ["-sf", "http://127.0.0.1:9469/metrics"]);
      const count = (outcome: string): number =>
        Number(new RegExp(`pointsman_quic_packets_total\\{outcome="${outcome}"\\} (\\d+)`).exec(stdout)?.[1] ?? NaN);
      expect(count("routed")).toBeGreaterThanOrEqual(100);
      expect(count("no_server")).toBeGreaterThanOrEqual(6);
      expect(count("no_config")).toBeGreaterThanOrEqual(6);
      const shown = await instance.verb("config", "show") + await instance.verb("status", "-o", "json") + instance.log();
      for (const key of KEYS) expect(shown.toLowerCase()).not.toContain(key);
    });
  });
});
