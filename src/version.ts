// The program's version, which has its home in package.json.

import { createRequire } from "node:module";

/** From dist/src/ and from src/ alike: the nearest package.json that is ours. */
function readVersion(): string {
  const require = createRequire(import.meta.url);
  for (const path of ["../package.json", "../../package.json"]) {
    try {
      const found = require(path) as { name?: string; version?: string };
      if (found.name === "pointsman" && found.version !== undefined) return found.version;
    } catch {
      // Not there: this is the other layout.
    }
  }
  return "unknown";
}

export const VERSION = readVersion();
