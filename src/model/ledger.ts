// Who has which number: ids of destinations and indexes of services stay with their owners for as long
// as these exist, and are given to others as late as possible. Pure; knows identities and limits, must
// never know what a destination or a service is.
//
// Both maps of a ledger are ordered: those given up come first, the longest given up first of all.

import type { Ledger } from "./table.ts";
import { BACKEND_ID_MAX } from "./table.ts";

type DestinationLedger = Ledger["destinations"];
type Claim = DestinationLedger extends ReadonlyMap<bigint, infer C> ? C : never;

/** More destinations or services than numbers for them. */
export class LedgerFull extends Error {
  readonly what: "destinations" | "services";
  readonly entriesMax: number;
  constructor(what: "destinations" | "services", wanted: number, entriesMax: number) {
    super(`${wanted} ${what} are configured, and there is room for ${entriesMax}`);
    this.name = "LedgerFull";
    this.what = what;
    this.entriesMax = entriesMax;
  }
}

/**
 * Ids for so many destinations: as many again for those that go while all of these come. Otherwise an id would
 * change hands within one table, and packets of its slots would have nobody for a grace period.
 */
export function destinationIds(limit: number): number {
  return Math.min(limit * 2, BACKEND_ID_MAX);
}

/** The ledger in which all the wanted identities are live, and no others. Throws LedgerFull. */
export function claimDestinations(
  before: DestinationLedger, wanted: readonly bigint[], limit: number, ids = limit,
): DestinationLedger {
  const max = Math.min(ids, BACKEND_ID_MAX);
  const wants = new Set(wanted);
  if (wants.size > limit) throw new LedgerFull("destinations", wants.size, limit);
  const live = new Map<bigint, Claim>();
  const givenUp = new Map<bigint, Claim>();
  // The longest given up come first in `before`; whoever is given up now follows them.
  for (const wasLive of [false, true]) {
    for (const [identity, claim] of before) {
      if (claim.live !== wasLive || wants.has(identity)) continue;
      givenUp.set(identity, { ...claim, live: false });
    }
  }
  const numbers = freeNumbers(1, max, [...before.values()].map((claim) => claim.id));
  for (const identity of wants) {
    const claim = before.get(identity);
    if (claim !== undefined) live.set(identity, { ...claim, live: true });
  }
  for (const identity of wants) {
    if (live.has(identity)) continue;
    const fresh = numbers.next();
    if (fresh.done !== true) {
      live.set(identity, { id: fresh.value, generation: 1, live: true });
      continue;
    }
    const oldest = firstWithin(givenUp, (claim) => claim.id <= max);
    if (oldest === null) throw new LedgerFull("destinations", wants.size, limit);
    const [predecessor, claim] = oldest;
    givenUp.delete(predecessor);
    live.set(identity, { id: claim.id, generation: claim.generation + 1, live: true });
  }
  return new Map([...givenUp, ...live]);
}

/** The same for service indexes, which count from 0 and have no generation. Throws LedgerFull. */
export function claimServices(
  before: Ledger["services"], wanted: readonly string[], limit: number,
): Ledger["services"] {
  const wants = new Set(wanted);
  if (wants.size > limit) throw new LedgerFull("services", wants.size, limit);
  const givenUp = new Map([...before].filter(([key]) => !wants.has(key)));
  const live = new Map([...before].filter(([key]) => wants.has(key)));
  const numbers = freeNumbers(0, limit - 1, [...before.values()]);
  for (const key of wants) {
    if (live.has(key)) continue;
    const fresh = numbers.next();
    if (fresh.done !== true) {
      live.set(key, fresh.value);
      continue;
    }
    const oldest = firstWithin(givenUp, (index) => index < limit);
    if (oldest === null) throw new LedgerFull("services", wants.size, limit);
    givenUp.delete(oldest[0]);
    live.set(key, oldest[1]);
  }
  return new Map([...givenUp, ...live]);
}

/** The numbers from…to that nobody has or had, lowest first. */
function* freeNumbers(from: number, to: number, taken: readonly number[]): Generator<number, undefined> {
  const used = new Set(taken);
  for (let number = from; number <= to; number++) {
    if (!used.has(number)) yield number;
  }
}

function firstWithin<K, V>(entries: ReadonlyMap<K, V>, fits: (value: V) => boolean): readonly [K, V] | null {
  for (const entry of entries) {
    if (fits(entry[1])) return entry;
  }
  return null;
}
