// YAML text to plain values, with the way back from a path to a line and column. Refuses what YAML
// allows and a config should not contain: several documents, merge keys, tags, keys that are no
// texts, depth and aliases without end. Knows YAML; must never know which keys a config has.

import { Composer, LineCounter, Lexer, Parser, isAlias, isMap, isScalar, isSeq } from "yaml";
import type { Alias, Document, Node, Pair, ParsedNode, YAMLError, YAMLMap } from "yaml";
import { pathText, quoted } from "./problem.ts";
import type { Finding, Path, Place } from "./problem.ts";
import { explainSyntax } from "./syntax.ts";

/** Levels of nesting, as the parser counts them (a mapping in a list counts about three). */
const DEPTH_MAX = 64;
/**
 * A full config of 32,767 backends has about a million; beyond that the parser only burns memory.
 */
const TOKENS_MAX = 1_500_000;
const ALIASES_MAX = 100;
/** Values after aliases are replaced by what they name. */
const VALUES_MAX = 2_000_000;
const CORE_TAGS = new Set(["str", "int", "float", "bool", "null", "map", "seq"]
  .map((name) => `tag:yaml.org,2002:${name}`));

/** A syntax error: it has an offset, and a path only as far as the parser got. */
export interface SyntaxProblem {
  readonly place: Place;
  readonly path: string;
  readonly reason: string;
  readonly hint: string | null;
}

export interface Source {
  /** Mappings, lists, texts, numbers, booleans and nulls. */
  readonly value: unknown;
  /** What is wrong with the YAML itself although it could be read. */
  readonly findings: readonly Finding[];
  /** The place of the nearest existing node. */
  locate(path: Path, at: Finding["at"]): Place;
  /** How a scalar is written in the file, without quotes; null when there is none. */
  written(path: Path): string | null;
}

/** The text as a source, or every syntax error. */
export function readSource(text: string): Source | { syntax: readonly SyntaxProblem[] } {
  const lines = new LineCounter();
  // Told by us, not by the parser, which loses count inside a quote that never ends.
  for (let start = 0; start >= 0; start = text.indexOf("\n", start) + 1 || -1) {
    lines.addNewLine(start);
  }
  const place = (offset: number): Place => placeOf(lines, text, offset);
  const tokens = readTokens(text);
  if ("reason" in tokens) {
    return {
      syntax: [{ place: place(tokens.offset), path: "", reason: tokens.reason, hint: tokens.hint }],
    };
  }
  const composer = new Composer({
    version: "1.2", prettyErrors: false, uniqueKeys: false, strict: true, lineCounter: lines,
  });
  const documents = [...composer.compose(tokens.tokens, true, text.length)];
  const first = documents[0];
  if (first === undefined) throw new TypeError("a composed text has a document");
  const document = first;
  const problems = syntaxProblems(document, place);
  const second = documents[1];
  if (problems.length === 0 && second !== undefined) {
    const hint = "keep one document; a line of three dashes starts another";
    const at = place(second.range[0]);
    problems.push({ place: at, path: "", reason: "contains more than one YAML document", hint });
  }
  const version = document.directives.yaml;
  if (problems.length === 0 && version.explicit === true && version.version !== "1.2") {
    const reason = `YAML ${version.version} is not supported`;
    problems.push({ place: place(0), path: "", reason, hint: "remove the %YAML line; the file is "
      + "read as YAML 1.2" });
  }
  if (problems.length > 0) return { syntax: problems };
  return new Reader(document, place).read();
}

interface Refusal {
  readonly offset: number;
  readonly reason: string;
  readonly hint: string;
}

type Tokens = Parameters<Composer["compose"]>[0];

/**
 * The lexer and parser keep their own stacks, so depth and size can be bounded before anything
 * recurses.
 */
function readTokens(text: string): { tokens: Tokens } | Refusal {
  const parser = new Parser();
  const tokens: (Tokens extends Iterable<infer T> ? T : never)[] = [];
  let count = 0;
  for (const lexeme of new Lexer().lex(text)) {
    count += 1;
    for (const token of parser.next(lexeme)) tokens.push(token);
    if (parser.stack.length > DEPTH_MAX) {
      return {
        offset: parser.offset, reason: "is nested too deeply", hint: "a config has a few levels",
      };
    }
    if (count > TOKENS_MAX) {
      const reason = `has more than ${TOKENS_MAX} YAML tokens`;
      return { offset: parser.offset, reason, hint: "is this the right file?" };
    }
  }
  for (const token of parser.end()) tokens.push(token);
  return { tokens };
}

/** Offsets at the very end count for the last character, so that every place is inside the file. */
function placeOf(lines: LineCounter, text: string, offset: number): Place {
  if (text === "") return { line: 1, column: 1 };
  const { line, col } = lines.linePos(Math.max(0, Math.min(offset, text.trimEnd().length)));
  return { line: Math.max(1, line), column: Math.max(1, col) };
}

/** One error per line: what follows on the same line is mostly the same mistake again. */
function syntaxProblems(
  document: Document.Parsed, place: (offset: number) => Place,
): SyntaxProblem[] {
  const problems: SyntaxProblem[] = [];
  const seen = new Set<number>();
  const all: YAMLError[] = [...document.errors, ...document.warnings];
  for (const error of all.toSorted((a, b) => a.pos[0] - b.pos[0])) {
    const { path, start } = innermost(document.contents, error.pos[0]);
    // A quote that never ends is noticed at the end of the file; people look for its beginning.
    const at = place(/closing .quote/.test(error.message) ? start : error.pos[0]);
    if (seen.has(at.line)) continue;
    seen.add(at.line);
    problems.push({ place: at, path: pathText(path), ...explainSyntax(error.code, error.message) });
  }
  return problems;
}

/** The innermost value around an offset, as far as the tree goes. */
function innermost(root: ParsedNode | null, offset: number): { path: Path; start: number } {
  const path: (string | number)[] = [];
  const inside = (part: unknown): boolean => {
    const range = (part as Node | null)?.range;
    return range !== undefined && range !== null && range[0] <= offset && offset <= range[2];
  };
  let node: unknown = root;
  for (;;) {
    const start = (node as Node | null)?.range?.[0] ?? 0;
    if (isMap(node)) {
      const pair = node.items.findLast((item) => inside(item.key) || inside(item.value));
      if (pair === undefined || !isScalar(pair.key)) return { path, start };
      path.push(String(pair.key.value));
      node = pair.value;
    } else if (isSeq(node)) {
      const index = node.items.findLastIndex(inside);
      if (index < 0) return { path, start };
      path.push(index);
      node = node.items[index];
    } else {
      return { path, start };
    }
  }
}

class Reader {
  readonly #document: Document.Parsed;
  readonly #place: (offset: number) => Place;
  readonly #findings: Finding[] = [];
  /** The pairs of each mapping by key: looking for one must not take a walk through all. */
  readonly #pairs = new Map<YAMLMap, Map<string, Pair>>();
  #aliases = 0;
  #values = 0;
  #exhausted = false;

  constructor(document: Document.Parsed, place: (offset: number) => Place) {
    this.#document = document;
    this.#place = place;
  }

  read(): Source | { syntax: readonly SyntaxProblem[] } {
    const value = this.#plain(this.#document.contents, []);
    const last = this.#findings.at(-1);
    if (this.#exhausted && last !== undefined) {
      const place = this.#locate(last.path, last.at);
      return {
        syntax: [{ place, path: pathText(last.path), reason: last.reason, hint: last.hint }],
      };
    }
    return {
      value,
      findings: this.#findings,
      locate: (path, at) => this.#locate(path, at),
      written: (path) => this.#written(path),
    };
  }

  #refuse(path: Path, at: Finding["at"], reason: string, hint: string | null): void {
    if (!this.#exhausted) this.#findings.push({ severity: "error", path, at, reason, hint });
  }

  #exhaust(path: Path, node: unknown, reason: string): null {
    // A path through a cycle of aliases has no end: its beginning says where to look.
    this.#refuse(path.slice(0, 6), this.#place(
      (node as Node | null)?.range?.[0] ?? 0,
    ), reason, "write the values out");
    this.#exhausted = true;
    return null;
  }

  #plain(node: unknown, path: Path): unknown {
    if (this.#exhausted) return null;
    this.#values += 1;
    if (this.#values > VALUES_MAX) return this.#exhaust(
      path, node, "grows too large when its aliases are replaced",
    );
    if (isAlias(node)) return this.#plainAlias(node, path);
    const tag = (node as Node | null)?.tag;
    if (tag !== undefined && !CORE_TAGS.has(tag)) {
      this.#refuse(path, "value", `the tag ${quoted(tag)} is not supported`, "remove it");
    }
    if (isMap(node)) return this.#plainMap(node, path);
    if (isSeq(node)) return node.items.map((item, index) => this.#plain(item, [...path, index]));
    if (isScalar(node)) return this.#plainScalar(node.value, node.source, path);
    return null;
  }

  #plainAlias(node: Alias, path: Path): unknown {
    this.#aliases += 1;
    if (this.#aliases > ALIASES_MAX) return this.#exhaust(
      path, node, `uses more than ${ALIASES_MAX} aliases`,
    );
    const target = node.resolve(this.#document);
    if (target !== undefined) return this.#plain(target, path);
    this.#refuse(path, "value", `nothing is called &${node.source}`, null);
    return null;
  }

  #plainScalar(value: unknown, written: string | undefined, path: Path): unknown {
    if (typeof value === "number" && /^[-+]?0\d/.test(written ?? "")) {
      const hint = `leading zeros may mean octal; if decimal was meant, write ${value}`;
      this.#refuse(path, "value", `the number ${written ?? ""} is ambiguous`, hint);
    }
    if (value === null || typeof value === "string" || typeof value === "number") return value;
    if (typeof value === "boolean") return value;
    // Only a tag can make something else of a scalar, and tags are refused.
    return written ?? null;
  }

  #plainMap(map: YAMLMap, path: Path): Record<string, unknown> {
    const result: Record<string, unknown> = {};
    const known = new Map<string, Pair>();
    let merged: unknown = null;
    this.#pairs.set(map, known);
    for (const pair of map.items) {
      const key = isScalar(pair.key) ? pair.key.value : pair.key;
      if (typeof key !== "string" || key === "__proto__") {
        this.#refuseKey(pair, path, key);
        continue;
      }
      const inside = [...path, key];
      if (known.has(key)) {
        this.#refuseDuplicate(pair, known.get(key), path, key);
        continue;
      }
      known.set(key, pair);
      const value = this.#plain(pair.value, inside);
      if (key !== "<<") {
        result[key] = value;
        continue;
      }
      this.#refuse(
        inside, "key", "merge keys are not supported", "write the keys out, or share a pool",
      );
      merged = value;
    }
    // What was merged still counts, so that a refused merge does not look like a dozen missing
    // keys.
    const inherits = typeof merged === "object" && merged !== null && !Array.isArray(merged);
    return inherits ? { ...(merged as object), ...result } : result;
  }

  #refuseKey(pair: Pair, path: Path, key: unknown): void {
    const inside = [...path, isScalar(pair.key) ? String(pair.key.value) : ""];
    const hint =
      typeof key === "number" || typeof key === "boolean" ? `put it in quotes: "${key}"` : null;
    const reason = key === "__proto__" ? "this key is not allowed" : "a key has to be a text";
    this.#refuse(inside, this.#keyPlace(pair), reason, hint);
  }

  #refuseDuplicate(pair: Pair, first: Pair | undefined, path: Path, key: string): void {
    const hint = `it is set in line ${this.#keyPlace(first).line} already; remove one of them`;
    this.#refuse([...path, key], this.#keyPlace(pair), "the key appears twice", hint);
  }

  #keyPlace(pair: Pair | undefined): Place {
    return this.#place((pair?.key as Node | null | undefined)?.range?.[0] ?? 0);
  }

  #locate(path: Path, at: Finding["at"]): Place {
    if (typeof at === "object") return at;
    let node: unknown = this.#document.contents;
    let offset = (node as Node | null)?.range?.[0] ?? 0;
    for (const [index, segment] of path.entries()) {
      if (isAlias(node)) node = node.resolve(this.#document);
      const pair = isMap(node) ? this.#pairs.get(node)?.get(String(segment)) : undefined;
      const next = isSeq(node) && typeof segment === "number" ? node.items[segment] : pair?.value;
      if (pair === undefined && next === undefined) return this.#place(offset);
      const keyOffset = (pair?.key as Node | null | undefined)?.range?.[0];
      const range = (next as Node | null)?.range ?? null;
      const empty = range === null || (isScalar(next) && next.source === "");
      const last = index === path.length - 1;
      if (keyOffset !== undefined && (empty || (last && at === "key"))) offset = keyOffset;
      else if (range !== null) offset = range[0];
      node = next;
    }
    return this.#place(offset);
  }

  #written(path: Path): string | null {
    let node: unknown = this.#document.contents;
    for (const segment of path) {
      if (isAlias(node)) node = node.resolve(this.#document);
      if (isMap(node)) node = this.#pairs.get(node)?.get(String(segment))?.value;
      else if (isSeq(node) && typeof segment === "number") node = node.items[segment];
      else return null;
    }
    return isScalar(node) && node.source !== undefined ? node.source : null;
  }
}
