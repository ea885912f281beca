// Where the ABI comes from: the names declared in bpf/abi.h and its parts, and the compiled objects that must
// agree on them. Knows objects as bytes; writes nothing.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { btfOfObject, dataSectionNamed, typeAt } from "../src/dataplane/xdp/btf.ts";
import type { Btf } from "../src/dataplane/xdp/btf.ts";
import { parseElf } from "../src/dataplane/xdp/elf.ts";
import {
  abiOf,
  canonicalText,
  fieldType,
  fingerprintOf,
  missingFrom,
  resolve,
} from "../src/dataplane/xdp/layout.ts";
import type {
  Abi,
  AbiNames,
  EnumLayout,
  Field,
  StructLayout,
} from "../src/dataplane/xdp/layout.ts";
import { writeAbi } from "./abi_writer.ts";
import type { ProgramLayout } from "./abi_writer.ts";

/**
 * Variables of this prefix only make the compiler keep an enum in the BTF; they are no settings.
 */
const ANCHOR = /^_*anchor/;

/** The text of bpf/abi.h and of its parts, one behind the other. */
export function abiHeaders(root: string): string {
  const directory = join(root, "bpf");
  const names = readdirSync(directory).filter((name) => /^abi(?:_\w+)?\.h$/.test(name)).sort();
  return names.map((name) => readFileSync(join(directory, name), "utf8")).join("\n");
}

/** The structs and enums that the header declares, in its order. */
export function declaredNames(header: string): AbiNames {
  const code = header.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
  const named = (kind: string): string[] =>
    [...code.matchAll(new RegExp(`\\b${kind}\\s+([A-Za-z_]\\w*)\\s*\\{`, "g"))].map(
      (match) => match[1] ?? "",
    );
  return { structs: named("struct"), enums: named("enum") };
}

export interface ObjectFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/**
 * The text of abi.gen.ts. Every type of the header has to be in the BTF of some object, and objects
 * that share one have to agree. Throws a RangeError that says what is wrong and what to do.
 */
export function generateAbi(header: string, objects: readonly ObjectFile[]): string {
  const names = declaredNames(header);
  const parts = [...objects].sort((a, b) => a.name < b.name ? -1 : 1)
    .map((object) => ({ object, abi: abiOf(btfOfObject(object.bytes), names) }));
  const abi = merged(parts);
  const missing = missingFrom(abi, names);
  if (missing.length > 0) {
    throw new RangeError(
      `bpf/abi.h declares ${missing.join(", ")}, but no compiled program refers to it: ` +
        "use it, remove it, or add an anchor (const volatile enum NAME anchor_NAME)",
    );
  }
  return writeAbi(abi, names, parts.map((part) => programLayout(part.object, part.abi)));
}

/**
 * The types of all objects; an object compiled from another abi.h would be read with the wrong
 * codecs.
 */
function merged(parts: readonly { object: ObjectFile; abi: Abi }[]): Abi {
  const seen = new Map<string, { text: string; from: string }>();
  const firsts = <T extends StructLayout | EnumLayout>(
    layouts: readonly T[],
    from: string,
    text: (layout: T) => string,
  ): T[] =>
    layouts.filter((layout) => {
      const known = seen.get(layout.name);
      if (known !== undefined && known.text !== text(layout)) {
        throw new RangeError(
          `${layout.name} differs between ${known.from} and ${from}: build both from the same bpf/abi.h`,
        );
      }
      seen.set(layout.name, { text: text(layout), from });
      return known === undefined;
    });
  const structs = parts.flatMap(({ object, abi }) =>
    firsts(abi.structs, object.name, (struct) => canonicalText({ structs: [struct], enums: [], maps: [] })));
  const enums = parts.flatMap(({ object, abi }) =>
    firsts(abi.enums, object.name, (one) => canonicalText({ structs: [], enums: [one], maps: [] })));
  const byName = (a: { name: string }, b: { name: string }): number => a.name < b.name ? -1 : 1;
  return { structs: structs.sort(byName), enums: enums.sort(byName), maps: [] };
}

function programLayout(object: ObjectFile, abi: Abi): ProgramLayout {
  const btf = btfOfObject(object.bytes);
  const maps = dataSectionNamed(btf, ".maps")?.variables ?? [];
  return {
    name: object.name.replace(/\.bpf\.o$/, ""),
    fingerprint: fingerprintOf(abi),
    maps: maps.map((variable) => variableName(btf, variable.type)).sort(),
    programs: programNames(object.bytes),
    rodata: rodataOf(btf, object.name),
  };
}

function variableName(btf: Btf, id: number): string {
  const type = typeAt(btf, id);
  return type.kind === "var" ? type.name : "";
}

function programNames(file: Uint8Array): string[] {
  const elf = parseElf(file);
  return (
    elf.symbols
      // Functions in .text are subprograms.
      .filter(
        (symbol) =>
          symbol.type === 2 && !["", ".text"].includes(elf.sections[symbol.section]?.name ?? ""),
      )
      .map((symbol) => symbol.name)
      .sort()
  );
}

function rodataOf(btf: Btf, where: string): ProgramLayout["rodata"] {
  const section = dataSectionNamed(btf, ".rodata");
  if (section === null) return null;
  const fields: Field[] = [];
  for (const variable of section.variables) {
    const declared = typeAt(btf, variable.type);
    if (declared.kind !== "var" || ANCHOR.test(declared.name)) continue;
    // Without volatile the compiler has already used the value: it is a constant, no setting.
    if (!resolve(btf, declared.type).volatile && !isVolatileArray(btf, declared.type)) continue;
    fields.push({
      name: declared.name,
      offset: variable.offset,
      type: fieldType(btf, declared.type, `${where}: ${declared.name}`),
    });
  }
  return { size: section.size, fields: fields.sort((a, b) => a.offset - b.offset) };
}

/** Qualifiers of an array stand at its elements. */
function isVolatileArray(btf: Btf, id: number): boolean {
  const { type } = resolve(btf, id);
  return (
    type.kind === "array" && (resolve(btf, type.type).volatile || isVolatileArray(btf, type.type))
  );
}
