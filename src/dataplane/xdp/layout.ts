// The ABI as a value: the structs and enums of bpf/abi.h as an object's BTF has them, the maps that
// are made of them, and the fingerprint over all. Knows how C types map to fields; must never know a
// struct by its name, nor import what is generated from it.

import { createHash } from "node:crypto";
import { dataSectionNamed, typeAt } from "./btf.ts";
import type { Btf, BtfMember, BtfType } from "./btf.ts";

export type FieldType =
  | {
      readonly kind: "int";
      readonly size: 1 | 2 | 4 | 8;
      readonly signed: boolean;
      readonly bigEndian: boolean;
    }
  | { readonly kind: "bool" }
  | { readonly kind: "bytes"; readonly length: number }
  | { readonly kind: "array"; readonly of: FieldType; readonly length: number }
  | { readonly kind: "struct"; readonly name: string; readonly size: number }
  | { readonly kind: "enum"; readonly name: string; readonly size: number };

export interface Field {
  readonly name: string;
  readonly offset: number;
  readonly type: FieldType;
}

export interface StructLayout {
  readonly name: string;
  readonly size: number;
  /** Padding included: isPadding() tells. */
  readonly fields: readonly Field[];
}

export interface EnumLayout {
  readonly name: string;
  readonly size: number;
  readonly values: readonly { readonly name: string; readonly value: number }[];
}

export interface MapLayout {
  readonly name: string;
  /** enum bpf_map_type. */
  readonly type: number;
  /** Null: declared by its size alone, as values that are maps are. Bytes: nobody's business but the program's. */
  readonly key: FieldType | null;
  readonly value: FieldType | null;
}

export interface Abi {
  /** Each sorted by name. */
  readonly structs: readonly StructLayout[];
  readonly enums: readonly EnumLayout[];
  readonly maps: readonly MapLayout[];
}

export interface AbiNames {
  readonly structs: readonly string[];
  readonly enums: readonly string[];
}

export function isPadding(field: Field): boolean {
  return /^_*pad\d*$/.test(field.name);
}

export function sizeOf(type: FieldType): number {
  switch (type.kind) {
    case "int": return type.size;
    case "bool": return 1;
    case "bytes": return type.length;
    case "array": return sizeOf(type.of) * type.length;
    case "struct": case "enum": return type.size;
  }
}

/**
 * The named structs and enums that the object has. What the ABI cannot express is a RangeError that
 * names it.
 */
export function abiOf(btf: Btf, names: AbiNames): Abi {
  const structs = found(btf, names.structs, "struct").map((type) => structLayout(btf, type));
  const enums = found(btf, names.enums, "enum").map(enumLayout);
  const known = new Set([...structs, ...enums].map((layout) => layout.name));
  const maps = mapLayouts(btf, known);
  for (const struct of structs) {
    for (const field of struct.fields) {
      const inner = named(field.type);
      if (inner !== null && !known.has(inner)) {
        throw new RangeError(`${struct.name}.${field.name}: ${inner} is not declared in bpf/abi.h`);
      }
    }
  }
  return { structs, enums, maps };
}

/** The names that the object's BTF lacks; compilers leave out what nothing refers to. */
export function missingFrom(abi: Abi, names: AbiNames): string[] {
  const has = (layouts: readonly { name: string }[], name: string): boolean =>
    layouts.some((one) => one.name === name);
  return [
    ...names.structs.filter((name) => !has(abi.structs, name)).map((name) => `struct ${name}`),
    ...names.enums.filter((name) => !has(abi.enums, name)).map((name) => `enum ${name}`),
  ];
}

/** Every struct, enum and map as text, in the order of their names: what the fingerprint is taken of. */
export function canonicalText(abi: Abi): string {
  const lines: string[] = [];
  for (const layout of abi.enums) {
    lines.push(
      `enum ${layout.name} ${layout.size}`,
      ...layout.values.map(({ name, value }) => ` ${name} ${value}`),
    );
  }
  for (const layout of abi.structs) {
    lines.push(`struct ${layout.name} ${layout.size}`);
    for (const field of layout.fields)
      lines.push(` ${field.name} ${field.offset} ${typeText(field.type)}`);
  }
  for (const { name, type, key, value } of abi.maps) {
    lines.push(`map ${name} ${type}`);
    if (key !== null) lines.push(` key ${typeText(key)}`);
    if (value !== null) lines.push(` value ${typeText(value)}`);
  }
  return `${lines.join("\n")}\n`;
}

/** The first 64 bits of SHA-256 over the canonical text. Never 0, which means "none" in a map. */
export function fingerprintOf(abi: Abi): bigint {
  return fingerprintOfText(canonicalText(abi));
}

export function fingerprintOfText(text: string): bigint {
  const value = createHash("sha256").update(text).digest().readBigUInt64BE(0);
  return value === 0n ? 1n : value;
}

export function typeText(type: FieldType): string {
  switch (type.kind) {
    case "int": return `${type.bigEndian ? "be" : type.signed ? "s" : "u"}${type.size * 8}`;
    case "bool": return "bool";
    case "bytes": return `u8[${type.length}]`;
    case "array": return `${typeText(type.of)}[${type.length}]`;
    case "struct": case "enum": return `${type.kind} ${type.name}`;
  }
}

/** A variable's or member's type without const and volatile. */
export function fieldType(btf: Btf, id: number, where: string): FieldType {
  const { type, typedefs } = resolve(btf, id);
  switch (type.kind) {
    case "int": return intType(type, typedefs, where);
    case "enum": return { kind: "enum", name: nameOf(type, where), size: type.size };
    case "struct": return { kind: "struct", name: nameOf(type, where), size: type.size };
    case "array": {
      const of = fieldType(btf, type.type, where);
      if (type.length === 0)
        throw new RangeError(`${where}: an array without a length has no place in the ABI`);
      const isByte = of.kind === "int" && of.size === 1 && !of.signed;
      return isByte
        ? { kind: "bytes", length: type.length }
        : { kind: "array", of, length: type.length };
    }
    default: throw new RangeError(`${where}: a ${type.kind} has no place in the ABI`);
  }
}

/** Follows typedefs and qualifiers; a chain longer than the table is a circle. */
export function resolve(
  btf: Btf,
  id: number,
): { type: BtfType; typedefs: readonly string[]; volatile: boolean } {
  const typedefs: string[] = [];
  let volatile = false;
  let type = typeAt(btf, id);
  for (let steps = 0; steps <= btf.types.length; steps += 1) {
    if (type.kind === "typedef") typedefs.push(type.name);
    else if (type.kind === "volatile") volatile = true;
    else if (type.kind !== "const" && type.kind !== "restrict" && type.kind !== "type_tag")
      return { type, typedefs, volatile };
    type = typeAt(btf, type.type);
  }
  throw new RangeError(`BTF type ${id} refers to itself`);
}

function intType(
  type: Extract<BtfType, { kind: "int" }>,
  typedefs: readonly string[],
  where: string,
): FieldType {
  if (type.bool) return { kind: "bool" };
  const { size } = type;
  if (size !== 1 && size !== 2 && size !== 4 && size !== 8)
    throw new RangeError(`${where}: an integer of ${size} bytes`);
  const bigEndian = typedefs.some((name) => /^__be(16|32|64)$/.test(name));
  return { kind: "int", size, signed: type.signed, bigEndian };
}

function structLayout(
  btf: Btf,
  type: Extract<BtfType, { kind: "struct" | "union" }>,
): StructLayout {
  const fields: Field[] = [];
  let end = 0;
  for (const member of type.members) {
    const field = fieldOf(btf, type.name, member);
    if (field.offset !== end)
      throw new RangeError(
        `struct ${type.name} has a hole before ${field.name}: pad it explicitly`,
      );
    end = field.offset + sizeOf(field.type);
    fields.push(field);
  }
  if (end !== type.size)
    throw new RangeError(`struct ${type.name} has a hole at its end: pad it explicitly`);
  return { name: type.name, size: type.size, fields };
}

function fieldOf(btf: Btf, struct: string, member: BtfMember): Field {
  const where = `${struct}.${member.name}`;
  if (member.name === "")
    throw new RangeError(`${where}: a member without a name has no place in the ABI`);
  if (member.bitSize !== 0 || member.bitOffset % 8 !== 0)
    throw new RangeError(`${where}: a bit-field has no place in the ABI`);
  return {
    name: member.name,
    offset: member.bitOffset / 8,
    type: fieldType(btf, member.type, where),
  };
}

/** The maps that the object declares; the macros of libbpf put their numbers into lengths of arrays. */
function mapLayouts(btf: Btf, known: ReadonlySet<string>): MapLayout[] {
  const variables = dataSectionNamed(btf, ".maps")?.variables ?? [];
  const maps = variables.flatMap(({ type: id }) => {
    const variable = typeAt(btf, id);
    if (variable.kind !== "var") return [];
    const declared = resolve(btf, variable.type).type;
    if (declared.kind !== "struct") throw new RangeError(`map ${variable.name} is not declared by a struct`);
    const member = (name: string): number | null => {
      const found = declared.members.find((each) => each.name === name);
      const pointer = found === undefined ? null : typeAt(btf, found.type);
      return pointer?.kind === "pointer" ? pointer.type : null;
    };
    const typed = (name: string): FieldType | null => {
      const pointed = member(name);
      if (pointed === null) return null;
      const type = fieldType(btf, pointed, `map ${variable.name}, its ${name}`);
      return known.has(named(type) ?? "") || named(type) === null ? type : { kind: "bytes", length: sizeOf(type) };
    };
    const type = member("type");
    const length = type === null ? null : typeAt(btf, type);
    if (length?.kind !== "array") throw new RangeError(`map ${variable.name} has no type`);
    return [{ name: variable.name, type: length.length, key: typed("key"), value: typed("value") }];
  });
  return maps.sort((a, b) => a.name < b.name ? -1 : 1);
}

function enumLayout(type: Extract<BtfType, { kind: "enum" }>): EnumLayout {
  const values = type.values.map(({ name, value }) => {
    // Compilers disagree on the sign of larger ones, and TypeScript would not hold the largest.
    if (value > 0x7fffffffn)
      throw new RangeError(`${type.name}.${name}: enum values end at 2^31 - 1`);
    return { name, value: Number(value) };
  });
  return { name: type.name, size: type.size, values };
}

function found<K extends "struct" | "enum">(
  btf: Btf,
  names: readonly string[],
  kind: K,
): Extract<BtfType, { kind: K; name: string }>[] {
  type Wanted = Extract<BtfType, { kind: K; name: string }>;
  return [...names].sort().flatMap((name) => {
    const type = btf.types.find(
      (one): one is Wanted => one.kind === kind && "name" in one && one.name === name,
    );
    return type === undefined ? [] : [type];
  });
}

function named(type: FieldType): string | null {
  if (type.kind === "array") return named(type.of);
  return type.kind === "struct" || type.kind === "enum" ? type.name : null;
}

function nameOf(type: { readonly kind: string; readonly name: string }, where: string): string {
  if (type.name === "")
    throw new RangeError(`${where}: a ${type.kind} without a name has no place in the ABI`);
  return type.name;
}
