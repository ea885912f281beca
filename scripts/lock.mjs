// A lock between processes of one checkout, with nothing but Node: set-up and build hold it while
// they change files. Knows a path and who holds it; knows nothing of what it protects.

import { closeSync, openSync, readFileSync, rmSync, statSync, writeSync } from "node:fs";

/**
 * How old another process's attempt to clear a dead lock may get before it counts as dead itself.
 */
const CLEARING_MAX_MS = 10_000;

/**
 * Runs the body with the lock at `path` in hand; waits for a living owner, takes over from a dead
 * one.
 * @template T
 * @param {string} path
 * @param {{ waiting: (owner: string) => void, retryMs?: number }} options
 * @param {() => T | Promise<T>} body
 * @returns {Promise<T>}
 */
export async function withLock(path, options, body) {
  let told = false;
  while (!tryAcquire(path)) {
    const owner = readOwner(path);
    if (owner !== null && !isAlive(owner)) clearDead(path, owner);
    else if (!told && owner !== null) {
      told = true;
      options.waiting(owner.split(" ")[0] ?? owner);
    }
    await new Promise((resolve) => setTimeout(resolve, options.retryMs ?? 100));
  }
  try {
    return await body();
  } finally {
    rmSync(path, { force: true });
  }
}

/** @param {string} path @returns {boolean} */
function tryAcquire(path) {
  try {
    const file = openSync(path, "wx");
    writeSync(file, `${process.pid} ${startTime(process.pid) ?? "?"}\n`);
    closeSync(file);
    return true;
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === "EEXIST") return false;
    throw error;
  }
}

/**
 * @param {string} path
 * @returns {string | null} null while the owner is still writing its name, or when it is gone
 */
function readOwner(path) {
  try {
    const text = readFileSync(path, "utf8");
    if (text.endsWith("\n")) return text.trim();
    // Whoever created the file writes at once: an old nameless one was left by a crash.
    return Date.now() - statSync(path).mtimeMs > CLEARING_MAX_MS ? "0 ?" : null;
  } catch {
    return null;
  }
}

/**
 * Two waiters may see the same dead owner: only the one that creates the second file removes the
 * first, after another look, or it could remove the lock of somebody who has just taken over.
 * @param {string} path
 * @param {string} dead
 */
function clearDead(path, dead) {
  const clearing = `${path}.clearing`;
  if (!tryAcquire(clearing)) {
    const age = statSync(clearing, { throwIfNoEntry: false });
    if (age !== undefined && Date.now() - age.mtimeMs > CLEARING_MAX_MS)
      rmSync(clearing, { force: true });
    return;
  }
  if (readOwner(path) === dead) rmSync(path, { force: true });
  rmSync(clearing, { force: true });
}

/** @param {string} owner */
function isAlive(owner) {
  const [pid, started] = owner.split(" ");
  if (pid === "0") return false;
  const now = startTime(Number(pid));
  if (now !== null) return started === "?" || now === started;
  if (process.platform === "linux") return false;
  try {
    process.kill(Number(pid), 0);
    return true;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === "EPERM";
  }
}

/**
 * @param {number} pid
 * @returns {string | null} when it started, in ticks; null when gone or without /proc
 */
function startTime(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
  } catch {
    return null;
  }
}
