// What the steps of a live plane act on: its maps, its pins and its interfaces. Knows how one thing is done; must never
// know in which order.

import type { RegionPrefixes } from "../../model/regions.ts";
import type { Kernel } from "./apply.ts";
import { swapProgram, type Core, type CoreContext } from "./core.ts";
import type { GracePeriods } from "./grace.ts";
import type { BpfMap } from "./native.ts";
import { assignAddress, unassignAddress } from "./vip.ts";

export function liveKernel(context: CoreContext, core: Core, grace: GracePeriods): Kernel {
  const { env, pins, requests } = context;
  const devices = { interfaceIfindex: context.addressIfindex() };
  const pin = (map: BpfMap, path: string): void => {
    // Left by an owner that died between pinning and placing.
    pins?.remove(path);
    map.pin(path);
  };
  return {
    get maps() { return core.program.maps; },
    loadProgram: (step) => swapProgram(context, core, step),
    createRing: (ringClass, id) => {
      const map = core.program.maps.createRing(ringClass);
      if (pins !== null) pin(map, pins.ringPath(ringClass, id));
      core.program.maps.placeRing(ringClass, id, map);
    },
    releaseRing: (ringClass, id) => {
      core.program.maps.releaseRing(ringClass, id);
      pins?.remove(pins.ringPath(ringClass, id));
    },
    writeRegions: async (id: number, digest: bigint, prefixes: RegionPrefixes) => {
      const { regions } = core.program.maps;
      const map = await regions.create(digest, prefixes);
      if (pins !== null) pin(map, pins.regionsPath(id));
      regions.place(id, map);
    },
    releaseRegions: (id) => {
      core.program.maps.regions.release(id);
      pins?.remove(pins.regionsPath(id));
    },
    assignAddress: (assigned) => { if (requests !== null) assignAddress(requests, assigned, devices); },
    unassignAddress: (assigned) => { if (requests !== null) unassignAddress(requests, assigned, devices); },
    gracePeriod: () => grace.over(core.state),
    nowNs: () => env.clock.monotonicNs(),
  };
}
