// What must not be noticed: the supervisor killed, a new one adopting, a reload, a backend that comes and
// goes, all under connections that check every byte and a stream of numbered datagrams.

import { readdirSync, existsSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Lab } from "../../scripts/lab_network.ts";
import { raiseLab, VIP4, VIP6 } from "../../scripts/lab_network.ts";
import type { Instance, Load, ServedBackend } from "../../scripts/lab_services.ts";
import {
  curlShares,
  instanceName,
  labConfig,
  ROOT,
  serveBackend,
  startInstance,
  startLoad,
  waitFor,
} from "../../scripts/lab_services.ts";
import { runIn, runInSync } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";

const SECONDS = 8;

/** A bounded load; its last line says what came of it. */
function traffic(lab: Lab, kind: "hold" | "stream", address: string, count: number): Promise<Load> {
  return startLoad(lab.client.namespace, "scripts/lab_client.js", kind, address, "7", String(count), String(SECONDS));
}

interface Backend {
  readonly name: string;
  readonly state: string;
  readonly weight: number;
}

describeKernel("what nobody notices", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  let lab: Lab;
  let instance: Instance;
  let name: string;
  const served: ServedBackend[] = [];
  const config = (backends: Lab["backends"], extra = ""): string =>
    labConfig(name, { forwarding: "l2", mode: "xdp", backends, backendFamily: 4, extra });
  const backends = async (): Promise<Backend[]> =>
    JSON.parse(await instance.verb("backends", "-o", "json")) as Backend[];

  beforeAll(async () => {
    lab = raiseLab({ label: "crash", backends: 3, mtu: 1500, localVip: false });
    for (const each of lab.backends) served.push(await serveBackend(each, { iperf: false, decap: false }));
    name = instanceName("crash");
    instance = await startInstance(lab, name, config(lab.backends));
  });
  afterAll(async () => {
    await instance?.remove();
    lab?.close();
  });

  it("kill -9 of the supervisor, adoption and reload under traffic lose no packet", async () => {
    const loads = [
      await traffic(lab, "hold", VIP4, 40),
      await traffic(lab, "hold", VIP6, 40),
      await traffic(lab, "stream", VIP4, 8),
      await traffic(lab, "stream", VIP6, 8),
    ];
    await instance.stop("SIGKILL");
    expect(existsSync(`/sys/fs/bpf/pointsman/${name}`)).toBe(true);
    const home = join(instance.configPath, "..");
    instance = await startInstance(lab, name, config(lab.backends), home);
    const status = JSON.parse(await instance.verb("status", "-o", "json")) as { adopted: boolean; mode: string };
    expect(status).toMatchObject({ adopted: true, mode: "xdp" });
    // A new service and another orphan policy: everything about the flows under way stays.
    instance.configure(
      config(lab.backends, "  orphan: { after: 10s, action: keep }\n").concat(
        `  - { name: more, address: ${VIP4}, port: 8080, protocol: tcp, pool: web, forwarding: l2 }\n`,
      ),
    );
    instance.process.kill("SIGHUP");
    await waitFor("the reload", 10_000, async () => (await instance.verb("services")).includes("more"));
    for (const load of loads) {
      const said = await load.lastLine;
      const [good, bad] = [...said.matchAll(/\d+/g)].map(([digits]) => Number(digits));
      if (said.startsWith("held")) expect([good, bad], said).toEqual([40, 0]);
      else expect(bad, said).toBe(good);
    }
  });

  it("an invalid file is refused on reload and the last good table stays", async () => {
    instance.configure("version: 1\nservices: nonsense\n");
    await expect(instance.verb("reload")).rejects.toThrow(/status 2/);
    expect([...(await curlShares(lab, VIP4, 60)).keys()]).toEqual(["web-1", "web-2", "web-3"]);
    instance.configure(config(lab.backends));
    await instance.verb("reload");
  });

  it("a backend that dies leaves the ring, moves nobody else, and comes back", async () => {
    const before = JSON.parse(await instance.verb("ring", "web-4", "-o", "json")) as { slots: string[] };
    served[1]?.kill();
    await waitFor("web-2 to be down", 15_000, async () =>
      (await backends()).some((each) => each.name === "web/web-2" && each.state === "down"),
    );
    const without = JSON.parse(await instance.verb("ring", "web-4", "-o", "json")) as { slots: string[] };
    const foreign = before.slots.filter((owner, slot) => !owner.endsWith("web-2") && without.slots[slot] !== owner);
    expect(foreign).toEqual([]);
    expect(without.slots.some((owner) => owner.endsWith("web-2"))).toBe(false);
    expect([...(await curlShares(lab, VIP4, 90)).keys()]).toEqual(["web-1", "web-3"]);
    const host = lab.backends[1];
    if (host === undefined) throw new Error("no second backend");
    served[1] = await serveBackend(host, { iperf: false, decap: false });
    await waitFor("web-2 to be up", 15_000, async () => (await backends()).every(({ state }) => state === "active"));
    expect((JSON.parse(await instance.verb("ring", "web-4", "-o", "json")) as { slots: string[] }).slots).toEqual(
      before.slots,
    );
  });

  it("a drained backend keeps its connections and gets no new ones, also over a restart", async () => {
    const load = await traffic(lab, "hold", VIP4, 30);
    await instance.verb("drain", "web-1", "--reason", "maintenance");
    await instance.stop("SIGKILL");
    instance = await startInstance(lab, name, config(lab.backends), join(instance.configPath, ".."));
    expect((await backends()).find((each) => each.name === "web/web-1")?.state).toBe("draining");
    expect([...(await curlShares(lab, VIP4, 90)).keys()]).toEqual(["web-2", "web-3"]);
    expect(await load.lastLine).toBe("held 30, broken 0");
    await instance.verb("undrain", "web-1");
    expect([...(await curlShares(lab, VIP4, 90)).keys()]).toEqual(["web-1", "web-2", "web-3"]);
  });

  it("a second run of the same instance is refused and names the first", async () => {
    const second = await runIn(
      lab.balancer.namespace,
      process.execPath,
      [join(ROOT, "dist/src/main.js"), "run", "-c", instance.configPath],
      { check: false },
    );
    expect(second.status).toBe(1);
    expect(second.stderr).toContain("INSTANCE_RUNNING");
    expect(second.stderr).toContain(String(instance.process.pid));
  });

  it("detach leaves nothing behind", async () => {
    await instance.verb("detach");
    await waitFor("the process to end", 10_000, () => Promise.resolve(instance.process.exitCode !== null));
    expect(existsSync(`/sys/fs/bpf/pointsman/${name}`)).toBe(false);
    expect(runInSync(lab.balancer.namespace, "ip", ["-d", "link", "show", "eth0"]).stdout).not.toMatch(/xdp/);
    expect(readdirSync("/run/pointsman").filter((entry) => entry.startsWith(name))).toEqual([]);
  });
});
