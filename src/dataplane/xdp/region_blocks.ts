// Prefixes of regions as the search tree that the program walks (bpf/regions.h): stretches of the address space, each in
// one region or in none, by the address at which they begin. Pure; knows bytes, must never know a map.

import type { RegionPrefixes } from "../../model/regions.ts";
import { NOWHERE } from "../../model/regions.ts";
import { RegionBlock, RegionFanout } from "./abi.gen.ts";

const FANOUT = RegionFanout.REGION_FANOUT;
/** Numbers of four bytes. */
const BLOCK_WORDS = RegionBlock.size / 4;
const ADDRESS_WORDS = 4;
const WORD_BITS = 32;
const HIGHEST = 0xffff_ffff;

/** Where stretches begin, in order: four words each, the first of the address first. The first one begins at ::. */
interface Stretches {
  readonly starts: Uint32Array;
  readonly regions: Uint8Array;
  readonly size: number;
}

/** A tree whose blocks have not been written yet. */
export interface RegionBlocks {
  readonly count: number;
  /** Writes them, and last the digest (not 0n), which says that they are whole. */
  write(memory: ArrayBuffer, digest: bigint): Work<void>;
}

/** Work on a large database takes a good part of a second, and heartbeats and probes must not wait for it: it stops here and there. */
export type Work<T> = Generator<undefined, T>;

/** Prefixes, or blocks, from one stop to the next. */
const SLICE = 32_768;
const SLICE_BLOCKS = 4096;

/** All of it, with other work in between. */
export async function inSlices<T>(work: Work<T>): Promise<T> {
  for (;;) {
    const next = work.next();
    if (next.done === true) return next.value;
    await new Promise((resolve) => { setImmediate(resolve); });
  }
}

/** All of it, at one go. */
export function atOnce<T>(work: Work<T>): T {
  for (;;) {
    const next = work.next();
    if (next.done === true) return next.value;
  }
}

/** What the tree in this memory was made of; null: it is not whole. */
export function digestIn(memory: ArrayBuffer): bigint | null {
  const digest = new DataView(memory).getBigUint64(RegionBlock.offsets.digest, true);
  return digest === 0n ? null : digest;
}

export function* regionBlocks(prefixes: RegionPrefixes): Work<RegionBlocks> {
  const stretches = yield* stretchesOf(prefixes);
  const levels = levelsOf(stretches.size);
  return {
    count: levels.reduce((sum, blocks) => sum + blocks, 0),
    * write(memory, digest) {
      yield* writeBlocks(stretches, levels, memory);
      new DataView(memory).setBigUint64(RegionBlock.offsets.digest, digest, true);
    },
  };
}

/** Blocks of each level, the root's first. */
function levelsOf(size: number): number[] {
  const levels = [Math.ceil(size / FANOUT)];
  while (levels[0]! > 1) levels.unshift(Math.ceil(levels[0]! / FANOUT));
  return levels;
}

/** Without an object for each: of a large database there are millions. */
function* stretchesOf({ columns: { starts, bits, regions }, size }: RegionPrefixes): Work<Stretches> {
  const most = size * 2 + 1;
  const found = { starts: new Uint32Array(most * ADDRESS_WORDS), regions: new Uint8Array(most), size: 0 };
  /** Where the prefix before ended. */
  const next = new Uint32Array(ADDRESS_WORDS);
  let isOver = false;
  for (let at = 0; at < size; at += 1) {
    if (at % SLICE === SLICE - 1) yield;
    const from = at * ADDRESS_WORDS;
    if (!isSame(starts, from, next)) push(found, next, 0, NOWHERE);
    push(found, starts, from, regions[at]!);
    for (let word = 0; word < ADDRESS_WORDS; word += 1) next[word] = starts[from + word]!;
    isOver = !advance(next, bits[at]!);
  }
  if (!isOver) push(found, next, 0, NOWHERE);
  return found;
}

/** Neighbours of one region are one stretch. */
function push(found: { starts: Uint32Array; regions: Uint8Array; size: number }, start: Uint32Array, from: number, region: number): void {
  if (found.size > 0 && found.regions[found.size - 1] === region) return;
  for (let word = 0; word < ADDRESS_WORDS; word += 1) found.starts[found.size * ADDRESS_WORDS + word] = start[from + word]!;
  found.regions[found.size] = region;
  found.size += 1;
}

function isSame(starts: Uint32Array, from: number, next: Uint32Array): boolean {
  return starts[from] === next[0] && starts[from + 1] === next[1] && starts[from + 2] === next[2] && starts[from + 3] === next[3];
}

/** To the first address behind a prefix of so many bits; false: there is none. */
function advance(address: Uint32Array, bits: number): boolean {
  if (bits === 0) return false;
  let word = Math.ceil(bits / WORD_BITS) - 1;
  let carry = 2 ** ((word + 1) * WORD_BITS - bits);
  for (; word >= 0 && carry > 0; word -= 1) {
    const sum = address[word]! + carry;
    address[word] = sum;
    carry = sum > HIGHEST ? 1 : 0;
  }
  return carry === 0;
}

function* writeBlocks({ starts, regions, size }: Stretches, levels: readonly number[], memory: ArrayBuffer): Work<void> {
  const [words, bytes] = [new Uint32Array(memory), new Uint8Array(memory)];
  const { firstChild, last, regions: regionsAt } = RegionBlock.offsets;
  let first = 0;
  for (const [level, blocks] of levels.entries()) {
    // A start of this level stands for so many stretches.
    const each = FANOUT ** (levels.length - 1 - level);
    const next = first + blocks;
    const isLeaf = level === levels.length - 1;
    for (let block = 0; block < blocks; block += 1) {
      if (block % SLICE_BLOCKS === SLICE_BLOCKS - 1) yield;
      const at = (first + block) * BLOCK_WORDS;
      words.fill(0, at, at + BLOCK_WORDS);
      words.fill(HIGHEST, at, at + FANOUT * ADDRESS_WORDS);
      const used = Math.min(FANOUT, Math.ceil(size / each) - block * FANOUT);
      for (let place = 0; place < used; place += 1) {
        const stretch = (block * FANOUT + place) * each;
        writeStart(words, at + place * ADDRESS_WORDS, starts, stretch * ADDRESS_WORDS);
        if (isLeaf) bytes[at * 4 + regionsAt + place] = regions[stretch]!;
      }
      words[at + last / 4] = used - 1;
      if (!isLeaf) words[at + firstChild / 4] = next + block * FANOUT;
    }
    first = next;
  }
}

/** Two numbers of eight bytes, the lower half of each first. */
function writeStart(words: Uint32Array, at: number, starts: Uint32Array, from: number): void {
  words[at] = starts[from + 1]!;
  words[at + 1] = starts[from]!;
  words[at + 2] = starts[from + 3]!;
  words[at + 3] = starts[from + 2]!;
}
