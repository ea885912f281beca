// What this machine lets kernel tests do, and what happens where it does not: a skip with a named
// reason, or a failure under KERNEL_TESTS=required. Knows capabilities, mounts and programs on
// PATH; knows nothing of services or packets.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, it } from "vitest";
import { effectiveCapabilities, missingCapabilities } from "../../src/dataplane/capabilities.ts";
import { loadNative } from "../../src/dataplane/xdp/native.ts";
import { mountBpffs, runInSync, startReaper, sweepLeftovers } from "../../scripts/namespaces.ts";
import { onPath } from "../../scripts/search_path.ts";

/** The checkout, with a slash at the end taken off. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
/** Where the build leaves the addon and the programs. */
export const ADDON_PATH = join(ROOT, "build/pointsman.node");
export const BPF_DIRECTORY = join(ROOT, "build/bpf");

/**
 * What a suite needs. `capabilities`: BPF, network and mounts allowed. `addon`: it is built and
 * loads. `programs`: the BPF objects are built. `namespaces`: one can be created. `tool:NAME`: on
 * PATH and part of the plain set-up. `peer:NAME`: on PATH if somebody asked for it (`npm run setup
 * -- --with …`).
 */
export type Need =
  | "capabilities"
  | "addon"
  | "programs"
  | "bpffs"
  | "namespaces"
  | `tool:${string}`
  | `peer:${string}`;

/** Needed by nearly every kernel suite. */
export const KERNEL: readonly Need[] = ["capabilities", "addon", "programs", "bpffs", "namespaces"];

const checks: Readonly<Record<Exclude<Need, `${string}:${string}`>, () => string | null>> = {
  capabilities() {
    if (process.platform !== "linux") return `BPF needs Linux, this is ${process.platform}`;
    const missing = missingCapabilities(effectiveCapabilities(readFileSync("/proc/self/status", "utf8")));
    return missing.length === 0 ? null : `lacks ${missing.join(", ")} (run as root)`;
  },
  addon() {
    if (!existsSync(ADDON_PATH))
      return "build/pointsman.node is not built (npm run setup says why)";
    return attempt("the addon does not load", () => {
      loadNative(ADDON_PATH);
    });
  },
  programs() {
    return existsSync(join(BPF_DIRECTORY, "pointsman.bpf.o"))
      ? null : "build/bpf/pointsman.bpf.o is not built (npm run setup says why)";
  },
  bpffs() {
    return attempt("bpffs cannot be mounted", mountBpffs);
  },
  namespaces() {
    return attempt("no network namespace can be created", () => {
      runInSync(null, "unshare", ["--net", "true"]);
    });
  },
};

const answers = new Map<Need, string | null>();

/** Why this need is not met, or null when it is. Asked once per process. */
export function missing(need: Need): string | null {
  const known = answers.get(need);
  if (known !== undefined) return known;
  const [kind, tool] = need.split(":", 2);
  const answer =
    tool === undefined
      ? checks[need as keyof typeof checks]()
      : onPath(tool)
        ? null
        : `${tool} is not installed (${kind === "peer" ? "npm run setup -- --with …" : "npm run setup"})`;
  answers.set(need, answer);
  return answer;
}

export type Decision =
  { readonly run: true } | { readonly run: false; readonly reason: string; readonly fail: boolean };

/**
 * Whether a suite with these needs runs, is skipped with a reason, or fails because it must run.
 * Pure.
 */
export function decideSuite(
  needs: readonly Need[], reasonFor: (need: Need) => string | null, required: boolean,
): Decision {
  for (const need of needs) {
    const reason = reasonFor(need);
    if (reason !== null) return { run: false, reason, fail: required && !need.startsWith("peer:") };
  }
  return { run: true };
}

/**
 * describe() for what needs the kernel: skipped, or failed when required, with the reason in its
 * name.
 */
export function describeKernel(title: string, needs: readonly Need[], body: () => void): void {
  const decision = decideSuite(needs, missing, process.env["KERNEL_TESTS"] === "required");
  if (decision.run) {
    prepare();
    describe(title, body);
  } else if (decision.fail) {
    describeFailing(title, decision.reason);
  } else {
    describe.skip(`${title} [skipped: ${decision.reason}]`, body);
  }
}

/** Stands for a suite that has to run here and cannot. */
export function describeFailing(title: string, reason: string): void {
  describe(title, () => {
    it("can run on this machine", () => {
      throw new Error(`KERNEL_TESTS=required: ${reason}`);
    });
  });
}

let prepared = false;

/** Once per worker: leftovers of the dead go, and a reaper waits for the death of this process. */
function prepare(): void {
  if (prepared) return;
  prepared = true;
  sweepLeftovers();
  startReaper();
}

function attempt(what: string, action: () => void): string | null {
  try {
    action();
    return null;
  } catch (error) {
    return `${what}: ${error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error)}`;
  }
}
