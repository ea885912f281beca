// A data plane that nobody supervises: what its pinned maps tell, and how it is taken down. Knows
// pins, maps and the addresses that a killed proxy left; compiles nothing.

import type { Env } from "../env.ts";
import { isFailure } from "../errors.ts";
import { loadAddon } from "./probe.ts";
import { removeAssignedAddresses } from "./proxy/assigned_addresses.ts";
import { ABI_FINGERPRINT, Settings } from "./xdp/abi.gen.ts";
import { detachInstance as detachPinned } from "./xdp/detach.ts";
import { walk } from "./xdp/maps.ts";
import type { Native } from "./xdp/native.ts";
import { withFailures } from "./xdp/native_failure.ts";
import { everyPins, livePins } from "./xdp/pins.ts";

export interface UnsupervisedPlane {
  readonly interfaces: readonly string[];
  /** Since the supervisor's last heartbeat; null when the maps are of another version. */
  readonly heartbeatAgeMs: number | null;
  readonly services: number;
}

/** Null when nothing of this instance is pinned. */
export function inspectInstance(instance: string, env: Env): UnsupervisedPlane | null {
  const pins = livePins(env, instance);
  if (pins === null) return null;
  const native = loadAddon(env);
  return withFailures(() => {
    const settings = onlyValue(native, pins.mapPath("settings"));
    const services = native.BpfMap.open(pins.mapPath("services"));
    try {
      return {
        interfaces: everyPins(env, instance).flatMap((each) => each.links()), services: walk(services).length,
        heartbeatAgeMs: settings === null ? null : heartbeatAge(settings, env),
      };
    } finally {
      services.close();
    }
  });
}

function onlyValue(native: Native, path: string): Uint8Array | null {
  const map = native.BpfMap.open(path);
  try {
    return map.lookup(new Uint8Array(4));
  } finally {
    map.close();
  }
}

function heartbeatAge(bytes: Uint8Array, env: Env): number | null {
  if (bytes.length !== Settings.size) return null;
  const { abiFingerprint, heartbeatNs } = Settings.decode(bytes);
  if (abiFingerprint !== ABI_FINGERPRINT || heartbeatNs === 0n) return null;
  return Number(env.clock.monotonicNs() - heartbeatNs) / 1e6;
}

/** False when nothing of this instance was there. */
export async function detachInstance(instance: string, env: Env): Promise<boolean> {
  const hadAddresses = await removeAssignedAddresses(env, instance);
  return detachXdp(instance, env) || hadAddresses;
}

function detachXdp(instance: string, env: Env): boolean {
  try {
    return detachPinned(loadAddon(env), env, instance) !== null;
  } catch (error) {
    // Without the addon there is no plane that we could have left behind.
    if (isFailure(error, "ADDON_UNAVAILABLE") && everyPins(env, instance).length === 0) return false;
    throw error;
  }
}
