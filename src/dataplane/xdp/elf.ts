// Reads what the ABI check needs from a BPF object file: sections and symbols of a 64-bit
// little-endian ELF (System V gABI, chapters 4 and "Symbol Table"). Knows no BTF and no program.
// Anything that does not fit its bounds is a RangeError, never a wrong answer.

export interface ElfSection {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface ElfSymbol {
  readonly name: string;
  /** In an object file: the offset in its section. */
  readonly value: number;
  /** Index of the section, or of a special one (0 undefined, 0xfff1 absolute). */
  readonly section: number;
  /** STT_*: 1 object, 2 function, 3 section. */
  readonly type: number;
}

export interface ElfObject {
  readonly sections: readonly ElfSection[];
  readonly symbols: readonly ElfSymbol[];
}

const SHT_SYMTAB = 2;
const SHT_NOBITS = 8;
const decoder = new TextDecoder("utf-8", { fatal: true });

/** The section of this name, or null. */
export function sectionNamed(object: ElfObject, name: string): ElfSection | null {
  return object.sections.find((section) => section.name === name) ?? null;
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The zero-terminated string at an offset of a string table. */
export function stringAt(table: Uint8Array, offset: number): string {
  if (offset >= table.length)
    throw new RangeError(`no string at ${offset}: the table has ${table.length} bytes`);
  const end = table.indexOf(0, offset);
  if (end < 0) throw new RangeError(`the string at ${offset} does not end`);
  try {
    return decoder.decode(table.subarray(offset, end));
  } catch (error) {
    throw new RangeError(`the string at ${offset} is not UTF-8`, { cause: error });
  }
}

/** A part of the file, checked against its bounds. */
function part(
  file: Uint8Array,
  offset: bigint | number,
  size: bigint | number,
  what: string,
): Uint8Array {
  const [from, length] = [Number(offset), Number(size)];
  if (from + length > file.length) throw new RangeError(`${what} lies outside the file`);
  return file.subarray(from, from + length);
}

export function parseElf(file: Uint8Array): ElfObject {
  const view = viewOf(file);
  if (file.length < 64 || view.getUint32(0, false) !== 0x7f454c46)
    throw new RangeError("not an ELF file");
  if (view.getUint8(4) !== 2 || view.getUint8(5) !== 1)
    throw new RangeError("not a 64-bit little-endian ELF file");
  const headers = readHeaders(file, view);
  const names = headers[view.getUint16(62, true)];
  if (names === undefined) throw new RangeError("no table of section names");
  const sections = headers.map((header) => ({
    name: stringAt(names.bytes, header.name),
    bytes: header.bytes,
  }));
  const symbols = headers.flatMap((header) => {
    if (header.type !== SHT_SYMTAB) return [];
    const strings = headers[header.link];
    if (strings === undefined) throw new RangeError("a symbol table without strings");
    return readSymbols(header.bytes, strings.bytes);
  });
  return { sections, symbols };
}

interface Header {
  readonly name: number;
  readonly type: number;
  readonly link: number;
  readonly bytes: Uint8Array;
}

function readHeaders(file: Uint8Array, view: DataView): Header[] {
  const [entrySize, entries] = [view.getUint16(58, true), view.getUint16(60, true)];
  if (entrySize !== 64) throw new RangeError(`section headers of ${entrySize} bytes`);
  const table = viewOf(
    part(file, view.getBigUint64(40, true), entrySize * entries, "the section table"),
  );
  return Array.from({ length: entries }, (_, index) => {
    const at = index * entrySize;
    const type = table.getUint32(at + 4, true);
    const size = type === SHT_NOBITS || type === 0 ? 0n : table.getBigUint64(at + 32, true);
    return {
      name: table.getUint32(at, true),
      type,
      link: table.getUint32(at + 40, true),
      bytes: part(
        file,
        size === 0n ? 0 : table.getBigUint64(at + 24, true),
        size,
        `section ${index}`,
      ),
    };
  });
}

function readSymbols(bytes: Uint8Array, strings: Uint8Array): ElfSymbol[] {
  const view = viewOf(bytes);
  return Array.from({ length: Math.floor(bytes.length / 24) }, (_, index) => {
    const at = index * 24;
    return {
      name: stringAt(strings, view.getUint32(at, true)),
      type: view.getUint8(at + 4) & 0xf,
      section: view.getUint16(at + 6, true),
      value: Number(view.getBigUint64(at + 8, true)),
    };
  });
}
