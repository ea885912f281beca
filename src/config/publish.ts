// What is published about the config file: the JSON Schema for editors and the reference for
// people, both from the one definition. Pure functions of the schema and the feature table;
// scripts/generate.ts writes the files. Must never write anything.

import {
  FEATURE_KEYS, dependsOnForwarding, supportOf,
} from "../model/features.ts";
import type { FeatureKey, Plane, Support } from "../model/features.ts";
import type { Forwarding } from "../model/config.ts";
import { jsonSchema, resolveNode } from "./known.ts";
import type { SchemaNode } from "./known.ts";

const SCHEMA_TITLE = "pointsman configuration";

/** Contents of schema/pointsman.schema.json. */
export function jsonSchemaText(): string {
  const { $schema, ...rest } = jsonSchema() as SchemaNode & { readonly $schema?: string };
  return `${JSON.stringify({ $schema, title: SCHEMA_TITLE, ...rest }, null, 2)}\n`;
}

const INTRODUCTION = `# Configuration reference

<!-- Written by scripts/generate.ts from src/config/schema.ts and src/model/features.ts. -->

A config is one YAML file (JSON is YAML, too). \`pointsman check FILE\` prints every problem as
\`file:line:column: path: reason (hint)\`; \`pointsman config show --effective\` prints the file with
every default. [schema/pointsman.schema.json](../schema/pointsman.schema.json) makes editors complete
and check it: put \`# yaml-language-server: $schema=...\` on its first line.

Unknown keys are errors. Durations carry a unit (\`500ms\`, \`2s\`, \`1m\`, \`1h\`). Names match
\`[a-z0-9][a-z0-9._-]{0,62}\`. Where a key may be null, null stands for the default that its
description names. YAML 1.2 is read: \`no\` is a text, and numbers with leading zeros are refused.
Not accepted: more than 4 MiB, anything but UTF-8, several documents, merge keys (\`<<\`), tags, and
keys that appear twice.

[examples/pointsman.yaml](../examples/pointsman.yaml) is a deployment on a NIC,
[examples/laptop.yaml](../examples/laptop.yaml) runs without root.
`;

/** Contents of docs/config.md. */
export function configReferenceText(): string {
  const root = resolveNode(jsonSchema());
  const sections: string[] = [INTRODUCTION];
  sections.push(...objectSections("## The file", "", root));
  for (const [name, node] of Object.entries(root.$defs ?? {}).toSorted(byReadingOrder)) {
    sections.push(...definitionSections(name.toLowerCase(), node));
  }
  sections.push(featureSection());
  return `${sections.map((section) => section.trim()).join("\n\n")}\n`;
}

/** The order in which a reader meets them, not the one in which the schema mentions them. */
const READING_ORDER = ["Service", "QUIC-LB-config", "Pool", "Backend", "Health", "Certificate-check", "Agent"];

function byReadingOrder(a: [string, SchemaNode], b: [string, SchemaNode]): number {
  return READING_ORDER.indexOf(a[0]) - READING_ORDER.indexOf(b[0]);
}

function definitionSections(name: string, node: SchemaNode): string[] {
  if (node.properties !== undefined) return objectSections(`## ${withArticle(name, "A")}`, "", node);
  const sections = [`## A ${name} check\n\n${node.description ?? ""}`];
  for (const kind of node.oneOf ?? []) {
    const type = String(kind.properties?.["type"]?.const);
    sections.push(...objectSections(`### \`type: ${type}\``, "", kind));
  }
  return sections;
}

/** The table of an object's keys, then the sections of the objects inside it. */
function objectSections(title: string, prefix: string, node: SchemaNode): string[] {
  const rows: string[] = [];
  const inner: string[] = [];
  for (const [key, child] of Object.entries(node.properties ?? {})) {
    const path = prefix === "" ? key : `${prefix}.${key}`;
    const resolved = resolveNode(child);
    if (resolved.properties !== undefined && resolved.$ref === undefined) {
      const optional = resolved.default === null;
      inner.push(...objectSections(`### \`${path}\``, path, resolved));
      const type = `mapping${optional ? " or null" : ""}, see below`;
      rows.push(row(path, type, optional ? "`null`" : "", resolved.description));
    } else {
      const required = node.required?.includes(key) === true;
      rows.push(row(
        path, typeText(child), required ? "required" : defaultText(resolved), resolved.description,
      ));
    }
  }
  const table = ["| key | value | default | |", "|---|---|---|---|", ...rows].join("\n");
  return [`${title}\n\n${table}`, ...inner];
}

function row(key: string, type: string, byDefault: string, description = ""): string {
  return `| \`${key}\` | ${type} | ${byDefault} | ${description.replaceAll("|", "\\|")} |`;
}

function defaultText(node: SchemaNode): string {
  return node.default === undefined ? "" : `\`${yamlText(node.default)}\``;
}

/** A default as it would be written in the file. */
function yamlText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(yamlText).join(", ")}]`;
  if (typeof value !== "object" || value === null) return String(value);
  const entries = Object.entries(value).map(([key, inner]) => `${key}: ${yamlText(inner)}`);
  return entries.length === 0 ? "{}" : `{ ${entries.join(", ")} }`;
}

function typeText(child: SchemaNode): string {
  const node = resolveNode(child);
  const orNull = node.default === null ? " or null" : "";
  if (node.$ref !== undefined) return `${definitionLink(node.$ref)}${orNull}`;
  if (node.const !== undefined) return `\`${String(node.const)}\``;
  if (node.enum !== undefined) {
    return `${node.enum.map((each) => `\`${String(each)}\``).join(", ")}${orNull}`;
  }
  if (node.items?.$ref !== undefined) return `list, each ${definitionLink(node.items.$ref)}`;
  const values = node.additionalProperties;
  if (typeof values === "object" && values.$ref !== undefined) {
    return `mapping of names, each ${definitionLink(values.$ref)}`;
  }
  if (node.type === "boolean") return `\`true\`, \`false\`${orNull}`;
  if (node.minimum !== undefined && node.maximum !== undefined) {
    return `${node.minimum} to ${node.maximum}${orNull}`;
  }
  return `${(node.title ?? "a text").replace(/^(a|an|the) /, "")}${orNull}`;
}

function definitionLink(reference: string): string {
  const name = reference.slice("#/$defs/".length).toLowerCase();
  if (name === "health") return "[a health check](#a-health-check)";
  const noun = withArticle(name, "a");
  return `[${noun}](#${noun.replaceAll(" ", "-")})`;
}

function withArticle(noun: string, article: "a" | "A"): string {
  return `${article}${/^[aeiou]/.test(noun) ? "n" : ""} ${noun}`;
}

const WAYS: readonly Forwarding[] = ["l2", "ipip", "gue", "gre", "nat", "fullnat"];

function featureSection(): string {
  const rows = FEATURE_KEYS.map((key) =>
    `| \`${key}\` | ${supportText(key, "xdp")} | ${supportText(key, "proxy")} |`);
  return [
    "## What each plane makes of it",
    "",
    "Keys that are not listed are honoured by both planes. `check` warns of keys that the plane "
      + "chosen by",
    "`dataplane.mode` ignores; what a plane refuses is an error with that mode, and a warning "
      + "with `auto`.",
    "Of what a plane honours in part, it serves the rest not at all: `status` and `/readyz` say so, "
      + "and the other services are served.",
    "",
    "| key | XDP plane | proxy plane |",
    "|---|---|---|",
    ...rows,
  ].join("\n");
}

/** One answer, or the ways of forwarding grouped by their answers. */
function supportText(key: FeatureKey, plane: Plane): string {
  if (!dependsOnForwarding(key, plane)) return answerText(supportOf(key, plane, "l2"));
  const groups = new Map<string, Forwarding[]>();
  for (const way of WAYS) {
    const answer = answerText(supportOf(key, plane, way));
    groups.set(answer, [...groups.get(answer) ?? [], way]);
  }
  return [...groups].map(([answer, ways]) => `${ways.join(", ")}: ${answer}`).join("; ");
}

function answerText(support: Support): string {
  if (support === "honoured") return "honoured";
  if ("partly" in support) return `in part (${support.partly})`;
  return "ignored" in support ? `ignored (${support.ignored})` : `refused (${support.refused})`;
}
