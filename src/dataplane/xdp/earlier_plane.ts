// A pinned plane as this build reads it, whichever build made it: its maps are opened by their names, and their entries
// converted by the description of their layout that is pinned beside them. Knows one plane's pins; changes nothing
// there but its heartbeat.

import { Failure } from "../../errors.ts";
import { ABI_FINGERPRINT, POINTSMAN_MAPS } from "./abi.gen.ts";
import { BATCH, ONE_BY_ONE, TICK_NS } from "./carry.ts";
import { conversionOf, numbersThatMoved, type Entry, type MapConversion } from "./conversion.ts";
import { canonicalText, fingerprintOfText, sizeOf, typeText, type Abi, type Field } from "./layout.ts";
import { parseLayout } from "./layout_text.ts";
import { encodeU32 } from "./map_values.ts";
import { walk, type MapName } from "./maps.ts";
import type { BpfMap, Native } from "./native.ts";
import type { Pins } from "./pins.ts";
import { hex } from "./program.ts";

const BPF_MAP_TYPE_ARRAY = 2;
const PERCPU_ARRAY = 6;

/** From this ABI's fingerprint on, any later build can tell what the maps are made of. */
export function pinLayout(native: Native, pins: Pins, abi: Abi): void {
  const text = new TextEncoder().encode(canonicalText(abi));
  const map = native.BpfMap.create({
    name: "layout", type: BPF_MAP_TYPE_ARRAY, keySize: 4, valueSize: text.length, maxEntries: 1, flags: 0, innerMap: null,
  });
  try {
    map.update(encodeU32(0), text, 0);
    map.pin(pins.layoutPath());
  } finally {
    map.close();
  }
}

/** What stands first in `settings`, whatever else does; 0: nothing. */
export function pinnedFingerprint(native: Native, pins: Pins): bigint {
  const bytes = onlyValue(native, pins.mapPath("settings"));
  return bytes.length < 8 ? 0n : new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
}

function onlyValue(native: Native, path: string): Uint8Array {
  const map = native.BpfMap.open(path);
  try {
    return map.lookup(encodeU32(0)) ?? new Uint8Array(0);
  } finally {
    map.close();
  }
}

export function mismatch(pins: Pins, found: bigint, why: string): Failure {
  const expected = hex(ABI_FINGERPRINT);
  const made = found === ABI_FINGERPRINT ? ""
    : `was made by another version of pointsman (ABI ${hex(found)}, this one has ${expected}) and `;
  return new Failure("ABI_MISMATCH", { expected, found: hex(found) },
    `the plane pinned in ${pins.directory} ${made}cannot be taken over: ${why}; it goes on forwarding as it is: run the`
    + " version that made it, or one in between, or end it with \"pointsman detach\" and start again, which breaks the flows"
    + " that it remembers");
}

export interface EarlierOptions {
  readonly ours: Abi;
  readonly which: "maps" | "new maps";
  readonly onBatch: () => void;
}

export class EarlierPlane {
  readonly pins: Pins;
  readonly fingerprint: bigint;
  readonly abi: Abi;
  readonly #ours: Abi;
  readonly #maps: ReadonlyMap<MapName, BpfMap>;
  readonly #onBatch: () => void;
  #heartbeat: { readonly words: BigUint64Array; readonly at: number } | null | undefined;
  readonly #conversions: ReadonlyMap<MapName, MapConversion>;
  /** Entries that have no place in this build's maps, by map. */
  readonly dropped = new Map<MapName, number>();

  /**
   * Throws ABI_MISMATCH when it says nothing of its layout, or something that this build cannot follow. `which`: its
   * maps, or those that were to take their place when somebody died, of which some or all may be missing. `onBatch` is
   * called again and again while large maps are read.
   */
  constructor(native: Native, pins: Pins, { ours, which, onBatch }: EarlierOptions) {
    this.pins = pins;
    this.#onBatch = onBatch;
    this.#ours = ours;
    this.fingerprint = pinnedFingerprint(native, pins);
    this.abi = this.#layout(native);
    const moved = numbersThatMoved(this.abi, ours);
    if (moved !== null) throw mismatch(pins, this.fingerprint, moved);
    this.#conversions = new Map(POINTSMAN_MAPS.map((name) => [name, conversionOf(name, this.abi, ours)]));
    const opened = new Map<MapName, BpfMap>();
    this.#maps = opened;
    try {
      for (const name of POINTSMAN_MAPS) {
        const path = which === "maps" ? pins.mapPath(name) : pins.newMapPath(name);
        if (pins.has(path)) opened.set(name, native.BpfMap.open(path));
        else if (which === "maps" && this.conversion(name).kind !== "absent") {
          throw mismatch(pins, this.fingerprint, `its map ${name} is gone`);
        }
      }
      this.#refuseOtherSizes();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #layout(native: Native): Abi {
    const { pins, fingerprint } = this;
    if (!pins.has(pins.layoutPath())) throw mismatch(pins, fingerprint, "it does not say what its maps are made of");
    const text = new TextDecoder().decode(onlyValue(native, pins.layoutPath()));
    if (fingerprintOfText(text) !== fingerprint) throw mismatch(pins, fingerprint, "what it says of its maps belongs to others");
    try {
      return parseLayout(text);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw mismatch(pins, fingerprint, error.message);
    }
  }

  /** The kernel knows how long entries are. */
  #refuseOtherSizes(): void {
    for (const { name, key, value } of this.abi.maps) {
      const map = this.#maps.get(name as MapName);
      if (map === undefined || key === null || value === null) continue;
      const { keySize, valueSize } = map.info();
      if (sizeOf(key) !== keySize || sizeOf(value) !== valueSize) {
        throw mismatch(this.pins, this.fingerprint, `its map ${name} has entries of other sizes than it says`);
      }
    }
  }

  conversion(name: MapName): MapConversion {
    return this.#conversions.get(name)!;
  }

  get maps(): Partial<Record<MapName, BpfMap>> {
    return Object.fromEntries(this.#maps);
  }

  /** What its program reads, where its layout has it: nobody is orphaned by an upgrade that takes its time. */
  writeHeartbeat(nowNs: bigint): void {
    this.#heartbeat ??= this.#findHeartbeat();
    if (this.#heartbeat !== null) Atomics.store(this.#heartbeat.words, this.#heartbeat.at, nowNs);
  }

  #findHeartbeat(): { readonly words: BigUint64Array; readonly at: number } | null {
    const settings = this.abi.structs.find(({ name }) => name === "settings");
    const field = settings?.fields.find(({ name }) => name === "heartbeat_ns");
    const map = this.#maps.get("settings");
    if (map === undefined || field === undefined || typeText(field.type) !== "u64" || field.offset % 8 !== 0) return null;
    return { words: new BigUint64Array(map.mmap()), at: field.offset / 8 };
  }

  /**
   * The entries of a map as this build has them; none where they cannot be converted. `late`: only those that were
   * written since then, as the time says that stands there in our entries.
   */
  *entries(name: MapName, late: { readonly timeAt: number; readonly sinceNs: bigint } | null = null): Generator<Entry> {
    const map = this.#maps.get(name);
    const conversion = this.conversion(name);
    if (map === undefined || (conversion.kind !== "same" && conversion.kind !== "converted")) return;
    const timeAt = late === null ? null : this.#timeAt(name, late.timeAt);
    for (const entry of entriesOfMap(map, this.#onBatch)) {
      if (late !== null && timeAt !== null && timeIn(entry.value, timeAt) + TICK_NS < late.sinceNs) continue;
      const converted = conversion.kind === "same" ? entry : this.#convert(name, conversion, entry);
      if (converted !== null) yield converted;
    }
  }

  /** Where the same field is in its entries. */
  #timeAt(name: MapName, at: number): number | null {
    const [ours, theirs] = [this.#ours, this.abi].map(({ maps, structs }): readonly Field[] => {
      const type = maps.find((each) => each.name === name)?.value;
      return type?.kind === "struct" ? structs.find((each) => each.name === type.name)?.fields ?? [] : [];
    });
    const field = ours!.find(({ offset }) => offset === at);
    return theirs!.find((each) => each.name === field?.name && typeText(each.type) === "u64")?.offset ?? null;
  }

  #convert(name: MapName, conversion: Extract<MapConversion, { kind: "converted" }>, entry: Entry): Entry | null {
    try {
      return conversion.entry(entry);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.dropped.set(name, (this.dropped.get(name) ?? 0) + 1);
      return null;
    }
  }

  /** Where a map has what stands under a key already, this comes in its place. */
  copyInto(name: MapName, to: BpfMap): void {
    const { type, maxEntries, keySize } = to.info();
    const isArray = type === BPF_MAP_TYPE_ARRAY || type === PERCPU_ARRAY;
    let batch: Entry[] = [];
    const flush = (): void => {
      writeBatch(batch, to, keySize);
      batch = [];
    };
    for (const entry of this.entries(name)) {
      if (isArray && new DataView(entry.key.buffer, entry.key.byteOffset).getUint32(0, true) >= maxEntries) continue;
      if (ONE_BY_ONE.has(type)) to.update(entry.key, entry.value, 0);
      else if (batch.push(entry) === BATCH) flush();
    }
    flush();
  }

  close(): void {
    for (const map of this.#maps.values()) map.close();
  }
}

function timeIn(value: Uint8Array, at: number): bigint {
  return new DataView(value.buffer, value.byteOffset).getBigUint64(at, true);
}

function* entriesOfMap(map: BpfMap, onBatch: () => void): Generator<Entry> {
  const { type, keySize, maxEntries } = map.info();
  if (ONE_BY_ONE.has(type)) {
    yield* walk(map);
    return;
  }
  for (let cursor: Uint8Array | null = null; ;) {
    const batch = map.lookupBatch(cursor, Math.min(maxEntries, BATCH));
    const valueSize = batch.count === 0 ? 0 : batch.values.length / batch.count;
    for (let at = 0; at < batch.count; at += 1) {
      yield {
        key: batch.keys.subarray(at * keySize, (at + 1) * keySize),
        value: batch.values.subarray(at * valueSize, (at + 1) * valueSize),
      };
    }
    onBatch();
    cursor = batch.cursor;
    if (cursor === null) return;
  }
}

function writeBatch(entries: readonly Entry[], to: BpfMap, keySize: number): void {
  if (entries.length === 0) return;
  const valueSize = entries[0]!.value.length;
  const [keys, values] = [new Uint8Array(entries.length * keySize), new Uint8Array(entries.length * valueSize)];
  for (const [at, { key, value }] of entries.entries()) {
    keys.set(key, at * keySize);
    values.set(value, at * valueSize);
  }
  to.updateBatch(keys, values, entries.length);
}
