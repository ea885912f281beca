// Every committed file that is generated, and from what. Knows where things are read and written;
// scripts/build.mjs calls it after each build, and under CI asks it only whether something is stale.

import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { generateAbi } from "./abi_source.ts";

export interface GenerateOptions {
  /** The checkout. */
  readonly root: string;
  /** False: only say what would change. */
  readonly write: boolean;
  /** Whether the BPF objects were built; without them the ABI file stays as it is. */
  readonly programs: boolean;
}

interface Generated {
  readonly path: string;
  /** The file's text, or null when it cannot be made here. */
  readonly produce: (options: GenerateOptions) => string | null | Promise<string | null>;
}

const GENERATED: readonly Generated[] = [
  { path: "src/dataplane/xdp/abi.gen.ts", produce: produceAbi },
];

/**
 * Brings every generated file up to date, or says which are not. Paths are relative to the root; what
 * cannot be generated from the sources as they are is refused, with the reason.
 */
export async function generateAll(options: GenerateOptions): Promise<{ changed: string[]; refused: string[] }> {
  const changed: string[] = [];
  const refused: string[] = [];
  for (const { path, produce } of GENERATED) {
    let text: string | null;
    try {
      text = await produce(options);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      refused.push(`${path}: ${error.message}`);
      continue;
    }
    const target = join(options.root, path);
    if (text === null || (existsSync(target) && readFileSync(target, "utf8") === text)) continue;
    changed.push(path);
    if (options.write) {
      mkdirSync(dirname(target), { recursive: true });
      writeFileSync(target, text);
    }
  }
  return { changed, refused };
}

function produceAbi({ root, programs }: GenerateOptions): string | null {
  if (!programs) return null;
  const directory = join(root, "build/bpf");
  const objects = readdirSync(directory)
    .filter((name) => name.endsWith(".bpf.o"))
    .map((name) => ({ name, bytes: new Uint8Array(readFileSync(join(directory, name))) }));
  return generateAbi(readFileSync(join(root, "bpf/abi.h"), "utf8"), objects);
}
