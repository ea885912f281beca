// Whether this machine can raise the lab with XDP in it, and if not, why. Knows the platform, the
// capabilities, the build's products and the programs on PATH.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { effectiveCapabilities, missingCapabilities } from "../src/dataplane/capabilities.ts";
import { ROOT } from "./lab_services.ts";
import { runIn } from "./namespaces.ts";
import { onPath } from "./search_path.ts";

/** The programs that the lab starts. */
export const TOOLS = ["ip", "nsenter", "ethtool", "sysctl", "curl", "iperf3", "wrk"];

/** One sentence saying why the lab cannot be raised, or null when it can. */
export async function whyNoLab(): Promise<string | null> {
  if (process.platform !== "linux") return `XDP needs Linux; this is ${process.platform}`;
  const lacked = missingCapabilities(effectiveCapabilities(readFileSync("/proc/self/status", "utf8")));
  if (lacked.length > 0) {
    return "XDP needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and the lab CAP_SYS_ADMIN;"
      + ` there is no ${lacked.join(", ")}: run as root`;
  }
  for (const product of ["build/pointsman.node", "build/bpf/pointsman.bpf.o"]) {
    if (!existsSync(join(ROOT, product))) return `${product} is not built (npm run setup says what is missing)`;
  }
  const absent = TOOLS.filter((tool) => !onPath(tool));
  if (absent.length > 0) return `the lab needs ${absent.join(", ")} (npm run setup installs them)`;
  const probe = await runIn(null, "unshare", ["--net", "true"], { check: false });
  return probe.status === 0 ? null : `no network namespace can be created: ${probe.stderr.trim()}`;
}
