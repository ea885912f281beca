// Directories of ours below /tmp and /var/tmp, where anybody may have made one of that name first: such a
// one is refused, since whoever owns it could read, replace or forge what lies in it. Knows owners and modes;
// must never know what is kept there.

import type { Env } from "../env.ts";
import { Failure } from "../errors.ts";
import { sharedPlace } from "./places.ts";

type Host = Pick<Env, "files" | "uid" | "variables">;

const WRITABLE_BY_OTHERS = 0o022;

/** Throws SYSTEM when `path` lies in such a directory and that one is not our own alone. */
export function refuseForeignPlace(path: string, host: Host): void {
  const place = sharedPlace(path, host);
  if (place === null) return;
  const flaw = flawOf(place.path, host);
  if (flaw === null) return;
  throw new Failure("SYSTEM", { operation: `use ${place.path}` },
    `${place.path} ${flaw}, so what lies in it may be somebody else's: remove it, or name a directory of`
    + ` your own by ${place.variable}`);
}

/** The same, and makes it where there is none. */
export function makeOwnPlace(path: string, host: Host): void {
  refuseForeignPlace(path, host);
  const place = sharedPlace(path, host);
  if (place === null) return;
  host.files.makeDirectory(place.path, 0o755); // control.group may pass
  // Somebody may have been faster; from here on nobody else can put another one there.
  refuseForeignPlace(path, host);
}

function flawOf(path: string, { files, uid }: Host): string | null {
  const entry = files.entry(path);
  if (entry === null) return null;
  if (entry.kind === "link") return "is a symbolic link";
  if (entry.kind !== "directory") return "is no directory";
  if (entry.uid !== uid) return `belongs to user ${entry.uid}, not to us (user ${uid})`;
  if ((entry.mode & WRITABLE_BY_OTHERS) === 0) return null;
  return `may be written by others (mode ${entry.mode.toString(8).padStart(4, "0")})`;
}
