// The proxy in place of XDP: refused by the kernel, by a wrong interface or by the config, the same
// file serves the same traffic, and status says why. In the lab, with the virtual addresses on the
// balancer.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Lab } from "../../scripts/lab_network.ts";
import { raiseLab, VIP4, VIP6 } from "../../scripts/lab_network.ts";
import type { Instance } from "../../scripts/lab_services.ts";
import {
  curlShares, instanceName, labConfig, ROOT, serveBackend, startInstance, udpShares,
} from "../../scripts/lab_services.ts";
import { runIn, runInSync } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";

const BACKENDS = 3;
const CONNECTIONS = 60;
const MAIN = join(ROOT, "dist/src/main.js");
/** What the packet path needs, and what stands in for it. Ports below 1024 may still be bound. */
const WITHOUT_BPF = "-bpf,-perfmon,-net_admin,-sys_admin";
const UNPRIVILEGED = [
  "setpriv", `--bounding-set=${WITHOUT_BPF}`, `--inh-caps=${WITHOUT_BPF}`, "--no-new-privs",
];

interface Why {
  readonly reason: string;
  readonly remedy: string | null;
  readonly attempts: readonly { readonly what: string; readonly result: string }[];
}
interface Status {
  readonly mode: string;
  readonly plane: Why;
  readonly interfaces: readonly unknown[];
  readonly services: readonly {
    readonly name: string; readonly listening: string | null; readonly error: string | null;
  }[];
}
interface Event {
  readonly kind: string;
  readonly message: string;
  readonly fields: { readonly remedy?: string | null };
}
interface Case {
  readonly title: string;
  readonly mode: "auto" | "proxy";
  readonly interface: string;
  readonly through: readonly string[];
  readonly reason: RegExp;
  readonly remedy: RegExp | null;
}

const CASES: readonly Case[] = [
  {
    title: "no capability", mode: "auto", interface: "eth0", through: UNPRIVILEGED,
    reason: /^XDP cannot be used: .*not permitted.*CAP_/, remedy: /run as root, or grant CAP_BPF/,
  },
  {
    title: "an unknown interface", mode: "auto", interface: "nope0", through: [],
    reason: /^XDP cannot be used: .*nope0/, remedy: /dataplane\.interfaces/,
  },
  {
    title: "mode: proxy", mode: "proxy", interface: "eth0", through: [],
    reason: /mode: proxy/, remedy: null,
  },
];

const lines = (text: string): string[] => text.split("\n").filter((line) => line !== "");

type Mode = "auto" | "xdp" | "proxy";

function configText(name: string, lab: Lab, mode: Mode, device: string): string {
  const { backends } = lab;
  const text = labConfig(name, { forwarding: "l2", mode, backends, backendFamily: 4, extra: "" });
  return text.replace("interfaces: [eth0]", `interfaces: [${device}]`);
}

async function statusOf(instance: Instance): Promise<Status> {
  return JSON.parse(await instance.verb("status", "-o", "json")) as Status;
}

/** A connection and a datagram from each port; who answered them. */
const ASK = `
  const { createSocket } = require("node:dgram");
  const { connect } = require("node:net");
  const [host, ...ports] = process.argv.slice(1);
  const within = (ask) => (port) => new Promise((resolve) => {
    ask(port, resolve);
    setTimeout(resolve, 5000, "nobody").unref();
  });
  const tcp = within((localPort, end) => {
    const socket = connect({ host, port: 80, localPort });
    socket.write("GET / HTTP/1.0\\r\\n\\r\\n");
    let answer = "";
    socket.on("error", (error) => end(error.code));
    socket.on("data", (data) => {
      answer += data;
      if (!/\\r\\n\\r\\n.*\\n/.test(answer)) return;
      // A connection that is reset leaves no TIME_WAIT, and the port is free again.
      socket.resetAndDestroy();
      end(answer.trim().split("\\n").at(-1));
    });
  });
  const udp = within((port, end) => {
    const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
    const again = setInterval(() => socket.send("who", 7, host), 500);
    socket.once("message", (answer) => {
      clearInterval(again);
      socket.close();
      end(answer.toString().split("\\n")[0]);
    });
    socket.bind(port, () => socket.send("who", 7, host));
  });
  for (const port of ports.map(Number)) {
    Promise.all([tcp(port), udp(port)]).then((met) => console.log(port, ...met));
  }
  setTimeout(() => process.exit(), 6000).unref();`;

/** Who met these ports, as "PORT NAME NAME": by TCP and by UDP. */
async function metFrom(lab: Lab, vip: string, ports: readonly number[]): Promise<string[]> {
  const args = ["-e", ASK, vip, ...ports.map(String)];
  return lines((await runIn(lab.client.namespace, process.execPath, args)).stdout).sort();
}

async function explained(instance: Instance, client: string, service: string): Promise<string> {
  const text = await instance.verb("explain", client, service, "-o", "json");
  return (JSON.parse(text) as { backend: string }).backend;
}

describeKernel("the proxy in place of XDP", [...KERNEL, "tool:curl", "tool:setpriv"], () => {
  let lab: Lab;
  beforeAll(async () => {
    lab = raiseLab({ label: "fallback", backends: BACKENDS, mtu: 1500, localVip: true });
    for (const each of lab.backends) await serveBackend(each, { iperf: false, decap: false });
  });
  afterAll(() => { lab?.close(); });

  describe.each(CASES)("$title", ({ title, mode, interface: device, through, reason, remedy }) => {
    let instance: Instance;
    beforeAll(async () => {
      const name = instanceName(title.replace(/[^a-z]+/g, "-"));
      const text = configText(name, lab, mode, device);
      instance = await startInstance(lab, name, text, undefined, through);
    });
    afterAll(async () => { await instance?.remove(); });

    it("status says that the proxy serves, why, and what to do", async () => {
      const { mode: open, plane, interfaces, services } = await statusOf(instance);
      expect(open).toBe("proxy");
      expect(interfaces).toEqual([]);
      expect(plane.reason).toMatch(reason);
      if (remedy === null) expect(plane.remedy).toBe(null);
      else expect(plane.remedy).toMatch(remedy);
      expect(plane.attempts.at(-1)).toEqual({ what: "proxy", result: "open" });
      for (const { name, listening, error } of services) {
        expect(error, name).toBe(null);
        expect(listening, name).not.toBe(null);
      }
      expect(await instance.verb("status")).toMatch(/proxy/);
    });

    it("the log, the events and the metrics say so too", async () => {
      const { plane } = await statusOf(instance);
      const events = JSON.parse(await instance.verb("events", "-o", "json")) as Event[];
      const expected = mode === "auto" ? "fallback" : "plane";
      const announced = events.filter(({ kind }) => kind === expected);
      expect(announced.map(({ message }) => message)).toEqual([plane.reason]);
      expect(announced[0]?.fields.remedy).toBe(plane.remedy);
      const warned = lines(instance.log()).filter((line) => line.includes("falling back to the"));
      expect(warned).toHaveLength(mode === "auto" ? 1 : 0);
      const url = "http://127.0.0.1:9469/metrics";
      const metrics = (await runIn(lab.balancer.namespace, "curl", ["-sf", "-m", "5", url])).stdout;
      expect(metrics).toMatch(/^pointsman_plane_info\{[^}]*mode="proxy"[^}]*\} 1$/m);
    });

    it.each([VIP4, VIP6])("spreads TCP and UDP to %s over all, loses none", async (vip) => {
      const tcp = await curlShares(lab, vip, CONNECTIONS);
      for (const shares of [tcp, await udpShares(lab, vip, CONNECTIONS)]) {
        expect([...shares.keys()]).toEqual(["web-1", "web-2", "web-3"]);
        expect([...shares.values()].reduce((a, b) => a + b, 0)).toBe(CONNECTIONS);
      }
    });

    it("nothing of XDP is left on the interface", () => {
      const shown = runInSync(lab.balancer.namespace, "ip", ["-d", "link", "show", "eth0"]).stdout;
      expect(shown).not.toMatch(/xdp/);
    });
  });

  it("picks the backend that XDP picks for the same 5-tuple, and that explain names", async () => {
    // Below the range that the kernel gives to other clients.
    const portsOf = { 4: [21_001, 21_002, 21_003, 21_004], 6: [21_101, 21_102, 21_103, 21_104] };
    const met = new Map<string, string[]>();
    for (const mode of ["xdp", "proxy"] as const) {
      const name = instanceName(`same-${mode}`);
      const instance = await startInstance(lab, name, configText(name, lab, mode, "eth0"));
      try {
        expect((await statusOf(instance)).mode).toBe(mode);
        const all: string[] = [];
        for (const [vip, family] of [[VIP4, 4], [VIP6, 6]] as const) {
          const ports = portsOf[family];
          const seen = await metFrom(lab, vip, ports);
          const client = family === 4 ? lab.client.ipv4 : `[${lab.client.ipv6}]`;
          // That explain speaks for XDP too is shown where forwarding is.
          for (const port of mode === "proxy" ? ports.slice(0, 2) : []) {
            const tcp = await explained(instance, `${client}:${port}`, `web-${family}`);
            const udp = await explained(instance, `${client}:${port}`, `echo-udp-${family}`);
            expect(seen).toContain(`${port} ${tcp} ${udp}`.replaceAll("web/", ""));
          }
          all.push(...seen);
        }
        met.set(mode, all);
      } finally {
        await instance.remove();
      }
    }
    expect(met.get("proxy")).toEqual(met.get("xdp"));
    // Enough to tell one backend from another.
    expect(new Set(met.get("xdp")?.map((line) => line.split(" ")[1])).size).toBeGreaterThan(1);
  });

  it("mode: xdp with an unknown interface: DEVICE_MISSING, and nothing is served", async () => {
    const name = instanceName("refused");
    const directory = mkdtempSync(join(tmpdir(), "pointsman-"));
    try {
      const file = join(directory, "pointsman.yaml");
      writeFileSync(file, configText(name, lab, "xdp", "nope0"));
      const args = [MAIN, "run", "-c", file, "--state-directory", join(directory, "state")];
      const ended = await runIn(lab.balancer.namespace, process.execPath, args, { check: false });
      expect(ended.status).toBe(1);
      expect(ended.stderr).toContain("DEVICE_MISSING");
      expect(ended.stderr).toContain("nope0");
      const shares = await curlShares(lab, VIP4, 3);
      expect([...shares]).toEqual([["", 3]]);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
