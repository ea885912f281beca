// What the fuzzer's worlds leave out of their maps: the zeros at the end, and nothing else.

import { expect, it } from "vitest";
import { withoutZeros } from "../fuzz/recorded_maps.ts";

const BLOCK = 1 << 16;

it.each([0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])("of %i bytes and a non-zero one, only zeros behind it go", (before) => {
  for (const behind of [0, 1, 9, BLOCK - 1, BLOCK, BLOCK + 3, 2 * BLOCK]) {
    const bytes = new Uint8Array(before + 1 + behind);
    bytes[before] = 0x80;
    expect(Buffer.compare(withoutZeros(bytes), bytes.subarray(0, before + 1)), `${behind} behind`).toBe(0);
  }
});

it.each([0, 1, BLOCK, 2 * BLOCK + 1])("nothing is left of %i zeros", (length) => {
  expect(withoutZeros(new Uint8Array(length))).toHaveLength(0);
});
