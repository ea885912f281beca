// The ELF and BTF readers: what clang writes is read as it was declared, and nothing malformed is.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { btfOfObject, dataSectionNamed, parseBtf, typeAt } from "../../src/dataplane/xdp/btf.ts";
import { parseElf, sectionNamed, stringAt } from "../../src/dataplane/xdp/elf.ts";
import { CLANGS, NO_CLANG, compileBpf, describeCompiled } from "../support/clang.ts";
import { assertProperty } from "../support/counts.ts";

/** A BTF section by hand: the words of its types, and its strings. */
function btfSection(words: readonly number[], names: readonly string[]): Uint8Array {
  const strings = new TextEncoder().encode(`\0${names.map((name) => `${name}\0`).join("")}`);
  const bytes = new Uint8Array(24 + words.length * 4 + strings.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 0xeb9f, true);
  view.setUint8(2, 1);
  [24, 0, words.length * 4, words.length * 4, strings.length].forEach((value, i) => {
    view.setUint32(4 + i * 4, value, true);
  });
  words.forEach((word, i) => {
    view.setUint32(24 + i * 4, word, true);
  });
  bytes.set(strings, 24 + words.length * 4);
  return bytes;
}

const kind = (number: number, vlen = 0): number => ((number << 24) | vlen) >>> 0;

describe("parseBtf", () => {
  it("reads each kind that Documentation/bpf/btf.rst lists, and finds the next one after it", () => {
    const btf = parseBtf(
      btfSection(
        [
          1,
          kind(1),
          4,
          (1 << 24) | 32, //           1: int "a", signed
          0,
          kind(2),
          1, //                           2: pointer to 1
          0,
          kind(3),
          0,
          1,
          1,
          5, //                  3: array of five
          3,
          kind(4, 1),
          4,
          1,
          1,
          0, //               4: struct "b" { a at 0 }
          0,
          kind(5, 1),
          4,
          1,
          1,
          0, //               5: union
          5,
          kind(6, 1),
          4,
          1,
          7, //                  6: enum "c" { a = 7 }
          5,
          kind(7),
          0, //                           7: forward declaration
          5,
          kind(8),
          1,
          0,
          kind(9),
          1,
          0,
          kind(10),
          1,
          0,
          kind(11),
          1, // 8…11: typedef, volatile, const, restrict
          1,
          kind(12),
          13, //                        12: function
          0,
          kind(13, 1),
          1,
          1,
          1, //                13: prototype with one parameter
          3,
          kind(14),
          1,
          1, //                      14: variable "b"
          5,
          kind(15, 1),
          0,
          14,
          8,
          4, //            15: data section
          1,
          kind(16),
          8, //                         16: float
          1,
          kind(17),
          1,
          0, //                      17: tag of a declaration
          1,
          kind(18),
          1, //                         18: tag of a type
          5,
          kind(19, 1),
          8,
          1,
          2,
          1, //             19: enum64 { a = 2^32 + 2 }
        ],
        ["a", "b", "c"],
      ),
    );
    expect(btf.types.map((type) => type.kind)).toEqual([
      "void",
      "int",
      "pointer",
      "array",
      "struct",
      "union",
      "enum",
      "other",
      "typedef",
      "volatile",
      "const",
      "restrict",
      "function",
      "other",
      "var",
      "datasec",
      "other",
      "other",
      "type_tag",
      "enum",
    ]);
    expect(btf.types[1]).toEqual({
      kind: "int",
      name: "a",
      size: 4,
      bits: 32,
      signed: true,
      bool: false,
    });
    expect(btf.types[3]).toEqual({ kind: "array", type: 1, length: 5 });
    expect(btf.types[6]).toMatchObject({ name: "c", values: [{ name: "a", value: 7n }] });
    expect(btf.types[15]).toMatchObject({
      name: "c",
      variables: [{ type: 14, offset: 8, size: 4 }],
    });
    expect(btf.types[19]).toMatchObject({ values: [{ name: "a", value: 0x1_0000_0002n }] });
  });

  it("tells a bit-field by the struct's flag", () => {
    const btf = parseBtf(
      btfSection([0, (kind(4, 1) | 0x80000000) >>> 0, 4, 1, 1, (3 << 24) | 8], ["a"]),
    );
    expect(btf.types[1]).toMatchObject({ members: [{ bitOffset: 8, bitSize: 3 }] });
  });

  it.each([
    ["another magic number", new Uint8Array(24), "not BTF"],
    ["nothing", new Uint8Array(0), "outside the bounds"],
    ["an unknown kind", btfSection([0, kind(30), 0], []), "unknown kind 30"],
    ["a struct cut short", btfSection([0, kind(4, 1000), 4, 1, 1, 0], ["a"]), "ends within a type"],
    ["a name outside the strings", btfSection([99, kind(16), 8], []), "no string at 99"],
  ])("refuses %s", (_, bytes, message) => {
    expect(() => parseBtf(bytes)).toThrow(RangeError);
    expect(() => parseBtf(bytes)).toThrow(message);
  });

  it("refuses a reference to a type that is not there", () => {
    expect(() => typeAt({ types: [{ kind: "void" }] }, 1)).toThrow("type 1, of 1");
  });
});

describe("parseElf", () => {
  it.each([
    ["text", new TextEncoder().encode("#!/bin/sh\n".repeat(20)), "not an ELF file"],
    ["a short file", Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2, 1), "not an ELF file"],
    [
      "a big-endian file",
      Uint8Array.from({ length: 64 }, (__, i) => [0x7f, 0x45, 0x4c, 0x46, 2, 2][i] ?? 0),
      "little-endian",
    ],
  ])("refuses %s", (_, bytes, message) => {
    expect(() => parseElf(bytes)).toThrow(message);
  });

  it("refuses a string without an end", () => {
    expect(() => stringAt(Uint8Array.of(65, 66), 0)).toThrow("does not end");
  });
});

describeCompiled("what clang writes", NO_CLANG, () => {
  const source = `
  #include <linux/types.h>
  struct pair { __be16 port; __u16 count; };
  const volatile __u8 first = 1;
  const volatile struct pair second = { 2, 3 };
  const volatile _Bool third = 1;
  __attribute__((section("xdp"), used)) int program(void *context) { return first + second.count + third; }
`;

  it.each(CLANGS)(
    "%s: sections, symbols, and the places of variables that BTF itself leaves at zero",
    (clang) => {
      const object = compileBpf(source, {}, clang);
      const elf = parseElf(object);
      expect(elf.sections.map((section) => section.name)).toContain("xdp");
      expect(elf.symbols.find((symbol) => symbol.name === "program")?.type).toBe(2);
      const rodata = dataSectionNamed(btfOfObject(object), ".rodata");
      expect(rodata?.size).toBe(sectionNamed(elf, ".rodata")?.bytes.length);
      const places = new Map(
        rodata?.variables.map((variable) => {
          const declared = typeAt(btfOfObject(object), variable.type);
          return ["name" in declared ? declared.name : "", variable.offset] as const;
        }),
      );
      const bytes = sectionNamed(elf, ".rodata")?.bytes ?? new Uint8Array();
      expect(bytes[places.get("first") ?? -1]).toBe(1);
      expect(bytes[places.get("second") ?? -1]).toBe(2);
      expect(bytes[places.get("third") ?? -1]).toBe(1);
      expect(new Set(places.values()).size).toBe(3);
    },
  );

it("an object without BTF is refused with the remedy", () => {
  const elf = compileBpf(source);
  const at = new TextDecoder("latin1").decode(elf).indexOf(".BTF\0");
  elf[at + 1] = 0x78;
  expect(() => btfOfObject(elf)).toThrow("compile it with -g");
});

  it("damaged objects are a RangeError or read as something, and never hang", () => {
    const object = compileBpf(source);
    const changes = fc.array(fc.tuple(fc.nat(object.length - 1), fc.nat(255)), {
      minLength: 1,
      maxLength: 8,
    });
    assertProperty(
      "btf-garbage",
      fc.property(changes, fc.nat(object.length), (edits, length) => {
        const damaged = object.slice(0, edits.length % 2 === 0 ? object.length : length);
        for (const [at, byte] of edits) if (at < damaged.length) damaged[at] = byte;
        try {
          btfOfObject(damaged);
        } catch (error) {
          if (!(error instanceof RangeError)) throw error;
        }
      }),
    );
  });
});
