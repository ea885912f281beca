// Where an instance keeps its things: control socket, lock and state directory. Knows the conventions
// of the file system hierarchy and of XDG; touches no file.

import type { Env } from "../env.ts";
import { Failure } from "../errors.ts";

/** sun_path holds 108 bytes with the terminating zero (unix(7)); the kernel cuts longer ones silently. */
const SOCKET_PATH_BYTES_MAX = 107;

/** /run/pointsman for root, else $XDG_RUNTIME_DIR/pointsman, else /tmp/pointsman-UID. */
export function runDirectory(env: Pick<Env, "uid" | "variables">): string {
  if (env.uid === 0) return "/run/pointsman";
  const runtime = env.variables["XDG_RUNTIME_DIR"];
  return runtime !== undefined && runtime !== "" ? `${runtime}/pointsman` : `/tmp/pointsman-${env.uid}`;
}

/** The control socket; throws REQUEST_INVALID when its path is longer than a socket's may be. */
export function controlSocketPath(instance: string, env: Pick<Env, "uid" | "variables">, configured: string | null = null): string {
  const path = configured ?? `${runDirectory(env)}/${instance}.sock`;
  const bytes = Buffer.byteLength(path);
  if (bytes > SOCKET_PATH_BYTES_MAX) {
    throw new Failure("REQUEST_INVALID", { path }, `the control socket's path has ${bytes} bytes and may have ${SOCKET_PATH_BYTES_MAX}: ${path}; set control.socket to a shorter one`);
  }
  return path;
}

export function lockPath(instance: string, env: Pick<Env, "uid" | "variables">): string {
  return `${runDirectory(env)}/${instance}.lock`;
}

/** /var/lib/pointsman/INSTANCE for root, else $XDG_STATE_HOME (or ~/.local/state) /pointsman/INSTANCE. */
export function stateDirectory(instance: string, env: Pick<Env, "uid" | "variables">, configured: string | null = null): string {
  if (configured !== null) return configured;
  if (env.uid === 0) return `/var/lib/pointsman/${instance}`;
  const home = env.variables["XDG_STATE_HOME"];
  const base = home !== undefined && home !== "" ? home : `${env.variables["HOME"] ?? "/tmp"}/.local/state`;
  return `${base}/pointsman/${instance}`;
}
