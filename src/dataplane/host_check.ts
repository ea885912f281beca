// One thing that was looked at on this host, and how files of /proc and /sys are read for it.

import type { Env } from "../env.ts";

/** missing: XDP cannot be used because of it; error: something else cannot work; warning: some traffic suffers, or may. */
export type CheckLevel = "ok" | "warning" | "error" | "missing";

export interface HostCheck {
  readonly name: string;
  /** Whether the level is "ok". */
  readonly ok: boolean;
  readonly level: CheckLevel;
  /** What was found, in words. */
  readonly found: string;
  /** What would help; null when nothing has to be done. */
  readonly remedy: string | null;
}

/** `level`: where it is not ok. */
export function check(
  name: string, ok: boolean, found: string, remedy: string | null, level: Exclude<CheckLevel, "ok"> = "missing",
): HostCheck {
  return { name, ok, level: ok ? "ok" : level, found, remedy: ok ? null : remedy };
}

/** Null when there is no such file, or reading it is refused. */
export function textIfReadable(env: Env, path: string): string | null {
  try {
    const bytes = env.files.read(path);
    return bytes === null ? null : Buffer.from(bytes).toString("utf8").trim();
  } catch {
    return null;
  }
}
