// A health check between the file and the program, both ways: what the schema accepted as a Health, and a
// Health as the file would say it. Total: every text was checked before. Must never judge a config.

import type * as z from "zod";
import type { ActiveHealth, HealthTiming, HttpHealth, PoolHealth, ProbeAgent } from "../model/health_check.ts";
import { convertFeedback, feedbackForm } from "./feedback_form.ts";
import { formatDuration, readAddress, readDuration } from "./formats.ts";
import {
  formatPayload, formatSecret, formatStatuses, readHeader, readPayload, readSecretText, readStatuses,
} from "./formats_health.ts";
import { convertPassive, passiveForm } from "./passive_form.ts";
import type { RawAgent, RawHealth, timingSchema } from "./schema_health.ts";

const TIMEOUT_DEFAULT_MS = 1000;

/** Without a timeout of its own, a probe that starts every 500 ms is given 500 ms. */
function probeTimeoutMs(
  health: { readonly interval: string; readonly timeout?: string | undefined },
): number {
  if (health.timeout !== undefined) return readDuration(health.timeout);
  return Math.min(TIMEOUT_DEFAULT_MS, readDuration(health.interval));
}

function optionalForm(ms: number | undefined): string | null {
  return ms === undefined ? null : formatDuration(ms);
}

export function convertHealth(raw: RawHealth): PoolHealth {
  if (raw.type === "none") return { type: "none", ...convertAgent(raw.agent, null), ...convertPassive(raw) };
  const source = raw.source === null ? null : readAddress(raw.source);
  const timing = {
    intervalMs: readDuration(raw.interval), timeoutMs: probeTimeoutMs(raw),
    ...(raw.fastInterval === null ? {} : { fastIntervalMs: readDuration(raw.fastInterval) }),
    ...(raw.downInterval === null ? {} : { downIntervalMs: readDuration(raw.downInterval) }),
    ...(readDuration(raw.slowStart) === 0 ? {} : { slowStartMs: readDuration(raw.slowStart) }),
    rise: raw.rise, fall: raw.fall, jitter: raw.jitter, port: raw.port, via: raw.via,
    source, ...convertAgent(raw.agent, source), ...convertPassive(raw), ...convertFeedback(raw.feedback),
  };
  switch (raw.type) {
    case "tcp": return { type: "tcp", ...timing };
    case "tls": {
      const { serverName, verify, ca, warnDays, failDays } = raw;
      return { type: "tls", tls: { serverName, verify, ca, warnDays, failDays }, ...timing };
    }
    case "http": return { type: "http", ...convertHttp(raw), ...timing };
    case "udp": {
      const expect = raw.expect === null ? null : readPayload(raw.expect);
      return { type: "udp", send: readPayload(raw.send), expect, ...timing };
    }
    case "grpc": return { ...withoutTiming(raw), ...timing };
    case "dns": return { ...withoutTiming(raw), ...timing };
    case "postgres": return { ...withoutTiming(raw), ...timing };
    case "mysql": return { ...withoutTiming(raw), ...timing };
    case "smtp": return { ...withoutTiming(raw), ...timing };
    case "icmp": return { type: "icmp", ...timing };
    case "exec": {
      const environment = Object.entries(raw.environment).map(([name, value]) => ({ name, value: readSecretText(value) }));
      return { ...withoutTiming(raw), environment, ...timing };
    }
    case "redis": {
      const password = raw.password === null ? null : readSecretText(raw.password);
      return { ...withoutTiming(raw), password, ...timing };
    }
  }
}

function convertAgent(raw: RawAgent, source: ProbeAgent["source"]): { readonly agent?: ProbeAgent } {
  if (raw === null) return {};
  const { port, send, interval, jitter } = raw;
  const agent = {
    port, send: send === null ? null : readPayload(send), intervalMs: readDuration(interval), timeoutMs: probeTimeoutMs(raw),
    jitter, source,
  };
  return { agent };
}

function agentForm({ port, send, intervalMs, timeoutMs, jitter }: ProbeAgent): Record<string, unknown> {
  return {
    port, send: send === null ? null : formatPayload(send), interval: formatDuration(intervalMs),
    timeout: formatDuration(timeoutMs), jitter,
  };
}

type TimingKey = keyof z.output<typeof timingSchema>;

function withoutTiming<R extends { readonly [Key in TimingKey]?: unknown }>(raw: R): Omit<R, TimingKey> {
  const {
    interval, fastInterval, downInterval, slowStart, timeout, rise, fall, jitter, port, via, source, agent, outlier, damping, feedback,
    ...own
  } = raw;
  return own;
}

type Bare<H extends ActiveHealth> = Omit<H, "type" | keyof HealthTiming>;

function convertHttp(raw: Extract<RawHealth, { type: "http" }>): Bare<HttpHealth> {
  const { version, method, path, host, body, bodyMatches, drainHeader, tls } = raw;
  return {
    version, method, path, host,
    headers: Object.entries(raw.headers).map(([name, value]) => ({ name, value: readSecretText(value) })),
    statuses: raw.statuses.map(readStatuses), body, bodyMatches,
    json: Object.entries(raw.json).map(([place, value]) => ({ path: place, value })),
    drainHeader: drainHeader === null ? null : readHeader(drainHeader), tls,
  };
}

export function healthForm(health: PoolHealth): Record<string, unknown> {
  const agent = health.agent === undefined ? null : agentForm(health.agent);
  if (health.type === "none") return { type: "none", agent, ...passiveForm(health) };
  const timing = {
    interval: formatDuration(health.intervalMs), timeout: formatDuration(health.timeoutMs),
    fastInterval: optionalForm(health.fastIntervalMs), downInterval: optionalForm(health.downIntervalMs),
    slowStart: formatDuration(health.slowStartMs ?? 0), rise: health.rise, fall: health.fall, jitter: health.jitter, port: health.port,
    via: health.via, source: health.source?.text ?? null, agent, ...passiveForm(health), feedback: feedbackForm(health.feedback),
  };
  switch (health.type) {
    case "tcp": return { type: "tcp", ...timing };
    case "tls": return { type: "tls", ...health.tls, ...timing };
    case "http": return { type: "http", ...httpForm(health), ...timing };
    case "udp": {
      const expect = health.expect === null ? null : formatPayload(health.expect);
      return { type: "udp", send: formatPayload(health.send), expect, ...timing };
    }
    case "redis": {
      const password = health.password === null ? null : formatSecret(health.password);
      return { ...bare(health), password, ...timing };
    }
    case "exec": {
      const environment = Object.fromEntries(health.environment.map(({ name, value }) => [name, formatSecret(value)]));
      return { ...bare(health), environment, ...timing };
    }
    case "grpc": case "dns": case "postgres": case "mysql": case "smtp": case "icmp": return { ...bare(health), ...timing };
  }
}

function bare<H extends HealthTiming>(health: H): Omit<H, keyof HealthTiming> {
  const {
    intervalMs, fastIntervalMs, downIntervalMs, slowStartMs, timeoutMs, rise, fall, jitter, port, via, source, agent, outlier, damping,
    feedback, ...own
  } = health;
  return own;
}

function httpForm(health: HttpHealth): Record<string, unknown> {
  const { version, method, path, host, headers, statuses, body, bodyMatches, json, drainHeader, tls } = health;
  return {
    version, method, path, host,
    headers: Object.fromEntries(headers.map(({ name, value }) => [name, formatSecret(value)])),
    statuses: statuses.map(formatStatuses), body, bodyMatches,
    json: Object.fromEntries(json.map((field) => [field.path, field.value])),
    drainHeader: drainHeader === null ? null : formatHeader(drainHeader), tls,
  };
}

function formatHeader({ name, value }: { readonly name: string; readonly value: string | null }): string {
  return value === null ? name : `${name}: ${value}`;
}
