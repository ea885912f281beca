// A layer that keeps new flows from some backends for a while, and never from the last of a pool that takes any. Here
// is what ejections and holds share: one timer, for whoever is withheld and for how long, and who can be spared. Knows
// the backends of a pool, and time; must never know why anybody is withheld.
//
// Whether a pool has somebody else is looked at anew whenever anything of it changes: one that is withheld takes
// flows while all others are out, for flows that may fail are better than flows that must.

import type { Cancel } from "../env.ts";
import type { BackendHealth } from "../model/table.ts";
import type { HealthTransition } from "./checker.ts";
import { Layer, takesFlows } from "./layer.ts";
import type { ProbeTarget } from "./target.ts";

/** Why a backend is withheld, and until when. */
export interface Hold {
  readonly target: ProbeTarget;
  /** Monotonic. */
  readonly untilMs: number;
  /** Wall clock. */
  readonly sinceMs: number;
  /** What there is against it. */
  readonly complaint: string;
  /** What becomes of it, for people. */
  readonly sentence: string;
}

export abstract class Withholding extends Layer {
  #holds: ReadonlyMap<string, Hold> = new Map();
  #cancelEnd: Cancel | null = null;
  /** Pools that have somebody else, as states below are. */
  #sparing: { readonly of: ReadonlyMap<string, BackendHealth>; readonly pools: ReadonlySet<string> } | null = null;

  // ---- what each one is

  protected abstract readonly withheld: NonNullable<BackendHealth["withheld"]>;
  /** "ejected", "held": of one that is not, since nobody else is there. */
  protected abstract readonly participle: string;
  /** All that are withheld now, by name. */
  protected abstract holds(): ReadonlyMap<string, Hold>;
  /** Lets go of those whose time is over. */
  protected abstract letGo(nowMs: number): void;

  // ---- what all have

  protected get isIdle(): boolean { return this.#holds.size === 0; }

  protected release(): void { this.#cancelEnd?.(); }

  /** Whether it would take new flows, as far as those below and its operator are concerned. */
  protected couldTake({ name, isOut }: ProbeTarget): boolean {
    return isOut !== true && takesFlows(this.below.states().get(name));
  }

  /** To be called when holds() has changed. One timer, for the hold that ends first. */
  protected await(): void {
    this.#cancelEnd?.();
    this.#cancelEnd = null;
    this.#holds = this.holds();
    this.changed();
    if (this.#holds.size === 0 || this.isStopped) return;
    const endsMs = Math.min(...[...this.#holds.values()].map(({ untilMs }) => untilMs));
    this.#cancelEnd = this.env.clock.after(Math.max(0, endsMs - this.env.clock.monotonicMs()), () => { this.#endThoseOver(); });
  }

  protected lay(name: string, health: BackendHealth): BackendHealth {
    const hold = this.#holds.get(name);
    if (hold === undefined || !takesFlows(health)) return health;
    const { target: { pool }, complaint, sentence, sinceMs } = hold;
    if (!this.#sparingPools().has(pool)) {
      return { ...health, reason: `${health.reason} (not ${this.participle}, though ${complaint}: no other takes flows)` };
    }
    return { ...health, known: true, admission: 0, withheld: this.withheld, reason: `${complaint}; ${sentence}`, sinceMs };
  }

  /** Whether one that is withheld gets flows hangs on the others of its pool. */
  protected override hear(transition: HealthTransition): void {
    super.hear(transition);
    for (const [name, { target: { pool } }] of this.#holds) {
      if (pool === transition.pool && name !== transition.name) this.tell(name, transition.atMs, []);
    }
  }

  protected override changed(): void {
    this.#sparing = null;
    super.changed();
  }

  /** Where all that take flows are withheld there is none: then each of them takes them. */
  #sparingPools(): ReadonlySet<string> {
    const of = this.below.states();
    if (this.#sparing?.of !== of) {
      const others = [...this.targets.values()].filter((each) => !this.#holds.has(each.name) && this.couldTake(each));
      this.#sparing = { of, pools: new Set(others.map(({ pool }) => pool)) };
    }
    return this.#sparing.pools;
  }

  #endThoseOver(): void {
    const before = this.#holds;
    this.letGo(this.env.clock.monotonicMs());
    this.await();
    for (const name of before.keys()) this.tell(name, this.env.clock.wallMs(), []);
  }
}
