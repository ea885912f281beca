// Full tables, and ports that are used up, under floods of SYNs from invented addresses: connections that are open
// check every byte, in slots that no change has touched, and what is refused is counted and shown.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { compileProgram } from "../../bench/compile.ts";
import { startFlood } from "../../bench/flood.ts";
import type { Status } from "../../src/api/schemas.ts";
import { churnConfig } from "../../scripts/lab_churn.ts";
import type { Broken, ChurnCounts } from "../../scripts/lab_churn_client.ts";
import type { Lab } from "../../scripts/lab_network.ts";
import { raiseLab, VIP4 } from "../../scripts/lab_network.ts";
import { instanceName, ROOT, serveBackend, startInstance, startLoad, waitFor } from "../../scripts/lab_services.ts";
import { runIn } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import { serveLab } from "./fixtures/lab_fixture.ts";

const PORT = 9;
const HELD = 60;
const HELD_SECONDS = 9;
const FLOOD = { address: VIP4, port: PORT, rate: 20_000, seconds: 4 };
const FLOWS_MAX = 1024;
const [PORTS_FROM, PORTS] = [20_000, 128];
/** For longer than the flood; then its ports come back. */
const PORT_SECONDS = 6;

interface Held {
  readonly counts: ChurnCounts;
  readonly broken: readonly Broken[];
}

/** Begins connections that stay open, and questions beside them; `end` tells what became of them. */
async function hold(lab: Lab, count: number, questionsAtOnce: number): Promise<{ readonly end: Promise<Held> }> {
  const load = await startLoad(lab.client.namespace, "scripts/lab_churn_client.js",
    VIP4, String(PORT), String(count), String(HELD_SECONDS), String(questionsAtOnce));
  const end = load.lastLine.then(() => {
    const lines = load.said().trim().split("\n").slice(1).map((line) => JSON.parse(line) as Broken | ChurnCounts);
    const counts = lines.find((line): line is ChurnCounts => !("kind" in line));
    if (counts === undefined) throw new Error(`the load ended without its counts: ${load.said().slice(-500)}`);
    return { counts, broken: lines.filter((line): line is Broken => "kind" in line) };
  });
  return { end };
}

function pressure({ pressure: causes }: Status, cause: string): number {
  const found = causes.find((each) => each.cause === cause);
  if (found === undefined) throw new Error(`there is no ${cause} among ${causes.map((each) => each.cause).join()}`);
  return found.count;
}

/** What a backend says to a new connection; empty: there is none within a second. */
async function greeting(lab: Lab): Promise<string> {
  const { stdout } = await runIn(lab.client.namespace, "timeout",
    ["1", "bash", "-c", `exec 3<>/dev/tcp/${VIP4}/${PORT} && head -n 1 <&3`], { check: false });
  return stdout;
}

function expectWhole({ counts, broken }: Held, questions: boolean): void {
  expect(broken).toEqual([]);
  expect(counts.long).toBeGreaterThan(0);
  expect(counts.lines).toBeGreaterThan(counts.long * HELD_SECONDS);
  if (questions) expect(counts.short).toBeGreaterThan(0);
}

describeKernel("a flood of connections that nobody means", [...KERNEL, "tool:curl", "tool:ethtool", "tool:clang"], () => {
  let scratch: string;
  let object: string;

  beforeAll(() => {
    scratch = mkdtempSync(join(tmpdir(), "pointsman-pressure-"));
    object = compileProgram(ROOT, "syn_flood", scratch);
  });
  afterAll(() => { rmSync(scratch, { recursive: true, force: true }); });

  it("pushes flows out of a full table, or has minimal refuse more, and breaks no connection", { timeout: 120_000 }, async () => {
    const lab = raiseLab({ label: "pressure", backends: 4, mtu: 1500, localVip: false });
    try {
      for (const host of lab.backends) await serveBackend(host, { iperf: false, decap: false });
      for (const [tracking, cause] of [["full", "flow_evicted"], ["minimal", "remember_pace"]] as const) {
        const name = instanceName("pressure");
        const text = churnConfig(name, lab.backends, { forwarding: "l2", tracking });
        const running = await startInstance(lab, name, `${text}limits: { flows: ${FLOWS_MAX} }\n`);
        try {
          expect((await running.api.status()).pressure.map(({ count }) => count).some((count) => count > 0)).toBe(false);
          const held = await hold(lab, HELD, 4);
          // Slots of web-1 change hands, so that minimal has something to remember; with full, slots stay as they are.
          if (tracking === "minimal") {
            await running.api.override({
              target: "web/web-1", change: { kind: "weight", weight: 10 }, actor: "test", reason: null, expiresInMs: null,
            });
          }
          const flood = await startFlood(lab, object, FLOOD);
          expectWhole(await held.end, true);
          const sent = await flood.sent;
          expect(sent).toBeGreaterThan(FLOWS_MAX * 8);
          await waitFor("the counts", 20_000, async () => pressure(await running.api.status(), cause) > FLOWS_MAX);
          const status = await running.api.status();
          expect(pressure(status, cause)).toBeLessThan(sent * 2);
          expect(status.flowTable.count).toBeLessThanOrEqual(FLOWS_MAX);
          if (tracking === "minimal") expect(pressure(status, "flow_evicted")).toBe(0);
          const metrics = await runIn(lab.balancer.namespace, "curl", ["-sf", "http://127.0.0.1:9469/metrics"]);
          expect(metrics.stdout).toMatch(new RegExp(`pointsman_pressure_total\\{cause="${cause}"\\} [1-9]`));
          expect(await running.verb("status")).toMatch(/pressure +\S+ .*\(limits\.flows\)/);
        } finally {
          await running.remove();
        }
      }
    } finally {
      lab.close();
    }
  });

  it("uses up the ports of translation: new connections are refused, those that are open go on", { timeout: 120_000 }, async () => {
    const { lab, instance, close } = await serveLab({
      label: "ports-", forwarding: "fullnat", backendFamily: 4, backends: 2,
      extra: `  nat: { ports: "${PORTS_FROM}-${PORTS_FROM + PORTS - 1}", timeouts: { syn: ${PORT_SECONDS}s } }\n`,
      services: `  - { name: named, address: "${VIP4}", port: ${PORT}, protocol: tcp, pool: web, forwarding: fullnat }\n`,
    });
    try {
      const held = await hold(lab, HELD / 2, 0);
      await waitFor("the connections", 20_000, async () =>
        (await instance.api.services()).find(({ name }) => name === "named")?.flows.count === HELD / 2);
      const flood = await startFlood(lab, object, { ...FLOOD, rate: 2000 });
      await waitFor("ports to be used up", 20_000, async () => pressure(await instance.api.status(), "nat_port") > PORTS * 8);
      expect(await greeting(lab)).toBe("");
      expectWhole(await held.end, false);
      expect(await flood.sent).toBeGreaterThan(PORTS * 4);
      expect((await instance.api.services()).find(({ name }) => name === "named")?.flows.kind).toBe("exact");
      // Ports come back when SYNs have been silent for so long, although backends have answered them.
      await waitFor("a free port", 30_000, async () => (await greeting(lab)).startsWith("web-"));
    } finally {
      await close();
    }
  });
});
