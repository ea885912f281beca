// Looks at a pinned plane without touching it: where it is, how much it serves, and since when nobody
// looks after it. Knows pins and three maps; must never write.

import type { Env } from "../../env.ts";
import { Destination, Settings } from "./abi.gen.ts";
import { encodeU32, RETIRED_FORWARDING } from "./map_values.ts";
import { entriesOf } from "./maps.ts";
import type { BpfMap, Native } from "./native.ts";
import { pinsOf, type Pins } from "./pins.ts";

export interface PinnedPlane {
  readonly interfaces: readonly string[];
  readonly services: number;
  readonly destinations: number;
  /** Since the supervisor's last sign of life; null: never, or in words of another version. */
  readonly heartbeatAgeMs: number | null;
}

export function inspectPinned(native: Native, env: Env, instance: string): PinnedPlane | null {
  const pins = pinsOf(env, instance);
  if (!pins.isComplete()) return null;
  const settings = look(native, pins, "settings", (map) => {
    const value = map.lookup(encodeU32(0));
    return value?.length === Settings.size ? Settings.decode(value) : null;
  });
  const heartbeatNs = settings?.heartbeatNs ?? 0n;
  const ageNs = env.clock.monotonicNs() - heartbeatNs;
  return {
    interfaces: pins.links(),
    services: look(native, pins, "services", (map) => entriesOf(map).length) ?? 0,
    destinations: look(native, pins, "destinations", countGiven) ?? 0,
    heartbeatAgeMs: heartbeatNs === 0n ? null : Number(ageNs / 1_000_000n),
  };
}

function countGiven(map: BpfMap): number {
  if (map.info().valueSize !== Destination.size) return 0;
  return entriesOf(map).filter(({ value }) => {
    const { generation, forwarding } = Destination.decode(value);
    return generation !== 0 && forwarding !== RETIRED_FORWARDING;
  }).length;
}

function look<T>(native: Native, pins: Pins, name: string, read: (map: BpfMap) => T): T | null {
  if (!pins.has(pins.mapPath(name))) return null;
  const map = native.BpfMap.open(pins.mapPath(name));
  try {
    return read(map);
  } finally {
    map.close();
  }
}
