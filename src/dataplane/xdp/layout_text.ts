// Reads the text of an ABI (canonicalText()) back, so that a plane which somebody else pinned says what its maps
// are made of. Knows the text's form; what is not of that form is a RangeError. Must never know a struct.

import { sizeOf, type Abi, type EnumLayout, type FieldType, type MapLayout, type StructLayout } from "./layout.ts";

interface Block {
  readonly words: readonly string[];
  /** Its lines, without the space that they begin with. */
  readonly lines: readonly string[];
}

export function parseLayout(text: string): Abi {
  const blocks = blocksOf(text);
  const of = (kind: string): Block[] => blocks.filter(({ words }) => words[0] === kind);
  const unknown = blocks.find(({ words }) => !["enum", "struct", "map"].includes(words[0]!));
  if (unknown !== undefined) throw new RangeError(`the layout has a ${unknown.words[0]!}`);
  const enums = of("enum").map(enumOf);
  const sizes: Sizes = {
    enum: new Map(enums.map(({ name, size }) => [name, size])),
    struct: new Map(of("struct").map(({ words }) => [words[1]!, numberOf(words[2])])),
  };
  return {
    enums, structs: of("struct").map((block) => structOf(block, sizes)), maps: of("map").map((block) => mapOf(block, sizes)),
  };
}

type Sizes = Readonly<Record<"struct" | "enum", ReadonlyMap<string, number>>>;

function blocksOf(text: string): Block[] {
  const blocks: { words: string[]; lines: string[] }[] = [];
  for (const line of text.split("\n")) {
    if (line === "") continue;
    if (!line.startsWith(" ")) blocks.push({ words: line.split(" "), lines: [] });
    else if (blocks.length === 0) throw new RangeError("the layout begins with a line that belongs to nothing");
    else blocks.at(-1)!.lines.push(line.slice(1));
  }
  return blocks;
}

function enumOf({ words, lines }: Block): EnumLayout {
  const values = lines.map((line) => {
    const [name = "", value] = line.split(" ");
    return { name, value: numberOf(value) };
  });
  return { name: words[1]!, size: numberOf(words[2]), values };
}

function structOf({ words, lines }: Block, sizes: Sizes): StructLayout {
  const size = numberOf(words[2]);
  const fields = lines.map((line) => {
    const [name = "", offset, ...type] = line.split(" ");
    const field = { name, offset: numberOf(offset), type: typeOf(type.join(" "), sizes) };
    if (field.offset + sizeOf(field.type) > size) throw new RangeError(`${words[1]!}.${name} ends behind its struct`);
    return field;
  });
  return { name: words[1]!, size, fields };
}

function mapOf({ words, lines }: Block, sizes: Sizes): MapLayout {
  const typed = (prefix: string): FieldType | null => {
    const line = lines.find((each) => each.startsWith(prefix));
    return line === undefined ? null : typeOf(line.slice(prefix.length), sizes);
  };
  return { name: words[1]!, type: numberOf(words[2]), key: typed("key "), value: typed("value ") };
}

function typeOf(text: string, sizes: Sizes): FieldType {
  const array = /^(.+)\[(\d+)\]$/.exec(text);
  if (array !== null) {
    const length = numberOf(array[2]);
    return array[1] === "u8" ? { kind: "bytes", length } : { kind: "array", of: typeOf(array[1]!, sizes), length };
  }
  if (text === "bool") return { kind: "bool" };
  const [, kind, name = ""] = /^(struct|enum) (\w+)$/.exec(text) ?? [];
  if (kind === "struct" || kind === "enum") {
    const size = sizes[kind].get(name);
    if (size === undefined) throw new RangeError(`the layout names ${text} and does not say what it is`);
    return { kind, name, size };
  }
  const [, form, bits] = /^(u|s|be)(8|16|32|64)$/.exec(text) ?? [];
  if (form === undefined) throw new RangeError(`the layout has a type ${JSON.stringify(text)}`);
  return { kind: "int", size: Number(bits) / 8 as 1 | 2 | 4 | 8, signed: form === "s", bigEndian: form === "be" };
}

function numberOf(text: string | undefined): number {
  if (text === undefined || !/^-?\d+$/.test(text)) throw new RangeError(`the layout has ${JSON.stringify(text)} where a number belongs`);
  return Number(text);
}
