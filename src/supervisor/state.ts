// The state directory of an instance: overrides, hash seed, the last configs that were applied and the
// last known health. Knows files and their forms; must never know what a supervisor makes of them.
// What cannot be read is set aside under another name and reported, never a reason not to start.

import { createHash } from "node:crypto";
import { z } from "zod";
import { overrideChangeSchema } from "../api/schemas.ts";
import type { Revision } from "../api/schemas.ts";
import type { Env } from "../env.ts";
import { Failure } from "../errors.ts";
import type { BackendHealth, Override } from "../model/table.ts";

/** Applied configs that are kept. */
export const REVISIONS_MAX = 10;

export type StoredRevision = Omit<Revision, "current">;

export interface StateDirectory {
  readonly path: string;
  overrides(): readonly Override[];
  saveOverrides(overrides: readonly Override[]): void;
  /** Null when there is none yet. */
  seed(): bigint | null;
  saveSeed(seed: bigint): void;
  /** Newest first. */
  revisions(): readonly StoredRevision[];
  /** Throws UNKNOWN_REVISION. */
  revision(number: number): { readonly meta: StoredRevision; readonly bytes: Uint8Array };
  /** The newest one when it has these bytes, else a new one. */
  record(revision: { readonly bytes: Uint8Array; readonly file: string; readonly actor: string;
    readonly origin: string; readonly atMs: number; }): StoredRevision;
  /** Who was down when it was last said, and when that was. */
  health(): { readonly atMs: number; readonly down: ReadonlyMap<string, BackendHealth> } | null;
  saveHealth(health: ReadonlyMap<string, BackendHealth>): void;
}

const overridesFileSchema = z.strictObject({
  version: z.literal(1),
  overrides: z.array(z.strictObject({
    target: z.string(), change: overrideChangeSchema, actor: z.string(), reason: z.string().nullable(),
    atMs: z.number(), expiresAtMs: z.number().nullable(),
  })),
});

const revisionFileSchema = z.strictObject({
  revision: z.number().int().min(1), atMs: z.number(), actor: z.string(), origin: z.string(),
  file: z.string(), bytes: z.number(), sha256: z.string(),
});

const healthFileSchema = z.strictObject({
  version: z.literal(1),
  atMs: z.number(),
  down: z.array(z.strictObject({ name: z.string(), reason: z.string(), sinceMs: z.number() })),
});

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** `onSetAside` hears of each file that could not be read. */
export function openStateDirectory(
  path: string, env: Pick<Env, "files" | "clock">, onSetAside: (message: string) => void,
): StateDirectory {
  const { files, clock } = env;
  files.makeDirectory(path, 0o700);
  const setAside = (file: string, why: string): null => {
    const aside = `${file}.broken-${clock.wallMs()}`;
    files.writeAtomic(aside, files.read(file) ?? new Uint8Array(0), 0o600);
    files.remove(file);
    onSetAside(`${file} cannot be read (${why}); it is now ${aside}, and its content has no effect`);
    return null;
  };
  const readJson = <T>(file: string, schema: z.ZodType<T>): T | null => {
    const bytes = files.read(file);
    if (bytes === null) return null;
    try {
      return schema.parse(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)));
    } catch (error) {
      return setAside(file, error instanceof z.ZodError ? z.prettifyError(error) : String(error));
    }
  };
  const writeJson = (file: string, value: unknown): void => {
    files.writeAtomic(file, `${JSON.stringify(value, null, 2)}\n`, 0o600);
  };
  const revisions = revisionStore(`${path}/revisions`, files, readJson, writeJson);
  return {
    path,
    overrides: () => readJson(`${path}/overrides.json`, overridesFileSchema)?.overrides ?? [],
    saveOverrides: (overrides) => { writeJson(`${path}/overrides.json`, { version: 1, overrides }); },
    seed: () => {
      const bytes = files.read(`${path}/seed`);
      if (bytes === null) return null;
      return parseSeed(Buffer.from(bytes).toString("latin1"))
        ?? setAside(`${path}/seed`, "a seed has 16 hexadecimal digits");
    },
    saveSeed: (seed) => { files.writeAtomic(`${path}/seed`, `${formatSeed(seed)}\n`, 0o600); },
    ...revisions,
    health: () => {
      const stored = readJson(`${path}/health.json`, healthFileSchema);
      if (stored === null) return null;
      const down = stored.down.map(({ name, reason, sinceMs }): [string, BackendHealth] =>
        [name, { alive: false, known: true, admission: 0, reason, sinceMs }]);
      return { atMs: stored.atMs, down: new Map(down) };
    },
    saveHealth: (health) => {
      const down = [...health].filter(([, each]) => !each.alive)
        .map(([name, { reason, sinceMs }]) => ({ name, reason, sinceMs }));
      writeJson(`${path}/health.json`, { version: 1, atMs: clock.wallMs(), down });
    },
  };
}

function revisionStore(
  directory: string, files: Env["files"],
  readJson: <T>(file: string, schema: z.ZodType<T>) => T | null,
  writeJson: (file: string, value: unknown) => void,
): Pick<StateDirectory, "revisions" | "revision" | "record"> {
  const metaPath = (number: number): string => `${directory}/${number}.json`;
  const textPath = (number: number): string => `${directory}/${number}.yaml`;
  const revisions = (): StoredRevision[] => files.list(directory)
    .flatMap((name) => /^([1-9]\d{0,8})\.json$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => b - a)
    .flatMap((number) => {
      const meta = files.exists(textPath(number)) ? readJson(metaPath(number), revisionFileSchema) : null;
      return meta === null || meta.revision !== number ? [] : [meta];
    });
  return {
    revisions,
    revision: (number) => {
      const all = revisions();
      const meta = all.find((each) => each.revision === number);
      const bytes = meta === undefined ? null : files.read(textPath(number));
      if (meta !== undefined && bytes !== null) return { meta, bytes };
      const there = all.map((each) => each.revision).join(", ");
      throw new Failure("UNKNOWN_REVISION", { revision: number },
        `there is no revision ${number}; kept are ${there === "" ? "none" : there}`);
    },
    record: ({ bytes, file, actor, origin, atMs }) => {
      const all = revisions();
      const digest = sha256(bytes);
      const newest = all[0];
      if (newest?.sha256 === digest) return newest;
      const revision = (newest?.revision ?? 0) + 1;
      const meta = { revision, atMs, actor, origin, file, bytes: bytes.length, sha256: digest };
      // The meta file makes it count, so it comes last; and goes first.
      files.writeAtomic(textPath(revision), bytes, 0o600);
      writeJson(metaPath(revision), meta);
      for (const old of all.slice(REVISIONS_MAX - 1)) {
        files.remove(metaPath(old.revision));
        files.remove(textPath(old.revision));
      }
      return meta;
    },
  };
}

/** 16 hexadecimal digits, with white space around them, to a seed; null for anything else. */
export function parseSeed(text: string): bigint | null {
  const match = /^\s*([0-9a-fA-F]{16})\s*$/.exec(text);
  return match === null ? null : BigInt(`0x${match[1]}`);
}

export function formatSeed(seed: bigint): string {
  return seed.toString(16).padStart(16, "0");
}
