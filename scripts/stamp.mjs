// Stamps: what a step was made from, so that it is skipped while nothing of that has changed.
// Contents count, not times, since a checkout and a copy change those. Knows files; knows no step.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/**
 * A digest over files and folders (recursively; missing ones count as missing) and some texts.
 * @param {string} root
 * @param {readonly string[]} paths
 * @param {readonly string[]} texts
 */
export function digest(root, paths, texts = []) {
  const hash = createHash("sha256");
  for (const text of texts) hash.update(`text ${text.length} ${text}\n`);
  for (const path of paths) addPath(hash, root, path);
  return hash.digest("hex");
}

/** @param {import("node:crypto").Hash} hash @param {string} root @param {string} path */
function addPath(hash, root, path) {
  const full = join(root, path);
  const found = statSync(full, { throwIfNoEntry: false });
  if (found === undefined) hash.update(`missing ${path}\n`);
  else if (found.isDirectory()) {
    for (const name of readdirSync(full).sort())
      if (!name.startsWith(".")) addPath(hash, root, join(path, name));
  } else {
    const bytes = readFileSync(full);
    hash.update(`file ${path} ${bytes.length}\n`).update(bytes);
  }
}

/**
 * True when the stamp says this digest and every output is there.
 * @param {string} stampPath
 * @param {string} wanted
 * @param {readonly string[]} outputs
 */
export function isFresh(stampPath, wanted, outputs) {
  try {
    const { digest: found } = JSON.parse(readFileSync(stampPath, "utf8"));
    return found === wanted && outputs.every((path) => existsSync(path));
  } catch {
    return false;
  }
}

/** @param {string} stampPath @param {string} made */
export function writeStamp(stampPath, made) {
  mkdirSync(dirname(stampPath), { recursive: true });
  writeFileSync(stampPath, `${JSON.stringify({ digest: made })}\n`);
}
