// The search tree of regions, walked here as the program walks it: for addresses around every border it says what the
// prefixes say, however many levels it has.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RegionBlock, RegionFanout } from "../../src/dataplane/xdp/abi.gen.ts";
import { atOnce, digestIn, inSlices, regionBlocks } from "../../src/dataplane/xdp/region_blocks.ts";
import { regionColumns } from "../../src/geo/prefixes.ts";
import { parsePrefix } from "../../src/model/address.ts";
import { RegionPrefixes } from "../../src/model/regions.ts";
import { assertProperty } from "../support/counts.ts";

const HIGHEST = (1n << 128n) - 1n;

/** What the program finds, block by block; throws where it would meet something that is not there. */
function regionIn(memory: ArrayBuffer, address: bigint): number {
  const [high, low] = [address >> 64n, address & ((1n << 64n) - 1n)];
  for (let at = 0, level = 0; level < 6; level += 1) {
    const { starts, last, firstChild, regions } = RegionBlock.decode(new Uint8Array(memory, at * RegionBlock.size, RegionBlock.size));
    expect(starts).toHaveLength(RegionFanout.REGION_FANOUT);
    const place = Math.min(last, starts.findLastIndex((start) => start.high < high || (start.high === high && start.low <= low)));
    if (firstChild === 0) return regions[place]!;
    at = firstChild + place;
  }
  throw new Error("the tree is deeper than the program goes");
}

function bytesOf(address: bigint): Uint8Array {
  return Uint8Array.from({ length: 16 }, (_, at) => Number((address >> BigInt(8 * (15 - at))) & 0xffn));
}

function prefixesOf(networks: readonly (readonly string[])[]): RegionPrefixes {
  const rules = networks.map((each) => ({ countries: [], continents: [], networks: each }));
  return new RegionPrefixes(JSON.stringify(networks), null, regionColumns(null, rules));
}

/** Around the ends of each prefix, and at both ends of all addresses. */
function bordersOf(prefixes: RegionPrefixes): bigint[] {
  const ends = [...prefixes].flatMap(({ bytes, bits }) => {
    const start = bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
    return [start, start + (1n << BigInt(128 - bits))];
  });
  return [0n, HIGHEST, ...ends.flatMap((end) => [end - 1n, end, end + 1n])].filter((each) => each >= 0n && each <= HIGHEST);
}

function agree(prefixes: RegionPrefixes): void {
  const blocks = atOnce(regionBlocks(prefixes));
  // Whatever was there before.
  const memory = new Uint8Array(blocks.count * RegionBlock.size).fill(0xaa).buffer;
  atOnce(blocks.write(memory, 42n));
  expect(digestIn(memory)).toBe(42n);
  for (const address of bordersOf(prefixes)) expect(regionIn(memory, address)).toBe(prefixes.regionOf(bytesOf(address)));
}

const ipv4 = fc.tuple(fc.nat(0xffff_ffff), fc.nat(32)).map(([word, length]) => {
  const text = [24, 16, 8, 0].map((shift) => (word >>> shift) & 255).join(".");
  return parsePrefix(`${text}/${length}`, ) === null ? "10.0.0.0/8" : `${text}/${length}`;
});
const ipv6 = fc.tuple(fc.nat(0xffff), fc.nat(0xffff), fc.nat(128)).map(([first, last, length]) => `${first.toString(16)}::${last.toString(16)}/${length}`);
/** Texts whose bits beyond the prefix are zero, as a config has them. */
const network = fc.oneof(ipv4, ipv6).map((text) => canonical(text));

function canonical(text: string): string {
  const [host, length] = text.split("/") as [string, string];
  const isIpv4 = !host.includes(":");
  const bits = Number(length) + (isIpv4 ? 96 : 0);
  const at = parsePrefix(`${host}/${isIpv4 ? 32 : 128}`)!.address.bytes.slice();
  for (let bit = bits; bit < 128; bit += 1) at[bit >> 3]! &= ~(0x80 >> (bit & 7));
  const words = Array.from({ length: 8 }, (_, word) => ((at[word * 2]! << 8) | at[word * 2 + 1]!).toString(16));
  return isIpv4 ? `${at.slice(12).join(".")}/${length}` : `${words.join(":")}/${length}`;
}

describe("the search tree of regions", () => {
  it("says what the prefixes say, around every border", () => {
    assertProperty("region-blocks", fc.property(
      fc.array(fc.uniqueArray(network, { maxLength: 60 }), { minLength: 1, maxLength: 3 }),
      (drawn) => {
        const seen = new Set<string>();
        agree(prefixesOf(drawn.map((each) => each.filter((text) => !seen.has(text) && seen.add(text)))));
      },
    ));
  });

  it("has one block without a prefix, as many levels as it needs, and whole regions at both ends", () => {
    expect(atOnce(regionBlocks(prefixesOf([[]]))).count).toBe(1);
    agree(prefixesOf([[]]));
    agree(prefixesOf([["::/0", "0.0.0.0/0"]]));
    agree(prefixesOf([["0.0.0.0/0"], ["ffff::/16"]]));
    const hosts = (count: number): string[] => Array.from({ length: count }, (_, at) => `10.0.${at >> 7}.${(at & 127) * 2}/32`);
    // A stretch for each host, one behind it, and one before all.
    const levels = [[7, 1], [8, 2 + 1], [127, 16 + 1], [128, 17 + 2 + 1], [2047, 256 + 16 + 1], [2048, 257 + 17 + 2 + 1]] as const;
    for (const [count, blocks] of levels) {
      const prefixes = prefixesOf([hosts(count)]);
      expect(atOnce(regionBlocks(prefixes)).count).toBe(blocks);
      agree(prefixes);
    }
  });

  it("is made of a large database in slices, and is the same", async () => {
    const size = 100_000;
    const prefixes = new RegionPrefixes("large", null, {
      starts: Uint32Array.from({ length: size * 4 }, (_, word) => [0, 0, 0xffff, (word >> 2) * 4096][word % 4]!),
      bits: new Uint8Array(size).fill(120), regions: Uint8Array.from({ length: size }, (_, at) => 1 + at % 3),
    });
    const blocks = await inSlices(regionBlocks(prefixes));
    const memory = new ArrayBuffer(blocks.count * RegionBlock.size);
    let turns = 0;
    const turn = (): void => { turns += 1; pending = setImmediate(turn); };
    let pending = setImmediate(turn);
    await inSlices(blocks.write(memory, 42n));
    clearImmediate(pending);
    expect(turns).toBeGreaterThan(1);
    const atOneGo = new ArrayBuffer(memory.byteLength);
    atOnce(blocks.write(atOneGo, 42n));
    expect(Buffer.compare(new Uint8Array(memory), new Uint8Array(atOneGo))).toBe(0);
    const address = (at: number): bigint => 0xffff_0000_0000n + BigInt(at * 4096);
    for (const at of [0, 1, 32_767, 32_768, size - 1]) {
      expect([regionIn(memory, address(at)), regionIn(memory, address(at) + 255n), regionIn(memory, address(at) + 256n)]).toEqual([1 + at % 3, 1 + at % 3, 0]);
    }
  });
});
