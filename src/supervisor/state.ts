// The state directory of an instance: overrides, drains that are over, hash seed, the last configs that were
// applied and the last known health. Knows files and their forms; must never know what a supervisor makes of them.
// What cannot be read is set aside under another name and reported, and what cannot be written is told:
// neither is a reason not to start, or to stop forwarding.

import { createHash } from "node:crypto";
import { z } from "zod";
import { overrideChangeSchema } from "../api/schemas.ts";
import type { Revision } from "../api/schemas.ts";
import type { Env } from "../env.ts";
import { Failure } from "../errors.ts";
import { FLOW_KINDS } from "../model/held_flows.ts";
import type { BackendHealth, Override } from "../model/table.ts";
import { refuseForeignPlace } from "./own_place.ts";

/** Applied configs that are kept: the one in force and the ten before it. */
export const REVISIONS_MAX = 11;

type Host = Pick<Env, "files" | "clock" | "uid" | "variables">;

export type StoredRevision = Omit<Revision, "current">;

export interface StateDirectory {
  readonly path: string;
  /** What could not be kept the last time it was tried, one sentence for each file; for `status`. */
  troubles(): readonly string[];
  overrides(): readonly Override[];
  saveOverrides(overrides: readonly Override[]): void;
  /** Of drains that are over and still in force. */
  endedDrains(): readonly EndedDrain[];
  saveEndedDrains(ended: readonly EndedDrain[]): void;
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
  /** Who was down, or asked for a drain, when it was last said, and when that was. */
  health(): { readonly atMs: number; readonly out: ReadonlyMap<string, BackendHealth> } | null;
  saveHealth(health: ReadonlyMap<string, BackendHealth>): void;
}

const overridesFileSchema = z.strictObject({
  version: z.literal(1),
  overrides: z.array(z.strictObject({
    target: z.string(), change: overrideChangeSchema, actor: z.string(), reason: z.string().nullable(),
    atMs: z.number(), expiresAtMs: z.number().nullable(),
  })),
});

/** Beside the overrides, whose file older versions read, and refuse with anything in it that they do not know. */
const drainsFileSchema = z.object({
  version: z.literal(1),
  ended: z.array(z.object({
    target: z.string(), startedAtMs: z.number(), how: z.enum(["empty", "deadline"]), atMs: z.number(),
    flows: z.object({ count: z.number().nullable(), kind: z.enum(FLOW_KINDS) }),
  })),
});

/** A drain, by the backend and the time of the override, and how it ended. */
export type EndedDrain = Readonly<z.infer<typeof drainsFileSchema>["ended"][number]>;

const revisionFileSchema = z.strictObject({
  revision: z.number().int().min(1), atMs: z.number(), actor: z.string(), origin: z.string(),
  file: z.string(), bytes: z.number(), sha256: z.string(),
});

const healthFileSchema = z.strictObject({
  version: z.literal(1),
  atMs: z.number(),
  down: z.array(z.strictObject({ name: z.string(), reason: z.string(), sinceMs: z.number() })),
  /** Absent where nobody is, so that older versions can read it. */
  draining: z.array(z.strictObject({ name: z.string(), reason: z.string(), sinceMs: z.number() })).default([]),
});

type StoredHealth = Pick<BackendHealth, "reason" | "sinceMs"> & { readonly name: string };

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/**
 * `tell` hears of each file that cannot be read, and of each that begins to refuse to be written. Throws
 * SYSTEM where the directory may be somebody else's.
 */
export function openStateDirectory(
  path: string, env: Host, tell: (message: string) => void,
): StateDirectory {
  refuseForeignPlace(path, env);
  const store = new FileStore(env, tell);
  const { files, clock } = env;
  store.makeDirectory(path);
  refuseForeignPlace(path, env);
  const readJson = <T>(file: string, schema: z.ZodType<T>): T | null => store.read(file, (bytes) => {
    try {
      return schema.parse(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)));
    } catch (error) {
      throw error instanceof z.ZodError ? new Error(z.prettifyError(error)) : error;
    }
  });
  const writeJson = (file: string, value: unknown): void => {
    store.write(file, `${JSON.stringify(value, null, 2)}\n`);
  };
  const revisions = revisionStore(`${path}/revisions`, files, readJson, store);
  return {
    path,
    troubles: () => store.troubles(),
    overrides: () => readJson(`${path}/overrides.json`, overridesFileSchema)?.overrides ?? [],
    saveOverrides: (overrides) => { writeJson(`${path}/overrides.json`, { version: 1, overrides }); },
    endedDrains: () => readJson(`${path}/drains.json`, drainsFileSchema)?.ended ?? [],
    saveEndedDrains: (ended) => { writeJson(`${path}/drains.json`, { version: 1, ended }); },
    seed: () => store.read(`${path}/seed`, (bytes) => {
      const seed = parseSeed(Buffer.from(bytes).toString("latin1"));
      if (seed === null) throw new Error("a seed has 16 hexadecimal digits");
      return seed;
    }),
    saveSeed: (seed) => { store.write(`${path}/seed`, `${formatSeed(seed)}\n`); },
    ...revisions,
    health: () => {
      const stored = readJson(`${path}/health.json`, healthFileSchema);
      if (stored === null) return null;
      const of = (alive: boolean) => ({ name, reason, sinceMs }: StoredHealth): [string, BackendHealth] =>
        [name, { alive, known: true, admission: 0, reason, sinceMs }];
      return { atMs: stored.atMs, out: new Map([...stored.down.map(of(false)), ...stored.draining.map(of(true))]) };
    },
    saveHealth: (health) => {
      const those = (isOne: (each: BackendHealth) => boolean): StoredHealth[] => [...health]
        .filter(([, each]) => isOne(each)).map(([name, { reason, sinceMs }]) => ({ name, reason, sinceMs }));
      const draining = those(({ alive, admission, withheld }) => alive && admission === 0 && withheld === undefined);
      writeJson(`${path}/health.json`, {
        version: 1, atMs: clock.wallMs(), down: those(({ alive }) => !alive),
        ...(draining.length === 0 ? {} : { draining }),
      });
    },
  };
}

function revisionStore(
  directory: string, files: Env["files"],
  readJson: <T>(file: string, schema: z.ZodType<T>) => T | null, store: FileStore,
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
      store.write(textPath(revision), bytes);
      store.write(metaPath(revision), `${JSON.stringify(meta, null, 2)}\n`);
      for (const old of all.slice(REVISIONS_MAX - 1)) {
        files.remove(metaPath(old.revision));
        files.remove(textPath(old.revision));
      }
      return meta;
    },
  };
}

/** Files that may be broken or refuse to be written, and what is to be said of them. */
class FileStore {
  readonly #env: Host;
  readonly #tell: (message: string) => void;
  readonly #troubles = new Map<string, string>();
  /** Broken, and still under their own names: nothing may be written over them. */
  readonly #inTheWay = new Set<string>();

  constructor(env: Host, tell: (message: string) => void) {
    this.#env = env;
    this.#tell = tell;
  }

  troubles(): readonly string[] { return [...this.#troubles.values()]; }

  makeDirectory(path: string): void {
    try {
      this.#env.files.makeDirectory(path, 0o700);
    } catch (error) {
      // Each write tries again, and says so while it fails.
      this.#tell(`the state directory ${path} cannot be made: ${messageOf(error)}`);
    }
  }

  /** What `understand` makes of the bytes; null when there are none, or none that it understands. */
  read<T>(file: string, understand: (bytes: Uint8Array) => T): T | null {
    if (this.#inTheWay.has(file)) return null;
    refuseForeignPlace(file, this.#env); // its owner may be another one by now
    try {
      const bytes = this.#env.files.read(file);
      return bytes === null ? null : understand(bytes);
    } catch (error) {
      this.#setAside(file, messageOf(error));
      return null;
    }
  }

  /** Throws SYSTEM. */
  write(file: string, bytes: Uint8Array | string): void {
    try {
      refuseForeignPlace(file, this.#env);
      if (this.#inTheWay.has(file)) this.#moveAside(file);
      this.#env.files.writeAtomic(file, bytes, 0o600);
      this.#troubles.delete(file);
    } catch (error) {
      const message = `${file} cannot be written: ${messageOf(error)}`
        + " (see to the space and the permissions of the state directory)";
      if (this.#troubles.get(file) !== message) this.#tell(message);
      this.#troubles.set(file, message);
      throw new Failure("SYSTEM", { operation: `write ${file}` }, message, error);
    }
  }

  #setAside(file: string, why: string): void {
    try {
      const aside = this.#moveAside(file);
      this.#tell(`${file} cannot be read (${why}); it is now ${aside}, and its content has no effect`);
    } catch (error) {
      this.#inTheWay.add(file);
      this.#tell(`${file} cannot be read (${why}), and not be set aside (${messageOf(error)}):`
        + " its content has no effect");
    }
  }

  /** By name alone, which needs no space and no right to read it. */
  #moveAside(file: string): string {
    const aside = `${file}.broken-${this.#env.clock.wallMs()}`;
    this.#env.files.rename(file, aside);
    this.#inTheWay.delete(file);
    return aside;
  }
}

function messageOf(error: unknown): string {
  // A temporary name in it would make a new message of each attempt.
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/, \w+ '.*$/, "");
}

/** 16 hexadecimal digits, with white space around them, to a seed; null for anything else. */
export function parseSeed(text: string): bigint | null {
  const match = /^\s*([0-9a-fA-F]{16})\s*$/.exec(text);
  return match === null ? null : BigInt(`0x${match[1]}`);
}

export function formatSeed(seed: bigint): string {
  return seed.toString(16).padStart(16, "0");
}
