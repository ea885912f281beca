// The quorums of pools: which of them have as many backends up as they are to have, since when, and whether an
// override would take that away. Knows health and time; runs nothing itself and changes no table.

import type { Cancel, Env } from "../env.ts";
import { Failure } from "../errors.ts";
import type { PoolConfig } from "../model/config.ts";
import { activeOverrides, roleOf } from "../model/effective.ts";
import { neededOf, ruledPool } from "../model/pool_rules.ts";
import type { Intent, Override } from "../model/table.ts";

/** What a pool has and is to have. */
export interface QuorumCount {
  readonly up: number;
  readonly total: number;
  readonly needed: number;
}

export interface QuorumChange extends QuorumCount {
  readonly pool: PoolConfig;
  readonly isMet: boolean;
  /** The first that is found after a start. */
  readonly isFirst: boolean;
}

export interface QuorumsOptions {
  readonly env: Pick<Env, "clock">;
  readonly intent: () => Intent;
  /** Whether anything is forwarded by this intent: before that nobody is told that all is well. */
  readonly isServing: () => boolean;
  readonly onChange: (change: QuorumChange) => void;
}

interface State {
  /** Null: not known yet. */
  isMet: boolean | null;
  /** Since when there have been enough again (monotonic); null: it is not lost, or there are too few. */
  enoughSinceMs: number | null;
  /** Of the time that is left then; harmless once it is over. */
  cancelRegain: Cancel | null;
}

export class Quorums {
  readonly #options: QuorumsOptions;
  readonly #states = new Map<string, State>();
  #isStopped = false;

  constructor(options: QuorumsOptions) {
    this.#options = options;
  }

  /** By pool; null: not known yet. */
  found(): ReadonlyMap<string, boolean | null> {
    return new Map([...this.#states].map(([pool, { isMet }]) => [pool, isMet]));
  }

  /** To be called when health, overrides or the config have changed. */
  look(): void {
    if (this.#isStopped) return;
    const intent = this.#options.intent();
    const pools = intent.config.pools.filter(({ quorum }) => quorum !== null);
    for (const [name, state] of this.#states) {
      if (pools.some((pool) => pool.name === name)) continue;
      state.cancelRegain?.();
      this.#states.delete(name);
    }
    for (const pool of pools) this.#judge(pool, intent);
  }

  stop(): void {
    this.#isStopped = true;
    for (const { cancelRegain } of this.#states.values()) cancelRegain?.();
    this.#states.clear();
  }

  #judge(pool: PoolConfig, intent: Intent): void {
    const state = this.#states.get(pool.name) ?? { isMet: null, enoughSinceMs: null, cancelRegain: null };
    this.#states.set(pool.name, state);
    state.cancelRegain?.();
    const count = countOf(pool, intent);
    if (count.up < count.needed) {
      state.enoughSinceMs = null;
      if (state.isMet !== false) this.#become(pool, state, false, count);
    } else if (!this.#options.isServing()) {
      return;
    } else if (state.isMet === null) {
      // Who is up because nobody has asked yet may be down.
      if (countOf(pool, intent, isKnown).up >= count.needed) this.#become(pool, state, true, count);
    } else if (!state.isMet) {
      this.#regain(pool, state, count);
    }
  }

  /** Once it has been enough for a while, as long as the config in force says now. */
  #regain(pool: PoolConfig, state: State, count: QuorumCount): void {
    const { clock } = this.#options.env;
    state.enoughSinceMs ??= clock.monotonicMs();
    const leftMs = state.enoughSinceMs + (pool.quorum?.regainAfterMs ?? 0) - clock.monotonicMs();
    if (leftMs > 0) state.cancelRegain = clock.after(leftMs, () => { this.look(); });
    else this.#become(pool, state, true, count);
  }

  #become(pool: PoolConfig, state: State, isMet: boolean, count: QuorumCount): void {
    const isFirst = state.isMet === null;
    state.isMet = isMet;
    this.#options.onChange({ ...count, pool, isMet, isFirst });
  }
}

function isKnown(intent: Intent, name: string): boolean {
  return intent.health.get(name)?.known ?? true;
}

function countOf(
  pool: PoolConfig, intent: Intent, counts: (intent: Intent, name: string) => boolean = () => true,
): QuorumCount {
  const { backends } = ruledPool(pool, activeOverrides(intent.overrides, intent.nowMs), intent.health, intent.config.zone);
  const total = backends.filter(({ weight }) => weight > 0).length;
  const up = backends.filter(({ isUp, name }) => isUp && counts(intent, name)).length;
  return { up, total, needed: pool.quorum === null ? 0 : neededOf(pool.quorum.minimum, total) };
}

/** Throws BELOW_QUORUM where an override takes a backend from a pool that then has too few. */
export function refuseBelowQuorum(intent: Intent, override: Override): void {
  const name = override.target.slice(0, override.target.indexOf("/"));
  const pool = intent.config.pools.find((each) => each.name === name);
  if (pool === undefined || pool.quorum === null) return;
  const before = countOf(pool, intent);
  const kept = intent.overrides.filter(({ target, change }) => target !== override.target || roleOf(change) !== roleOf(override.change));
  const after = countOf(pool, { ...intent, overrides: [...kept, override] });
  if (after.up >= before.up || after.up >= after.needed) return;
  throw new Failure("BELOW_QUORUM", { pool: name, up: after.up, needed: after.needed },
    `${name} would have ${after.up} of ${after.total} backends up, fewer than the ${after.needed} of its quorum`);
}

/** The first finding after a start is news only where something is missing. */
export function tellQuorum(
  { pool: { name }, isMet, isFirst, up, total, needed }: QuorumChange, log: Env["log"],
  record: (kind: "health", subject: string, message: string, fields: object) => void,
): void {
  if (isFirst && isMet) return;
  const message = `${isMet ? "has its quorum again" : "has lost its quorum"}: ${up} of ${total} backends are up, and ${needed} are to be`;
  record("health", name, message, { quorum: isMet, up, total, needed });
  log[isMet ? "info" : "warn"]({ pool: name, up, total, needed }, `pool ${name} ${message}`);
}
