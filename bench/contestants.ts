// Who is measured in the throughput benchmark: each contestant gets a lab of its own and puts itself
// between its client and its backends. Knows how to start each of them; measures nothing.

import type { ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onPath } from "../scripts/search_path.ts";
import type { Lab } from "../scripts/lab_network.ts";
import { raiseLab, VIP4 } from "../scripts/lab_network.ts";
import { instanceName, labConfig, serveBackend, startDecap, startInstance } from "../scripts/lab_services.ts";
import { runInSync, spawnIn } from "../scripts/namespaces.ts";

export interface Contestant {
  readonly name: string;
  /** The namespace that the client's traffic comes from; null: this host itself. */
  readonly client: string | null;
  /** Where it goes. */
  readonly target: string;
  close(): Promise<void>;
}

type Start = (lab: Lab, directory: string, processes: ChildProcess[]) => Promise<() => Promise<void>>;
interface Entry {
  readonly name: string;
  /** Why it cannot take part, or null. */
  readonly missing: () => string | null;
  readonly localVip: boolean;
  readonly direct?: true;
  readonly decap?: true;
  readonly start: Start;
}

const needs = (tool: string) => (): string | null =>
  onPath(tool) ? null : `${tool} is not installed (npm run setup -- --with bench)`;
const always = (): null => null;

/** The ports that are measured: HTTP and iperf3's. */
const PORTS = [80, 5201] as const;

function pointsman(forwarding: "l2" | "ipip", mode: "xdp" | "proxy"): Start {
  return async (lab) => {
    const name = instanceName(`bench-${mode}-${forwarding}`);
    const text = labConfig(name, { forwarding, mode, backends: lab.backends, backendFamily: 4, extra: "" });
    const instance = await startInstance(lab, name, text);
    return () => instance.remove();
  };
}

const haproxy: Start = (lab, directory, processes) => {
  const file = join(directory, "haproxy.cfg");
  const listens = PORTS.map(
    (port) => `listen p${port}
  bind ${VIP4}:${port}
  balance ${port === 80 ? "roundrobin" : "source"}
${lab.backends.map((host) => `  server ${host.name} ${host.ipv4}:${port}`).join("\n")}`,
  );
  writeFileSync(
    file,
    `global
  nbthread 1
  maxconn 2000
defaults
  mode tcp
  timeout connect 3s
  timeout client 60s
  timeout server 60s
  option splice-auto
${listens.join("\n")}
`,
  );
  processes.push(spawnIn(lab.balancer.namespace, "haproxy", ["-db", "-f", file], { stdio: "ignore" }));
  return Promise.resolve(() => Promise.resolve());
};

const nginx: Start = (lab, directory, processes) => {
  const file = join(directory, "nginx.conf");
  const servers = PORTS.map((port) => {
    const hash = port === 80 ? "" : "hash $remote_addr;";
    const backends = lab.backends.map((host) => `server ${host.ipv4}:${port};`).join(" ");
    return `  upstream p${port} { ${hash} ${backends} }
  server { listen ${VIP4}:${port}; proxy_pass p${port}; }
  server { listen ${VIP4}:${port} udp; proxy_pass p${port}; }`;
  });
  writeFileSync(
    file,
    `load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
worker_processes 1;
pid ${directory}/nginx.pid;
error_log ${directory}/error.log;
events { worker_connections 4096; }
stream {
${servers.join("\n")}
}
`,
  );
  processes.push(
    spawnIn(lab.balancer.namespace, "nginx", ["-p", directory, "-c", file, "-e", join(directory, "start.log")], {
      stdio: "ignore",
    }),
  );
  return Promise.resolve(() => Promise.resolve());
};

const nftables: Start = (lab) => {
  const targets = lab.backends.map((host, i) => `${i} : ${host.ipv4}`).join(", ");
  const rules = PORTS.map((port) => {
    const spread = port === 80 ? "numgen inc" : "jhash ip saddr";
    const packets = `ip daddr ${VIP4} meta l4proto { tcp, udp } th dport ${port}`;
    return `    ${packets} dnat to ${spread} mod ${lab.backends.length} map { ${targets} }`;
  });
  runInSync(lab.balancer.namespace, "sysctl", ["-qw", "net.ipv4.ip_forward=1"]);
  runInSync(lab.balancer.namespace, "nft", ["-f", "-"], {
    input: `table ip bench {
  chain in { type nat hook prerouting priority dstnat;
${rules.join("\n")}
  }
  chain out { type nat hook postrouting priority srcnat; masquerade; }
}
`,
  });
  return Promise.resolve(() => Promise.resolve());
};

const ENTRIES: readonly Entry[] = [
  {
    name: "direct",
    missing: always,
    localVip: false,
    direct: true,
    start: () => Promise.resolve(() => Promise.resolve()),
  },
  { name: "pointsman XDP l2", missing: always, localVip: false, start: pointsman("l2", "xdp") },
  { name: "pointsman XDP ipip", missing: always, localVip: false, decap: true, start: pointsman("ipip", "xdp") },
  { name: "pointsman proxy", missing: always, localVip: true, start: pointsman("l2", "proxy") },
  { name: "nftables DNAT", missing: needs("nft"), localVip: false, start: nftables },
  { name: "HAProxy", missing: needs("haproxy"), localVip: true, start: haproxy },
  { name: "nginx stream", missing: needs("nginx"), localVip: true, start: nginx },
];

/** Starts HTTP and iperf3 on every backend: nginx where there is one, for Node would be the bottleneck. */
async function serve(lab: Lab, decap: boolean, directory: string, processes: ChildProcess[]): Promise<void> {
  for (const host of lab.backends) {
    const quiet = (command: string, ...args: string[]): void => {
      processes.push(spawnIn(host.namespace, command, args, { stdio: "ignore" }));
    };
    // Direct server return serves the virtual address; the others reach the backend's own.
    for (const address of [VIP4, host.ipv4]) quiet("iperf3", "-s", "-B", address, "-p", "5201");
    if (decap) processes.push((await startDecap(host)).process);
    if (!onPath("nginx")) {
      processes.push((await serveBackend(host, { iperf: false, decap: false })).process);
      continue;
    }
    const home = join(directory, host.name);
    mkdirSync(home);
    const file = join(home, "nginx.conf");
    writeFileSync(
      file,
      `daemon off;
worker_processes 1;
pid ${home}/nginx.pid;
error_log ${home}/error.log;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 1000000;
  server { listen 80; listen [::]:80; return 200 "${host.name}\n"; }
}
`,
    );
    quiet("nginx", "-p", home, "-c", file, "-e", join(home, "start.log"));
  }
}

/** Raises every contestant that can take part; the others come back with the reason. */
export async function raiseContestants(
  backends: number,
  only: RegExp | null,
): Promise<{ contestants: Contestant[]; absent: { name: string; reason: string }[] }> {
  const contestants: Contestant[] = [];
  const absent: { name: string; reason: string }[] = [];
  for (const [index, entry] of ENTRIES.entries()) {
    if (only !== null && !only.test(entry.name)) continue;
    const reason = entry.missing();
    if (reason !== null) {
      absent.push({ name: entry.name, reason });
      continue;
    }
    const lab = raiseLab({ label: `b${index}`, backends, mtu: 1500, localVip: entry.localVip });
    const directory = mkdtempSync(join(tmpdir(), "pointsman-bench-"));
    const processes: ChildProcess[] = [];
    const clear = (): void => {
      for (const child of processes) child.kill("SIGKILL");
      lab.close();
      rmSync(directory, { recursive: true, force: true });
    };
    try {
      await serve(lab, entry.decap === true, directory, processes);
      const stop = await entry.start(lab, directory, processes);
      contestants.push({
        name: entry.name,
        client: lab.client.namespace,
        target: entry.direct === true ? (lab.backends[0]?.ipv4 ?? "") : VIP4,
        close: async () => {
          await stop();
          clear();
        },
      });
    } catch (error) {
      clear();
      const [reason = ""] = (error instanceof Error ? error.message : String(error)).split("\n");
      absent.push({ name: entry.name, reason });
    }
  }
  return { contestants, absent };
}

/** Hosts that somebody else runs (the Vagrant lab): NAME=ADDRESS each, measured from this host. */
export function givenContestants(targets: readonly string[]): Contestant[] {
  return targets.map((text) => {
    const [name = "", target = ""] = text.split("=", 2);
    return { name, client: null, target, close: () => Promise.resolve() };
  });
}
