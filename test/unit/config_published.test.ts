// What is published about the config: the committed schema and reference are those of the sources, the
// examples are valid, and the JSON Schema agrees with parseConfig about every golden case.

import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { parse } from "yaml";
import { expect, test } from "vitest";
import { formatProblems } from "../../src/config/problem_lines.ts";
import { editDistance, nearest } from "../../src/config/known.ts";
import { parseConfig } from "../../src/config/parse.ts";
import { configReferenceText, jsonSchemaText } from "../../src/config/publish.ts";
import { FEATURES, FEATURE_KEYS, supportOf } from "../../src/model/features.ts";

const root = new URL("../../", import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), "utf8");

interface Validator {
  compile(schema: object): (value: unknown) => boolean;
}

/** The validator that fastify brings along: not the library that made the schema. */
function compileSchema(): (value: unknown) => boolean {
  const fastify = createRequire(createRequire(import.meta.url).resolve("fastify"));
  const compiler = createRequire(fastify.resolve("@fastify/ajv-compiler"));
  const { Ajv2020 } = compiler("ajv/dist/2020") as { Ajv2020: new (options: object) => Validator };
  return new Ajv2020({ strict: true, strictRequired: false, allowUnionTypes: true })
    .compile(JSON.parse(read("schema/pointsman.schema.json")) as object);
}

test("the committed JSON Schema is the schema of the sources (npm run generate)", () => {
  expect(read("schema/pointsman.schema.json")).toBe(jsonSchemaText());
});

test("the committed config reference is that of the sources (npm run generate)", () => {
  expect(read("docs/config.md")).toBe(configReferenceText());
});

test("every key of the schema is in the reference, with a description", () => {
  const text = configReferenceText();
  const lines = text.split("\n").filter((line) => line.startsWith("| `"));
  expect(lines.length).toBeGreaterThan(80);
  for (const key of ["stateDirectory", "dataplane.orphan.after", "proxy.idleTimeout", "jitter", "hashKey"]) {
    expect(lines.some((line) => line.startsWith(`| \`${key}\` |`)), key).toBe(true);
  }
});

test.each(["examples/health.yaml", "examples/pointsman.yaml", "examples/laptop.yaml", "examples/vagrant.yaml"])("%s is valid", (path) => {
  const result = parseConfig(path, readFileSync(new URL(path, root)));
  expect("problems" in result ? formatProblems(result.problems) : "valid").toBe("valid");
  expect("warnings" in result ? formatProblems(result.warnings) : "").toBe("");
});

test("another validator accepts every valid golden, and refuses what is wrong with keys, types and bounds", () => {
  const validate = compileSchema();
  const folder = new URL("test/golden/config/", root);
  let accepted = 0;
  let refused = 0;
  for (const name of readdirSync(folder).filter((each) => each.endsWith(".case"))) {
    const [source = "", expected = ""] = read(`test/golden/config/${name}`).split(/^-{10,}\n/m);
    if (source.startsWith("@") && !source.startsWith("@effective")) continue;
    const text = source.replace(/^@effective\n/, "");
    if (/^(warning: .*\n)*valid\n/.test(expected)) {
      expect(validate(parse(text)), name).toBe(true);
      accepted += 1;
    } else if (/unknown key|is required|; found|is (more|less) than -?\d+ \(a/.test(expected)) {
      expect(validate(parse(text, { logLevel: "silent" })), name).toBe(false);
      refused += 1;
    }
  }
  expect(accepted).toBeGreaterThan(15);
  expect(refused).toBeGreaterThan(10);
});

test("every row of the feature table names a key of the schema and answers for every way of forwarding", () => {
  const reference = configReferenceText();
  for (const key of FEATURE_KEYS) {
    // A health check has a table of its own, as a service and a backend have.
    const tail = key.replace(/^.*(\[\]|\.health)\./, "");
    expect(reference, key).toMatch(new RegExp(`^(\\| |### )\`${tail.replaceAll(".", "\\.")}\``, "m"));
    for (const plane of ["xdp", "proxy"] as const) {
      for (const forwarding of ["l2", "ipip", "gue", "gre", "nat", "fullnat"] as const) {
        expect(supportOf(key, plane, forwarding), `${key} ${plane} ${forwarding}`).toBeDefined();
      }
    }
  }
  expect(Object.keys(FEATURES)).toEqual(FEATURE_KEYS);
});

test("the XDP plane has every way of forwarding, and fullnat with a reservation", () => {
  for (const way of ["l2", "ipip", "gue", "gre", "nat"] as const) {
    expect(supportOf("services[].forwarding", "xdp", way)).toBe("honoured");
  }
  expect(supportOf("services[].forwarding", "xdp", "fullnat")).toHaveProperty("partly");
});

test.each([
  ["", "", 0], ["abc", "abc", 0], ["abc", "", 3], ["kitten", "sitting", 3], ["wieght", "weight", 1], ["ab", "ba", 1],
  ["ca", "abc", 3],
])("the distance of %j and %j is %i", (a, b, distance) => {
  expect(editDistance(a, b)).toBe(distance);
  expect(editDistance(b, a)).toBe(distance);
});

test("a mistyped word is recognised, another word is not", () => {
  expect(nearest("wieght", ["weight", "mac"])).toBe("weight");
  expect(nearest("Interfaces", ["interfaces"])).toBe("interfaces");
  expect(nearest("prot", ["port", "protocol"])).toBe("protocol");
  expect(nearest("zebra", ["mode", "interfaces"])).toBeNull();
  expect(nearest("x".repeat(100_000), ["mode"])).toBeNull();
});
