// From the bytes of a database to prefixes of regions, in a worker thread where it takes longer: a walk over a
// million nodes must not stop heartbeats, probes and the proxy's connections. Knows threads and bytes; must never
// know a config.

import { Worker } from "node:worker_threads";
import type { RegionColumns, RegionSource } from "../model/regions.ts";
import { GeoDatabase, GeoDatabaseError } from "./database.ts";
import { regionColumns } from "./prefixes.ts";
import type { RegionRule } from "./prefixes.ts";
import type { RegionsJob } from "./worker.ts";

/** What a database says of each of several lists of regions, or why it cannot be used. */
export type RegionsMade =
  | { readonly source: RegionSource | null; readonly columns: readonly RegionColumns[] }
  | { readonly reason: string };

/** Up to here a walk takes a few milliseconds, less than a worker takes to start. */
const SMALL_BYTES = 64 * 1024;

// In dist this file is load.js and its neighbour worker.js; in a checkout both are .ts (see config/load.ts).
const fromSources = import.meta.url.endsWith(".ts");
const entry = new URL(fromSources ? "./worker.ts" : "./worker.js", import.meta.url);

/** `bytes` null: without a database, by networks alone. Never throws for what is in the bytes. */
export function makeRegions(bytes: Uint8Array | null, lists: readonly (readonly RegionRule[])[]): RegionsMade {
  try {
    const database = bytes === null ? null : new GeoDatabase(bytes);
    return { source: database?.source ?? null, columns: lists.map((rules) => regionColumns(database, rules)) };
  } catch (error) {
    if (error instanceof GeoDatabaseError) return { reason: error.message };
    throw error;
  }
}

/** The same, elsewhere if it takes long. */
export function makeRegionsAside(bytes: Uint8Array | null, lists: readonly (readonly RegionRule[])[]): Promise<RegionsMade> {
  if (bytes === null || bytes.length <= SMALL_BYTES) return Promise.resolve(makeRegions(bytes, lists));
  const job: RegionsJob = { bytes, lists };
  const worker = new Worker(entry, { workerData: job });
  return new Promise((resolve, reject) => {
    const settle = (outcome: () => void): void => {
      worker.removeAllListeners();
      worker.on("error", () => undefined);
      void worker.terminate().then(outcome, outcome);
    };
    worker.once("message", (made: RegionsMade) => { settle(() => { resolve(made); }); });
    worker.once("error", (error) => { settle(() => { reject(error); }); });
    worker.once("exit", (code) => {
      settle(() => { reject(new Error(`the thread that reads databases ended with code ${code} and no result`)); });
    });
  });
}
