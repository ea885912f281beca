// The config room against what nobody would write: any bytes, and valid files with something changed.
// Every input has one outcome, a config or problems that lie inside the file; what is printed parses back.

import fc from "fast-check";
import { expect, test } from "vitest";
import { stringify } from "yaml";
import { effectiveConfigText } from "../../src/config/format.ts";
import { formatProblem } from "../../src/config/problem_lines.ts";
import { durationMs, formatDuration } from "../../src/config/formats.ts";
import { parseConfig } from "../../src/config/parse.ts";
import { addressFromBytes, parseAddress, parsePrefix, prefixOf } from "../../src/model/address.ts";
import { assertProperty } from "../support/counts.ts";

const FILE = "any.yaml";
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

/** One outcome, and every place exists. */
function checkOutcome(bytes: Uint8Array): void {
  const result = parseConfig(FILE, bytes);
  const problems = "problems" in result ? result.problems : result.warnings;
  if ("problems" in result) expect(problems.some(({ severity }) => severity === "error")).toBe(true);
  else expect(problems.every(({ severity }) => severity === "warning")).toBe(true);
  const lines = new TextDecoder().decode(bytes).split("\n");
  for (const problem of problems) {
    const line = lines[problem.line - 1];
    expect(line, formatProblem(problem)).toBeDefined();
    expect(problem.column, formatProblem(problem)).toBeGreaterThanOrEqual(1);
    expect(problem.column, formatProblem(problem)).toBeLessThanOrEqual((line ?? "").length + 1);
    expect(formatProblem(problem)).not.toMatch(/undefined|\[object|NaN|\n/);
  }
  // The same bytes again give the same answer: nothing is remembered between files.
  expect(parseConfig(FILE, bytes)).toEqual(result);
}

const name = fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,8}$/);
const ipv4 = fc.tuple(fc.integer({ min: 1, max: 223 }), fc.nat(255), fc.nat(255), fc.nat(255))
  .map((bytes) => bytes.join("."));
const ipv6 = fc.array(fc.nat(0xffff), { minLength: 6, maxLength: 6 })
  .map((groups) => `2001:db8:${groups.map((group) => group.toString(16)).join(":")}`);
const address = fc.oneof(ipv4, ipv6);
const prefix = fc.tuple(address, fc.nat(128)).map(([text, length]) => {
  const parsed = parseAddress(text);
  if (parsed === null) throw new TypeError(text);
  return prefixOf(parsed, parsed.family === 4 ? length % 33 : length).text;
});
const milliseconds = fc.integer({ min: 1000, max: 3_600_000 });
const duration = milliseconds.map(formatDuration);
const port = fc.integer({ min: 1, max: 65_535 });
const optional = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | null> => fc.option(arbitrary);
const mac = fc.array(fc.nat(255), { minLength: 5, maxLength: 5 })
  .map((bytes) => ["02", ...bytes.map((byte) => byte.toString(16).padStart(2, "0"))].join(":"));

const timing = {
  interval: fc.constant("1h"), timeout: duration,
  fastInterval: optional(duration), downInterval: optional(duration), slowStart: duration,
  rise: fc.integer({ min: 1, max: 9 }),
  fall: fc.integer({ min: 1, max: 9 }), jitter: fc.double({ min: 0, max: 0.5, noNaN: true }), port: optional(port),
};
const health = fc.oneof(
  fc.constant({ type: "none" }),
  fc.record({ type: fc.constant("tcp"), ...timing }, { requiredKeys: ["type", "interval"] }),
  fc.record({
    type: fc.constant("http"), ...timing,
    method: fc.constantFrom("GET", "HEAD"),
    path: fc.stringMatching(/^\/[!-~]{0,20}$/),
    host: optional(fc.stringMatching(/^[!-~]{1,20}$/)),
    statuses: fc.array(fc.oneof(fc.integer({ min: 100, max: 599 }), fc.constant("200-399")), { minLength: 1, maxLength: 3 }),
    body: optional(fc.string({ minLength: 1, maxLength: 20, unit: "grapheme-ascii" })),
    drainHeader: optional(fc.constantFrom("X-Drain", "x-drain: 1", "x-state:  going away ")),
    tls: optional(fc.record({ serverName: optional(fc.constant("example.org")), verify: fc.boolean() })),
  }, { requiredKeys: ["type", "interval"] }),
);
const backend = fc.record({
  name, address, weight: fc.integer({ min: 1, max: 65_535 }), hashKey: fc.uuid(), mac: optional(mac),
  port: optional(port), priority: fc.constantFrom(0, 1, 255), zone: optional(fc.constantFrom("east", "west")),
}, { requiredKeys: ["name", "address", "hashKey"] });
const minimum = fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 100 }).map((percent) => `${percent}%`));
const backends = fc.uniqueArray(backend, { minLength: 1, maxLength: 5, selector: (each) => each.name });
const service = fc.record({
  name, address, port,
  protocol: fc.constantFrom("tcp", "udp"),
  forwarding: fc.constant("fullnat"),
  algorithm: fc.constantFrom(
    "maglev", "consistent-hash", "round-robin", "random", "least-connections", "power-of-two", "bounded-load",
    "least-response-time",
  ),
  loadFactor: fc.integer({ min: 101, max: 1000 }).map((percent) => percent / 100),
  hash: fc.constantFrom("5-tuple", "source-ip"),
  sourcePrefix: fc.record({ ipv4: fc.integer({ min: 1, max: 32 }), ipv6: fc.integer({ min: 1, max: 128 }) }),
  ringSize: fc.constantFrom(7, 4099, 65_537, 131_071, 2_097_143),
  tracking: fc.constantFrom("full", "none"),
  flowIdle: duration,
  affinityGroup: fc.constant(null),
  failOpen: fc.boolean(),
  panicBelow: fc.integer({ min: 0, max: 100 }),
  vip: fc.record({ assign: fc.constantFrom("none", "loopback") }),
  policy: fc.record({ allow: fc.uniqueArray(prefix, { maxLength: 3 }) }),
  proxy: fc.record({ idleTimeout: duration, proxyProtocol: fc.constantFrom("none", "v1", "v2") }, { requiredKeys: [] }),
  backends,
  health,
  reserves: fc.record({ minimum }),
  sorry: fc.constant(null),
  spillBelow: optional(fc.integer({ min: 1, max: 100 })),
}, { requiredKeys: ["name", "address", "port", "forwarding", "backends"] });
const config = fc.record({
  version: fc.constant(1),
  instance: name,
  zone: optional(name),
  dataplane: fc.record({
    mode: fc.constantFrom("auto", "proxy"),
    interfaces: fc.constantFrom([], ["eth0"], ["eth0", "lan.7"]),
    hashSeed: fc.oneof(
      fc.constant(null), fc.constant("file:/etc/pointsman/seed"),
      fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }).map((seed) => seed.toString(16).padStart(16, "0")),
    ),
    orphan: fc.record({ after: duration, action: fc.constantFrom("keep", "pass", "drop") }),
    tunnelSource: fc.record({
      ipv4: optional(fc.oneof(ipv4, fc.constantFrom("10.9.0.0/24", "10.9.0.1/32"))),
      ipv6: optional(fc.oneof(ipv6, fc.constantFrom("2001:db8:9::/64"))),
    }),
  }, { requiredKeys: ["mode"] }),
  limits: fc.record({ flows: fc.integer({ min: 64, max: 67_108_864 }) }),
  control: fc.record({ socket: optional(fc.constant("/run/x.sock")), group: optional(name) }),
  observe: fc.record({ listen: fc.constantFrom("none", "127.0.0.1:9469", "[::1]:0") }),
  stateDirectory: optional(fc.constant("/var/lib/a b: c")),
  services: fc.uniqueArray(service, {
    maxLength: 4, comparator: (a, b) => a.name === b.name || (a.address === b.address && a.port === b.port),
  }),
}, { requiredKeys: ["version", "services", "dataplane"] });

test("any bytes: a config or problems inside the file, never an exception", () => {
  assertProperty("config", fc.property(fc.uint8Array({ maxLength: 300 }), checkOutcome));
});

test("any text: the same", () => {
  const pieces = fc.constantFrom("a", "version", ": ", "- ", "\n", "  ", "{", "}", "[", "]", ",", "&a ", "*a", "!!str ",
    "\"", "'", "|\n", "---\n", "...\n", "#", "? ", "<<: ", "1", "%YAML 1.2\n", "\t", "\r\n", "é", "\u{1f682}");
  assertProperty("config", fc.property(fc.array(pieces, { maxLength: 40 }).map((all) => bytesOf(all.join(""))), checkOutcome));
});

/** A place where a valid file is cut open, and what is put there. */
const edit = fc.record({ at: fc.nat(), cut: fc.nat(30), insert: fc.string({ maxLength: 6, unit: "binary" }) });

test("valid files with something changed: the same", () => {
  assertProperty("config", fc.property(config, fc.array(edit, { minLength: 1, maxLength: 3 }), (value, edits) => {
    let text = stringify(value);
    for (const { at, cut, insert } of edits) {
      const start = at % (text.length + 1);
      text = text.slice(0, start) + insert + text.slice(start + cut);
    }
    checkOutcome(bytesOf(text));
  }));
});

test("valid files with a value replaced: the same", () => {
  const strange = fc.oneof(fc.constant(null), fc.boolean(), fc.double(), fc.string(), fc.constant([]), fc.constant({}));
  assertProperty("config", fc.property(config, fc.nat(), strange, (value, choice, replacement) => {
    const copy = structuredClone(value) as object;
    const places: [Record<string, unknown>, string][] = [];
    const visit = (node: unknown): void => {
      if (typeof node !== "object" || node === null) return;
      for (const key of Object.keys(node)) {
        places.push([node as Record<string, unknown>, key]);
        visit((node as Record<string, unknown>)[key]);
      }
    };
    visit(copy);
    const place = places[choice % places.length];
    if (place !== undefined) place[0][place[1]] = replacement;
    checkOutcome(bytesOf(stringify(copy)));
    checkOutcome(bytesOf(JSON.stringify(copy)));
  }));
});

/** Cross-field rules that random values can break; everything else has to be valid. */
const CHANCE = /is the virtual address|portOffset|already listens|both allowed|already the address/;

test("the effective config parses back to an equal Config, and prints the same again", () => {
  let valid = 0;
  assertProperty("config", fc.property(config, (value) => {
    const result = parseConfig(FILE, bytesOf(stringify(value)));
    if ("problems" in result) {
      const errors = result.problems.filter(({ severity }) => severity === "error");
      expect(errors.filter(({ reason }) => !CHANCE.test(reason)).map(formatProblem)).toEqual([]);
      return;
    }
    valid += 1;
    const text = effectiveConfigText(result.config);
    const again = parseConfig(FILE, bytesOf(text));
    expect("problems" in again ? again.problems.map(formatProblem) : again.config).toEqual(result.config);
    if ("config" in again) expect(effectiveConfigText(again.config)).toBe(text);
  }));
  expect(valid).toBeGreaterThan(0);
});

test("durations are printed as they are read", () => {
  assertProperty("config", fc.property(fc.nat(), (ms) => {
    expect(durationMs(formatDuration(ms))).toBe(ms);
  }));
});

test("a prefix holds its first bits and nothing after them", () => {
  const bytes = fc.uint8Array({ minLength: 16, maxLength: 16 });
  assertProperty("address", fc.property(bytes, fc.nat(128), (value, length) => {
    const whole = addressFromBytes(value);
    const bits = whole.family === 4 ? length % 33 : length;
    const network = prefixOf(whole, bits);
    const significant = whole.family === 4 ? 96 + bits : bits;
    for (let bit = 0; bit < 128; bit += 1) {
      const of = (source: Uint8Array): number => ((source[bit >> 3] ?? 0) >> (7 - (bit & 7))) & 1;
      expect(of(network.address.bytes)).toBe(bit < significant ? of(value) : 0);
    }
  }));
});

test("prefixes are printed as they are read", () => {
  assertProperty("address", fc.property(prefix, (text) => {
    expect(parsePrefix(text)?.text).toBe(text);
  }));
});
