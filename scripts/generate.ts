// Every committed file that is generated, and from what. Knows where things are read and written;
// scripts/build.mjs calls it after each build, and under CI asks it only whether something is
// stale.

import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { abiHeaders, generateAbi } from "./abi_source.ts";
import { fillBlocks, verdictTable } from "./document_blocks.ts";

export interface GenerateOptions {
  /** The checkout. */
  readonly root: string;
  /** False: only say what would change. */
  readonly write: boolean;
  /** Whether the BPF objects were built; without them the ABI file stays as it is. */
  readonly programs: boolean;
}

export interface GenerateResult {
  /** Relative to the root: what was stale. */
  readonly changed: string[];
  /** What cannot be generated from the sources as they are, with the reason. */
  readonly refused: string[];
}

interface Generated {
  readonly path: string;
  /** The file's text, or null when it cannot be made here. */
  readonly produce: () => string | null | Promise<string | null>;
}

/** Brings every generated file up to date, or says which are not. */
export async function generateAll(options: GenerateOptions): Promise<GenerateResult> {
  const result: GenerateResult = { changed: [], refused: [] };
  for (const { path, produce } of listGenerated(options)) {
    try {
      const text = await produce();
      const target = join(options.root, path);
      if (text === null || (existsSync(target) && readFileSync(target, "utf8") === text)) continue;
      result.changed.push(path);
      if (!options.write) continue;
      mkdirSync(dirname(target), { recursive: true });
      writeFileSync(target, text);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      result.refused.push(`${path}: ${error.message}`);
    }
  }
  return result;
}

/** What a person has to mend in the sources; anything else is a bug of the generator. */
function isRefusal(error: unknown): error is Error {
  return (
    error instanceof RangeError ||
    (error instanceof Error && "code" in error && error.code === "ERR_MODULE_NOT_FOUND")
  );
}

function listGenerated({ root, programs }: GenerateOptions): Generated[] {
  const read = (path: string): string => readFileSync(join(root, path), "utf8");
  return [
    {
      path: "src/dataplane/xdp/abi.gen.ts",
      produce: () => (programs ? produceAbi(root, abiHeaders(root)) : null),
    },
    { path: "schema/pointsman.schema.json", produce: produceSchema },
    { path: "docs/config.md", produce: produceReference },
    ...listDocuments(root).map((path) => ({
      path,
      produce: () => produceDocument(read(path), read("bpf/abi.h")),
    })),
  ];
}

function produceAbi(root: string, header: string): string {
  const directory = join(root, "build/bpf");
  const objects = readdirSync(directory)
    .filter((name) => name.endsWith(".bpf.o"))
    .map((name) => ({ name, bytes: new Uint8Array(readFileSync(join(directory, name))) }));
  return generateAbi(header, objects);
}

// What follows imports the sources it documents only when asked, so that a part that does not load
// leaves the others working.

async function produceSchema(): Promise<string> {
  const { jsonSchemaText } = await import("../src/config/publish.ts");
  return jsonSchemaText();
}

async function produceReference(): Promise<string> {
  const { configReferenceText } = await import("../src/config/publish.ts");
  return configReferenceText();
}

function listDocuments(root: string): string[] {
  const docs = existsSync(join(root, "docs"))
    ? readdirSync(join(root, "docs")).map((name) => `docs/${name}`)
    : [];
  return (
    ["README.md", "ARCHITECTURE.md", ...docs]
      // The reference is generated as a whole.
      .filter(
        (path) => path !== "docs/config.md" && path.endsWith(".md") && existsSync(join(root, path)),
      )
  );
}

async function produceDocument(text: string, header: string): Promise<string | null> {
  if (!text.includes(": generated")) return null;
  const { commandReference } = await import("../src/cli/reference.ts");
  const { coverageTable } = await import("./lab_coverage.ts");
  const { metricsTable } = await import("../src/observe/metrics.ts");
  return fillBlocks(text, new Map([
    ["commands", { source: "src/cli", text: commandReference() }],
    ["labs", { source: "scripts/lab_coverage.ts", text: coverageTable() }],
    ["metrics", { source: "src/observe/metrics.ts", text: metricsTable() }],
    ["verdicts", { source: "bpf/abi.h", text: verdictTable(header) }],
  ]));
}
