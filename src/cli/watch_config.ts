// Tells when a file's content changed: by content and not by time, debounced, through renames and
// symbolic links (editors write a new file, Kubernetes swaps a link). Knows chokidar; parses nothing.

import { dirname } from "node:path";
import { createHash } from "node:crypto";
import { watch } from "chokidar";
import type { Cancel, Env } from "../env.ts";

/** Editors write in several steps; so long without another is taken as done. */
const QUIET_MS = 200;
/** Events can be missed (a directory that is replaced, a network file system): a look now and then cannot. */
const LOOK_MS = 10_000;

/** Watches the directory, since the file itself may be replaced. Resolves to the end of watching. */
export async function watchConfig(env: Env, path: string, onChange: () => void): Promise<() => Promise<void>> {
  let known = contentOf(env, path);
  let waiting: Cancel | null = null;
  const look = (): void => {
    waiting = null;
    const now = contentOf(env, path);
    // A file that is missing for a moment is being replaced.
    if (now === null || now === known) return;
    known = now;
    onChange();
  };
  const watcher = watch(dirname(path), { depth: 1, ignoreInitial: true, followSymlinks: true });
  watcher.on("all", () => {
    waiting?.();
    waiting = env.clock.after(QUIET_MS, look);
  });
  watcher.on("error", (error) => { env.log.warn({ error }, `watching ${path} failed; SIGHUP still reloads`); });
  await new Promise<void>((resolve) => watcher.once("ready", resolve));
  let again: Cancel = () => undefined;
  const lookAgain = (): void => {
    if (waiting === null) look();
    again = env.clock.after(LOOK_MS, lookAgain);
  };
  again = env.clock.after(LOOK_MS, lookAgain);
  return async () => {
    again();
    waiting?.();
    await watcher.close();
  };
}

function contentOf(env: Env, path: string): string | null {
  try {
    const bytes = env.files.read(path);
    return bytes === null ? null : createHash("sha256").update(bytes).digest("hex");
  } catch {
    return null;
  }
}
