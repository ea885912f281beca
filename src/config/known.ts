// What the published schema says about a path: which keys, types and defaults belong there. Reads
// the JSON Schema as plain data, so that hints, docs and editors agree. Must never know zod.

import * as z from "zod";
import { configSchema } from "./schema.ts";
import type { Path } from "./problem.ts";

/** What a key can be told to be, literally. */
export type Word = string | number | boolean;

/** The part of JSON Schema that z.toJSONSchema writes. */
export interface SchemaNode {
  readonly $ref?: string;
  readonly $defs?: Readonly<Record<string, SchemaNode>>;
  readonly type?: string;
  readonly title?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly const?: Word;
  readonly enum?: readonly Word[];
  readonly examples?: readonly Word[];
  readonly pattern?: string;
  /** A secret. */
  readonly writeOnly?: boolean;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: SchemaNode | false;
  readonly items?: SchemaNode;
  readonly anyOf?: readonly SchemaNode[];
  readonly oneOf?: readonly SchemaNode[];
}

let published: SchemaNode | null = null;

/** The JSON Schema of the config file, as an editor needs it: defaults are not required. */
export function jsonSchema(): SchemaNode {
  published ??= z.toJSONSchema(configSchema, { io: "input" }) as SchemaNode;
  return published;
}

/** The node itself, without reference and alternatives that only say null. */
export function resolveNode(node: SchemaNode): SchemaNode {
  let resolved = node;
  if (node.$ref !== undefined) {
    const target = jsonSchema().$defs?.[node.$ref.slice("#/$defs/".length)] ?? {};
    resolved = { ...target, ...node };
  }
  const alternatives = resolved.anyOf?.filter((each) => each.type !== "null");
  const only = alternatives?.[0];
  if (alternatives?.length !== 1 || only === undefined) return resolved;
  const { anyOf: _, ...rest } = resolved;
  return { ...resolveNode(only), ...rest };
}

/** What belongs at a path of this value, or null where nothing does. */
export function schemaAt(path: Path, value: unknown): SchemaNode | null {
  let node: SchemaNode | null = resolveNode(jsonSchema());
  let here: unknown = value;
  for (const segment of path) {
    node = chooseBranch(node, here);
    const child: SchemaNode | undefined = childOf(node, segment);
    if (child === undefined) return null;
    node = resolveNode(child);
    here = (here as Record<string | number, unknown> | null | undefined)?.[segment];
  }
  return chooseBranch(node, here);
}

/**
 * Of the kinds that a `type` key tells apart, the one that the value names; else the first with
 * keys.
 */
function chooseBranch(node: SchemaNode, value: unknown): SchemaNode {
  const branches = node.oneOf?.filter((branch) => branch.properties !== undefined) ?? [];
  if (branches.length === 0) return node;
  const kind = (value as { type?: unknown } | null | undefined)?.type;
  const chosen = branches.find((branch) => branch.properties?.["type"]?.const === kind);
  return { ...node, ...(chosen ?? mergeKinds(branches)) };
}

/** Without a kind, `type` is one of all of them. */
function mergeKinds(branches: readonly SchemaNode[]): SchemaNode {
  const kinds = branches.map(
    (branch) => branch.properties?.["type"]?.const,
  ).filter((kind) => kind !== undefined);
  return { properties: { type: { type: "string", enum: kinds } } };
}

function childOf(node: SchemaNode, segment: string | number): SchemaNode | undefined {
  if (typeof segment === "number") return node.items;
  if (node.properties !== undefined && Object.hasOwn(
    node.properties, segment,
  )) return node.properties[segment];
  return node.additionalProperties === false ? undefined : node.additionalProperties;
}

/** The known word nearest to a mistyped one, if any is near enough to be meant. */
export function nearest(word: string, known: readonly string[]): string | null {
  if (word.length > 64) return null;
  let best: string | null = null;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    const distance = wordDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance >= bestDistance) continue;
    best = candidate;
    bestDistance = distance;
  }
  return best;
}

/** A word that was cut short is meant more likely than one that looks similar. */
function wordDistance(word: string, candidate: string): number {
  if (word === candidate) return 0;
  return word.length >= 3 && candidate.startsWith(word) ? 0.5 : editDistance(word, candidate);
}

/** Insertions, deletions, replacements and swaps of neighbours (optimal string alignment). */
export function editDistance(a: string, b: string): number {
  const width = b.length + 1;
  const cost = new Uint16Array((a.length + 1) * width);
  const at = (row: number, column: number): number => cost[row * width + column] ?? 0;
  for (let row = 0; row <= a.length; row += 1) {
    for (let column = 0; column <= b.length; column += 1) {
      if (row === 0 || column === 0) {
        cost[row * width + column] = row + column;
        continue;
      }
      const same = a[row - 1] === b[column - 1];
      let least = Math.min(
        at(row - 1, column) + 1, at(row, column - 1) + 1, at(row - 1, column - 1) + (same ? 0 : 1),
      );
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        least = Math.min(least, at(row - 2, column - 2) + 1);
      }
      cost[row * width + column] = least;
    }
  }
  return at(a.length, b.length);
}
