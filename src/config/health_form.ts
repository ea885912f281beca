// A health check between the file and the program, both ways: what the schema accepted as a Health, and a
// Health as the file would say it. Total: every text was checked before. Must never judge a config.

import type { Health } from "../model/health_check.ts";
import {
  formatDuration, formatStatuses, readDuration, readHeader, readStatuses,
} from "./formats.ts";
import type { RawHealth } from "./schema_health.ts";

const TIMEOUT_DEFAULT_MS = 1000;

/** Without a timeout of its own, a probe that starts every 500 ms is given 500 ms. */
function probeTimeoutMs(
  health: { readonly interval: string; readonly timeout?: string | undefined },
): number {
  if (health.timeout !== undefined) return readDuration(health.timeout);
  return Math.min(TIMEOUT_DEFAULT_MS, readDuration(health.interval));
}

export function convertHealth(raw: RawHealth): Health {
  if (raw.type === "none") return { type: "none" };
  const timing = {
    intervalMs: readDuration(raw.interval), timeoutMs: probeTimeoutMs(raw),
    rise: raw.rise, fall: raw.fall, jitter: raw.jitter, port: raw.port, via: raw.via,
  };
  if (raw.type === "tcp") return { type: "tcp", ...timing };
  const { method, path, host, body, tls } = raw;
  return { type: "http", method, path, host, statuses: raw.statuses.map(
    readStatuses,
  ), body, drainHeader: raw.drainHeader === null ? null : readHeader(raw.drainHeader), tls, ...timing };
}

export function healthForm(health: Health): Record<string, unknown> {
  if (health.type === "none") return { type: "none" };
  const timing = {
    interval: formatDuration(health.intervalMs), timeout: formatDuration(health.timeoutMs),
    rise: health.rise, fall: health.fall, jitter: health.jitter, port: health.port,
    via: health.via,
  };
  if (health.type === "tcp") return { type: "tcp", ...timing };
  const { method, path, host, statuses, body, drainHeader, tls } = health;
  return {
    type: "http", method, path, host, statuses: statuses.map(formatStatuses), body,
    drainHeader: drainHeader === null ? null : formatHeader(drainHeader), tls, ...timing,
  };
}

function formatHeader({ name, value }: { readonly name: string; readonly value: string | null }): string {
  return value === null ? name : `${name}: ${value}`;
}
