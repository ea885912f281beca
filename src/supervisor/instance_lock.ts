// The instance's lock: one supervisor per instance name and run directory. A file that names its owner
// by process id and start time, so that a recycled id is not taken for the owner. Knows files and /proc;
// must never know what a supervisor does.
//
// Only the owner, or whoever holds the take-over file after having seen the owner dead, removes a lock.

import type { Env } from "../env.ts";
import { Failure } from "../errors.ts";
import { makeOwnPlace } from "./own_place.ts";
import { lockPath } from "./places.ts";

type Host = Pick<Env, "files" | "exec" | "pid" | "uid" | "variables">;

export interface InstanceLock {
  readonly path: string;
  /** Safe to repeat. */
  release(): void;
  /** From now on it is this process's, which lives; null: ours again. Nobody else can get it in between. */
  giveTo(pid: number | null): Promise<void>;
}

interface Owner {
  readonly pid: number;
  /** Distinguishes processes that had the same id, across boots as well. */
  readonly start: string;
}

/** Throws INSTANCE_RUNNING with the owner's process id, and SYSTEM where the directory is not ours. */
export async function acquireInstanceLock(instance: string, host: Host): Promise<InstanceLock> {
  const path = lockPath(instance, host);
  makeOwnPlace(path, host);
  const own = await ownerText(host);
  if (!claim(path, own, host)) {
    await takeOver(instance, path, own, host);
  }
  return heldLock(path, own, host);
}

/**
 * Of a process that gave it to us, or is gone. Throws as acquireInstanceLock does.
 */
export async function inheritInstanceLock(instance: string, host: Host): Promise<InstanceLock> {
  const path = lockPath(instance, host);
  const own = await ownerText(host);
  return textOf(host, path) === own ? heldLock(path, own, host) : await acquireInstanceLock(instance, host);
}

function heldLock(path: string, own: string, host: Host): InstanceLock {
  let isHeld = true;
  return {
    path,
    giveTo: async (pid) => {
      const text = pid === null ? own : `${pid} ${await startOf(pid, host) ?? "unknown"}\n`;
      host.files.writeAtomic(path, text, 0o644);
    },
    release: () => {
      if (!isHeld) return;
      isHeld = false;
      // Somebody may have removed it by hand and started another one.
      if (textOf(host, path) === own) host.files.remove(path);
    },
  };
}

/** False when somebody has it. */
function claim(path: string, own: string, host: Host): boolean {
  try {
    return host.files.createExclusive(path, own, 0o644);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Failure("SYSTEM", { operation: `create ${path}` },
      `the lock ${path} cannot be created: ${why} (the run directory has to be yours to write:`
      + " set POINTSMAN_RUN_DIRECTORY, or XDG_RUNTIME_DIR when not root)", error);
  }
}

/** The pid of the supervisor that holds the lock, or null when nobody alive does. */
export async function lockOwner(instance: string, host: Host): Promise<number | null> {
  const owner = ownerIn(textOf(host, lockPath(instance, host)));
  return owner !== null && await isAlive(owner, host) ? owner.pid : null;
}

async function takeOver(instance: string, path: string, own: string, host: Host): Promise<void> {
  await refuseIfAlive(instance, path, host);
  const takeover = `${path}.takeover`;
  if (!host.files.createExclusive(takeover, own, 0o644)) {
    await refuseIfAlive(instance, takeover, host);
    host.files.remove(takeover); // its owner died within the few lines below
    if (!host.files.createExclusive(takeover, own, 0o644)) {
      throw running(instance, ownerIn(textOf(host, takeover))?.pid ?? 0);
    }
  }
  try {
    // It may have changed hands between the first look and the take-over file.
    await refuseIfAlive(instance, path, host);
    host.files.remove(path);
    if (!host.files.createExclusive(path, own, 0o644)) {
      throw running(instance, ownerIn(textOf(host, path))?.pid ?? 0);
    }
  } finally {
    host.files.remove(takeover);
  }
}

async function refuseIfAlive(instance: string, path: string, host: Host): Promise<void> {
  const owner = ownerIn(textOf(host, path));
  if (owner !== null && await isAlive(owner, host)) throw running(instance, owner.pid);
}

function running(instance: string, pid: number): Failure {
  return new Failure("INSTANCE_RUNNING", { instance, pid },
    `instance ${instance} is already run by process ${pid}:`
    + " stop that one first, or give this one another name (instance: in the config)");
}

function textOf(host: Host, path: string): string | null {
  const bytes = host.files.read(path);
  return bytes === null ? null : Buffer.from(bytes).toString("utf8");
}

/** Null for a file that names nobody: it holds nothing. */
function ownerIn(text: string | null): Owner | null {
  const match = /^(\d{1,10}) (\S+)\n$/.exec(text ?? "");
  return match === null ? null : { pid: Number(match[1]), start: match[2] ?? "" };
}

async function ownerText(host: Host): Promise<string> {
  return `${host.pid} ${await startOf(host.pid, host) ?? "unknown"}\n`;
}

async function isAlive(owner: Owner, host: Host): Promise<boolean> {
  return await startOf(owner.pid, host) === owner.start;
}

/** When a process began, as text that no other process with this id shares; null when there is none. */
async function startOf(pid: number, host: Host): Promise<string | null> {
  const boot = textOf(host, "/proc/sys/kernel/random/boot_id")?.trim() ?? null;
  if (boot !== null) {
    const stat = textOf(host, `/proc/${pid}/stat`);
    if (stat === null) return null;
    // Field 22 of proc(5); the name in field 2 may hold spaces and parentheses.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? null : `${boot}:${fields[19] ?? ""}`;
  }
  const listed = await host.exec.run("ps", ["-o", "lstart=", "-p", String(pid)], 5_000);
  return listed.status === 0 ? listed.stdout.trim().replaceAll(/\s+/g, "_") : null;
}
