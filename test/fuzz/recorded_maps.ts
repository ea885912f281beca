// The maps of a world as the writes that fill them: stands where the addon stands, so that what
// BpfWorld puts into the kernel's maps can be put into other ones (kernel.c). Knows keys and bytes;
// knows no service.

import type { BpfMap, BpfObject, Native } from "../../src/dataplane/xdp/native.ts";

/** One element of struct write (kernel.h). */
export interface Write {
  readonly kind: "WRITE_ENTRY" | "WRITE_MEMORY" | "WRITE_INNER" | "WRITE_CAPACITY";
  readonly map: string;
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly size: number;
}

/** More than any array of a small world takes. */
const MEMORY_BYTES = 1 << 20;
const NOTHING = new Uint8Array();

function refuse(): never {
  throw new Error("there is no kernel behind a recorded map");
}

class RecordedMap implements BpfMap {
  readonly name: string;
  readonly entries = new Map<string, { key: Uint8Array; value: Uint8Array }>();
  readonly inner = new Map<number, RecordedMap>();
  memory: Uint8Array | null = null;
  capacity = 0;
  readonly #bytes: number;
  /** Of one element. */
  readonly size: number;

  constructor(name: string, bytes = MEMORY_BYTES, elements = 1) {
    this.name = name;
    this.size = bytes;
    this.#bytes = bytes * elements;
  }

  update(key: Uint8Array, value: Uint8Array): void {
    const copies = { key: Uint8Array.from(key), value: Uint8Array.from(value) };
    this.entries.set(key.join(), copies);
  }

  delete(key: Uint8Array): boolean {
    return this.entries.delete(key.join());
  }

  updateInner(key: Uint8Array, inner: BpfMap): void {
    if (!(inner instanceof RecordedMap)) throw new Error("an inner map of another kind");
    this.inner.set(new DataView(key.buffer, key.byteOffset).getUint32(0, true), inner);
  }

  mmap(): ArrayBuffer {
    this.memory ??= new Uint8Array(this.#bytes);
    return this.memory.buffer as ArrayBuffer;
  }

  nextKey(): null {
    return null;
  }

  lookup(key: Uint8Array): Uint8Array | null {
    return this.entries.get(key.join())?.value ?? null;
  }

  close(): void { /* nothing to give back */ }

  info = refuse;
  lookupBatch = refuse;
  updateBatch = refuse;
  deleteBatch = refuse;
  pin = refuse;
  freeze = refuse;

  writes(): Write[] {
    const { name: map } = this;
    const from = { map, key: NOTHING, value: NOTHING, size: 0 };
    const found: Write[] = [];
    if (this.capacity > 0) found.push({ ...from, kind: "WRITE_CAPACITY", size: this.capacity });
    if (this.memory !== null)
      found.push({ ...from, kind: "WRITE_MEMORY", value: withoutZeros(this.memory) });
    for (const { key, value } of this.entries.values())
      found.push({ ...from, kind: "WRITE_ENTRY", key, value });
    for (const [index, { memory, size }] of this.inner) {
      const key = new Uint8Array(Uint32Array.of(index).buffer);
      found.push({ ...from, kind: "WRITE_INNER", key, value: withoutZeros(memory!), size });
    }
    return found;
  }
}

const ZEROS = new Uint8Array(1 << 16);

/** A world has gigabytes of zeros: whole blocks of them are told by one comparison, the rest by a plain loop. */
export function withoutZeros(bytes: Uint8Array): Uint8Array {
  let end = bytes.length;
  while (end >= ZEROS.length && Buffer.compare(bytes.subarray(end - ZEROS.length, end), ZEROS) === 0) end -= ZEROS.length;
  while (end > 0 && bytes[end - 1] === 0) end -= 1;
  // A copy, or the zeros would be kept with it.
  return bytes.slice(0, end);
}

/** An addon whose only object records what is written to its maps. */
export class Recording {
  readonly #maps = new Map<string, RecordedMap>();

  map(name: string): BpfMap {
    return this.#map(name);
  }

  #map(name: string): RecordedMap {
    const map = this.#maps.get(name) ?? new RecordedMap(name);
    this.#maps.set(name, map);
    return map;
  }

  native(): Native {
    const object: BpfObject = {
      map: (name) => this.#map(name),
      setMaxEntries: (name, entries) => { this.#map(name).capacity = entries; },
      section: () => NOTHING,
      setSection: () => { /* switches are turned by the fuzzer */ },
      load: () => { /* nothing to verify */ },
      close: () => { /* nothing to give back */ },
      mapNames: refuse, programNames: refuse, reuseMap: refuse, setAutoload: refuse,
      programInfo: refuse, testRun: refuse, pinProgram: refuse,
    };
    return {
      BpfMap: { create: ({ name, valueSize, maxEntries }) => new RecordedMap(name, valueSize, maxEntries), open: refuse },
      BpfObject: { open: () => object },
      XdpLink: { attach: refuse, open: refuse },
      RingBuffer: { open: refuse },
      NetlinkSocket: { open: refuse },
      gracePeriod: refuse, possibleCpus: () => 1, enterNetworkNamespace: refuse, mountBpffs: refuse,
      interfaceIndex: refuse, openMarkedSocket: refuse, sendPackets: refuse, libbpfVersion: "none",
    };
  }

  writes(): Write[] {
    return [...this.#maps.values()].flatMap((map) => map.writes());
  }
}
