// Where an instance keeps its things: lock and control socket in the run directory, everything that
// outlives a boot in the state directory. Knows names and who we are; must never touch a file.

import type { Env } from "../env.ts";
import { Failure } from "../errors.ts";

/** What fits into sun_path with its terminating zero; the kernel cuts longer ones silently. */
export const SOCKET_PATH_BYTES_MAX = 107;

type Who = Pick<Env, "uid" | "variables">;

/** /run/pointsman, or a place of the user's own. POINTSMAN_RUN_DIRECTORY overrides both. */
export function runDirectoryPath({ uid, variables }: Who): string {
  const chosen = variables["POINTSMAN_RUN_DIRECTORY"];
  if (chosen !== undefined && chosen !== "") return chosen;
  if (uid === 0) return "/run/pointsman";
  const runtime = variables["XDG_RUNTIME_DIR"];
  if (runtime !== undefined && runtime !== "") return `${runtime}/pointsman`;
  return temporaryPlace({ uid, variables });
}

function temporaryPlace({ uid, variables }: Who): string {
  return `${variables["TMPDIR"]?.replace(/\/+$/, "") ?? "/tmp"}/pointsman-${uid}`;
}

function lastingPlace({ uid }: Who): string {
  return `/var/tmp/pointsman-${uid}`;
}

/**
 * The directory above `path`, or `path` itself, that lies where everybody may make one of this name, and
 * the variable that names another; null when there is none.
 */
export function sharedPlace(
  path: string, who: Who,
): { readonly path: string; readonly variable: string } | null {
  const places = [
    { path: temporaryPlace(who), variable: "POINTSMAN_RUN_DIRECTORY" },
    { path: lastingPlace(who), variable: "POINTSMAN_STATE_DIRECTORY" },
  ];
  return places.find((place) => `${path}/`.startsWith(`${place.path}/`)) ?? null;
}

export function lockPath(instance: string, who: Who): string {
  return `${runDirectoryPath(who)}/${instance}.lock`;
}

/** `configured` is control.socket. Throws when the kernel would cut the path. */
export function controlSocketPath(
  instance: string, who: Who, configured: string | null = null,
): string {
  const path = configured ?? `${runDirectoryPath(who)}/${instance}.sock`;
  const bytes = Buffer.byteLength(path);
  if (bytes <= SOCKET_PATH_BYTES_MAX) return path;
  throw new Failure("SYSTEM", { operation: "name the control socket" },
    `the control socket ${path} has ${bytes} bytes, and a socket's path may have`
    + ` ${SOCKET_PATH_BYTES_MAX}: choose a shorter one, by control.socket, --socket or`
    + " POINTSMAN_RUN_DIRECTORY");
}

/** `configured` is stateDirectory. POINTSMAN_STATE_DIRECTORY names the parent of all instances. */
export function stateDirectoryPath(
  instance: string, who: Who, configured: string | null = null,
): string {
  if (configured !== null) return configured;
  const { uid, variables } = who;
  const chosen = variables["POINTSMAN_STATE_DIRECTORY"];
  if (chosen !== undefined && chosen !== "") return `${chosen}/${instance}`;
  if (uid === 0) return `/var/lib/pointsman/${instance}`;
  const home = variables["XDG_STATE_HOME"];
  if (home !== undefined && home !== "") return `${home}/pointsman/${instance}`;
  const own = variables["HOME"];
  if (own !== undefined && own !== "") return `${own}/.local/state/pointsman/${instance}`;
  // Nobody's home: a place of the user's own that outlives a boot.
  return `${lastingPlace(who)}/${instance}`;
}
