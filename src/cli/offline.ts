// A configuration file as an intent, without a running instance: every backend healthy, no override. The
// seed is the file's when it can be read; otherwise answers say that they hold for the test seed only.

import { problemsToFailure } from "../config/problem_lines.ts";
import { parseConfig } from "../config/parse.ts";
import { refusedByConfig } from "../dataplane/probe.ts";
import { Failure } from "../errors.ts";
import type { Config } from "../model/config.ts";
import type { Plane } from "../model/features.ts";
import { readableRegions } from "../supervisor/geo_databases.ts";
import { readableQuicKeys } from "../supervisor/quic_keys.ts";
import { parseSeed } from "../supervisor/state.ts";
import type { Intent } from "../model/table.ts";
import { readGivenFile } from "./changes.ts";
import type { Io } from "./io.ts";

/** The seed of answers when nobody knows the real one: 0123456789abcdef. */
export const TEST_SEED = 0x0123456789abcdefn;

/** Parses a file; throws CONFIG_INVALID with every problem. */
export function loadConfig(io: Io, file: string): Config {
  const result = parseConfig(file, readGivenFile(io, file));
  if ("problems" in result) throw problemsToFailure(file, result.problems);
  return result.config;
}

/** The file's seed, --hash-seed, or the test seed with a word on stderr. */
export function offlineSeed(io: Io, config: Config, given: string | undefined): bigint {
  if (given !== undefined) {
    const seed = parseSeed(given);
    if (seed === null)
      throw new Failure(
        "REQUEST_INVALID",
        { path: "hash-seed" },
        `--hash-seed takes 16 hexadecimal digits, not "${given}"`,
      );
    return seed;
  }
  const wanted = config.dataplane.hashSeed;
  if (wanted.from === "inline") return wanted.seed;
  if (wanted.from === "file") {
    try {
      const bytes = io.env.files.read(wanted.path);
      const seed = bytes === null ? null : parseSeed(Buffer.from(bytes).toString("latin1"));
      if (seed !== null) return seed;
    } catch {
      // No permission, perhaps: the note below says what the answer is worth.
    }
  }
  io.err(
    "note: the instance's hash seed is not known here; this answer holds for the test seed 0123456789abcdef (see --hash-seed)\n",
  );
  return TEST_SEED;
}

/** Databases of regions that cannot be used are told on stderr: all clients are then their services' own. */
export async function offlineIntent(io: Io, file: string, hashSeed: string | undefined): Promise<Intent> {
  const { config, reasons } = await readableRegions(readableQuicKeys(loadConfig(io, file), io.env), io.env);
  for (const reason of reasons) io.err(`note: ${reason}; this answer knows no region but by networks\n`);
  return {
    config,
    hashSeed: offlineSeed(io, config, hashSeed),
    overrides: [],
    health: new Map(),
    nowMs: io.env.clock.wallMs(),
    plane: planeOf(config),
  };
}

/** The one that would serve on a host that can do everything. */
function planeOf(config: Config): Plane {
  const { mode } = config.dataplane;
  return mode === "proxy" || (mode === "auto" && refusedByConfig(config).length > 0) ? "proxy" : "xdp";
}
