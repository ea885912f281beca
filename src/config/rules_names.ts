// Cross-field rules about names and who is who: duplicates, references, keys of the ring. Each rule
// is a function of the draft and looks at every item that parsed. Must never look at one field
// alone.

import { formatEndpoint } from "../model/address.ts";
import { singlePort } from "../model/service_address.ts";
import { checkName } from "./formats.ts";
import { nearest } from "./known.ts";
import type { Draft, DraftBackend, DraftPool, DraftService } from "./draft.ts";
import { pathText, quoted } from "./problem.ts";
import type { Finding, Path } from "./problem.ts";

export type Rule = (draft: Draft) => Iterable<Finding>;

export function error(path: Path, reason: string, hint: string | null = null): Finding {
  return { severity: "error", path, at: "value", reason, hint };
}

export function warning(path: Path, reason: string, hint: string | null = null): Finding {
  return { severity: "warning", path, at: "value", reason, hint };
}

function atKey(finding: Finding): Finding {
  return { ...finding, at: "key" };
}

/** For each item whose text another one had before: the item, and the first with that text. */
export function* repeats<T>(
  items: Iterable<T>, textOf: (item: T) => string | undefined,
): Iterable<[T, T]> {
  const first = new Map<string, T>();
  for (const item of items) {
    const text = textOf(item);
    if (text === undefined) continue;
    const before = first.get(text);
    if (before === undefined) first.set(text, item);
    else yield [item, before];
  }
}

function* poolNames(draft: Draft): Iterable<Finding> {
  for (const pool of draft.pools) {
    const complaint = pool.inline ? null : checkName(pool.name);
    if (complaint !== null) yield atKey(error(pool.path, complaint.reason, complaint.hint));
  }
}

function* duplicateServices(draft: Draft): Iterable<Finding> {
  for (const [service, before] of repeats(draft.services, ({ fields }) => fields.name)) {
    const reason =
      `the service name ${quoted(service.fields.name ?? "")} is taken by ${pathText(before.path)}`;
    yield error([...service.path, "name"], reason);
  }
}

export function serviceName(service: DraftService): string {
  return service.fields.name === undefined ? pathText(
    service.path,
  ) : `service ${quoted(service.fields.name)}`;
}

function* duplicateBackends(draft: Draft): Iterable<Finding> {
  for (const pool of draft.pools) {
    for (const [backend, before] of repeats(pool.backends ?? [], ({ fields }) => fields.name)) {
      const name = quoted(backend.fields.name ?? "");
      const reason = `the backend name ${name} is taken by ${pathText(before.path)}`;
      yield error([...backend.path, "name"], reason, "names are unique in a pool");
    }
  }
}

/**
 * Two backends with one key would want the same places of the ring. Keys depend on the service's
 * port.
 */
function* duplicateRingKeys(draft: Draft): Iterable<Finding> {
  const said = new Set<DraftBackend>();
  for (const [pool, service] of poolUses(draft)) {
    const keyOf = (backend: DraftBackend): string | undefined => ringKey(backend, service);
    for (const [backend, before] of repeats(pool.backends ?? [], keyOf)) {
      if (said.has(backend)) continue;
      said.add(backend);
      const field = typeof backend.fields.hashKey === "string" ? "hashKey" : "address";
      const reason =
        `the ring key ${quoted(keyOf(backend) ?? "")} is already that of ${pathText(before.path)}`;
      yield error([
        ...backend.path, field,
      ], reason, "use another address or port, or give one of them a hashKey");
    }
  }
}

/** Each pool with each service that uses it; a pool without any stands alone. */
export function* poolUses(draft: Draft): Iterable<[DraftPool, DraftService | null]> {
  const used = new Set<DraftPool>();
  for (const service of draft.services) {
    for (const pool of service.pools) {
      used.add(pool);
      yield [pool, service];
    }
  }
  for (const pool of draft.pools) if (!used.has(pool)) yield [pool, null];
}

function ringKey(
  { address, fields }: DraftBackend, service: DraftService | null,
): string | undefined {
  if (typeof fields.hashKey === "string") return fields.hashKey;
  if (address === null || fields.hashKey === undefined || fields.port === undefined) {
    return undefined;
  }
  if (typeof service?.fields.affinityGroup === "string") return address.text;
  if (service === null || fields.port !== null) return formatEndpoint(address, fields.port ?? 0);
  if (service.ports === null) return undefined;
  const port = singlePort(service.ports);
  return port === null ? address.text : formatEndpoint(address, port);
}

/** Different keys, but one and the same socket: half of its flows would be counted elsewhere. */
function* sameDestinations(draft: Draft): Iterable<Finding> {
  for (const pool of draft.pools) {
    const pointOf = ({ address, fields }: DraftBackend): string | undefined => {
      if (address === null || fields.port === undefined || typeof fields.hashKey !== "string") {
        return undefined;
      }
      return formatEndpoint(address, fields.port ?? 0);
    };
    for (const [backend, before] of repeats(pool.backends ?? [], pointOf)) {
      const reason = `leads to the same place as ${pathText(before.path)}`;
      yield warning(
        [...backend.path, "address"], reason, "for a larger share, raise the weight instead",
      );
    }
  }
}

function* unknownPools(draft: Draft): Iterable<Finding> {
  const names = draft.pools.filter((pool) => !pool.inline).map((pool) => pool.name);
  for (const { fields, path, inlines } of draft.services) {
    const wanted: [Path, string][] = fields.pool === undefined || inlines.backends ? [] : [[[...path, "pool"], fields.pool]];
    const subsets = inlines.backends ? [] : fields.split ?? [];
    for (const [index, { pool }] of subsets.entries()) wanted.push([[...path, "split", index, "pool"], pool]);
    for (const [index, { pool }] of (fields.geo?.regions ?? []).entries()) wanted.push([[...path, "geo", "regions", index, "pool"], pool]);
    for (const [place, name] of wanted) {
      if (names.includes(name)) continue;
      const meant = nearest(name, names);
      const known =
        names.length === 0 ? "there are no pools" : `pools: ${names.slice(0, 10).join(", ")}`;
      yield error(place, `there is no pool ${quoted(name)}`, meant === null ? known : `did you mean ${quoted(meant)}?`);
    }
  }
}

function* unusedPools(draft: Draft): Iterable<Finding> {
  // A service whose pool is not known may mean this one.
  if (draft.services.some(({ lacksPool }) => lacksPool)) return;
  const used = new Set(draft.services.flatMap(({ pools }) => pools.map(({ name }) => name)));
  for (const pool of draft.pools) {
    if (pool.inline || used.has(pool.name)) continue;
    yield atKey(
      warning(pool.path, "no service uses this pool", "its backends are neither probed nor used"),
    );
  }
}

function* poolOrInline(draft: Draft): Iterable<Finding> {
  for (const { fields, path, inlines } of draft.services) {
    const isSplit = hasKey(draft.root, path, "split");
    const named = isSplit || fields.pool !== undefined || hasKey(draft.root, path, "pool");
    if (isSplit && hasKey(draft.root, path, "pool")) {
      yield atKey(error([...path, "split"], "a service has a pool or a split over several, not both", "remove one of them"));
    } else if (named && inlines.backends) {
      yield atKey(error([
        ...path, "backends",
      ], `a service has ${isSplit ? "a split over pools" : "a pool"} or backends of its own, not both`,
        "remove one of them"));
    } else if (named && inlines.health) {
      yield atKey(
        error([...path, "health"], "the health check belongs to the pool", "move it there"),
      );
    } else if (!named && !inlines.backends) {
      yield error(
        path, "the service has neither a pool nor backends", "add pool: NAME, split: [...], or backends: [...]",
      );
    }
  }
}

function hasKey(root: unknown, path: Path, key: string): boolean {
  let value = root;
  for (const segment of path) {
    value = (value as Record<string | number, unknown> | null | undefined)?.[segment];
  }
  return typeof value === "object" && value !== null && Object.hasOwn(value, key);
}

/** Backends are addressed pool/name, and an inline pool is named after its service. */
function* inlineNames(draft: Draft): Iterable<Finding> {
  const declared = new Set(draft.pools.filter((pool) => !pool.inline).map((pool) => pool.name));
  for (const { fields, path, inlines } of draft.services) {
    if (!inlines.backends || fields.pool !== undefined) continue;
    if (fields.name === undefined || !declared.has(fields.name)) continue;
    const reason =
      `the inline pool would be called ${quoted(fields.name)}, which is another pool's name`;
    yield error([...path, "name"], reason, "rename the service or the pool");
  }
}

export const NAME_RULES: readonly Rule[] = [
  poolNames, duplicateServices, duplicateBackends, duplicateRingKeys,
  sameDestinations, unknownPools, unusedPools, poolOrInline, inlineNames,
];
