// What health checks of a config need of this host, for `doctor` and `check`: files that they read, addresses that
// they come from, programs that they run. Knows configs and files; reads no secret, and asks no backend.

import type { HostCheck } from "../dataplane/host_check.ts";
import { check } from "../dataplane/host_check.ts";
import type { Env } from "../env.ts";
import type { Config } from "../model/config.ts";
import type { PoolHealth, ProbeSecret } from "../model/health_check.ts";

type World = Pick<Env, "files" | "net" | "variables">;

export function healthNeeds(env: World, { pools }: Config): HostCheck[] {
  const healths = pools.map(({ health }) => health);
  return [...files(env, healths), ...sources(env, healths), ...programs(env, healths)];
}

/** For a config that may be meant for another host: what is missing, and nothing else. */
export function missingFiles(env: Pick<Env, "files">, { pools }: Config): HostCheck[] {
  return files(env, pools.map(({ health }) => health)).filter(({ level }) => level !== "ok");
}

function files(env: Pick<Env, "files">, healths: readonly PoolHealth[]): HostCheck[] {
  const paths = [...new Set(healths.flatMap(pathsOf))].sort();
  if (paths.length === 0) return [];
  const missing = paths.filter((path) => !isThere(env, path));
  const found = missing.length === 0 ? `${paths.join(", ")}: there` : `${missing.join(", ")}: not there, or not readable`;
  return [check("probe files", missing.length === 0, found,
    "without them probes say nothing of their backends: create them, readable by whoever runs pointsman", "warning")];
}

function pathsOf(health: PoolHealth): string[] {
  const secrets: (ProbeSecret | null)[] = [];
  if (health.type === "http") secrets.push(...health.headers.map(({ value }) => value));
  if (health.type === "exec") secrets.push(...health.environment.map(({ value }) => value));
  if (health.type === "redis") secrets.push(health.password);
  const ca = "tls" in health ? health.tls?.ca ?? null : null;
  const named = secrets.flatMap((secret) => (secret?.from === "file" ? [secret.path] : []));
  return ca === null ? named : [ca, ...named];
}

/** Opened, not looked at: that may be refused to us. */
function isThere(env: Pick<Env, "files">, path: string): boolean {
  try {
    return env.files.read(path) !== null;
  } catch {
    return false;
  }
}

function sources(env: World, healths: readonly PoolHealth[]): HostCheck[] {
  const wanted = [...new Set(healths.flatMap((health) => (health.type === "none" ? [] : health.source?.text ?? [])))].sort();
  if (wanted.length === 0) return [];
  const local = new Set(env.net.localAddresses());
  const missing = wanted.filter((text) => !local.has(text));
  return [check("probe sources", missing.length === 0,
    missing.length === 0 ? `${wanted.join(", ")}: on this host` : `${missing.join(", ")}: not on this host`,
    "without them probes say nothing of their backends: add the addresses, or leave source out", "warning")];
}

function programs(env: World, healths: readonly PoolHealth[]): HostCheck[] {
  const checks: HostCheck[] = [];
  if (healths.some(({ type }) => type === "icmp")) {
    const isThereFor = (env.variables["PATH"] ?? "").split(":").some((directory) => env.files.exists(`${directory}/ping`));
    checks.push(check("ping", isThereFor, isThereFor ? "installed" : "not installed", "for probes of type icmp: iputils-ping", "warning"));
  }
  const commands = [...new Set(healths.flatMap((health) => (health.type === "exec" ? [health.command] : [])))].sort();
  if (commands.length > 0) {
    const missing = commands.filter((path) => !env.files.exists(path));
    const found = missing.length === 0 ? `${commands.join(", ")}: there; begin with run --exec-probes` : `${missing.join(", ")}: not there`;
    checks.push(check("probe commands", missing.length === 0, found, "install them, or correct health.command", "warning"));
  }
  return checks;
}
