// Takes steps: one action per kind, each on the maps of a plane. What was done is recorded at once, so a
// failure half-way leaves a state that the next diff starts from. Knows how; diff.ts knows in which order.

import { record, type KernelState } from "./kernel_state.ts";
import { failureFrom } from "./native_failure.ts";
import type { AssignedAddress } from "./image.ts";
import type { RingClass } from "./ring_class.ts";
import type { PlaneMaps } from "./maps.ts";
import type { RegionPrefixes } from "../../model/regions.ts";
import type { Step, StepKind } from "./steps.ts";

/** What steps act on. `maps` is asked for anew each time: another program brings other handles. */
export interface Kernel {
  readonly maps: PlaneMaps;
  loadProgram(step: Extract<Step, { kind: "load-program" }>): Promise<void>;
  createRing(ringClass: RingClass, id: number): void;
  releaseRing(ringClass: RingClass, id: number): void;
  writeRegions(id: number, digest: bigint, prefixes: RegionPrefixes): Promise<void>;
  releaseRegions(id: number): void;
  assignAddress(assigned: AssignedAddress): void;
  unassignAddress(assigned: AssignedAddress): void;
  gracePeriod(): Promise<void>;
  nowNs(): bigint;
}

type Actions = {
  readonly [K in StepKind]: (kernel: Kernel, step: Extract<Step, { kind: K }>) => void | Promise<void>;
};

const ACTIONS: Actions = {
  "load-program": (kernel, step) => kernel.loadProgram(step),
  "grace-period": (kernel) => kernel.gracePeriod(),
  "set-icmp-interval": ({ maps }, { intervalNs }) => { maps.settings.writeIcmpInterval(intervalNs); },
  "set-nat": ({ maps }, { nat }) => { maps.settings.writeNat(nat); },
  "set-remember-pace": (kernel, { of, pace }) => { kernel.maps.pace.write(of, pace, kernel.nowNs()); },
  "set-orphan": ({ maps }, { afterNs, action }) => { maps.settings.writeOrphan(afterNs, action); },
  "add-device": ({ maps }, { ifindex }) => { maps.addDevice(ifindex); },
  "remove-device": ({ maps }, { ifindex }) => { maps.removeDevice(ifindex); },
  "add-link-address": ({ maps }, { address }) => { maps.addLinkAddress(address); },
  "set-first-link-address": ({ maps }, { place, address }) => { maps.setFirstLinkAddress(place, address); },
  "remove-link-address": ({ maps }, { address }) => { maps.removeLinkAddress(address); },
  "zero-destination-traffic": ({ maps }, { id }) => {
    maps.zeroTraffic("destination", id);
    maps.loads.forget("destination", id);
  },
  "write-destination": ({ maps }, { id, destination }) => {
    const { nextHop, tunnelSource } = destination.route;
    maps.writeDestination(id, {
      ...destination, given: true, tunnelSource, nextHopActive: 0, nextHops: [nextHop, nextHop],
    });
  },
  "set-destination-flags": ({ maps }, { id, ...rights }) => { maps.writeFlags(id, rights); },
  "set-pick-weight": ({ maps }, { id, weight }) => { maps.writePickWeight(id, weight); },
  "write-next-hop": ({ maps }, { id, half, nextHop }) => { maps.writeNextHop(id, half, nextHop); },
  "activate-next-hop": ({ maps }, { id, half }) => { maps.activateNextHop(id, half); },
  "write-tunnel-source": ({ maps }, { id, source }) => { maps.writeTunnelSource(id, source); },
  "retire-destination": ({ maps }, { id, generation }) => { maps.retireDestination(id, generation); },
  "create-ring": (kernel, { ringClass, id }) => { kernel.createRing(ringClass, id); },
  "release-ring": (kernel, { ringClass, id }) => { kernel.releaseRing(ringClass, id); },
  "write-ring": ({ maps }, { ringClass, id, ring }) => { maps.ring(ringClass, id).set(ring.slots); },
  "write-region-table": (kernel, { id, digest, prefixes }) => kernel.writeRegions(id, digest, prefixes),
  "release-region-table": (kernel, { id }) => { kernel.releaseRegions(id); },
  "add-region-service": ({ maps }, { of }) => { maps.regions.lead(of); },
  "remove-region-service": ({ maps }, { of }) => { maps.regions.unlead(of); },
  "zero-service-traffic": ({ maps }, { index }) => {
    maps.zeroTraffic("service", index);
    maps.loads.forget("service", index);
  },
  "write-version": ({ maps }, { index, version, value }) => { maps.writeVersion(index, version, value); },
  "activate-version": ({ maps }, { index, version }) => { maps.activateVersion(index, version); },
  "add-service": ({ maps }, { key, index }) => { maps.addService(key, index); },
  "remove-service": ({ maps }, { key, index }) => { maps.removeService(key, index); },
  "add-policy": ({ maps }, { index, entry }) => { maps.addPolicy(index, entry); },
  "remove-policy": ({ maps }, { index, entry }) => { maps.removePolicy(index, entry); },
  "add-group-ports": ({ maps }, { group, entry }) => { maps.addGroupPorts(group, entry); },
  "remove-group-ports": ({ maps }, { group, entry }) => { maps.removeGroupPorts(group, entry); },
  "set-address-group": ({ maps }, { network, group }) => { maps.setAddressGroup(network, group); },
  "remove-address-group": ({ maps }, { network }) => { maps.removeAddressGroup(network); },
  "write-quic-config": ({ maps }, { config }) => { maps.writeQuicConfig(config); },
  "remove-quic-config": ({ maps }, { config }) => { maps.removeQuicConfig(config); },
  "write-quic-server": ({ maps }, { server }) => { maps.writeQuicServer(server); },
  "remove-quic-server": ({ maps }, { server }) => { maps.removeQuicServer(server); },
  "write-tunnel-end": ({ maps }, { end }) => { maps.writeTunnelEnd(end); },
  "remove-tunnel-end": ({ maps }, { end }) => { maps.removeTunnelEnd(end); },
  "add-virtual-address": ({ maps }, { address }) => { maps.addVirtualAddress(address); },
  "remove-virtual-address": ({ maps }, { address }) => { maps.removeVirtualAddress(address); },
  "assign-address": (kernel, { assigned }) => { kernel.assignAddress(assigned); },
  "unassign-address": (kernel, { assigned }) => { kernel.unassignAddress(assigned); },
};

/** Called before each step; what it throws ends the run there, as a crash would. */
export type OnStep = (step: Step, position: number) => void;

/** Takes the steps in order. Throws a Failure at the first that fails; those before it stay done. */
export async function takeSteps(
  kernel: Kernel, state: KernelState, steps: readonly Step[], onStep: OnStep | null,
): Promise<void> {
  for (const [position, step] of steps.entries()) {
    onStep?.(step, position);
    try {
      const pending = take(kernel, step);
      // An await lets other work in between: only where there is something to wait for.
      if (pending !== undefined) await pending;
    } catch (error) {
      throw failureFrom(error, (map) => kernel.maps.entriesMax(map));
    }
    record(state, step);
  }
}

function take(kernel: Kernel, step: Step): void | Promise<void> {
  // The table is complete and each action takes its own kind: the compiler checks that above, not here.
  const action = ACTIONS[step.kind] as (kernel: Kernel, step: Step) => void | Promise<void>;
  return action(kernel, step);
}
