// Where rings go: for each content a place that already has it, a free one, or a new one. Pure; part of
// planning a change. Knows which places are shown; must never choose one that is, nor one that a packet
// in flight may still be reading.

import type { RingImage } from "./image.ts";
import { ringClassOf, type RingClass } from "./ring_class.ts";
import { isQuiet, publishedRings, ringText, type HeldRing } from "./kernel_state.ts";
import { ringsMax } from "./steps.ts";
import type { Planner } from "./planner.ts";

/** Rings of a class that nobody shows and that are kept for the next change. */
const IDLE_RINGS_MAX: Readonly<Record<RingClass, number>> = { small: 4, medium: 4, large: 1 };

export interface RingPlaces {
  /** A place with this content, which counts as taken from now on. */
  placeOf(ring: RingImage): HeldRing;
}

export function createRingPlaces(planner: Planner): RingPlaces {
  const { state } = planner;
  const taken = publishedRings(state);
  const byKey = new Map<string, HeldRing>();
  const free: Record<RingClass, HeldRing[]> = { small: [], medium: [], large: [] };
  const ids: Record<RingClass, Set<number>> = { small: new Set(), medium: new Set(), large: new Set() };
  for (const [text, held] of state.rings) {
    if (held.key !== null) byKey.set(held.key, held);
    if (!taken.has(text)) free[held.ringClass].push(held);
    ids[held.ringClass].add(held.id);
  }
  const claim = (held: HeldRing): HeldRing => {
    taken.add(ringText(held.ringClass, held.id));
    return held;
  };
  const isFree = (held: HeldRing): boolean => !taken.has(ringText(held.ringClass, held.id));
  const freePlace = (ringClass: RingClass): HeldRing => {
    free[ringClass] = free[ringClass].filter(isFree);
    const quiet = free[ringClass].find(({ mark }) => isQuiet(state, mark));
    if (quiet !== undefined) return quiet;
    // Better a new place than a wait.
    if (ids[ringClass].size < ringsMax(state.capacities)) return createPlace(planner, ringClass, ids[ringClass]);
    const restless = free[ringClass][0];
    if (restless === undefined) throw new RangeError(`all rings of class ${ringClass} are shown`);
    planner.settle(restless.mark);
    return restless;
  };
  return {
    placeOf: (ring) => {
      const same = byKey.get(ring.key);
      if (same !== undefined) return claim(same);
      const place = freePlace(ringClassOf(ring.size));
      if (place.key !== null) byKey.delete(place.key);
      planner.take({ kind: "write-ring", ringClass: place.ringClass, id: place.id, ring });
      byKey.set(ring.key, place);
      return claim(place);
    },
  };
}

function createPlace({ state, take }: Planner, ringClass: RingClass, ids: Set<number>): HeldRing {
  let id = 0;
  while (ids.has(id)) id += 1;
  ids.add(id);
  take({ kind: "create-ring", ringClass, id });
  const held = state.rings.get(ringText(ringClass, id));
  if (held === undefined) throw new RangeError(`ring ${ringText(ringClass, id)} was not recorded`);
  return held;
}

/** Rings that nobody shows, beyond a few, are given back, as far as no packet may be reading them. */
export function releaseRings({ state, take }: Planner): void {
  const shown = publishedRings(state);
  const kept: Record<RingClass, number> = { small: 0, medium: 0, large: 0 };
  for (const [text, { ringClass, id, mark }] of [...state.rings]) {
    if (shown.has(text)) continue;
    kept[ringClass] += 1;
    if (kept[ringClass] > IDLE_RINGS_MAX[ringClass] && isQuiet(state, mark)) {
      take({ kind: "release-ring", ringClass, id });
    }
  }
}
