// A config that may be put in force: parsed, its seed resolved, its origin known. Knows bytes and
// problems; must never apply anything.

import type { ConfigRequest } from "../api/schemas.ts";
import { Failure } from "../errors.ts";
import type { Env } from "../env.ts";
import type { Config, IgnoredKeys, Problem } from "../model/config.ts";
import type { Parse } from "./contract.ts";
import { readQuicKeys } from "./quic_keys.ts";
import type { ResolvedSeed } from "./seed.ts";
import { resolveSeed } from "./seed.ts";
import type { StateDirectory } from "./state.ts";
import { sha256 } from "./state.ts";

/** Where a config came from, for its revision. */
export interface Origin {
  readonly actor: string;
  /** "start", "reload", "apply" or "rollback to N". */
  readonly what: string;
}

/** Bytes and what the parser made of them. */
export interface ParsedConfig {
  /** The name it was given with: a path, mostly. */
  readonly file: string;
  readonly bytes: Uint8Array;
  readonly config: Config;
  readonly warnings: readonly Problem[];
  readonly ignored: IgnoredKeys;
}

export interface AcceptedConfig extends ParsedConfig {
  readonly sha256: string;
  readonly seed: ResolvedSeed;
  readonly origin: Origin;
}

export interface AcceptContext {
  readonly env: Pick<Env, "files" | "random">;
  readonly state: StateDirectory | null;
  /** The seed in use, if any. */
  readonly seedInUse: bigint | null;
}

/** Throws CONFIG_INVALID when a named seed file has no seed, or a key file no key. */
export function acceptConfig(
  parsed: ParsedConfig, origin: Origin, context: AcceptContext,
): AcceptedConfig {
  const { file, bytes } = parsed;
  const config = readQuicKeys(parsed.config, file, context.env);
  const seed = resolveSeed(config, file, context.seedInUse, context.state, context.env);
  return { ...parsed, config, sha256: sha256(bytes), seed, origin };
}

/** What is worth a warning while this plane serves it, the keys that it ignores included. */
export function warningsFor(
  { warnings, ignored }: ParsedConfig, plane: "xdp" | "proxy",
): readonly string[] {
  return [...warnings, ...ignored[plane]].map(({ path, reason }) => `${path}: ${reason}`);
}

/** Throws CONFIG_INVALID with every problem. */
export async function parseOrThrow(
  file: string, bytes: Uint8Array, parse: Parse,
): Promise<ParsedConfig> {
  const parsed = await parse(file, bytes);
  if ("config" in parsed) return { file, bytes, ...parsed };
  const errors = parsed.problems.filter((each) => each.severity === "error");
  const first = errors[0];
  const more = errors.length > 1 ? `, and ${errors.length - 1} more` : "";
  const where = first === undefined ? file : `${first.file}:${first.line}:${first.column}: ${first.path}`;
  throw new Failure("CONFIG_INVALID", { problems: parsed.problems },
    `the config is not valid: ${where}: ${first?.reason ?? "no reason given"}${more}`);
}

/** Throws CONFIG_INVALID: what this instance cannot become while it runs. */
export function refuseOtherInstance(accepted: AcceptedConfig, instance: string): void {
  const { config, file } = accepted;
  if (config.instance === instance) return;
  const reason = `this is a config of instance ${config.instance}, and ${instance} is running`;
  const problem: Problem = {
    severity: "error", file, line: 1, column: 1, path: "instance", reason,
    hint: `start another one for it (pointsman run -c ${file}), or keep the name`,
  };
  throw new Failure("CONFIG_INVALID", { problems: [problem] }, reason);
}

/** Settings that only the next start of the supervisor takes up, where they differ. */
export function laterSettings(before: Config, after: Config): string[] {
  const fields: readonly (readonly [string, unknown, unknown])[] = [
    ["control.socket", before.control.socket, after.control.socket],
    ["control.group", before.control.group, after.control.group],
    ["stateDirectory", before.stateDirectory, after.stateDirectory],
  ];
  return fields.filter(([, from, to]) => from !== to)
    .map(([name]) => `${name} takes effect when the supervisor is started again`);
}

export function requestBytes(request: ConfigRequest): Uint8Array {
  return new TextEncoder().encode(request.text);
}
