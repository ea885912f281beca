// Removes every trace of an instance: addresses, the road of its probes, links, maps, rings, names. Works with and without the
// supervisor that made them, also when that was another version. Knows pins; must never touch what
// another instance or an operator put there.

import type { Env } from "../../env.ts";
import { addressFromBytes } from "../../model/address.ts";
import type { Native } from "./native.ts";
import { withFailures } from "./native_failure.ts";
import { openRequests, type Requests } from "./netlink/requests.ts";
import { everyPins, type Pins } from "./pins.ts";
import { removeRoad } from "./probe_road.ts";
import { removeOwnAddresses } from "./vip.ts";

export interface DetachReport {
  /** Interfaces that the program was taken off. */
  readonly interfaces: readonly string[];
}

/** Null when there is nothing of this instance. Takes the program off also under a running supervisor. */
export function detachInstance(native: Native, env: Env, instance: string): DetachReport | null {
  const isPinned = everyPins(env, instance).length > 0;
  return withFailures(() => {
    const requests = openRequests(native);
    try {
      // Its owner may have died when the pins were gone already.
      removeRoad(requests, instance);
      return isPinned ? removeInstance(native, { env, instance }, requests) : null;
    } finally {
      requests.close();
    }
  });
}

/** Beside the plane there may be one that was to take its place when its owner died. */
export function removeInstance(
  native: Native, { env, instance }: { readonly env: Env; readonly instance: string }, requests: Requests | null,
): DetachReport {
  return { interfaces: everyPins(env, instance).flatMap((pins) => removePlane(native, pins, requests)) };
}

/** Links first: from then on packets pass, and nobody needs a map. */
function removePlane(native: Native, pins: Pins, requests: Requests | null): string[] {
  if (requests !== null) removeAddresses(native, pins, requests);
  const interfaces = pins.links();
  for (const name of interfaces) {
    const link = native.XdpLink.open(pins.linkPath(name));
    link.detach();
    link.close();
  }
  pins.removeAll();
  return interfaces;
}

/** The addresses that the instance serves, as far as they are on this host through us. */
function removeAddresses(native: Native, pins: Pins, requests: Requests): void {
  const path = pins.mapPath("virtual_addresses");
  if (!pins.has(path)) return;
  const map = native.BpfMap.open(path);
  try {
    const addresses = [];
    for (let key = map.nextKey(null); key !== null; key = map.nextKey(key)) {
      // Another version may have other keys; what is no address is not ours to remove.
      if (key.length === 16) addresses.push(addressFromBytes(key));
    }
    removeOwnAddresses(requests, addresses);
  } finally {
    map.close();
  }
}
