// The far end of load.ts: makes prefixes of one database in a thread of its own and sends them back. Knows
// makeRegions; must never know anything else.

import { parentPort, workerData } from "node:worker_threads";
import { makeRegions } from "./load.ts";
import type { RegionRule } from "./prefixes.ts";

/** What load.ts hands over. */
export interface RegionsJob {
  readonly bytes: Uint8Array;
  readonly lists: readonly (readonly RegionRule[])[];
}

const { bytes, lists } = workerData as RegionsJob;
// Not while modules are evaluated (see config/worker.ts).
setImmediate(() => { parentPort?.postMessage(makeRegions(bytes, lists)); });
