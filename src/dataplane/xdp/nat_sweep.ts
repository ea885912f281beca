// Ends translated flows that nobody needs any more, and counts the others: the table never forgets by
// itself. It is walked slice by slice, with other work in between. Knows the map; whether a flow is over
// is src/model/nat.ts's rule, which the program has too, for ports that are wanted before the sweep comes.

import type { Cancel, Env } from "../../env.ts";
import { isNatOver, type NatTable } from "../../model/nat.ts";
import { PROTOCOL_NUMBERS } from "../../model/service_address.ts";
import { FlowKey, NatFlags, NatFlow as NatFlowBytes, ServiceKey } from "./abi.gen.ts";
import type { Challenges } from "./challenges.ts";
import { cellOf } from "./flow_sweep.ts";
import type { LoadCheck } from "./load_memory.ts";
import { UNANSWERED_NS, type NatOutcomes } from "./nat_outcomes.ts";
import { decodeFlowKey, decodeNatFlow, encodeFlowKey } from "./nat_values.ts";
import type { BpfMap } from "./native.ts";

/** Entries of one slice. */
const SLICE = 4096;
const SLICE_PAUSE_MS = 5;
/** Between two walks over the whole table. */
const PAUSE_MS = 1_000;
const PROTOCOL_AT = FlowKey.offsets.service + ServiceKey.offsets.protocol;
const {
  lastSeenNs: LAST_SEEN_AT, flags: FLAGS_AT, destination: DESTINATION_AT, generation: GENERATION_AT, service: SERVICE_AT,
} = NatFlowBytes.offsets;

export interface NatCount {
  /** Flows under way: entries of the backends' direction. */
  readonly count: number;
  /** By cellOf(). */
  readonly byCell: ReadonlyMap<string, number>;
  /** Of those, the ones that were not answered in three seconds. */
  readonly unanswered: ReadonlyMap<string, number>;
  /** Ended by sweeps since the plane was opened. */
  readonly ended: number;
  /** When the walk began (monotonic); null until the table was walked once. */
  readonly atMs: number | null;
}

export interface NatSweeper {
  /** Of the last walk. */
  read(): NatCount;
  /** Walks the whole table at once; for tests and for the end of a plane. */
  sweepNow(): void;
  stop(): void;
}

interface Walk {
  readonly atMs: number;
  readonly byCell: Map<string, number>;
  readonly unanswered: Map<string, number>;
  /** By destination: flows that their client has not closed. */
  readonly open: Map<number, number>;
  count: number;
}

function newWalk(atMs: number): Walk {
  return { atMs, byCell: new Map(), unanswered: new Map(), open: new Map(), count: 0 };
}

function addTo<K>(counts: Map<K, number>, key: K): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

export interface NatSweeperParts {
  readonly env: Env;
  readonly flows: () => BpfMap;
  /** What is translated by; null: nothing. */
  readonly table: () => NatTable | null;
  /**
   * Destinations ("id/generation") of which connections that both sides have closed do not count: somebody
   * waits for the last one to end, and their entries stay for a while.
   */
  readonly draining: () => ReadonlySet<string>;
  /**
   * Destinations that were taken out. What they have left does not count; datagrams' flows end at once, and
   * connections stay as long as they would have, so that the program can reset them when they next send, which
   * `challenges` sees to.
   */
  readonly ending: () => ReadonlySet<string>;
  /** Null: nobody is asked to speak. */
  readonly challenges: Challenges | null;
  readonly outcomes: NatOutcomes;
  readonly loads: LoadCheck;
}

/** Sweeps while `table()` translates. A failure is logged, and the next walk begins anew. */
export function createNatSweeper(parts: NatSweeperParts): NatSweeper {
  const { env, flows, table, draining, ending, challenges, outcomes, loads } = parts;
  const { clock } = env;
  let last: NatCount = { ...newWalk(0), ended: 0, atMs: null };
  let ended = 0;
  let walk = newWalk(0);
  let cancel: Cancel | null = null;
  const slice = (cursor: Uint8Array | null, nat: NatTable): Uint8Array | null => {
    const map = flows();
    const nowNs = env.clock.monotonicNs();
    const recentNs = nowNs - shortestNs(nat);
    const closing = draining();
    const over = ending();
    const batch = map.lookupBatch(cursor, SLICE);
    for (let at = 0; at < batch.count; at += 1) {
      const key = batch.keys.subarray(at * FlowKey.size, (at + 1) * FlowKey.size);
      const value = batch.values.subarray(at * NatFlowBytes.size, (at + 1) * NatFlowBytes.size);
      const isRecent = view(value).getBigUint64(LAST_SEEN_AT, true) >= recentNs;
      const isTakenOut = over.size > 0 && over.has(placeOf(value));
      if (!isTakenOut && isReply(value)) seeAnswer(outcomes, map, key, value);
      if (isTakenOut && key[PROTOCOL_AT] !== PROTOCOL_NUMBERS.tcp) ended += end(map, { key, value }) ? 1 : 0;
      else if (!isRecent && endIfOver(map, nat, { key, value }, nowNs)) ended += 1;
      else if (isTakenOut) challengeOf(challenges, key, value);
      else if (!isReply(value)) countOpen(walk, value);
      else if (!(closing.has(placeOf(value)) && isClosed(map, value))) countReply(walk, value, nowNs);
    }
    return batch.cursor;
  };
  const finish = (): void => {
    outcomes.finish();
    last = { ...walk, ended };
    loads.end(walk.open);
  };
  const later = (cursor: Uint8Array | null, ms: number): void => {
    cancel = env.clock.after(ms, () => {
      try {
        const nat = table();
        if (cursor === null) {
          walk = newWalk(clock.monotonicMs());
          challenges?.begin(ending());
          loads.begin();
          if (nat !== null) outcomes.begin(nat, clock.monotonicNs());
        }
        const next = nat === null ? null : slice(cursor, nat);
        if (next === null) finish();
        later(next, Math.max(next === null ? PAUSE_MS : SLICE_PAUSE_MS, challenges?.send() ?? 0));
      } catch (error) {
        env.log.warn({ error: String(error) }, "translated flows could not be swept: trying again");
        later(null, PAUSE_MS);
      }
    });
  };
  later(null, PAUSE_MS);
  return {
    read: () => last,
    sweepNow: () => {
      const nat = table();
      if (nat === null) return;
      walk = newWalk(clock.monotonicMs());
      loads.begin();
      outcomes.begin(nat, clock.monotonicNs());
      for (let cursor = slice(null, nat); cursor !== null;) cursor = slice(cursor, nat);
      finish();
    },
    stop: () => { cancel?.(); },
  };
}

function view(value: Uint8Array): DataView {
  return new DataView(value.buffer, value.byteOffset, value.byteLength);
}

function isReply(value: Uint8Array): boolean {
  return (value[FLAGS_AT]! & NatFlags.NAT_REPLY) !== 0;
}

function seeAnswer(outcomes: NatOutcomes, map: BpfMap, key: Uint8Array, value: Uint8Array): void {
  const forward = (): Uint8Array | null => map.lookup(encodeFlowKey(decodeNatFlow(value).other));
  outcomes.see({ place: () => placeOf(value), protocol: key[PROTOCOL_AT]!, value, forward });
}

/** Of one direction: whoever sends in it is to speak, unless the program has answered it with a reset, or it sent one. */
function challengeOf(challenges: Challenges | null, key: Uint8Array, value: Uint8Array): void {
  if ((value[FLAGS_AT]! & NatFlags.NAT_RST) === 0) challenges?.found(placeOf(value), () => decodeFlowKey(key), isReply(value));
}

function placeOf(value: Uint8Array): string {
  const fields = view(value);
  return `${fields.getUint32(DESTINATION_AT, true)}/${fields.getUint32(GENERATION_AT, true)}`;
}

/** Of a reply: whether both sides sent a FIN, or one an RST. */
function isClosed(map: BpfMap, value: Uint8Array): boolean {
  const flags = value[FLAGS_AT]!;
  if ((flags & NatFlags.NAT_RST) !== 0) return true;
  const forward = map.lookup(encodeFlowKey(decodeNatFlow(value).other));
  const others = forward === null ? 0 : forward[FLAGS_AT]!;
  return (others & NatFlags.NAT_RST) !== 0 || (flags & others & NatFlags.NAT_FIN) !== 0;
}

function countReply(walk: Walk, value: Uint8Array, nowNs: bigint): void {
  const fields = view(value);
  const word = (at: number): number => fields.getUint32(at, true);
  walk.count += 1;
  addTo(walk.byCell, cellOf(word(SERVICE_AT), word(DESTINATION_AT), word(GENERATION_AT)));
  const isAnswered = (value[FLAGS_AT]! & NatFlags.NAT_ANSWERED) !== 0;
  if (!isAnswered && fields.getBigUint64(LAST_SEEN_AT, true) + UNANSWERED_NS < nowNs)
    addTo(walk.unanswered, placeOf(value));
}

/** Of the client's direction. */
function countOpen(walk: Walk, value: Uint8Array): void {
  const isClosing = (value[FLAGS_AT]! & (NatFlags.NAT_FIN | NatFlags.NAT_RST)) !== 0;
  if (!isClosing) addTo(walk.open, view(value).getUint32(DESTINATION_AT, true));
}

interface Entry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** The shortest that any flow lives: what was seen later needs no second look. */
function shortestNs({ timeouts }: NatTable): bigint {
  return BigInt(Math.min(...Object.values(timeouts) as number[])) * 1_000_000n;
}

/** A direction without the other goes alone. */
function endIfOver(map: BpfMap, nat: NatTable, { key, value }: Entry, nowNs: bigint): boolean {
  const flow = decodeNatFlow(value);
  const otherKey = encodeFlowKey(flow.other);
  const otherValue = map.lookup(otherKey);
  const other = otherValue === null ? null : decodeNatFlow(otherValue);
  const [reply, forward] = flow.reply ? [flow, other] : [other, flow];
  if (!isNatOver(reply ?? { ...flow, answered: false }, forward, flow.other.protocol, nat.timeouts, nowNs))
    return false;
  return end(map, { key, value });
}

/**
 * Both directions go together, the backend's first: until the other one is gone too, packets follow it
 * and put it back, so the pair is never half of a new flow. True for the backend's.
 */
function end(map: BpfMap, { key, value }: Entry): boolean {
  const flow = decodeNatFlow(value);
  const otherKey = encodeFlowKey(flow.other);
  for (const each of flow.reply ? [key, otherKey] : [otherKey, key]) map.delete(each);
  return flow.reply;
}
