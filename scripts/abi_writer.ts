// Writes the TypeScript side of the ABI: enums, codecs of structs, settings of each program, names
// of maps. Knows layouts and the text they become; knows no file and no BTF.

import { isPadding, sizeOf } from "../src/dataplane/xdp/layout.ts";
import type {
  Abi,
  AbiNames,
  EnumLayout,
  Field,
  FieldType,
  StructLayout,
} from "../src/dataplane/xdp/layout.ts";

/** What one object file contributes besides the shared types. */
export interface ProgramLayout {
  /** `pointsman` for pointsman.bpf.o. */
  readonly name: string;
  readonly fingerprint: bigint;
  readonly maps: readonly string[];
  readonly programs: readonly string[];
  /** Its settings: the const volatile variables, with the size of the whole section. */
  readonly rodata: { readonly size: number; readonly fields: readonly Field[] } | null;
}

const HEADER = `// Generated from bpf/abi.h by scripts/generate.ts, out of the BTF of the compiled programs: do not edit,
// run "npm run generate". Offsets, sizes and byte order are the compiler's; encode and decode
// refuse any other size and any value that its field cannot hold.

import * as codec from "./abi_codec.ts";
`;

export function writeAbi(abi: Abi, declared: AbiNames, programs: readonly ProgramLayout[]): string {
  const main = programs.find((program) => program.name === "pointsman");
  if (main === undefined) throw new RangeError("no pointsman.bpf.o among the compiled programs");
  return [
    HEADER,
    "/** The structs and enums that bpf/abi.h declares: what the fingerprint is taken over. */",
    `export const ABI_NAMES = ${json({ structs: [...declared.structs].sort(), enums: [...declared.enums].sort() })} as const;`,
    "",
    "/** Fingerprint of the main program's structs, enums and maps; a map or an object with another one is not ours. */",
    `export const ABI_FINGERPRINT = ${hex(main.fingerprint)};`,
    "",
    "/** The same for each object file; small programs know only a part of the types. */",
    "export const FINGERPRINTS = {",
    ...programs.map((program) => `  ${program.name}: ${hex(program.fingerprint)},`),
    "} as const;",
    "",
    ...abi.enums.map(writeEnum),
    ...abi.structs.map(writeStruct),
    ...programs.map(writeProgram),
  ].join("\n").replace(/\n+$/, "\n");
}

function hex(value: bigint): string {
  return `0x${value.toString(16).padStart(16, "0")}n`;
}

function json(value: Readonly<Record<string, readonly string[]>>): string {
  const rows = Object.entries(value).map(
    ([key, names]) => `  ${key}: [\n${wrapped(names, "    ")}  ],\n`,
  );
  return `{\n${rows.join("")}}`;
}

/** Quoted names, a few to the line. */
function wrapped(names: readonly string[], indent = "  "): string {
  const lines: string[] = [];
  let line = "";
  for (const name of names) {
    const word = `"${name}",`;
    if (line !== "" && indent.length + line.length + word.length > 98) {
      lines.push(line);
      line = "";
    }
    line += line === "" ? word : ` ${word}`;
  }
  if (line !== "") lines.push(line);
  return lines.map((text) => `${indent}${text}\n`).join("");
}

export function camelCase(name: string): string {
  return name.replace(/_+([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

export function pascalCase(name: string): string {
  const camel = camelCase(name);
  return camel.slice(0, 1).toUpperCase() + camel.slice(1);
}

function screaming(name: string): string {
  return name.replace(/[^A-Za-z0-9]+/g, "_").toUpperCase();
}

function writeEnum(layout: EnumLayout): string {
  const name = pascalCase(layout.name);
  return `/** enum ${layout.name} */
export const ${name} = {
${layout.values.map((value) => `  ${value.name}: ${value.value},\n`).join("")}} as const;
export type ${name} = (typeof ${name})[keyof typeof ${name}];
/** In the order of their declaration. */
export const ${screaming(layout.name)}_NAMES = [
${wrapped(layout.values.map((value) => value.name))}] as const satisfies readonly (keyof typeof ${name})[];
`;
}

/** The TypeScript type of a field. */
function tsType(type: FieldType): string {
  switch (type.kind) {
    case "int": return type.size === 8 ? "bigint" : "number";
    case "bool": return "boolean";
    case "bytes": return "Uint8Array";
    case "array": return `readonly ${tsType(type.of)}[]`;
    case "struct": case "enum": return pascalCase(type.name);
  }
}

function intName(type: Extract<FieldType, { kind: "int" }>): string {
  const bits = type.size * 8;
  return type.bigEndian && bits > 8 ? `Be${bits}` : `${type.signed ? "S" : "U"}${bits}`;
}

/** The statement that writes `value` at `at`. */
function setter(type: FieldType, at: string, value: string, what: string): string {
  switch (type.kind) {
    case "int":
      return `codec.set${intName(type)}(view, ${at}, ${value}, "${what}");`;
    case "bool":
      return `codec.setU8(view, ${at}, Number(${value}), "${what}");`;
    case "enum":
      return setter(enumInt(type.size), at, value, what);
    case "bytes":
      return `codec.setBytes(view, ${at}, ${value}, ${type.length}, "${what}");`;
    case "struct":
      return `write${pascalCase(type.name)}(view, ${at}, ${value});`;
    case "array":
      return (
        `codec.setEach(${value}, ${at}, ${sizeOf(type.of)}, ${type.length}, "${what}", (each, place) => {\n` +
        `    ${setter(type.of, "place", "each", what)}\n  });`
      );
  }
}

/** The expression that reads at `at`. */
function getter(type: FieldType, at: string): string {
  switch (type.kind) {
    case "int": {
      const method = `${type.signed ? "Int" : "Uint"}${type.size * 8}`;
      if (type.size === 1) return `view.get${method}(${at})`;
      return `view.get${type.size === 8 ? "Big" : ""}${method}(${at}, ${String(!type.bigEndian)})`;
    }
    case "bool":
      return `view.getUint8(${at}) !== 0`;
    case "enum":
      return `${getter(enumInt(type.size), at)} as ${pascalCase(type.name)}`;
    case "bytes":
      return `codec.getBytes(view, ${at}, ${type.length})`;
    case "struct":
      return `read${pascalCase(type.name)}(view, ${at})`;
    case "array":
      return `codec.getEach(${at}, ${sizeOf(type.of)}, ${type.length}, (place) => ${getter(type.of, "place")})`;
  }
}

/** The integer that holds an enum of this size. */
function enumInt(size: number): FieldType {
  if (size === 1 || size === 2 || size === 4)
    return { kind: "int", size, signed: false, bigEndian: false };
  throw new RangeError(`an enum of ${size} bytes has no place in the ABI`);
}

function plus(base: string, offset: number): string {
  return offset === 0 ? base : `${base} + ${offset}`;
}

function writeStruct(layout: StructLayout): string {
  const name = pascalCase(layout.name);
  const fields = layout.fields.filter((field) => !isPadding(field));
  return `/** struct ${layout.name}, ${layout.size} bytes */
export interface ${name} {
${fields.map((field) => `  readonly ${camelCase(field.name)}: ${tsType(field.type)};\n`).join("")}}

function write${name}(view: DataView, at: number, value: ${name}): void {
${fields.map((field) => `  ${structSetter(layout, field)}\n`).join("")}}

function read${name}(view: DataView, at: number): ${name} {
  return {
${fields.map((field) => `    ${camelCase(field.name)}: ${getter(field.type, plus("at", field.offset))},\n`).join("")}  };
}

export const ${name} = {
  size: ${layout.size},
${offsetsOf(fields)}  encode: (value: ${name}): Uint8Array => {
    const bytes = new Uint8Array(${layout.size});
    write${name}(codec.exactView(bytes, ${layout.size}, "struct ${layout.name}"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): ${name} => read${name}(codec.exactView(bytes, ${layout.size}, "struct ${layout.name}"), 0),
} as const;
`;
}

function structSetter(layout: StructLayout, field: Field): string {
  return setter(
    field.type,
    plus("at", field.offset),
    `value.${camelCase(field.name)}`,
    `${layout.name}.${field.name}`,
  );
}

function rodataSetter(field: Field): string {
  const value = `value.${camelCase(field.name)}`;
  return `    if (${value} !== undefined) {\n      ${setter(field.type, String(field.offset), value, field.name)}\n    }\n`;
}

function offsetsOf(fields: readonly Field[]): string {
  return `  offsets: {\n${fields.map((field) => `    ${camelCase(field.name)}: ${field.offset},\n`).join("")}  },\n`;
}

function writeProgram(program: ProgramLayout): string {
  const constant = screaming(program.name);
  const lists = `/** Maps that ${program.name}.bpf.o declares. */
export const ${constant}_MAPS = [
${wrapped(program.maps)}] as const;
/** Programs in ${program.name}.bpf.o. */
export const ${constant}_PROGRAMS = [
${wrapped(program.programs)}] as const;
`;
  return program.rodata === null || program.rodata.fields.length === 0
    ? lists
    : lists + writeRodata(program.name, program.rodata);
}

/**
 * Settings fixed at load. Written over the section's initial bytes, which hold constants of the
 * program too.
 */
function writeRodata(
  program: string,
  rodata: { readonly size: number; readonly fields: readonly Field[] },
): string {
  const name = `${pascalCase(program)}Rodata`;
  const { fields, size } = rodata;
  return `
/** What ${program}.bpf.o takes as fixed when it is loaded: its const volatile variables. */
export interface ${name} {
${fields.map((field) => `  readonly ${camelCase(field.name)}: ${tsType(field.type)};\n`).join("")}}

export const ${name} = {
  section: ".rodata",
  size: ${size},
${offsetsOf(fields)}  /** The section with these settings in place of the initial ones. */
  encode: (initial: Uint8Array, value: Partial<${name}>): Uint8Array => {
    const bytes = initial.slice();
    const view = codec.exactView(bytes, ${size}, ".rodata of ${program}");
${fields.map(rodataSetter).join("")}    return bytes;
  },
  decode: (bytes: Uint8Array): ${name} => {
    const view = codec.exactView(bytes, ${size}, ".rodata of ${program}");
    return {
${fields.map((field) => `      ${camelCase(field.name)}: ${getter(field.type, String(field.offset))},\n`).join("")}    };
  },
} as const;
`;
}
