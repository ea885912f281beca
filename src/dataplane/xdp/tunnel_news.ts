// Follows what the packet program notes of tunnels: asks from time to time whether there was an error, reads what they
// said when there was, and lets it go when it is too old. Knows time and whom to ask; path_mtu.ts knows what it means.

import type { Cancel, Env } from "../../env.ts";
import { firstExpiryNs, pathMtusOf, samePathMtus, unreachableSince, type PathMtus } from "./path_mtu.ts";
import type { TunnelReport } from "./tunnel_ends.ts";

/** Errors are rare, and asking costs a look-up: soon enough for a sender's first retransmission. */
const ASK_MS = 200;
const NS_PER_MS = 1_000_000n;

export interface TunnelNewsOptions {
  readonly env: Env;
  /** How many errors about tunnels there were. */
  readonly count: () => number;
  readonly reports: () => readonly TunnelReport[];
  /** The path MTUs are others now. */
  readonly onChange: () => void;
  /** Of packets to these addresses somebody said that they cannot be delivered. */
  readonly onUnreachable: (reports: ReadonlyMap<string, TunnelReport>) => void;
}

export class TunnelNews {
  readonly #options: TunnelNewsOptions;
  #mtus: PathMtus = new Map();
  #ageNs = 0n;
  #counted = 0;
  #heardNs: bigint;
  #cancel: Cancel | null = null;

  constructor(options: TunnelNewsOptions) {
    this.#options = options;
    this.#heardNs = options.env.clock.monotonicNs();
  }

  get mtus(): PathMtus { return this.#mtus; }

  /** From now on a path MTU counts for so long; 0: nothing is followed. What is known is read at once. */
  follow(ageMs: number): void {
    this.#ageNs = BigInt(ageMs) * NS_PER_MS;
    if (ageMs === 0) {
      this.stop();
      this.#mtus = new Map();
      return;
    }
    const { env, reports } = this.#options;
    this.#mtus = pathMtusOf(reports(), env.clock.monotonicNs(), this.#ageNs);
    if (this.#cancel === null) this.#schedule();
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
  }

  #schedule(): void {
    this.#cancel = this.#options.env.clock.after(ASK_MS, () => {
      try {
        this.#ask();
      } catch (error) {
        this.#options.env.log.warn({ error: String(error) }, "what was noted of tunnels cannot be read: trying again");
      }
      this.#schedule();
    });
  }

  #ask(): void {
    const { env, count, reports } = this.#options;
    const nowNs = env.clock.monotonicNs();
    const counted = count();
    const expiryNs = firstExpiryNs(this.#mtus);
    if (counted === this.#counted && (expiryNs === null || expiryNs > nowNs)) return;
    const found = reports();
    this.#counted = counted;
    this.#learn(pathMtusOf(found, nowNs, this.#ageNs));
    const unreachable = unreachableSince(found, this.#heardNs);
    for (const { unreachableNs } of unreachable.values()) if (unreachableNs > this.#heardNs) this.#heardNs = unreachableNs;
    if (unreachable.size > 0) this.#options.onUnreachable(unreachable);
  }

  #learn(mtus: PathMtus): void {
    const before = this.#mtus;
    if (samePathMtus(before, mtus)) return;
    this.#mtus = mtus;
    const { env: { log }, onChange } = this.#options;
    for (const [address, { mtu }] of mtus) {
      if (before.get(address)?.mtu !== mtu) log.info({ address, mtu }, "a router told the path MTU of a tunnel");
    }
    for (const address of before.keys()) {
      if (!mtus.has(address)) log.info({ address }, "a tunnel's path MTU has aged: larger packets are tried again");
    }
    onChange();
  }
}
