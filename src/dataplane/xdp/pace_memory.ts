// The pace at which flows are remembered, one element for each kind, which packets go on charging while it is
// changed. Knows how to change it without forgetting what was taken in advance.

import { REMEMBER_KINDS, underPace, type RememberPace } from "../../model/remember_pace.ts";
import { RememberPace as PaceBytes } from "./abi.gen.ts";
import type { BpfMap } from "./native.ts";

type Field = keyof typeof PaceBytes.offsets;

export class PaceMemory {
  readonly #words: BigUint64Array;

  /** Detached when the maps are closed. */
  constructor(maps: { readonly remember_pace: BpfMap }) {
    this.#words = new BigUint64Array(maps.remember_pace.mmap());
  }

  /** In the order of REMEMBER_KINDS. */
  read(): RememberPace[] {
    return REMEMBER_KINDS.map((_, kind) => ({
      intervalNs: this.#load(kind, "intervalNs"), burstNs: this.#load(kind, "burstNs"),
      ownIntervalNs: this.#load(kind, "ownIntervalNs"),
    }));
  }

  /** No interval without its burst: between the stores fewer may be remembered, not more. */
  write(kind: number, pace: RememberPace, nowNs: bigint): void {
    const beforeNs = this.#load(kind, "burstNs");
    const isLonger = pace.burstNs > beforeNs;
    if (!isLonger) this.#store(kind, "burstNs", pace.burstNs);
    this.#rescale(kind, beforeNs, pace.burstNs, nowNs);
    this.#store(kind, "intervalNs", pace.intervalNs);
    this.#store(kind, "ownIntervalNs", pace.ownIntervalNs);
    if (isLonger) this.#store(kind, "burstNs", pace.burstNs);
  }

  #rescale(kind: number, beforeNs: bigint, burstNs: bigint, nowNs: bigint): void {
    const at = this.#at(kind, "nextNs");
    for (;;) {
      const nextNs = Atomics.load(this.#words, at);
      // Packets charge it meanwhile, too.
      if (Atomics.compareExchange(this.#words, at, nextNs, underPace(nextNs, beforeNs, burstNs, nowNs)) === nextNs) return;
    }
  }

  #at(kind: number, field: Field): number {
    return (kind * PaceBytes.size + PaceBytes.offsets[field]) / 8;
  }

  #load(kind: number, field: Field): bigint {
    return Atomics.load(this.#words, this.#at(kind, field));
  }

  #store(kind: number, field: Field, value: bigint): void {
    Atomics.store(this.#words, this.#at(kind, field), value);
  }
}
