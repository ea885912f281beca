// The nouns: commands that change nothing and print what is. Each has one value, which `-o json` prints
// as it is and `-o table` lays out for people.

import type { BackendView, OverrideView, ServiceView, Status } from "../api/schemas.ts";
import { PRESSURE } from "../observe/pressure.ts";
import type { Provenance } from "../model/table.ts";
import { flowsLegend, layAllFlows, layFlows } from "./flows.ts";
import type { Io } from "./io.ts";
import { amount, dateTime, duration, percent, table } from "./table.ts";

export interface NounOptions {
  readonly output: "table" | "json";
  readonly watch: boolean;
}

const CLEAR = "\u001b[H\u001b[2J";
const WATCH_INTERVAL_MS = 1000;

/** Prints a noun once, or again and again until interrupted. */
export async function printNoun<T>(
  io: Io,
  options: NounOptions,
  ask: () => Promise<T>,
  lay: (value: T) => string,
): Promise<void> {
  for (;;) {
    const value = await ask();
    if (options.output === "json") io.out(`${JSON.stringify(value, null, options.watch ? 0 : 2)}\n`);
    else io.out((options.watch && io.isTty ? CLEAR : "") + lay(value));
    if (!options.watch) return;
    if (!(await pause(io, WATCH_INTERVAL_MS))) return;
  }
}

/** False when interrupted meanwhile. */
export function pause(io: Io, ms: number): Promise<boolean> {
  if (io.interrupted.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const end = (): void => {
      cancel();
      resolve(false);
    };
    const cancel = io.env.clock.after(
      ms,
      () => {
        io.interrupted.removeEventListener("abort", end);
        resolve(true);
      },
      true,
    );
    io.interrupted.addEventListener("abort", end, { once: true });
  });
}

function lines(pairs: readonly (readonly [string, string | null])[]): string {
  const shown = pairs.filter((pair): pair is readonly [string, string] => pair[1] !== null);
  const width = Math.max(...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${name.padEnd(width)}  ${value}\n`).join("");
}

/** With the setting that makes room. */
function layPressure(cause: string, count: number): string {
  const known = PRESSURE.find((each) => each.cause === cause);
  return known === undefined ? `${amount(count)} (${cause})` : `${amount(count)} ${known.what} (${known.setting})`;
}

export function layStatus(status: Status, nowMs: number): string {
  const ago = (atMs: number): string => duration(Math.max(0, nowMs - atMs));
  const last = status.lastApply;
  const head = lines([
    [
      "instance",
      `${status.instance} (pid ${status.pid}, pointsman ${status.version}), up ${duration(status.uptimeMs)}`,
    ],
    ["mode", `${status.mode}${status.adopted ? ", adopted" : ""}: ${status.plane.reason}`],
    ["remedy", status.plane.remedy],
    [
      "interfaces",
      status.interfaces.length === 0
        ? null
        : status.interfaces
            .map((each) => `${each.name} (${each.mode} XDP${each.adopted ? ", adopted" : ""})`)
            .join(", "),
    ],
    ...status.refusedInterfaces.map(({ name, reason }): [string, string] => ["refused", `${name}: ${reason}; it is tried again`]),
    ["ready", status.ready ? "yes" : `no: ${status.reasons.join("; ")}`],
    [
      "config",
      `${status.config.file ?? "given by the program"}, revision ${status.config.revision}, loaded ${ago(status.config.loadedAtMs)} ago` +
        (status.config.fileDiffers === true ? "; the file on disk DIFFERS" : ""),
    ],
    ["hash seed", `from ${status.hashSeed}`],
    [
      "last apply",
      last === null
        ? "none yet"
        : last.error === null
          ? `${last.steps} steps in ${last.durationMs.toFixed(1)} ms, ${ago(last.atMs)} ago`
          : `FAILED ${ago(last.atMs)} ago: ${last.error}`,
    ],
    ["flows", layAllFlows(status.flows)],
    ["flow table", layRoom(status.flowTable)],
    ...status.pressure.filter(({ count }) => count > 0)
      .map(({ cause, count }): [string, string] => ["pressure", layPressure(cause, count)]),
    [
      "translated",
      status.nat === null ? null : `${amount(status.nat.count)} of ${amount(status.nat.max)} flows`,
    ],
    ["clients", status.affinities === null ? null : `${layRoom(status.affinities)} remembered`],
  ]);
  const attempts = status.plane.attempts.map(({ what, result }) => `  tried ${what}: ${result}\n`).join("");
  const problems = status.config.problems.map((problem) => `  refused: ${problem.path}: ${problem.reason}\n`).join("");
  const warnings = status.warnings.map((warning) => `  warning: ${warning}\n`).join("");
  const overrides = status.overrides.length === 0 ? "" : `\n${layOverrides(status.overrides, nowMs)}`;
  return `${head}${attempts}${problems}${warnings}\n${layServices(status.services)}\n${layBackends(status.backends, nowMs)}${overrides}`;
}

function layRoom({ count, max }: Status["flowTable"]): string {
  return `${count === null ? "?" : amount(count)} of ${amount(max)}`;
}

export function layServices(services: readonly ServiceView[]): string {
  if (services.length === 0) return "no services\n";
  const hasClients = services.some(({ affinities }) => affinities !== null);
  const clientsOf = ({ affinities }: ServiceView): string => affinities === null ? "" : amount(affinities);
  return table(
    [
      "service", "address", "proto", "forward", "pool", "up", "listening", "slots", "flows",
      ...(hasClients ? ["clients"] : []), "packets/s", "bytes/s", "note",
    ],
    services.map((service) => [
      service.name,
      service.endpoint,
      service.protocol,
      service.forwarding,
      layPools(service),
      `${service.backendsUp}/${service.backends}`,
      service.listening ?? "",
      service.ringSize,
      layFlows(service.flows),
      ...(hasClients ? [clientsOf(service)] : []),
      amount(service.rates.packetsPerSecond),
      amount(service.rates.bytesPerSecond),
      service.error ?? (service.failedOpen ? "failed open: too few are healthy" : layGeo(service)),
    ]),
  ) + flowsLegend(services.map(({ flows }) => flows));
}

/** Of which date the database is that knows its clients' regions. */
function layGeo({ geo }: ServiceView): string {
  if (geo === null || geo.builtAtMs === null) return "";
  return `regions by ${geo.databaseType ?? ""} of ${new Date(geo.builtAtMs).toISOString().slice(0, 10)}`;
}

/** "web", or "web 95%, web-canary 5%": with what a part has now, where that is not its percentage. */
function layPools({ pool, split }: ServiceView): string {
  return pool ?? (split ?? []).map(({ pool: name, percent, share }) => {
    const now = Math.round(share * 10_000) / 100;
    return `${name} ${percent}%${Math.abs(now - percent) < 0.1 ? "" : ` (now ${now}%)`}`;
  }).join(", ");
}

function because(provenance: Provenance): string {
  switch (provenance.source) {
    case "config":
      return "config";
    case "membership":
      return `${provenance.name}${provenance.stale ? " (stale)" : ""}`;
    case "override":
      return `override by ${provenance.actor}`;
    case "health":
    case "pool":
      return provenance.source;
  }
}

export function layBackends(backends: readonly BackendView[], nowMs: number): string {
  if (backends.length === 0) return "no backends\n";
  return table(
    [
      "backend",
      "address",
      "state",
      "for",
      "weight",
      "of",
      "slots",
      "share",
      "flows",
      "by",
      "packets/s",
      "next hop",
      "reason",
    ],
    backends.map((backend) => [
      backend.name,
      backend.address,
      backend.state,
      backend.sinceMs === null ? "" : duration(Math.max(0, nowMs - backend.sinceMs)),
      backend.weight,
      because(backend.weightProvenance),
      backend.slots,
      percent(backend.share),
      layFlows(backend.flows),
      backend.actor ?? "",
      amount(backend.rates.packetsPerSecond),
      [...new Set(backend.destinations.map(({ neighbour, pathMtu }) =>
        `${neighbour ?? ""}${pathMtu === null ? "" : `, path MTU ${pathMtu}`}`))].join(" "),
      backend.reason,
    ]),
  ) + flowsLegend(backends.map(({ flows }) => flows));
}

export function layChange(change: OverrideView["change"]): string {
  if (change.kind === "weight") return `weight ${change.weight}`;
  if (change.kind === "maintenance" || change.timeoutMs === undefined) return change.kind;
  return `drain, ${duration(change.timeoutMs)} at most`;
}

export function layOverrides(overrides: readonly OverrideView[], nowMs: number): string {
  if (overrides.length === 0) return "no overrides\n";
  return table(
    ["override", "change", "by", "at", "expires", "reason", "note"],
    overrides.map((override) => [
      override.target,
      layChange(override.change),
      override.actor,
      dateTime(override.atMs),
      override.expiresAtMs === null ? "never" : `in ${duration(Math.max(0, override.expiresAtMs - nowMs))}`,
      override.reason ?? "",
      override.matches ? "" : "no such backend in the config",
    ]),
  );
}
