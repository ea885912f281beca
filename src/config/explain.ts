// What the schema refuses, in words: what was expected, what was found, and what to write instead.
// Knows zod's issues and the published schema; must never know lines and columns.

import type * as z from "zod";
import { nearest, schemaAt } from "./known.ts";
import type { SchemaNode, Word } from "./known.ts";
import { quoted } from "./problem.ts";
import type { Finding, Path } from "./problem.ts";

type Issue = z.core.$ZodIssue;

/** How a scalar is written in the file, or null. */
export type Written = (path: Path) => string | null;

export function explainIssue(issue: Issue, root: unknown, written: Written): Finding[] {
  const path = issue.path.map((segment) => typeof segment === "symbol" ? String(segment) : segment);
  if (issue.code === "unrecognized_keys") return issue.keys.map(
    (key) => unknownKey(path, key, root),
  );
  const value = valueAt(root, path);
  const node = schemaAt(path, root);
  const words = value === undefined ? missing(path, node) : explain(
    issue, value, node, written(path),
  );
  return [{ severity: "error", path, at: "value", ...words }];
}

function unknownKey(path: Path, key: string, root: unknown): Finding {
  const known = Object.keys(schemaAt(path, root)?.properties ?? {});
  const meant = nearest(key, known);
  let hint: string | null = `known here: ${known.join(", ")}`;
  if (meant !== null) hint = `did you mean ${quoted(meant)}?`;
  else if (key === "<<") hint = null;
  return { severity: "error", path: [...path, key], at: "key", reason: "unknown key", hint };
}

interface Words {
  readonly reason: string;
  readonly hint: string | null;
}

function explain(
  issue: Issue, value: unknown, node: SchemaNode | null, written: string | null,
): Words {
  if (value === null) {
    return {
      reason: `expected ${nounOf(node)}; found nothing`, hint: "give a value, or remove the key",
    };
  }
  if (issue.code === "custom") {
    const hint: unknown = issue.params?.["hint"];
    return { reason: issue.message, hint: typeof hint === "string" ? hint : null };
  }
  if (node?.writeOnly === true) {
    return { reason: `expected ${nounOf(node)}`, hint: remedy("", node, null) };
  }
  const bounds = outOfBounds(value, node, written);
  if (bounds !== null) return bounds;
  const words = wordsOf(node);
  if (words !== null) return notOneOf(value, words);
  if (issue.code === "too_small" && Array.isArray(value)) {
    return { reason: "the list is empty", hint: nounOf(node) };
  }
  if (issue.code === "not_multiple_of") {
    return { reason: `${describe(value, written)} is no multiple of ${issue.divisor}`, hint: nounOf(node) };
  }
  if (value === "") return { reason: "the text is empty", hint: null };
  if (issue.code === "too_big" && typeof value === "string") {
    return { reason: `the text is longer than ${issue.maximum} characters`, hint: null };
  }
  return { reason: `expected ${nounOf(node)}, found ${describe(value, written)}`, hint: remedy(
    value, node, written,
  ) };
}

function missing(path: Path, node: SchemaNode | null): Words {
  const key = String(path.at(-1));
  if (node?.const !== undefined) {
    return { reason: "is required", hint: `${key}: ${String(node.const)}` };
  }
  const example = node?.examples?.[0];
  const such = example === undefined ? "" : `, such as ${key}: ${String(example)}`;
  return { reason: "is required", hint: `${nounOf(node)}${such}` };
}

function outOfBounds(
  value: unknown, node: SchemaNode | null, written: string | null,
): Words | null {
  if (typeof value !== "number" || Number.isNaN(value)) return null;
  const { minimum, maximum } = node ?? {};
  if (minimum === undefined || maximum === undefined) return null;
  const hint =
    `${node?.type === "integer" ? "a whole number" : "a number"} from ${minimum} to ${maximum}`;
  if (node?.title === "a port" && value === 0) return { reason: "port 0 means nothing here", hint };
  const found = written ?? String(value);
  if (value < minimum) return { reason: `${found} is less than ${minimum}`, hint };
  if (value > maximum) return { reason: `${found} is more than ${maximum}`, hint };
  return null;
}

function wordsOf(node: SchemaNode | null): readonly Word[] | null {
  if (node?.const !== undefined) return [node.const];
  return node?.enum ?? null;
}

function notOneOf(value: unknown, words: readonly Word[]): Words {
  const meant = typeof value === "string" ? nearest(value, words.map(String)) : null;
  const quotesOnly = meant === value && words.every((word) => word !== value);
  const list = words.join(", ");
  const found = describe(value, null);
  const expected = words.length === 1 ? `expected ${list},` : `expected one of ${list};`;
  const reason = `${expected} found ${found}`;
  if (quotesOnly) return { reason, hint: "remove the quotes" };
  return { reason, hint: meant === null ? null : `did you mean ${quoted(meant)}?` };
}

function nounOf(node: SchemaNode | null): string {
  const words = wordsOf(node);
  if (words !== null) return words.length === 1 ? words.join("") : `one of ${words.join(", ")}`;
  if (node?.title !== undefined) return node.title;
  switch (node?.type) {
    case "integer": return "a whole number";
    case "number": return "a number";
    case "boolean": return "true or false";
    case "object": return "a mapping";
    case "array": return "a list";
    default: return "a text";
  }
}

function remedy(value: unknown, node: SchemaNode | null, written: string | null): string | null {
  const example = node?.examples?.[0];
  const such = example === undefined ? null : `such as ${String(example)}`;
  if (node?.type === "string" && (typeof value === "number" || typeof value === "boolean")) {
    if (node.title === "a duration") {
      return `durations carry a unit: ${String(value)}s or ${String(value)}ms`;
    }
    if (node.title?.startsWith("an IP address") === true) return such;
    return `put it in quotes: "${written ?? String(value)}"`;
  }
  const wantsNumber = node?.type === "integer" || node?.type === "number";
  if (wantsNumber && typeof value === "string" && /^-?\d+(\.\d+)?$/.test(value)) {
    return "remove the quotes";
  }
  if (node?.type === "boolean" && /^(yes|on|no|off)$/i.test(String(value))) {
    return `write ${/^(yes|on)$/i.test(String(value)) ? "true" : "false"}`;
  }
  const kinds = node?.properties?.["type"]?.enum;
  if (kinds !== undefined) {
    return `such as { type: ${String(kinds.find((kind) => kind === value) ?? kinds.at(-1))} }`;
  }
  if (node?.type === "array" && written !== null) return `write a list: [${written.slice(0, 60)}]`;
  return such;
}

function describe(value: unknown, written: string | null): string {
  if (Array.isArray(value)) return "a list";
  switch (typeof value) {
    case "string": return `the text ${quoted(value)}`;
    case "number": return `the number ${written ?? String(value)}`;
    case "boolean": return String(value);
    case "object": return "a mapping";
    default: return "nothing";
  }
}

/** The value at a path, or undefined. */
export function valueAt(root: unknown, path: Path): unknown {
  let value = root;
  for (const segment of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(
      value, segment,
    )) return undefined;
    value = (value as Record<string | number, unknown>)[segment];
  }
  return value;
}
