// Inputs of the fuzzer as bytes (struct control of input.h), and the corpus that is kept: one input
// a line, in hexadecimal digits, sorted. Knows files; knows no program.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const CONTROL_BYTES = 12;
/** Frames shorter than this are kept whole. */
const ZEROS_MIN = 64;

export interface Choices {
  readonly world?: number;
  readonly switched?: number;
  /** What helpers answer follows from it. */
  readonly random?: number;
  /** Goes first. */
  readonly before?: Uint8Array | null;
}

/** One frame, or two; zeros at the end are a number. */
export function encodeInput(
  last: Uint8Array, { world = 0, switched = 0, random = 0, before = null }: Choices,
): Uint8Array {
  const frame = before === null ? last : Uint8Array.of(...before, ...last);
  const zeros = frame.length - 1 - frame.findLastIndex((byte) => byte !== 0);
  const cut = before === null && zeros >= ZEROS_MIN && zeros < 65_536 ? zeros : 0;
  const input = new Uint8Array(CONTROL_BYTES + frame.length - cut);
  input[0] = world;
  input[1] = switched;
  input[5] = random;
  new DataView(input.buffer).setUint16(8, cut, true);
  new DataView(input.buffer).setUint16(10, before?.length ?? 0, true);
  input.set(frame.subarray(0, frame.length - cut), CONTROL_BYTES);
  return input;
}

/** What is kept for a target, beside the seeds. */
export function readCorpus(path: string): Uint8Array[] {
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, "utf8").split("\n").filter((line) => line !== "");
  return lines.map((line) => new Uint8Array(Buffer.from(line, "hex")));
}

export function writeCorpus(path: string, inputs: readonly Uint8Array[]): void {
  const lines = new Set(inputs.map((one) => Buffer.from(one).toString("hex")));
  writeFileSync(path, [...lines].sort().map((line) => `${line}\n`).join(""));
}

/** As the fuzzer wants them: a directory with a file each. */
export function writeDirectory(directory: string, inputs: readonly Uint8Array[]): void {
  mkdirSync(directory, { recursive: true });
  for (const one of inputs)
    writeFileSync(join(directory, createHash("sha1").update(one).digest("hex")), one);
}

export function readDirectory(directory: string): Map<string, Uint8Array> {
  return new Map(readdirSync(directory).map((name) =>
    [name, new Uint8Array(readFileSync(join(directory, name)))]));
}
