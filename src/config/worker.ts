// The far end of load.ts: parses one file in a thread of its own and sends the result back. Knows
// parseConfig; must never know anything else.

import { parentPort, workerData } from "node:worker_threads";
import type { HostFacts } from "./host.ts";
import { parseConfig } from "./parse.ts";

/** What load.ts hands over. */
export interface ParseJob {
  readonly file: string;
  readonly bytes: Uint8Array;
  readonly host: HostFacts | null;
}

const { file, bytes, host } = workerData as ParseJob;
// Not while modules are evaluated: V8 of Node 22 and 24 aborts the whole process when a thread is
// terminated in the body of a module that waited for another's top-level await.
setImmediate(() => { parentPort?.postMessage(parseConfig(file, bytes, host)); });
