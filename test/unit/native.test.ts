// The two sides of the native boundary list the same names in the same order: the interfaces of
// src/dataplane/xdp/native.ts, and the method tables and property names in native/*.cc. Reads
// sources only, so it runs where the addon cannot; native.test.ts in kernel/ asks the loaded addon
// as well.

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { describe, expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "../..");
const declared = readFileSync(join(ROOT, "src/dataplane/xdp/native.ts"), "utf8");
const sources = new Map(readdirSync(join(ROOT, "native")).map((name) => {
  return [name, readFileSync(join(ROOT, "native", name), "utf8")];
}));
const CLASSES = ["BpfMap", "BpfObject", "XdpLink", "RingBuffer", "NetlinkSocket"] as const;

type Declaration = ts.InterfaceDeclaration | ts.TypeAliasDeclaration;

/** The declaration of a type in native.ts. */
function declaration(text: string, name: string): Declaration {
  const file = ts.createSourceFile("native.ts", text, ts.ScriptTarget.Latest, true);
  for (const statement of file.statements) {
    const isType = ts.isInterfaceDeclaration(statement) || ts.isTypeAliasDeclaration(statement);
    if (isType && statement.name.text === name) return statement;
  }
  throw new Error(`native.ts declares no ${name}`);
}

function memberNames(members: Iterable<ts.TypeElement>): string[] {
  return [...members].map((member) => member.name?.getText() ?? "?");
}

/** The members of an interface of native.ts, in order. */
function members(name: string, text = declared): string[] {
  const found = declaration(text, name);
  if (!ts.isInterfaceDeclaration(found)) throw new Error(`${name} is no interface`);
  return memberNames(found.members);
}

/** The members of one member of Native, such as BpfMap's create and open. */
function staticMembers(className: string): string[] {
  const found = declaration(declared, "Native") as ts.InterfaceDeclaration;
  for (const member of found.members) {
    if (member.name?.getText() !== className || !ts.isPropertySignature(member)) continue;
    if (member.type !== undefined && ts.isTypeLiteralNode(member.type)) {
      return memberNames(member.type.members);
    }
  }
  throw new Error(`Native has no class ${className}`);
}

function source(name: string): string {
  return sources.get(name) ?? expect.unreachable(`no native/${name}`);
}

function matches(text: string, pattern: RegExp): string[] {
  return [...text.matchAll(pattern)].map((match) => match[1] ?? "");
}

/** The body of the C++ function whose definition begins like this. */
function body(file: string, signature: string): string {
  const text = source(file);
  const start = text.indexOf(signature);
  if (start < 0) throw new Error(`native/${file} has no ${signature}`);
  return text.slice(start, text.indexOf("\n}\n", start));
}

/** The file that defines a class, by its name. */
function fileOf(className: string): string {
  return `${className.replace(/(?<=.)[A-Z]/g, (letter) => `_${letter}`).toLowerCase()}.cc`;
}

const SET = /result\.Set\("(\w+)"/g;

describe("the native boundary, by its sources", () => {
  it.each(CLASSES)("%s has the same methods in the same order", (name) => {
    const table = body(fileOf(name), `void ${name}::Define(`);
    expect(matches(table, /InstanceMethod<.*?>\("(\w+)"\)/g)).toEqual(members(name));
    expect(matches(table, /StaticMethod<.*?>\("(\w+)"\)/g)).toEqual(staticMembers(name));
  });

  it("the module has the same exports in the same order", () => {
    const initialise = body("module.cc", "Napi::Object Initialise(");
    const exported = matches(initialise, /(?:exports\.Set\("|(?=\b\w+::Define))(\w+)/g);
    expect(exported).toEqual(members("Native"));
  });

  it("the codes are the same in the same order", () => {
    const found = declaration(declared, "NativeCode").getText();
    const codes = matches(found, /"(\w+)"/g);
    expect(codes).toHaveLength(12);
    const named = body("error.cc", "const char* CodeName(");
    expect([...new Set(matches(named, /return "(\w+)"/g))]).toEqual(codes);
  });

  it.each([
    ["BpfMapInfo", "bpf_map.cc", "Napi::Value BpfMap::Info(", SET],
    ["BpfProgramInfo", "bpf_program.cc", "Napi::Value BpfObject::ProgramInfo(", SET],
    ["TestRunResult", "bpf_program.cc", "Napi::Value BpfObject::TestRun(", SET],
    ["XdpLinkInfo", "xdp_link.cc", "Napi::Value XdpLink::Info(", SET],
    ["TestRunOptions", "bpf_program.cc", "ReadSettings(", /Property\(options, "(\w+)"\)/g],
    ["NativeError", "error.cc", "Napi::Error MakeError(", /value\.Set\("(\w+)"/g],
  ] as const)("%s has the same properties in the same order", (name, file, signature, pattern) => {
    expect(matches(body(file, signature), pattern)).toEqual(members(name));
  });

  it("a method that one side does not have is noticed", () => {
    const table = matches(source("bpf_map.cc"), /InstanceMethod<.*?>\("(\w+)"\)/g);
    expect(table).not.toEqual(members("BpfMap", declared.replace("  freeze(): void;\n", "")));
    expect(table).not.toEqual(members("BpfMap", declared.replace("lookup(key", "get(key")));
    expect(() => members("Absent")).toThrow("native.ts declares no Absent");
  });

  it("every method names itself in its errors as JavaScript calls it", () => {
    for (const name of CLASSES) {
      const wanted = [...staticMembers(name), ...members(name)].filter((each) => each !== "close");
      const all = [...sources.values()].join("\n");
      for (const method of wanted) expect(all).toContain(`"${name}.${method}"`);
    }
  });
});
