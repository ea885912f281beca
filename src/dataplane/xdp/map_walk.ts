// Walks a large map slice by slice, with other work in between. Knows the map; what its entries mean is the caller's.

import type { Cancel, Clock } from "../../env.ts";
import type { BpfMap } from "./native.ts";

const SLICE_PAUSE_MS = 5;

export interface MapWalk {
  readonly clock: Pick<Clock, "after">;
  readonly map: () => BpfMap;
  /** Entries of a slice. */
  readonly slice: number;
  readonly take: (keys: Uint8Array, values: Uint8Array) => void;
  /** All entries were taken. */
  readonly end: () => void;
  /** Also of `take` and `end`: the walk is over then. */
  readonly failed: (error: unknown) => void;
}

/** Takes the first slice at once: a small map's walk has ended on return. */
export function walkMap({ clock, map, slice, take, end, failed }: MapWalk): Cancel {
  let cancel: Cancel = () => undefined;
  const go = (cursor: Uint8Array | null): void => {
    try {
      const batch = map().lookupBatch(cursor, slice);
      take(batch.keys, batch.values);
      const next = batch.cursor;
      if (next === null) end();
      else cancel = clock.after(SLICE_PAUSE_MS, () => { go(next); });
    } catch (error) {
      failed(error);
    }
  };
  go(null);
  return () => { cancel(); };
}
