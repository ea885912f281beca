// What the rules look at: every service, pool and backend of the file, each with those of its
// fields that the schema accepts. One wrong type takes away one field and hides no other mistake.
// Knows the schema; must never complain (that is explain.ts) or judge (that is rules).

import * as z from "zod";
import { backendSchema, configSchema, serviceSchema } from "./schema.ts";
import { timingSchema } from "./schema_health.ts";
import { inlineRuleKeys, poolRuleKeys } from "./schema_pool.ts";
import type { RawBackend, RawConfig, RawService } from "./schema.ts";
import { parseAddress } from "../model/address.ts";
import type { Address, Prefix } from "../model/address.ts";
import type { PortRange } from "../model/service_address.ts";
import { readPorts, readVirtualAddress } from "./formats.ts";
import type { HostFacts } from "./host.ts";
import type { Path } from "./problem.ts";

export interface DraftBackend {
  readonly path: Path;
  readonly address: Address | null;
  readonly fields: Partial<RawBackend>;
}

export interface DraftHealth {
  readonly type: unknown;
  /** Everything, as the file says it. */
  readonly keys: Readonly<Record<string, unknown>>;
  readonly timing: Partial<z.output<typeof timingSchema>>;
}

export interface DraftPool {
  readonly name: string;
  readonly path: Path;
  readonly inline: boolean;
  /** undefined: not given. */
  readonly health: DraftHealth | undefined;
  readonly rules: Fields<typeof poolRuleKeys>;
  /** null: no list that could be read. */
  readonly backends: readonly DraftBackend[] | null;
}

export interface DraftService {
  readonly path: Path;
  readonly network: Prefix | null;
  readonly ports: PortRange | null;
  readonly fields: Partial<Omit<RawService, "backends" | "health" | keyof typeof inlineRuleKeys>>;
  /** The pools that it names or inlines, those of a split in its order; then those of its regions. */
  readonly pools: readonly DraftPool[];
  /** It names no pool, or one that there is not. */
  readonly lacksPool: boolean;
  readonly inlines: {
    readonly backends: boolean; readonly health: boolean;
    /** Keys that say who takes flows by who else is up. */
    readonly rules: readonly string[];
  };
}

export interface Draft {
  /** The plain value of the whole file. */
  readonly root: unknown;
  /** What is known of the host; null: nothing. */
  readonly host: HostFacts | null;
  readonly instance: string | undefined;
  /** undefined: none that could be read. */
  readonly zone: string | null | undefined;
  readonly dataplane: Partial<RawConfig["dataplane"]>;
  readonly limits: Partial<RawConfig["limits"]>;
  /** Pools under `pools`, then inline ones. */
  readonly pools: readonly DraftPool[];
  readonly services: readonly DraftService[];
}

type Fields<S extends z.core.$ZodShape> = Partial<z.output<z.ZodObject<S>>>;

/** The fields that parse; those that are missing have their defaults. */
function parseFields<S extends z.core.$ZodShape>(
  schema: z.ZodObject<S>, value: unknown,
): Fields<S> {
  const record = recordOf(value);
  const fields: Record<string, unknown> = {};
  for (const [key, field] of Object.entries(schema.shape)) {
    const parsed = (field as z.ZodType).safeParse(
      Object.hasOwn(record, key) ? record[key] : undefined,
    );
    if (parsed.success && parsed.data !== undefined) fields[key] = parsed.data;
  }
  return fields as Fields<S>;
}

export function recordOf(value: unknown): Readonly<Record<string, unknown>> {
  const isRecord = typeof value === "object" && value !== null && !Array.isArray(value);
  return isRecord ? value as Record<string, unknown> : {};
}

/** What a service says itself; its inline pool is drafted like any other. */
const headSchema = serviceSchema.omit({ backends: true, health: true, reserves: true, sorry: true, spillBelow: true, quorum: true });
const rulesSchema = z.strictObject(poolRuleKeys);
const { dataplane: dataplaneSchema, limits: limitsSchema } = configSchema.shape;

export function draftConfig(root: unknown, host: HostFacts | null = null): Draft {
  const file = recordOf(root);
  const pools = new Map<string, DraftPool>();
  for (const [name, value] of Object.entries(recordOf(file["pools"]))) {
    pools.set(name, draftPool(name, ["pools", name], value, false));
  }
  const list: readonly unknown[] = Array.isArray(file["services"]) ? file["services"] : [];
  const services = list.map((value, index) => draftService(["services", index], value, pools));
  const inline = services.flatMap((service) => service.pools).filter((pool) => pool.inline);
  const instance = configSchema.shape.instance.safeParse(file["instance"]);
  return {
    root, host,
    instance: instance.data,
    zone: configSchema.shape.zone.safeParse(file["zone"]).data,
    dataplane: parseFields(dataplaneSchema.unwrap(), file["dataplane"]),
    limits: parseFields(limitsSchema.unwrap(), file["limits"]),
    pools: [...pools.values(), ...inline],
    services,
  };
}

function draftPool(name: string, path: Path, value: unknown, inline: boolean): DraftPool {
  const record = recordOf(value);
  const list: unknown = record["backends"];
  return {
    name, path, inline,
    health: draftHealth(record["health"]),
    rules: parseFields(rulesSchema, value),
    backends: Array.isArray(list)
      ? list.map((backend, index) => draftBackend([...path, "backends", index], backend))
      : null,
  };
}

function draftBackend(path: Path, value: unknown): DraftBackend {
  const fields = parseFields(backendSchema, value);
  return { path, address: parseAddress(fields.address ?? ""), fields };
}

function draftHealth(value: unknown): DraftHealth | undefined {
  if (value === undefined) return undefined;
  const keys = recordOf(value);
  return { type: keys["type"], keys, timing: parseFields(timingSchema, value) };
}

function draftService(
  path: Path, value: unknown, pools: ReadonlyMap<string, DraftPool>,
): DraftService {
  const record = recordOf(value);
  const fields = parseFields(headSchema, value);
  const inlines = {
    backends: record["backends"] !== undefined, health: record["health"] !== undefined,
    rules: Object.keys(inlineRuleKeys).filter((key) => record[key] !== undefined),
  };
  const names = fields.pool === undefined ? fields.split?.map((subset) => subset.pool) ?? [] : [fields.pool];
  const named = names.flatMap((name) => pools.get(name) ?? []);
  const inline = named.length === 0 && inlines.backends ? [draftPool(fields.name ?? "", path, value, true)] : [];
  const regional = fields.geo?.regions.map((region) => region.pool) ?? [];
  const ofRegions = [...new Set(regional)].flatMap((name) => pools.get(name) ?? []).filter((pool) => !named.includes(pool));
  const lacksPool = inline.length === 0 && (named.length === 0 || named.length < names.length)
    || !regional.every((name) => pools.has(name)) || (record["geo"] !== undefined && fields.geo === undefined);
  const network = fields.address === undefined ? null : readVirtualAddress(fields.address);
  const ports = fields.port === undefined ? null : readPorts(fields.port);
  return { path, network, ports, fields, pools: [...named, ...inline, ...ofRegions], lacksPool, inlines };
}
