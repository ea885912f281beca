// The tables that flows and clients are counted in, each with its walks: flows that are remembered, those that are looked
// at for all that nobody remembers, and clients. Knows which maps they are; flow_sweep.ts and affinity_sweep.ts walk.

import type { Env } from "../../env.ts";
import type { SlotSweep } from "../../model/slot_states.ts";
import type { ForwardingTable } from "../../model/table.ts";
import { createAffinitySweep, type AffinityCount } from "./affinity_sweep.ts";
import { readFlowEvents } from "./count.ts";
import { createFlowSweep, REMEMBERED, SAMPLED, type FlowCount } from "./flow_sweep.ts";
import type { LoadCheck } from "./load_memory.ts";
import type { MapSet } from "./maps.ts";

export interface FlowWalks {
  flows(): FlowCount;
  /** Estimates. */
  samples(): FlowCount;
  clients(): AffinityCount;
  /** By service key: slots that flows were found in which are remembered elsewhere. */
  found(): ReadonlyMap<string, SlotSweep>;
  /** Packets are sent by this table now, all of it; null: nobody knows. */
  follow(table: ForwardingTable | null): void;
  stop(): void;
}

/** `onSwept`: a walk has ended that slots were waiting for. */
export function createFlowWalks(env: Env, maps: () => MapSet, loads: LoadCheck, onSwept: () => void): FlowWalks {
  const remembered = createFlowSweep({
    env, flows: () => maps().flows, events: () => readFlowEvents(maps()), entriesAre: REMEMBERED, onSwept, loads,
  });
  const sampled = createFlowSweep({
    env, flows: () => maps().sampled_flows, events: () => ({ written: 0, forgotten: 0 }), entriesAre: SAMPLED,
    onSwept: () => undefined, loads: null,
  });
  const clients = createAffinitySweep(env, () => maps().affinities);
  return {
    flows: () => remembered.read(),
    samples: () => sampled.read(),
    clients: () => clients.read(),
    found: () => remembered.found(),
    follow: (table) => {
      remembered.follow(table);
      sampled.follow(table);
      clients.follow(table);
    },
    stop: () => {
      remembered.stop();
      sampled.stop();
      clients.stop();
    },
  };
}
