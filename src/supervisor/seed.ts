// Which seed the flow hash has. Every restart and every node must answer alike, so a seed is never made
// up silently: named in the config, or kept by the adopted plane, or in the state directory, or created
// once. Knows files; must never know what is hashed.

import type { Env } from "../env.ts";
import { Failure, isFailure } from "../errors.ts";
import type { Config, HashSeed, Problem } from "../model/config.ts";
import type { StateDirectory } from "./state.ts";
import { parseSeed } from "./state.ts";

export interface ResolvedSeed {
  readonly seed: bigint;
  readonly from: "inline" | "file" | "state" | "adopted";
  /** Made just now, because there was none. */
  readonly created: boolean;
}

/**
 * `adopted` is the live plane's seed, or the one in use: it wins over the state directory, since flows
 * were hashed with it. Throws CONFIG_INVALID for a named file that has no seed.
 */
export function resolveSeed(
  config: Config, file: string, adopted: bigint | null, state: StateDirectory | null,
  env: Pick<Env, "files" | "random">,
): ResolvedSeed {
  const wanted = config.dataplane.hashSeed;
  if (wanted.from === "inline") return { seed: wanted.seed, from: "inline", created: false };
  if (wanted.from === "file") return { seed: seedIn(wanted, file, env), from: "file", created: false };
  const stored = state?.seed() ?? null;
  if (adopted !== null) {
    if (stored !== adopted) keep(adopted, state);
    return { seed: adopted, from: "adopted", created: false };
  }
  if (stored !== null) return { seed: stored, from: "state", created: false };
  const seed = Buffer.from(env.random.bytes(8)).readBigUInt64BE();
  keep(seed, state);
  return { seed, from: "state", created: true };
}

/** Forwarding goes first. A seed that cannot be kept is told by the directory, and shown by `status`. */
function keep(seed: bigint, state: StateDirectory | null): void {
  try {
    state?.saveSeed(seed);
  } catch (error) {
    if (!isFailure(error, "SYSTEM")) throw error;
  }
}

function seedIn(
  wanted: Extract<HashSeed, { from: "file" }>, file: string, env: Pick<Env, "files">,
): bigint {
  const bytes = readOrNull(wanted.path, env);
  const seed = bytes === null ? null : parseSeed(Buffer.from(bytes).toString("latin1"));
  if (seed !== null) return seed;
  const reason = bytes === null
    ? `the hash seed file ${wanted.path} cannot be read`
    : `the hash seed file ${wanted.path} does not hold 16 hexadecimal digits`;
  const problem: Problem = {
    severity: "error", file, line: 1, column: 1, path: "dataplane.hashSeed", reason,
    hint: `create it with: openssl rand -hex 8 > ${wanted.path} (the same on every node)`,
  };
  throw new Failure("CONFIG_INVALID", { problems: [problem] }, reason);
}

export function readOrNull(path: string, env: Pick<Env, "files">): Uint8Array | null {
  try {
    return env.files.read(path);
  } catch {
    return null; // a directory, or no permission: the problem says that it cannot be read
  }
}
