// What slots may remember of changes, drawn at random: more than nextStates() would ever make, so that
// both decide() and the program are tried with all of it.

import { SETTLED } from "../../src/model/slot_states.ts";
import type { SlotStates } from "../../src/model/slot_states.ts";
import type { Tracking } from "../../src/model/config.ts";
import type { SlotScheme } from "../../src/model/slot.ts";
import type { Draws } from "./random.ts";

const HOUR_NS = 3_600_000_000_000n;

export interface StatesOf {
  readonly scheme: SlotScheme;
  readonly tracking: Tracking;
  /** What slots may have led to. */
  readonly ids: readonly number[];
  readonly nowNs: bigint;
}

export function randomStates(draws: Draws, { scheme, tracking, ids, nowNs }: StatesOf): SlotStates {
  if (tracking === "none" || scheme.ringSize === 0 || draws.chance(0.2)) return SETTLED;
  const share = draws.pick([0.2, 0.6, 1]);
  const exceptional = Uint8Array.from({ length: scheme.ringSize }, () => (draws.chance(share) ? 1 : 0));
  const isRehashed = draws.chance(0.3);
  const before = isRehashed ? otherScheme(draws, scheme) : scheme;
  const owners = Uint16Array.from({ length: before.ringSize }, (_, slot) => {
    const isOpen = isRehashed || exceptional[slot] === 1;
    return isOpen && ids.length > 0 && draws.chance(0.8) ? draws.pick(ids) : 0;
  });
  return {
    ...SETTLED,
    exceptional: tracking === "full" ? null : exceptional,
    predecessor: draws.chance(0.8) ? { scheme: before, owners, key: "" } : null,
    changingUntilNs: draws.chance(0.8) ? nowNs + HOUR_NS : 1n,
  };
}

function otherScheme(draws: Draws, scheme: SlotScheme): SlotScheme {
  return {
    hashSeed: draws.chance(0.5) ? scheme.hashSeed ^ 1n : scheme.hashSeed,
    hash: scheme.hash === "5-tuple" ? draws.pick(["5-tuple", "source-ip"]) : "5-tuple",
    sourcePrefix: { ipv4: draws.pick([0, 24, 32]), ipv6: draws.pick([0, 64, 128]) },
    ringSize: scheme.ringSize === 7 ? 251 : 7,
  };
}
