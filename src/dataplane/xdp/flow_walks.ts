// The two tables that flows are counted in, each with its walks: what is remembered, and what is looked at for all
// that nobody remembers. Knows which maps they are; flow_sweep.ts walks.

import type { Env } from "../../env.ts";
import type { SlotSweep } from "../../model/slot_states.ts";
import type { ForwardingTable } from "../../model/table.ts";
import { readFlowEvents } from "./count.ts";
import { createFlowSweep, REMEMBERED, SAMPLED, type FlowCount } from "./flow_sweep.ts";
import type { LoadCheck } from "./load_memory.ts";
import type { MapSet } from "./maps.ts";

export interface FlowWalks {
  flows(): FlowCount;
  /** Estimates. */
  samples(): FlowCount;
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
  return {
    flows: () => remembered.read(),
    samples: () => sampled.read(),
    found: () => remembered.found(),
    follow: (table) => {
      remembered.follow(table);
      sampled.follow(table);
    },
    stop: () => {
      remembered.stop();
      sampled.stop();
    },
  };
}
