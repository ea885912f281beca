// What maps hold, carried to the ones that take their place, under packets that go on writing to the old ones
// until the program is swapped. Knows which maps packets write, and how late entries are told from those that
// were copied; knows no pin and no link.

import { FlowEntry, FragmentEntry, NatFlow } from "./abi.gen.ts";
import type { Entry } from "./conversion.ts";
import { entriesOf, type MapName, type PlaneMaps } from "./maps.ts";
import type { BpfMap } from "./native.ts";
import { isNativeError } from "./native_failure.ts";
import type { LoadedProgram } from "./program.ts";

/** Tables that packets fill, and where in an entry it says when one last did: CLOCK_MONOTONIC, nanoseconds. */
export const LEARNED = {
  flows: FlowEntry.offsets.lastSeenNs, affinities: FlowEntry.offsets.lastSeenNs, sampled_flows: FlowEntry.offsets.lastSeenNs,
  nat_flows: NatFlow.offsets.lastSeenNs, fragments: FragmentEntry.offsets.rememberedNs,
} as const satisfies Partial<Record<MapName, number>>;

/** Counters whose number follows from the limits. */
export const COUNTS = ["service_traffic", "destination_traffic", "answer_counts"] as const satisfies readonly MapName[];

/** Those whose values are maps, which are shared. */
export function isMapOfMaps(name: MapName): boolean {
  return name.startsWith("rings_") || name === "region_tables";
}

/** What a process left in the place of maps that it was about to replace. */
export type Leftovers = Partial<Record<MapName, BpfMap>>;

/**
 * Copies what the live maps hold into the new program's own ones, and shares the rings. Counters come last: what
 * is counted between their copy and the swap is lost. catchUp() fetches what is remembered meanwhile.
 */
export function moveContents(from: PlaneMaps, to: LoadedProgram): void {
  const isCount = (name: MapName): boolean => COUNTS.some((each) => each === name);
  for (const name of [...to.created].sort((a, b) => Number(isCount(a)) - Number(isCount(b)))) {
    if (!isMapOfMaps(name)) copyEntries(from.maps[name], to.maps.maps[name]);
  }
  to.maps.shareRings(from, new Set(to.created));
}

/**
 * Copies the flows and fragments that packets have left in the old tables since the copy began, and those that they
 * sent elsewhere. To be called when the last packet has left the old program.
 */
export function catchUp(from: Partial<Record<MapName, BpfMap>>, to: Pick<PlaneMaps, "maps">, sinceNs: bigint): void {
  for (const name of Object.keys(LEARNED) as (keyof typeof LEARNED)[]) {
    const old = from[name];
    if (old !== undefined && old.info().id !== to.maps[name].info().id) addMissing(entriesOf(old), to.maps[name], LEARNED[name], sinceNs);
  }
}

/**
 * A process died between the swap of a program and the names of its maps: what packets have left in those maps is
 * added to the ones that still have the names. Harmless where nobody ever used them.
 */
export function absorb(leftovers: Leftovers, into: PlaneMaps): void {
  catchUp(leftovers, into, 0n);
  for (const name of COUNTS) {
    const left = leftovers[name];
    if (left !== undefined) raiseCounts(entriesOf(left), into.maps[name]);
  }
}

const [ONLY_WHEN_ABSENT, ONLY_WHEN_PRESENT] = [1, 2];
/** The clock of the packet path stands still for so long at most: entries look older than they are. */
export const TICK_NS = 20_000_000n;
/** Somebody was faster, a packet or the walk that ends flows; or there is no room, as for any flow that begins now. */
const HARMLESS: ReadonlySet<string> = new Set(["EXISTS", "NOT_FOUND", "FULL"]);

/** Entries that are younger, and that are not there or say something else. */
export function addMissing(entries: Iterable<Entry>, to: BpfMap, timeAt: number, sinceNs: bigint): void {
  for (const { key, value } of entries) {
    if (timeOf(value, timeAt) + TICK_NS < sinceNs) continue;
    const there = to.lookup(key);
    if (there !== null && !isNews(value, there, timeAt)) continue;
    try {
      to.update(key, value, there === null ? ONLY_WHEN_ABSENT : ONLY_WHEN_PRESENT);
    } catch (error) {
      if (!isNativeError(error) || !HARMLESS.has(error.code)) throw error;
    }
  }
}

/** Later, and more than a time is new: the flow went elsewhere since it was copied. */
function isNews(late: Uint8Array, there: Uint8Array, timeAt: number): boolean {
  const isTime = (at: number): boolean => at >= timeAt && at < timeAt + 8;
  return timeOf(late, timeAt) > timeOf(there, timeAt)
    && late.some((byte, at) => byte !== there[at] && !isTime(at));
}

function timeOf(entry: Uint8Array, at: number): bigint {
  return new DataView(entry.buffer, entry.byteOffset).getBigUint64(at, true);
}

/** Counters never fall, so of two the larger is the later one. Those that would stay are not written: packets count there. */
export function raiseCounts(entries: Iterable<Entry>, to: BpfMap): void {
  for (const { key, value } of entries) {
    const now = to.lookup(key);
    if (now === null) continue;
    const [words, others] = [wordsOf(now), wordsOf(value)];
    if (words.every((word, at) => word >= others[at]!)) continue;
    const raised = words.map((word, at) => word > others[at]! ? word : others[at]!);
    to.update(key, new Uint8Array(raised.buffer), 0);
  }
}

function wordsOf(bytes: Uint8Array): BigUint64Array {
  return new BigUint64Array(bytes.slice().buffer);
}

export const BATCH = 16_384;
/** BPF_MAP_TYPE_LPM_TRIE and DEVMAP_HASH: small, and without batches on older kernels. */
export const ONE_BY_ONE: ReadonlySet<number> = new Set([11, 25]);

export function copyEntries(from: BpfMap, to: BpfMap): void {
  if (ONE_BY_ONE.has(from.info().type)) {
    for (let key = from.nextKey(null); key !== null; key = from.nextKey(key)) {
      const value = from.lookup(key);
      if (value !== null) to.update(key, value, 0);
    }
    return;
  }
  for (let cursor: Uint8Array | null = null; ;) {
    const batch = from.lookupBatch(cursor, BATCH);
    if (batch.count > 0) to.updateBatch(batch.keys, batch.values, batch.count);
    cursor = batch.cursor;
    if (cursor === null) return;
  }
}
