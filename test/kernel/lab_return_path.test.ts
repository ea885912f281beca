// `doctor --return-path` beside a running XDP plane: backends whose way to clients leads through the balancer,
// one whose way leads elsewhere, one that nobody listens on, one that is down. Nothing stays on lo.

import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { VIP4, VIP6 } from "../../scripts/lab_network.ts";
import type { Lab } from "../../scripts/lab_network.ts";
import { ROOT, waitFor } from "../../scripts/lab_services.ts";
import { runIn, runInSync, spawnIn } from "../../scripts/namespaces.ts";
import type { RunResult } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { serveLab } from "./fixtures/lab_fixture.ts";
import type { ServedLab } from "./fixtures/lab_fixture.ts";

const MAIN = join(ROOT, "dist/src/main.js");
/** Of networks that the lab's backends send to the balancer. */
const CLIENTS = ["198.18.1.77", "2001:db8:1::77"];
/** On the backends' link, and not the balancer. */
const OTHER_ROUTERS = ["198.18.0.250", "2001:db8::fa"] as const;
const PATIENCE_MS = 20_000;
/** A port that no backend has. */
const SILENT_PORT = 4444;

interface Found { readonly name: string; readonly level: string; readonly found: string; readonly remedy: string | null }

describeKernel("the way back of nat's backends", [...KERNEL, "tool:curl", "tool:ethtool"], () => {
  let served: ServedLab;
  let lab: Lab;
  let home: string;
  let file: string;
  beforeAll(async () => {
    served = await serveLab({ label: "way-", forwarding: "nat", backendFamily: 4, backends: 4 });
    ({ lab } = served);
    home = mkdtempSync(join(tmpdir(), "pointsman-"));
    file = join(home, "pointsman.yaml");
    writeFileSync(file, configText(lab));
    const [, elsewhere, , down] = lab.backends;
    runInSync(elsewhere!.namespace, "ip", ["route", "replace", "198.18.1.0/24", "via", OTHER_ROUTERS[0]]);
    runInSync(elsewhere!.namespace, "ip", ["-6", "route", "replace", "2001:db8:1::/64", "via", OTHER_ROUTERS[1]]);
    runInSync(down!.namespace, "ip", ["link", "set", "eth0", "down"]);
  });
  afterAll(async () => {
    if (home !== undefined) rmSync(home, { recursive: true, force: true });
    await served?.close();
  });

  const commandLine = (addresses: readonly string[]): string[] =>
    [MAIN, "doctor", "-c", file, "-o", "json", "--return-path", ...addresses];
  const variables = (): Record<string, string> => ({ POINTSMAN_RUN_DIRECTORY: join(home, "run") });
  const doctor = (addresses: readonly string[]): Promise<RunResult> =>
    runIn(lab.balancer.namespace, process.execPath, commandLine(addresses), { check: false, variables: variables() });
  const ways = ({ stdout }: RunResult): Found[] =>
    (JSON.parse(stdout) as { checks: Found[] }).checks.filter(({ name }) => name.startsWith("way back"));
  const loopback = (): string => runInSync(lab.balancer.namespace, "ip", ["-o", "address", "show", "dev", "lo"]).stdout;
  /** Begins a test that takes its time, since a backend is down, and ends it in the middle. */
  const killed = async (signal: NodeJS.Signals): Promise<number | null> => {
    const child = spawnIn(lab.balancer.namespace, process.execPath, commandLine(CLIENTS), { env: variables() });
    const exit = once(child, "exit") as Promise<[number | null]>;
    await waitFor("the stand-in", PATIENCE_MS, () => Promise.resolve(loopback().includes(CLIENTS[0]!) && loopback().includes(CLIENTS[1]!)));
    child.kill(signal);
    return (await exit)[0];
  };

  it("is told for each backend and IP version, and lo is as before", async () => {
    const before = loopback();
    const found = new Map(ways(await doctor(CLIENTS)).map((each) => [each.name, each]));
    for (const pool of ["four", "six"]) {
      const [here, elsewhere, silent, down] = [1, 2, 3, 4].map((index) => found.get(`way back ${pool}/web-${index}`));
      expect(here).toMatchObject({ level: "ok", remedy: null });
      expect(here?.found).toContain("come back through this host");
      expect(elsewhere?.level).toBe("error");
      expect(elsewhere?.remedy).toContain(pool === "four" ? `"ip route replace CLIENTS via ${lab.balancer.ipv4}"`
        : `"ip -6 route replace CLIENTS via ${lab.balancer.ipv6}"`);
      expect(silent?.level).toBe("ok");
      expect(silent?.found).toContain("refuses connections, and its answers");
      expect(down?.level).toBe("warning");
      expect(down?.found).toContain("does not answer at all");
    }
    expect(found.size).toBe(8);
    expect(loopback()).toBe(before);
  });

  it("of documentation's addresses leads nowhere here, as these backends have no default route", async () => {
    const levels = ways(await doctor([])).map(({ name, level }) => `${name} ${level}`);
    expect(levels).toContain("way back four/web-1 error");
    expect(levels).toContain("way back six/web-1 error");
  });

  it("is not tested from an address of the backends' own link, where the balancer would be asked for it", async () => {
    const refused = await doctor(["198.18.0.200"]);
    expect(refused.status).toBe(2);
    expect(refused.stderr).toContain("198.18.0.200 cannot stand in for a client: it is on a link of this host (198.18.0.0/24)");
  });

  it("leaves no address when it is interrupted, and what a kill left goes with the next test", async () => {
    const before = loopback();
    expect(await killed("SIGINT")).toBe(1);
    expect(loopback()).toBe(before);
    await killed("SIGKILL");
    expect(loopback()).not.toBe(before);
    const found = ways(await doctor(CLIENTS)).filter(({ found: text }) => text.includes("a killed test had left"));
    expect(found.map(({ found: text }) => text.split(",")[0]).sort()).toEqual([...CLIENTS].sort());
    expect(loopback()).toBe(before);
  });

  it("needs nothing of the plane, which forwards as before", async () => {
    const { stdout } = await runIn(lab.client.namespace, "curl", ["-sf", "-m", "10", `http://${VIP4}/`]);
    expect(stdout).not.toBe("");
  });
});

/** Of both IP versions; the third backend is asked where nobody listens, one service is UDP. */
function configText({ backends }: Lab): string {
  const pool = (family: 4 | 6): string => backends.map(({ name, ipv4, ipv6 }, index) =>
    `      - { name: ${name}, address: "${family === 4 ? ipv4 : ipv6}"${index === 2 ? `, port: ${SILENT_PORT}` : ""} }`).join("\n");
  return `version: 1
dataplane: { mode: xdp, interfaces: [eth0] }
pools:
  four:
    backends:
${pool(4)}
  six:
    backends:
${pool(6)}
services:
  - { name: four, address: "${VIP4}", port: 80, forwarding: nat, pool: four }
  - { name: six, address: "${VIP6}", port: 80, protocol: udp, forwarding: nat, pool: six }
`;
}
