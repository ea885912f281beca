// The databases that services with regions name: read when a config is accepted, so a reload takes up a file
// that was replaced. One that cannot be used at a reload leaves the prefixes that are in force. Knows files;
// must never know what is in them.

import type { Env } from "../env.ts";
import { Failure } from "../errors.ts";
import { makeRegionsAside } from "../geo/load.ts";
import type { RegionsMade } from "../geo/load.ts";
import type { Config, Problem, Region, ServiceConfig, ServiceGeo } from "../model/config.ts";
import { RegionPrefixes, withoutRegions } from "../model/regions.ts";
import type { RegionRule } from "../geo/prefixes.ts";
import { sha256 } from "./state.ts";

type Files = Pick<Env, "files">;

export interface WithRegions {
  readonly config: Config;
  /** Of databases that cannot be used, while what was read of them before stays. */
  readonly warnings: readonly Problem[];
}

/** What is to be made of a database for one service. */
interface Wanted {
  /** In the file. */
  readonly at: number;
  readonly service: ServiceConfig;
  readonly geo: ServiceGeo;
  readonly rules: readonly RegionRule[];
}

/** A service's prefixes, and why they are not those of the file. */
interface Found {
  readonly prefixes: RegionPrefixes | null;
  readonly reason: string | null;
}

/**
 * The config with the prefixes of every region. `before` is what is in force. Throws CONFIG_INVALID with each
 * database that cannot be used, unless what is in force was made of the same path for the same regions.
 */
export async function readRegions(config: Config, file: string, env: Files, before: Config | null): Promise<WithRegions> {
  const found = await findRegions(config, env, before);
  const [problems, warnings]: [Problem[], Problem[]] = [[], []];
  for (const [{ at, geo }, { prefixes, reason }] of found) {
    if (reason === null) continue;
    const problem = { file, line: 1, column: 1, path: `services[${at}].geo.database` };
    if (prefixes === null) problems.push({ ...problem, severity: "error", reason, hint: hintFor(geo) });
    else warnings.push({ ...problem, severity: "warning", reason: `${reason}; what was read of it before stays`, hint: hintFor(geo) });
  }
  const [first] = problems;
  if (first !== undefined) throw new Failure("CONFIG_INVALID", { problems }, first.reason);
  return { config: withPrefixes(config, found), warnings };
}

/** The same for a config without a running instance: where a database cannot be used, all clients are the service's own. */
export async function readableRegions(
  config: Config, env: Files,
): Promise<{ readonly config: Config; readonly reasons: readonly string[] }> {
  const found = await findRegions(config, env, null);
  const reasons = new Set([...found.values()].flatMap(({ reason }) => reason ?? []));
  return { config: withPrefixes(config, found), reasons: [...reasons] };
}

/** What changed, in a sentence for each service whose prefixes are others than before. */
export function regionsChanged(before: Config | null, after: Config): { readonly service: string; readonly message: string }[] {
  return withoutRegions(after.services).flatMap((service) => {
    const prefixes = service.geo?.prefixes ?? null;
    if (prefixes === null || prefixesOf(before, service.name)?.key === prefixes.key) return [];
    const { source, size } = prefixes;
    const of = source === null ? "networks alone" : `${source.type} of ${new Date(source.builtAtMs).toISOString().slice(0, 10)}`;
    return [{ service: service.name, message: `regions are those of ${of}: ${size} ${size === 1 ? "prefix" : "prefixes"}` }];
  });
}

function prefixesOf(config: Config | null, name: string): RegionPrefixes | null {
  return config?.services.find((service) => service.name === name)?.geo?.prefixes ?? null;
}

function hintFor({ database }: ServiceGeo): string {
  return `put a database with countries in MaxMind's format at ${database ?? ""}`;
}

/** Each database is read once, whatever the number of services that it is for. */
async function findRegions(config: Config, env: Files, before: Config | null): Promise<ReadonlyMap<Wanted, Found>> {
  const wanted = withoutRegions(config.services).flatMap((service, at): Wanted[] =>
    service.geo === null ? [] : [{ at, service, geo: service.geo, rules: service.geo.regions.map(ruleOf) }]);
  const found = new Map<Wanted, Found>();
  for (const path of new Set(wanted.map(({ geo }) => geo.database))) {
    const here = wanted.filter(({ geo }) => geo.database === path);
    const content = contentOf(path, env);
    const keys = here.map(({ rules }) => keyOf(content, rules));
    const kept = here.map(({ service }, index) => sameKey(prefixesOf(before, service.name), keys[index]!));
    const made = "reason" in content ? content
      : kept.every((each) => each !== null) ? null : await makeRegionsAside(content.bytes, here.map(({ rules }) => rules));
    for (const [index, each] of here.entries()) {
      const prefixes = kept[index] ?? madeFor(made, index, keys[index]!);
      found.set(each, prefixes !== null ? { prefixes, reason: null } : fallback(each, before, `${path}: ${reasonOf(made)}`));
    }
  }
  return found;
}

function ruleOf({ countries, continents, networks }: Region): RegionRule {
  return { countries, continents, networks: networks.map(({ text }) => text) };
}

type Content = { readonly bytes: Uint8Array | null; readonly digest: string } | { readonly reason: string };

function contentOf(path: string | null, { files }: Files): Content {
  if (path === null) return { bytes: null, digest: "" };
  try {
    const bytes = files.read(path);
    return bytes === null ? { reason: "there is no such file" } : { bytes, digest: sha256(bytes) };
  } catch (error) {
    return { reason: `it cannot be read: ${error instanceof Error ? error.message : String(error)}` };
  }
}

function keyOf(content: Content, rules: readonly RegionRule[]): string {
  const digest = "reason" in content ? "" : content.digest;
  return sha256(new TextEncoder().encode(JSON.stringify([digest, rules]))).slice(0, 16);
}

function sameKey(prefixes: RegionPrefixes | null, key: string): RegionPrefixes | null {
  return prefixes?.key === key ? prefixes : null;
}

function madeFor(made: RegionsMade | null, index: number, key: string): RegionPrefixes | null {
  return made === null || "reason" in made ? null : new RegionPrefixes(key, made.source, made.columns[index]!);
}

function reasonOf(made: RegionsMade | null): string {
  return made !== null && "reason" in made ? made.reason : "it cannot be used";
}

/** Prefixes in force of the same path and for the same regions, or none. */
function fallback({ service, geo, rules }: Wanted, before: Config | null, reason: string): Found {
  const old = before?.services.find(({ name }) => name === service.name)?.geo ?? null;
  const isSame = old?.database === geo.database && JSON.stringify(old.regions.map(ruleOf)) === JSON.stringify(rules);
  return { prefixes: isSame ? old.prefixes : null, reason };
}

function withPrefixes(config: Config, found: ReadonlyMap<Wanted, Found>): Config {
  if (found.size === 0) return config;
  const byService = new Map([...found].map(([{ service }, { prefixes }]) => [service, prefixes]));
  const services = config.services.map((service): ServiceConfig =>
    service.geo === null ? service : { ...service, geo: { ...service.geo, prefixes: byService.get(service) ?? null } });
  return { ...config, services };
}
