// Whether this machine can raise the lab with XDP in it, and if not, why. Knows the platform, the
// capabilities, the build's products and the programs on PATH.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./lab_services.ts";
import { runIn } from "./namespaces.ts";
import { onPath } from "./search_path.ts";

/** The programs that the lab starts. */
export const TOOLS = ["ip", "nsenter", "ethtool", "sysctl", "curl", "iperf3", "wrk"];
/** CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF (capabilities(7)). */
const CAPABILITIES = 1n << 12n | 1n << 21n | 1n << 38n | 1n << 39n;

/** One sentence saying why the lab cannot be raised, or null when it can. */
export async function whyNoLab(): Promise<string | null> {
  if (process.platform !== "linux") return `XDP needs Linux; this is ${process.platform}`;
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  if ((BigInt(`0x${effective}`) & CAPABILITIES) !== CAPABILITIES) {
    return "XDP needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and the lab CAP_SYS_ADMIN: run as root";
  }
  for (const product of ["build/pointsman.node", "build/bpf/pointsman.bpf.o"]) {
    if (!existsSync(join(ROOT, product))) return `${product} is not built (npm run setup says what is missing)`;
  }
  const absent = TOOLS.filter((tool) => !onPath(tool));
  if (absent.length > 0) return `the lab needs ${absent.join(", ")} (npm run setup installs them)`;
  const probe = await runIn(null, "unshare", ["--net", "true"], { check: false });
  return probe.status === 0 ? null : `no network namespace can be created: ${probe.stderr.trim()}`;
}
