// The far end of load.ts: parses one file in a thread of its own and sends the result back. Knows
// parseConfig; must never know anything else.

import { parentPort, workerData } from "node:worker_threads";
import { parseConfig } from "./parse.ts";

/** What load.ts hands over. */
export interface ParseJob {
  readonly file: string;
  readonly bytes: Uint8Array;
}

const { file, bytes } = workerData as ParseJob;
parentPort?.postMessage(parseConfig(file, bytes));
