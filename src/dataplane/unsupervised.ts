// A data plane without its supervisor: what the pins alone tell of it, and how it is taken down. Knows an
// instance's name; must never start anything, nor claim to be the owner.

import type { Env } from "../env.ts";
import { isFailure } from "../errors.ts";
import { loadAddon } from "./probe.ts";
import { detachInstance as detachPinned } from "./xdp/detach.ts";
import { inspectPinned, type PinnedPlane } from "./xdp/inspect.ts";
import { pinsOf } from "./xdp/pins.ts";
import type { Native } from "./xdp/native.ts";

/** What goes on forwarding, or null when there is nothing of this instance (or nobody may look). */
export function inspectInstance(instance: string, env: Env): PinnedPlane | null {
  const native = addonFor(instance, env);
  return native === null ? null : inspectPinned(native, env, instance);
}

/** False when there was nothing. */
export function detachInstance(instance: string, env: Env): boolean {
  const native = addonFor(instance, env);
  return native !== null && detachPinned(native, env, instance) !== null;
}

/** Without pins the addon is not needed, and need not be there. */
function addonFor(instance: string, env: Env): Native | null {
  if (!env.files.exists(pinsOf(env, instance).directory)) return null;
  try {
    return loadAddon(env);
  } catch (error) {
    if (isFailure(error, "ADDON_UNAVAILABLE")) env.log.warn({ error: error.message }, "a plane is pinned, and cannot be reached");
    throw error;
  }
}
