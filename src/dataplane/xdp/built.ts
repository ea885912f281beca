// What the native build leaves, where it lies, and how an operator comes by it: in a checkout by its own
// set-up, in an installed package, which has no scripts, by the system's libbpf or from a checkout.

import type { Env } from "../../env.ts";

type Host = Pick<Env, "files" | "root">;

export function addonPath({ root }: Pick<Env, "root">): string {
  return `${root}/build/pointsman.node`;
}

export function objectPath({ root }: Pick<Env, "root">): string {
  return `${root}/build/bpf/pointsman.bpf.o`;
}

/** The program that sends health probes on their way. */
export function probeObjectPath({ root }: Pick<Env, "root">): string {
  return `${root}/build/bpf/probe.bpf.o`;
}

/** What helps when the addon or a program is missing, does not load or does not fit. */
export function remedyForBuild(env: Host): string {
  if (env.files.exists(`${env.root}/scripts/setup.mjs`)) {
    return `run "npm run setup" in ${env.root}, which builds what can be built and says what is missing`;
  }
  const elsewhere = "install from a checkout: \"npm run setup && npm install --global .\" there";
  return env.files.exists(addonPath(env))
    ? `install libbpf 1.1 or later (Debian and Ubuntu: apt-get install libbpf1), or ${elsewhere}`
    : `this package was packed without its native part; ${elsewhere}`;
}
