// A release of pointsman that never was: what is built here, with maps of another shape. Structs have other fields and
// another order, enums that number counters another one, a ring class fewer slots, and a map another name. Knows text
// that it replaces in bpf/ and dist/; what stays there is as it is in this checkout.

import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { abiHeaders, generateAbi } from "../../scripts/abi_source.ts";
import { compileBpfFile, compilersHere } from "../../scripts/compile_bpf.ts";
import type { openXdpPlane } from "../../src/dataplane/xdp/open_xdp.ts";
import { createEnv, type RealEnv } from "../../src/env_real.ts";
import { ROOT } from "./kernel.ts";

export interface EarlierRelease {
  /** Has package.json, dist/ and build/. */
  readonly root: string;
  readonly openXdpPlane: typeof openXdpPlane;
  readonly env: RealEnv;
  remove(): void;
}

type Change = readonly [from: string, to: string];

const ABI: readonly Change[] = [
  // Another order, another size, and a field that is no more.
  [`struct flow_entry {
	__u64 last_seen_ns;     /* CLOCK_MONOTONIC; touched at most once a second */
	__u32 generation;       /* of the destination when it was remembered */
	__u16 destination;      /* id */
	__u16 other;            /* id`, `struct flow_entry {
	__u32 destination;
	__u32 generation;
	__u32 weight;
	__u32 other;
	__u64 last_seen_ns;
	/* id`],
  ["sizeof(struct flow_entry) == 16", "sizeof(struct flow_entry) == 24"],
  // Of keys, and so of what is nested in nat_flow.
  [`	struct service_key service;
	__u8 source[16];
	__be16 source_port;
	__u8 pad[2];
};`, `	__u8 source[16];
	__be16 source_port;
	__u8 pad[2];
	struct service_key service;
};`],
  [`	struct flow_key other;
	__u32 destination;      /* id */
	__u32 generation;       /* of the destination when the flow began */
	__u32 service;          /* index */`, `	__u32 service;
	__u32 generation;
	struct flow_key other;
	__u32 destination;`],
  [`	__u64 identity;         /* xxHash64 of what the id names, for adoption */
	__u32 generation;       /* +1 whenever the id is given to somebody else */
	__u32 flags;            /* enum destination_flags */`, `	__u32 flags;
	__u32 generation;
	__u64 identity;`],
  [`	__u64 packets;
	__u64 bytes;
	__u64 flows; `, `	__u64 bytes;
	__u64 flows;
	__u64 packets; `],
  // A wider field, and one at the end.
  ["	__u64 nat_udp_ns;       /* and of UDP */\n", "	__u64 nat_udp_ns;\n	__u64 lifetime_ns;\n"],
  ["sizeof(struct settings) == 88", "sizeof(struct settings) == 96"],
  // Counters under other numbers, one of them of a name that is no more.
  ["	DROP_TTL_EXPIRED,", "	DROP_EARLIER,\n	DROP_TTL_EXPIRED,"],
  ["	DROP_NO_BACKEND,        /* nobody is there to take it */\n", ""],
  ["	DROP_TOO_BIG,", "	DROP_NO_BACKEND,\n	DROP_TOO_BIG,"],
  ["	NAT_PORT_TRANSLATED,    /* of those, in nat: the client's own port was another flow's */\n", ""],
  ["	NAT_OUTCOMES,", "	NAT_PORT_TRANSLATED,\n	NAT_OUTCOMES,"],
  ["RING_SMALL_SLOTS = 16384", "RING_SMALL_SLOTS = 8192"],
];

/** A map that this build does not know, in the place of one that it has. */
const MAP: Change = ["icmp_pace", "error_pace"];
const RING_CLASS: Change = ["small: 16_384", "small: 8_192"];

function replaced(text: string, [from, to]: Change, where: string): string {
  if (!text.includes(from)) throw new Error(`${where} has no ${JSON.stringify(from)}: the earlier release has to be changed with it`);
  return text.replaceAll(from, to);
}

function rewrite(path: string, changes: readonly Change[]): string {
  const text = changes.reduce((before, change) => replaced(before, change, path), readFileSync(path, "utf8"));
  writeFileSync(path, text);
  return text;
}

/** Needs dist/, build/ and a compiler for BPF. */
export async function buildEarlierRelease(): Promise<EarlierRelease> {
  const root = mkdtempSync(join(tmpdir(), "pointsman-earlier-"));
  try {
    for (const name of ["bpf", "dist", "package.json"]) cpSync(join(ROOT, name), join(root, name), { recursive: true });
    symlinkSync(join(ROOT, "node_modules"), join(root, "node_modules"));
    mkdirSync(join(root, "build/bpf"), { recursive: true });
    symlinkSync(join(ROOT, "build/pointsman.node"), join(root, "build/pointsman.node"));
    rewrite(join(root, "bpf/abi.h"), ABI);
    renameMap(root);
    await writeCodecs(root, generateAbi(abiHeaders(root), compile(root)));
    rewrite(join(root, "dist/src/dataplane/xdp/ring_class.js"), [RING_CLASS]);
    const path = join(root, "dist/src/dataplane/xdp/open_xdp.js");
    const module = await import(/* @vite-ignore */ path) as { openXdpPlane: typeof openXdpPlane };
    const env = createEnv({ root, logLevel: "error" });
    return { root, openXdpPlane: module.openXdpPlane, env, remove: () => { rmSync(root, { recursive: true, force: true }); } };
  } catch (error) {
    rmSync(root, { recursive: true, force: true });
    throw error;
  }
}

function renameMap(root: string): void {
  const directory = join(root, "bpf");
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    if (readFileSync(path, "utf8").includes(MAP[0])) rewrite(path, [MAP]);
  }
  rewrite(join(root, "dist/src/dataplane/xdp/upgrade.js"), [MAP]);
}

function compile(root: string): { name: string; bytes: Uint8Array }[] {
  const [clang = "clang"] = compilersHere();
  const sources = readdirSync(join(root, "bpf")).filter((name) => name.endsWith(".bpf.c"));
  return sources.map((source) => {
    const name = source.replace(/\.c$/, ".o");
    const output = join(root, "build/bpf", name);
    compileBpfFile(clang, join(root, "bpf", source), output);
    return { name, bytes: new Uint8Array(readFileSync(output)) };
  });
}

async function writeCodecs(root: string, text: string): Promise<void> {
  const { default: typescript } = await import("typescript");
  const compilerOptions = { target: typescript.ScriptTarget.ES2023, module: typescript.ModuleKind.ESNext };
  const { outputText } = typescript.transpileModule(text, { compilerOptions });
  const path = join(root, "dist/src/dataplane/xdp/abi.gen.js");
  writeFileSync(path, outputText.replaceAll(/(from "\.[^"]*)\.ts"/g, "$1.js\""));
}
