// The state directory, the lock and the places of an instance: what is kept, what is set aside, who owns.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { FileEntry } from "../../src/env.ts";
import { createEnv } from "../../src/env_real.ts";
import type { Failure } from "../../src/errors.ts";
import { acquireInstanceLock, lockOwner } from "../../src/supervisor/instance_lock.ts";
import { controlSocketPath, lockPath, sharedPlace, stateDirectoryPath } from "../../src/supervisor/places.ts";
import { formatSeed, openStateDirectory, parseSeed } from "../../src/supervisor/state.ts";
import type { FakeEnv } from "../support/fake_env.ts";
import { createFakeEnv } from "../support/fake_env.ts";

const DIRECTORY = "/state";

function open(env: FakeEnv): { state: ReturnType<typeof openStateDirectory>; told: string[] } {
  const told: string[] = [];
  return { state: openStateDirectory(DIRECTORY, env, (message) => told.push(message)), told };
}

function revision(text: string): { bytes: Uint8Array; file: string; actor: string; origin: string; atMs: number } {
  return { bytes: Buffer.from(text), file: "f.yaml", actor: "ann", origin: "apply", atMs: 1 };
}

describe("state directory", () => {
  it("gives back overrides, seed and health as they were kept", () => {
    const env = createFakeEnv();
    const { state } = open(env);
    const overrides = [{
      target: "web/a", change: { kind: "weight" as const, weight: 7 }, actor: "ann", reason: null, atMs: 5, expiresAtMs: 9,
    }];
    state.saveOverrides(overrides);
    const ended = [{ target: "web/a", startedAtMs: 5, how: "deadline" as const, atMs: 9, flows: { count: 3, kind: "tracked" as const } }];
    expect(state.endedDrains()).toEqual([]);
    state.saveEndedDrains(ended);
    state.saveSeed(0x0011223344556677n);
    state.saveHealth(new Map([
      ["web/a", { alive: false, known: true, admission: 0, reason: "refused", sinceMs: 3 }],
      ["web/b", { alive: true, known: true, admission: 65536, reason: "ok", sinceMs: 3 }],
      ["web/c", { alive: true, known: true, admission: 0, reason: "status 503 with x-drain: 1", sinceMs: 4 }],
    ]));
    const again = open(env);
    expect(again.state.overrides()).toEqual(overrides);
    expect(again.state.endedDrains()).toEqual(ended);
    expect(again.state.seed()).toBe(0x0011223344556677n);
    expect([...again.state.health()!.out]).toEqual([
      ["web/a", { alive: false, known: true, admission: 0, reason: "refused", sinceMs: 3 }],
      ["web/c", { alive: true, known: true, admission: 0, reason: "status 503 with x-drain: 1", sinceMs: 4 }],
    ]);
    expect(again.told).toEqual([]);
    for (const [path, file] of env.stored) expect([path, file.mode]).toEqual([path, 0o600]);
  });

  it("reads drains that are over by a newer version, which may know more of them", () => {
    const env = createFakeEnv();
    const one = { target: "web/a", startedAtMs: 5, how: "empty", atMs: 9, flows: { count: 0, kind: "exact", more: 1 }, by: "ann" };
    env.files.writeAtomic(`${DIRECTORY}/drains.json`, JSON.stringify({ version: 1, ended: [one], more: 1 }), 0o600);
    const { state, told } = open(env);
    expect(state.endedDrains()).toEqual([
      { target: "web/a", startedAtMs: 5, how: "empty", atMs: 9, flows: { count: 0, kind: "exact" } },
    ]);
    expect(told).toEqual([]);
    env.files.writeAtomic(`${DIRECTORY}/drains.json`, JSON.stringify({ version: 1, ended: [{ ...one, how: "otherwise" }] }), 0o600);
    expect(state.endedDrains()).toEqual([]);
    expect(told.join()).toMatch(/drains\.json cannot be read .* its content has no effect/s);
  });

  it("sets a broken file aside also where nothing can be written, and keeps it where it cannot even do that", () => {
    const world = createFakeEnv();
    world.files.writeAtomic(`${DIRECTORY}/overrides.json`, "{", 0o600);
    const refuse = (): never => { throw new Error("EROFS: read-only file system, open '/state/.x.1.tmp'"); };
    const full = { ...world, files: { ...world.files, writeAtomic: refuse } };
    const told: string[] = [];
    expect(openStateDirectory(DIRECTORY, full, (message) => told.push(message)).overrides()).toEqual([]);
    expect(told[0]).toMatch(/overrides\.json cannot be read .* it is now .*\.broken-/);

    world.files.writeAtomic(`${DIRECTORY}/overrides.json`, "{", 0o600);
    let isReadOnly = true;
    const guarded = {
      ...world,
      files: {
        ...world.files,
        writeAtomic: (path: string, bytes: Uint8Array | string, mode: number): void => {
          if (isReadOnly) refuse();
          world.files.writeAtomic(path, bytes, mode);
        },
        rename: (from: string, to: string): void => {
          if (isReadOnly) refuse();
          world.files.rename(from, to);
        },
        makeDirectory: refuse,
      },
    };
    const state = openStateDirectory(DIRECTORY, guarded, (message) => told.push(message));
    expect(state.overrides()).toEqual([]);
    expect(state.troubles()).toEqual([]);
    expect(() => { state.saveOverrides([]); }).toThrow(/overrides\.json cannot be written: EROFS/);
    const said = told.length;
    expect(() => { state.saveOverrides([]); }).toThrow(/space and the permissions/);
    expect([told.length, state.troubles().length]).toEqual([said, 1]);
    isReadOnly = false;
    world.stepWall(1);
    state.saveOverrides([]);
    expect(state.troubles()).toEqual([]);
    const kept = [...world.stored].filter(([path]) => path.includes(".broken-"));
    expect(kept.map(([, { bytes }]) => Buffer.from(bytes).toString())).toEqual(["{", "{"]);
  });

  it.each([
    ["overrides.json", "{"], ["overrides.json", '{"version":2,"overrides":[]}'],
    ["overrides.json", '{"version":1,"overrides":[{"target":3}]}'], ["health.json", "[]"], ["seed", "not hex"],
  ])("sets a broken %s aside (%s)", (name, text) => {
    const env = createFakeEnv();
    env.files.writeAtomic(`${DIRECTORY}/${name}`, text, 0o600);
    const { state, told } = open(env);
    expect([state.overrides(), state.seed(), state.health()]).toEqual([[], null, null]);
    expect(told).toHaveLength(1);
    expect(told[0]).toContain(`${DIRECTORY}/${name} cannot be read`);
    expect(env.files.exists(`${DIRECTORY}/${name}`)).toBe(false);
    const aside = [...env.stored.keys()].find((path) => path.includes(".broken-"))!;
    expect(Buffer.from(env.files.read(aside)!).toString()).toBe(text);
  });

  it("numbers revisions, keeps ten before the current one, and the newest twice is one", () => {
    const env = createFakeEnv();
    const { state } = open(env);
    expect(state.record(revision("one")).revision).toBe(1);
    expect(state.record(revision("one")).revision).toBe(1);
    expect(state.record(revision("two")).revision).toBe(2);
    expect(state.record(revision("one")).revision).toBe(3);
    for (let n = 4; n <= 20; n++) state.record(revision(`text ${n}`));
    expect(state.revisions().map((each) => each.revision)).toEqual([20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10]);
    expect(Buffer.from(state.revision(12).bytes).toString()).toBe("text 12");
    expect(() => state.revision(3)).toThrow("there is no revision 3; kept are 20, 19");
    expect(env.files.list(`${DIRECTORY}/revisions`)).toHaveLength(22);
  });

  it("a revision without its text, or with a broken record, is none", () => {
    const env = createFakeEnv();
    const { state, told } = open(env);
    for (const text of ["one", "two", "three"]) state.record(revision(text));
    env.files.remove(`${DIRECTORY}/revisions/3.yaml`);
    env.files.writeAtomic(`${DIRECTORY}/revisions/2.json`, "{}", 0o600);
    expect(state.revisions().map((each) => each.revision)).toEqual([1]);
    expect(told).toHaveLength(1);
  });

  it("seeds have 16 digits, with white space around them at most", () => {
    expect(parseSeed(" 00ff00ff00ff00FF\n")).toBe(0x00ff00ff00ff00ffn);
    for (const text of ["", "0x00ff00ff00ff00", "00ff00ff00ff00f", "00ff00ff00ff00fff", "g0ff00ff00ff00ff"]) {
      expect(parseSeed(text)).toBeNull();
    }
    expect(formatSeed(1n)).toBe("0000000000000001");
  });
});

describe("places", () => {
  it("are the system's for root and the user's own for others, and can be chosen", () => {
    const root = { uid: 0, variables: {} };
    const user = { uid: 1000, variables: { XDG_RUNTIME_DIR: "/run/user/1000", XDG_STATE_HOME: "/own/state" } };
    const bare = { uid: 1000, variables: { HOME: "/own" } };
    const chosen = { uid: 0, variables: { POINTSMAN_RUN_DIRECTORY: "/r", POINTSMAN_STATE_DIRECTORY: "/s" } };
    expect([root, user, bare, chosen].map((who) => controlSocketPath("main", who))).toEqual([
      "/run/pointsman/main.sock", "/run/user/1000/pointsman/main.sock", "/tmp/pointsman-1000/main.sock", "/r/main.sock",
    ]);
    expect([root, user, bare, chosen].map((who) => stateDirectoryPath("main", who))).toEqual([
      "/var/lib/pointsman/main", "/own/state/pointsman/main", "/own/.local/state/pointsman/main", "/s/main",
    ]);
    expect(controlSocketPath("main", root, "/x.sock")).toBe("/x.sock");
    expect(stateDirectoryPath("main", chosen, "/configured")).toBe("/configured");
  });

  it("refuse a socket path that the kernel would cut", () => {
    const who = { uid: 0, variables: {} };
    const longest = `/${"x".repeat(106)}`;
    expect(controlSocketPath("main", who, longest)).toBe(longest);
    expect(() => controlSocketPath("main", who, `${longest}x`)).toThrow("107");
    expect(() => controlSocketPath("main", who, `/${"é".repeat(54)}`)).toThrow("109 bytes");
  });
});

describe("a directory where everybody may make one", () => {
  const STATE = "/var/tmp/pointsman-1000";
  const foreign: readonly (readonly [string, FileEntry])[] = [
    ["belongs to user 1001", { kind: "directory", uid: 1001, mode: 0o755 }],
    ["is a symbolic link", { kind: "link", uid: 1000, mode: 0o777 }],
    ["is no directory", { kind: "other", uid: 1000, mode: 0o600 }],
    ["may be written by others (mode 0777)", { kind: "directory", uid: 1000, mode: 0o777 }],
    ["may be written by others (mode 0775)", { kind: "directory", uid: 1000, mode: 0o775 }],
  ];
  /** One whose `entry` of this place is what the test says, once there is something to say. */
  function user(place: string, entry: () => FileEntry | null): FakeEnv {
    const env = createFakeEnv({ uid: 1000, variables: {} });
    const own = env.files.entry;
    env.files.entry = (path) => path === place ? entry() ?? own(path) : own(path);
    env.files.writeAtomic("/proc/sys/kernel/random/boot_id", "boot\n", 0o444);
    return env;
  }

  it.each(foreign)("and that %s is refused, for the run directory and for the state", async (flaw, entry) => {
    const runs = user("/tmp/pointsman-1000", () => entry);
    await expect(acquireInstanceLock("main", runs)).rejects.toMatchObject({
      code: "SYSTEM", message: expect.stringMatching(/^\/tmp\/pointsman-1000 .* by POINTSMAN_RUN_DIRECTORY$/) as string,
    });
    await expect(acquireInstanceLock("main", runs)).rejects.toThrow(flaw);
    expect(runs.files.list("/tmp/pointsman-1000")).toEqual([]);
    const keeps = user(STATE, () => entry);
    const path = stateDirectoryPath("main", keeps);
    expect(() => openStateDirectory(path, keeps, () => undefined)).toThrow(flaw);
    expect(() => openStateDirectory(path, keeps, () => undefined)).toThrow("POINTSMAN_STATE_DIRECTORY");
    expect(keeps.files.exists(path)).toBe(false);
  });

  it("is made for us alone where there is none, and refused when somebody was faster", async () => {
    const alone = user("/tmp/pointsman-1000", () => null);
    await acquireInstanceLock("main", alone);
    openStateDirectory(stateDirectoryPath("main", alone), alone, () => undefined).saveSeed(1n);
    expect(alone.files.exists(`${STATE}/main/seed`)).toBe(true);

    let looks = 0;
    const raced = user("/tmp/pointsman-1000", () => ++looks === 1 ? null : foreign[0]![1]);
    await expect(acquireInstanceLock("main", raced)).rejects.toThrow("belongs to user 1001");
    expect(raced.files.list("/tmp/pointsman-1000")).toEqual([]);
  });

  it("is neither read nor written once it is another's, as after a clean-up of /var/tmp", () => {
    let entry: FileEntry | null = null;
    const env = user(STATE, () => entry);
    const state = openStateDirectory(stateDirectoryPath("main", env), env, () => undefined);
    state.saveSeed(1n);
    entry = foreign[0]![1];
    expect(() => { state.saveSeed(2n); }).toThrow("belongs to user 1001");
    expect(state.troubles()).toHaveLength(1);
    expect(() => state.seed()).toThrow("belongs to user 1001");
    entry = null;
    expect(state.seed()).toBe(1n);
  });

  it("is none of those that an operator named, or that belong to root", async () => {
    const entry: FileEntry = { kind: "link", uid: 5, mode: 0o777 };
    const env = user("/srv/run", () => entry);
    Object.assign(env, { variables: { POINTSMAN_RUN_DIRECTORY: "/srv/run", TMPDIR: "/scratch/" } });
    await acquireInstanceLock("main", env);
    expect(sharedPlace("/scratch/pointsman-1000/main.sock", env)?.path).toBe("/scratch/pointsman-1000");
    expect(sharedPlace("/scratch/pointsman-10001/main.sock", env)).toBeNull();
    expect(sharedPlace("/run/pointsman/main.lock", env)).toBeNull();
  });
});

describe("instance lock, simulated", () => {
  const BOOT = "/proc/sys/kernel/random/boot_id";
  const stat = (pid: number, name: string, start: number, state = "S"): string =>
    `${pid} (${name}) ${state} ${Array.from({ length: 18 }, () => "0").join(" ")} ${start} 0 0\n`;

  function host(pid: number, files?: FakeEnv["files"]): FakeEnv {
    const env = createFakeEnv({ pid });
    if (files !== undefined) Object.assign(env.files, files);
    env.files.writeAtomic(BOOT, "boot-1\n", 0o444);
    env.files.writeAtomic(`/proc/${pid}/stat`, stat(pid, "node) (x", 100), 0o444);
    return env;
  }

  async function refusal(promise: Promise<unknown>): Promise<Failure> {
    return await promise.then(() => { throw new Error("not refused"); }, (error: unknown) => error as Failure);
  }

  it("is held by one, names its owner, and is free after release", async () => {
    const first = host(10);
    const second = host(11, first.files);
    const lock = await acquireInstanceLock("main", first);
    const failure = await refusal(acquireInstanceLock("main", second));
    expect(failure).toMatchObject({ code: "INSTANCE_RUNNING", details: { instance: "main", pid: 10 } });
    expect(await lockOwner("main", second)).toBe(10);
    lock.release();
    lock.release();
    expect(await lockOwner("main", second)).toBeNull();
    await acquireInstanceLock("main", second);
    lock.release();
    expect(await lockOwner("main", first)).toBe(11);
  });

  it("in a directory that is not ours to write is a failure that names the remedy", async () => {
    const env = createFakeEnv();
    env.files.writeAtomic("/proc/sys/kernel/random/boot_id", "boot", 0o644);
    const files = { ...env.files, createExclusive: (): never => { throw new Error("EACCES: permission denied"); } };
    await expect(acquireInstanceLock("main", { ...env, files }))
      .rejects.toThrow(/lock .*main\.lock cannot be created: EACCES.*POINTSMAN_RUN_DIRECTORY/);
  });

  it("another instance is another lock", async () => {
    const env = host(10);
    await acquireInstanceLock("main", env);
    await acquireInstanceLock("other", env);
  });

  it.each([
    ["its owner is gone", (env: FakeEnv) => { env.files.remove("/proc/10/stat"); }],
    ["its owner's id belongs to another process now", (env: FakeEnv) => { env.files.writeAtomic("/proc/10/stat", stat(10, "sh", 999), 0o444); }],
    ["its owner is a zombie", (env: FakeEnv) => { env.files.writeAtomic("/proc/10/stat", stat(10, "node", 100, "Z"), 0o444); }],
    ["the host was booted since", (env: FakeEnv) => { env.files.writeAtomic(BOOT, "boot-2\n", 0o444); }],
    ["it names nobody", (env: FakeEnv) => { env.files.writeAtomic(lockPath("main", env), "", 0o644); }],
    ["a take-over died half-way", (env: FakeEnv) => {
      env.files.remove("/proc/10/stat");
      env.files.writeAtomic(`${lockPath("main", env)}.takeover`, "12 boot-1:5\n", 0o644);
    }],
  ])("is taken over when %s", async (_name, happens) => {
    const first = host(10);
    const second = host(11, first.files);
    const lock = await acquireInstanceLock("main", first);
    happens(second);
    await acquireInstanceLock("main", second);
    expect(await lockOwner("main", second)).toBe(11);
    expect(second.files.list("/run/pointsman")).toEqual(["main.lock"]);
    lock.release();
    expect(await lockOwner("main", second)).toBe(11);
  });

  it("of a dead owner goes to one of several that want it", async () => {
    const first = host(10);
    await acquireInstanceLock("main", first);
    first.files.remove("/proc/10/stat");
    const wanting = [11, 12, 13].map((pid) => host(pid, first.files));
    const results = await Promise.allSettled(wanting.map((each) => acquireInstanceLock("main", each)));
    expect(results.filter((each) => each.status === "fulfilled")).toHaveLength(1);
    expect(first.files.list("/run/pointsman")).toEqual(["main.lock"]);
  });
});

describe("instance lock, real", () => {
  const directory = mkdtempSync(join(tmpdir(), "pm-lock-"));
  afterAll(() => { rmSync(directory, { recursive: true }); });

  it("knows this process and its start", async () => {
    const env = { ...createEnv(), variables: { POINTSMAN_RUN_DIRECTORY: directory } };
    const lock = await acquireInstanceLock("main", env);
    expect(await lockOwner("main", env)).toBe(process.pid);
    await expect(acquireInstanceLock("main", env)).rejects.toThrow(`process ${process.pid}`);
    lock.release();
    expect(env.files.list(directory)).toEqual([]);
  });
});
