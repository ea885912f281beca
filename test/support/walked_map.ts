// A map of which slices are read, as walks do it: a list of entries that can be told to fail.

import type { BpfMap } from "../../src/dataplane/xdp/native.ts";

export class WalkedMap<E> {
  entries: E[] = [];
  /** How many entries each slice had. */
  readonly slices: number[] = [];
  fails = false;
  readonly #keyOf: (entry: E) => Uint8Array;
  readonly #valueOf: (entry: E) => Uint8Array;

  constructor(keyOf: (entry: E) => Uint8Array, valueOf: (entry: E) => Uint8Array) {
    this.#keyOf = keyOf;
    this.#valueOf = valueOf;
  }

  get map(): BpfMap {
    const lookupBatch: BpfMap["lookupBatch"] = (cursor, max) => {
      if (this.fails) throw new Error("told to fail");
      const from = cursor === null ? 0 : new DataView(cursor.buffer, cursor.byteOffset).getUint32(0);
      const some = this.entries.slice(from, from + max);
      this.slices.push(some.length);
      const next = from + some.length;
      return {
        count: some.length, keys: joined(some.map(this.#keyOf)), values: joined(some.map(this.#valueOf)),
        cursor: next < this.entries.length ? cursorAt(next) : null,
      };
    };
    return { lookupBatch } as BpfMap;
  }
}

function cursorAt(index: number): Uint8Array {
  const cursor = new Uint8Array(4);
  new DataView(cursor.buffer).setUint32(0, index);
  return cursor;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}
