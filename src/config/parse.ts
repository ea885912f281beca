// Bytes to Config, or everything that is wrong with them. The order of checks is: size, UTF-8,
// YAML, schema, cross-field rules over all that parsed; conversion comes last and cannot fail. Pure
// and synchronous; must never read a file, a clock or the host.

import type { Config, IgnoredKeys, Problem } from "../model/config.ts";
import { convertConfig } from "./convert.ts";
import { draftConfig } from "./draft.ts";
import { explainIssue, valueAt } from "./explain.ts";
import { orderProblems, pathText } from "./problem.ts";
import type { Finding, Path } from "./problem.ts";
import type { HostFacts } from "./host.ts";
import { ADDRESS_RULES } from "./rules_addresses.ts";
import { GEO_RULES } from "./rules_geo.ts";
import { NAT_RULES } from "./rules_nat.ts";
import { NAME_RULES } from "./rules_names.ts";
import { ignoredBy, PLANE_RULES } from "./rules_plane.ts";
import { PASSIVE_RULES } from "./rules_passive.ts";
import { POOL_RULES } from "./rules_pool.ts";
import { PROBE_RULES } from "./rules_probes.ts";
import { QUIC_RULES } from "./rules_quic.ts";
import { SPLIT_RULES } from "./rules_split.ts";
import { TRAFFIC_RULES } from "./rules_traffic.ts";
import { configSchema } from "./schema.ts";
import { readSource } from "./source.ts";
import type { Source } from "./source.ts";
import { decodeText } from "./text.ts";

export type ParseResult =
  | {
    readonly config: Config;
    readonly warnings: readonly Problem[];
    /** Keys that one plane or the other ignores; with a fixed mode they are among the warnings. */
    readonly ignored: IgnoredKeys;
  }
  | { readonly problems: readonly Problem[] };

const RULES = [
  ...NAME_RULES, ...ADDRESS_RULES, ...TRAFFIC_RULES, ...POOL_RULES, ...NAT_RULES, ...PROBE_RULES, ...PASSIVE_RULES,
  ...QUIC_RULES, ...SPLIT_RULES, ...GEO_RULES, ...PLANE_RULES,
];

/**
 * `file` is for messages only. Problems include the warnings; at least one of them is an error. Rules
 * about a host that nobody speaks of are silent.
 */
export function parseConfig(
  file: string, bytes: Uint8Array, host: HostFacts | null = null,
): ParseResult {
  const decoded = decodeText(bytes);
  if ("problem" in decoded) {
    return { problems: [{ severity: "error", file, path: "", ...decoded.problem }] };
  }
  const source = readSource(decoded.text);
  if ("syntax" in source) {
    return { problems: source.syntax.map(({ place, path, reason, hint }): Problem =>
      ({ severity: "error", file, ...place, path, reason, hint })) };
  }
  if (source.value === null) {
    const reason =
      decoded.text.trim() === "" ? "the file is empty" : "the file holds nothing but comments";
    const hint = "a config starts with version: 1";
    return { problems: [{ severity: "error", file, line: 1, column: 1, path: "", reason, hint }] };
  }
  return validate(file, source, host);
}

function validate(file: string, source: Source, host: HostFacts | null): ParseResult {
  const { value } = source;
  const parsed = configSchema.safeParse(value);
  const issues = (parsed.error?.issues ?? []).flatMap(
    (issue) => explainIssue(issue, value, (path) => source.written(path)),
  );
  const findings = withoutEchoes(source.findings, issues, value);
  const draft = typeof value === "object" && !Array.isArray(value) ? draftConfig(value, host) : null;
  if (draft !== null) for (const rule of RULES) findings.push(...rule(draft));
  const problems = orderProblems(findings.map((finding) => problemOf(file, finding, source)));
  const valid = parsed.success && problems.every((problem) => problem.severity === "warning");
  if (!valid) return { problems };
  const ignored = (plane: "xdp" | "proxy"): Problem[] =>
    draft?.dataplane.mode !== "auto" ? [] : orderProblems(
      [...ignoredBy(draft, plane)].map((finding) => problemOf(file, finding, source)));
  return {
    config: convertConfig(parsed.data), warnings: problems,
    ignored: { xdp: ignored("xdp"), proxy: ignored("proxy") },
  };
}

/**
 * YAML and schema can complain about the same value. The schema knows better what belongs there,
 * unless the YAML gave it nothing to look at.
 */
function withoutEchoes(
  yaml: readonly Finding[], schema: readonly Finding[], root: unknown,
): Finding[] {
  const yamlPaths = new Set(yaml.map(({ path }) => pathText(path)));
  const schemaPaths = new Set(schema.map(({ path }) => pathText(path)));
  const isNothing = (path: Path): boolean => valueAt(root, path) === null;
  return [
    ...yaml.filter(
      ({ path, at }) => at !== "value" || isNothing(path) || !schemaPaths.has(pathText(path)),
    ),
    ...schema.filter(({ path }) => !isNothing(path) || !yamlPaths.has(pathText(path))),
  ];
}

function problemOf(file: string, finding: Finding, source: Source): Problem {
  const { severity, path, at, reason, hint } = finding;
  return { severity, file, ...source.locate(path, at), path: pathText(path), reason, hint };
}
