// parseConfig in a worker thread, for the daemon: a file that takes the parser seconds must not
// stop heartbeats and probes. Knows threads; must never know what a config is.

import { Worker } from "node:worker_threads";
import type { Clock } from "../env.ts";
import type { HostFacts } from "./host.ts";
import type { ParseResult } from "./parse.ts";
import type { ParseJob } from "./worker.ts";

const TIME_LIMIT_MS = 10_000;
/** The largest file that is allowed takes about a third of this. */
const HEAP_LIMIT_MB = 1024;

// In dist this file is load.js and its neighbour worker.js; in a checkout both are .ts. Node before
// 22.18 cannot read those by itself; vitest.config.ts starts it with a loader that threads inherit.
const fromSources = import.meta.url.endsWith(".ts");
const entry = new URL(fromSources ? "./worker.ts" : "./worker.js", import.meta.url);

export interface LoadLimits {
  readonly timeMs: number;
  readonly heapMb: number;
}

/**
 * The same as parseConfig, elsewhere. A parser that runs out of time or memory is a problem of the
 * file.
 */
export function parseConfigInWorker(
  file: string, bytes: Uint8Array, clock: Pick<Clock, "after">,
  limits: LoadLimits = { timeMs: TIME_LIMIT_MS, heapMb: HEAP_LIMIT_MB }, host: HostFacts | null = null,
): Promise<ParseResult> {
  const job: ParseJob = { file, bytes, host };
  const worker = new Worker(entry, {
    workerData: job, resourceLimits: { maxOldGenerationSizeMb: limits.heapMb },
  });
  return new Promise((resolve, reject) => {
    const cancel = clock.after(limits.timeMs, () => {
      settle(
        () => { resolve(refusal(file, `takes longer than ${limits.timeMs / 1000} s to read`)); },
      );
    }, true);
    const settle = (outcome: () => void): void => {
      cancel();
      worker.removeAllListeners();
      // An error of a worker that is already given up must not become an uncaught one.
      worker.on("error", () => undefined);
      void worker.terminate().then(outcome, outcome);
    };
    worker.once("message", (result: ParseResult) => { settle(() => { resolve(result); }); });
    worker.once("error", (error: Error & { readonly code?: string }) => {
      const reason = `takes more than ${limits.heapMb} MB of memory to read`;
      if (error.code === "ERR_WORKER_OUT_OF_MEMORY") settle(
        () => { resolve(refusal(file, reason)); },
      );
      else settle(() => { reject(error); });
    });
    worker.once("exit", (code) => {
      settle(
        () => { reject(new Error(`the config worker ended with code ${code} and no result`)); },
      );
    });
  });
}

function refusal(file: string, reason: string): ParseResult {
  const hint = "is this the right file?";
  return { problems: [{ severity: "error", file, line: 1, column: 1, path: "", reason, hint }] };
}
