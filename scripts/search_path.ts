// Where programs are looked for: PATH, and the directories that only root has on it. Knows nothing of
// what is looked for, or why. Looking and starting use the same list, or one would find what the
// other cannot start.

import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

/** `sudo env PATH=…` and a plain `su` leave a user's PATH, in which ip and ethtool may be missing. */
const ROOT_ONLY = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/** This process's PATH with root's directories after its own. */
export function searchPath(path: string = process.env["PATH"] ?? ""): string {
  const own = path.split(delimiter).filter((directory) => directory !== "");
  return [...own, ...ROOT_ONLY.filter((directory) => !own.includes(directory))].join(delimiter);
}

/** Whether a program of this name can be run. */
export function onPath(tool: string): boolean {
  return searchPath().split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
