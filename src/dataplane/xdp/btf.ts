// Reads BTF, the type information in a BPF object file (Documentation/bpf/btf.rst in the kernel).
// Knows kinds, names and offsets; knows nothing of which types matter. Malformed input is a
// RangeError.

import { parseElf, sectionNamed, stringAt, viewOf } from "./elf.ts";
import type { ElfObject } from "./elf.ts";

export interface BtfMember {
  readonly name: string;
  readonly type: number;
  readonly bitOffset: number;
  /** 0 unless it is a bit-field. */
  readonly bitSize: number;
}

export interface BtfVariable {
  readonly type: number;
  readonly offset: number;
  readonly size: number;
}

interface BtfNumber {
  readonly name: string;
  readonly value: bigint;
}

export interface BtfInt {
  readonly kind: "int";
  readonly name: string;
  readonly size: number;
  readonly bits: number;
  readonly signed: boolean;
  readonly bool: boolean;
}

/** Everything that only points to another type. */
export interface BtfReference {
  readonly kind:
    "typedef" | "const" | "volatile" | "restrict" | "pointer" | "type_tag" | "var" | "function";
  readonly name: string;
  readonly type: number;
}

export type BtfType =
  | { readonly kind: "void" }
  | BtfInt
  | { readonly kind: "array"; readonly type: number; readonly length: number }
  | {
      readonly kind: "struct" | "union";
      readonly name: string;
      readonly size: number;
      readonly members: readonly BtfMember[];
    }
  | {
      readonly kind: "enum";
      readonly name: string;
      readonly size: number;
      readonly values: readonly BtfNumber[];
    }
  | {
      readonly kind: "datasec";
      readonly name: string;
      readonly size: number;
      readonly variables: readonly BtfVariable[];
    }
  | BtfReference
  /** Float, forward declaration, prototype, tag: nothing here looks inside. */
  | { readonly kind: "other"; readonly name: string };

export interface Btf {
  /** By id; 0 is void. */
  readonly types: readonly BtfType[];
}

type Reader = (cursor: Cursor, entry: Entry) => BtfType;

interface Entry {
  readonly name: string;
  readonly vlen: number;
  readonly kindFlag: boolean;
  /** Size or type, whichever the kind has there. */
  readonly sizeOrType: number;
}

/** Goes through the type section; DataView refuses what lies outside. */
class Cursor {
  readonly #view: DataView;
  readonly #strings: Uint8Array;
  #at = 0;
  constructor(types: Uint8Array, strings: Uint8Array) {
    this.#view = viewOf(types);
    this.#strings = strings;
  }
  get atEnd(): boolean { return this.#at >= this.#view.byteLength; }
  u32(): number {
    const value = this.#view.getUint32(this.#at, true);
    this.#at += 4;
    return value;
  }
  name(): string { return stringAt(this.#strings, this.u32()); }
  /** `count` items of `size` bytes; refused at once when they cannot all be there. */
  items<T>(count: number, size: number, read: () => T): T[] {
    if (this.#at + count * size > this.#view.byteLength)
      throw new RangeError("BTF ends within a type");
    return Array.from({ length: count }, read);
  }
}

const pointing = (kind: BtfReference["kind"]): Reader =>
  (_, entry) => ({ kind, name: entry.name, type: entry.sizeOrType });

const other = (words: (vlen: number) => number): Reader => (cursor, entry) => {
  cursor.items(words(entry.vlen), 4, () => cursor.u32());
  return { kind: "other", name: entry.name };
};

const composite = (kind: "struct" | "union"): Reader => (cursor, entry) => ({
  kind, name: entry.name, size: entry.sizeOrType,
  members: cursor.items(entry.vlen, 12, () => {
    const [name, type, offset] = [cursor.name(), cursor.u32(), cursor.u32()];
    // With the flag, the top byte is the width of a bit-field.
    return entry.kindFlag
      ? { name, type, bitOffset: offset & 0xffffff, bitSize: offset >>> 24 }
      : { name, type, bitOffset: offset, bitSize: 0 };
  }),
});

/**
 * By BTF_KIND_*. Compilers differ in whether they mark enums as signed, so values are taken as
 * unsigned.
 */
const READERS: readonly (Reader | null)[] = [
  null,
  (cursor, entry) => {
    const encoding = cursor.u32();
    return {
      kind: "int", name: entry.name, size: entry.sizeOrType, bits: encoding & 0xff,
      signed: ((encoding >> 24) & 1) === 1, bool: ((encoding >> 24) & 4) === 4,
    };
  },
  pointing("pointer"),
  (cursor) => {
    const [type, , length] = [cursor.u32(), cursor.u32(), cursor.u32()];
    return { kind: "array", type, length };
  },
  composite("struct"),
  composite("union"),
  (cursor, entry) => ({
    kind: "enum",
    name: entry.name,
    size: entry.sizeOrType,
    values: cursor.items(entry.vlen, 8, () => ({
      name: cursor.name(),
      value: BigInt(cursor.u32()),
    })),
  }),
  other(() => 0),
  pointing("typedef"),
  pointing("volatile"),
  pointing("const"),
  pointing("restrict"),
  pointing("function"),
  other((vlen) => 2 * vlen),
  (cursor, entry) => {
    cursor.u32();
    return { kind: "var", name: entry.name, type: entry.sizeOrType };
  },
  (cursor, entry) => ({
    kind: "datasec",
    name: entry.name,
    size: entry.sizeOrType,
    variables: cursor.items(entry.vlen, 12, () => ({
      type: cursor.u32(),
      offset: cursor.u32(),
      size: cursor.u32(),
    })),
  }),
  other(() => 0),
  other(() => 1),
  pointing("type_tag"),
  (cursor, entry) => ({
    kind: "enum", name: entry.name, size: entry.sizeOrType,
    values: cursor.items(entry.vlen, 12, () => {
      const [name, low, high] = [cursor.name(), cursor.u32(), cursor.u32()];
      return { name, value: (BigInt(high) << 32n) | BigInt(low) };
    }),
  }),
];

export function parseBtf(bytes: Uint8Array): Btf {
  const view = viewOf(bytes);
  if (view.getUint16(0, true) !== 0xeb9f || view.getUint8(2) !== 1)
    throw new RangeError("not BTF version 1");
  const headerSize = view.getUint32(4, true);
  const [typesAt, typesSize] = [view.getUint32(8, true), view.getUint32(12, true)];
  const [stringsAt, stringsSize] = [view.getUint32(16, true), view.getUint32(20, true)];
  if (
    headerSize + typesAt + typesSize > bytes.length ||
    headerSize + stringsAt + stringsSize > bytes.length
  ) {
    throw new RangeError("BTF points outside its section");
  }
  const types = bytes.subarray(headerSize + typesAt, headerSize + typesAt + typesSize);
  const strings = bytes.subarray(headerSize + stringsAt, headerSize + stringsAt + stringsSize);
  const cursor = new Cursor(types, strings);
  const parsed: BtfType[] = [{ kind: "void" }];
  while (!cursor.atEnd) {
    const [name, info, sizeOrType] = [cursor.name(), cursor.u32(), cursor.u32()];
    const read = READERS[(info >>> 24) & 0x1f] ?? null;
    if (read === null)
      throw new RangeError(
        `BTF type ${parsed.length} has the unknown kind ${(info >>> 24) & 0x1f}`,
      );
    parsed.push(
      read(cursor, { name, vlen: info & 0xffff, kindFlag: info >>> 31 === 1, sizeOrType }),
    );
  }
  return { types: parsed };
}

/** The BTF of an object file, with the offsets that only its symbols know filled in. */
export function btfOfObject(file: Uint8Array): Btf {
  const elf = parseElf(file);
  const section = sectionNamed(elf, ".BTF");
  if (section === null) throw new RangeError("the object has no BTF: compile it with -g");
  const btf = parseBtf(section.bytes);
  return {
    types: btf.types.map((type) => (type.kind === "datasec" ? placed(btf, elf, type) : type)),
  };
}

type DataSection = Extract<BtfType, { kind: "datasec" }>;

/**
 * Before linking, a data section's BTF holds zeros for its size and offsets; so libbpf asks the
 * symbols too.
 */
function placed(btf: Btf, elf: ElfObject, type: DataSection): DataSection {
  const index = elf.sections.findIndex((section) => section.name === type.name);
  const section = elf.sections[index];
  if (section === undefined) return type;
  return {
    ...type, size: section.bytes.length,
    variables: type.variables.map((variable) => {
      const declared = btf.types[variable.type];
      const name = declared?.kind === "var" ? declared.name : "";
      const symbol = elf.symbols.find(
        (candidate) => candidate.section === index && candidate.name === name,
      );
      return symbol === undefined ? variable : { ...variable, offset: symbol.value };
    }),
  };
}

export function typeAt(btf: Btf, id: number): BtfType {
  const type = btf.types[id];
  if (type === undefined) throw new RangeError(`BTF refers to type ${id}, of ${btf.types.length}`);
  return type;
}

/** The data section of this name, or null. */
export function dataSectionNamed(btf: Btf, name: string): DataSection | null {
  return (
    btf.types.find((type): type is DataSection => type.kind === "datasec" && type.name === name) ??
    null
  );
}
