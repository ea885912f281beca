// Counts the clients that services remember, in walks over the table of them. Knows the map; for how long a client is
// remembered is src/model/affinity.ts's rule.

import type { Cancel, Env } from "../../env.ts";
import type { ForwardingTable } from "../../model/table.ts";
import { AffinityKey, FlowEntry } from "./abi.gen.ts";
import { walkMap } from "./map_walk.ts";
import type { BpfMap } from "./native.ts";

export interface AffinityCount {
  /** By affinity: clients that were heard of within its timeout. */
  readonly byId: ReadonlyMap<bigint, number>;
  /** When the walk began (monotonic); null until the table was walked once. */
  readonly atMs: number | null;
}

export interface AffinitySweep {
  /** The last walk's count; begins another one when that is not fresh. */
  read(): AffinityCount;
  /** Clients are remembered by this table now; null: nobody knows, and the one before tells whose they are. */
  follow(table: ForwardingTable | null): void;
  stop(): void;
}

/** Entries of a slice. */
const SLICE = 16_384;
/** A walk that ended less long ago is good enough. */
const FRESH_MS = 2_000;

/** By affinity: for how long its clients are remembered. */
type Timeouts = ReadonlyMap<bigint, bigint>;

/** Walks when it is asked, and never where no client is remembered. */
export function createAffinitySweep(env: Pick<Env, "clock" | "log">, map: () => BpfMap): AffinitySweep {
  const { clock, log } = env;
  let timeouts: Timeouts = new Map();
  let last: AffinityCount = { byId: new Map(), atMs: null };
  let lastMs = -Infinity;
  let isWalking = false;
  let cancel: Cancel = () => undefined;
  const begin = (): void => {
    const walk = { byId: new Map<bigint, number>(), atMs: clock.monotonicMs() };
    const timeoutsNs = timeouts;
    isWalking = true;
    cancel = walkMap({
      clock, map, slice: SLICE,
      take: (keys, values) => { count(walk.byId, timeoutsNs, { keys, values }, clock.monotonicNs()); },
      end: () => {
        isWalking = false;
        last = walk;
        lastMs = clock.monotonicMs();
      },
      failed: (error) => {
        // The next one begins again.
        isWalking = false;
        log.warn({ error: String(error) }, "the table of clients could not be walked to its end");
      },
    });
  };
  return {
    read: () => {
      if (!isWalking && timeouts.size > 0 && clock.monotonicMs() - lastMs >= FRESH_MS) begin();
      return last;
    },
    follow: (table) => { if (table !== null) timeouts = timeoutsOf(table); },
    stop: () => { cancel(); },
  };
}

function timeoutsOf({ services }: ForwardingTable): Timeouts {
  return new Map(services.flatMap(({ affinity }) => affinity === null ? [] : [[affinity.id, BigInt(affinity.timeoutMs) * 1_000_000n]]));
}

interface Entries {
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
}

function count(byId: Map<bigint, number>, timeoutsNs: Timeouts, { keys, values }: Entries, nowNs: bigint): void {
  const [keyView, valueView] = [viewOf(keys), viewOf(values)];
  for (let at = 0; at * AffinityKey.size < keys.length; at += 1) {
    const id = keyView.getBigUint64(at * AffinityKey.size + AffinityKey.offsets.affinityId, true);
    const timeoutNs = timeoutsNs.get(id);
    if (timeoutNs === undefined) continue;
    const lastSeenNs = valueView.getBigUint64(at * FlowEntry.size + FlowEntry.offsets.lastSeenNs, true);
    if (lastSeenNs + timeoutNs >= nowNs) byId.set(id, (byId.get(id) ?? 0) + 1);
  }
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}
