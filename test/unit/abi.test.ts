// The ABI generator and what it generates: layouts are the compiler's, codecs refuse what does not
// fit, and the fingerprint changes exactly when a struct or an enum does.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { abiHeaders, declaredNames, generateAbi } from "../../scripts/abi_source.ts";
import * as generated from "../../src/dataplane/xdp/abi.gen.ts";
import {
  ABI_FINGERPRINT,
  ABI_NAMES,
  Verdict,
  VERDICT_NAMES,
} from "../../src/dataplane/xdp/abi.gen.ts";
import { btfOfObject } from "../../src/dataplane/xdp/btf.ts";
import type { Btf, BtfType } from "../../src/dataplane/xdp/btf.ts";
import { abiOf, fieldType, fingerprintOf, resolve } from "../../src/dataplane/xdp/layout.ts";
import { CLANGS, NO_CLANG, compileBpf, describeCompiled } from "../support/clang.ts";
import { assertProperty } from "../support/counts.ts";
import { ROOT } from "../support/kernel.ts";

const HEADER = `
#include <linux/types.h>
/* struct commented { int out; } */
enum colour { RED = 0, GREEN, BLUE = 7 };
enum unused_by_structs { ONE = 1 };
struct point { __s32 x; __s16 y; __s8 z; __u8 pad; __s64 w; };
struct shape {
	__u8 address[16];
	__be16 port;
	__u16 count;
	__be32 service;
	__u64 seed;
	struct point corners[2];
	__u32 weights[3];
	enum colour colour;
	_Bool closed;
	__u8 pad[7];
	__be64 tag;
};
`;
const PROGRAM = `
#include "abi.h"
struct shape shape;
const volatile enum unused_by_structs anchor_unused = ONE;
const volatile __u32 flow_max = 9;
const volatile _Bool feature_ipv6 = 1;
const volatile __u8 mac[6] = { 1, 2, 3, 4, 5, 6 };
static const __u32 table[3] = { 5, 6, 7 };
__attribute__((section("xdp"), used)) int pointsman(int *context) {
	return table[*context & 1] + flow_max + feature_ipv6 + mac[*context & 3] + shape.closed;
}
`;
const SHAPE = {
  address: Uint8Array.from({ length: 16 }, (_, i) => i),
  port: 443,
  count: 5,
  service: 0x01020304,
  seed: 2n ** 63n,
  corners: [
    { x: -1, y: -2, z: -3, w: -4n },
    { x: 1, y: 2, z: 3, w: 4n },
  ],
  weights: [1, 2, 4_000_000_000],
  colour: 7,
  closed: true,
  tag: 1n,
};

interface Codec<T> {
  readonly size: number;
  encode(value: T): Uint8Array;
  decode(bytes: Uint8Array): T;
}
interface Fixture {
  readonly Shape: Codec<typeof SHAPE>;
  readonly PointsmanRodata: {
    readonly size: number;
    encode(initial: Uint8Array, value: object): Uint8Array;
    decode(bytes: Uint8Array): { flowMax: number; featureIpv6: boolean; mac: Uint8Array };
  };
  readonly COLOUR_NAMES: readonly string[];
}

function isCodec(value: unknown): value is Codec<object> {
  return typeof value === "object" && value !== null && "encode" in value && !("section" in value);
}

function object(
  header = HEADER,
  program = PROGRAM,
  clang?: string,
): { name: string; bytes: Uint8Array } {
  return { name: "pointsman.bpf.o", bytes: compileBpf(program, { "abi.h": header }, clang) };
}

function fingerprint(header: string, program = PROGRAM): bigint {
  return fingerprintOf(abiOf(btfOfObject(object(header, program).bytes), declaredNames(header)));
}

describe("declaredNames", () => {
  it("finds what is declared, not what is only named or in a comment", () => {
    expect(declaredNames(HEADER)).toEqual({
      structs: ["point", "shape"],
      enums: ["colour", "unused_by_structs"],
    });
  });
});

describeCompiled("generated from a compiler's BTF", NO_CLANG, () => {
  let directory: string;
  beforeAll(() => {
    // Below node_modules, where vitest transforms nothing but still finds the file.
    directory = mkdtempSync(join(ROOT, "node_modules/.abi-test-"));
  });
  afterAll(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  async function load(): Promise<Fixture> {
    const typescript = await import("typescript");
    const javascript = (text: string): string =>
      typescript.transpileModule(text, {
        compilerOptions: {
          module: typescript.ModuleKind.ESNext,
          target: typescript.ScriptTarget.ES2023,
        },
      }).outputText;
    writeFileSync(
      join(directory, "abi_codec.mjs"),
      javascript(readFileSync(join(ROOT, "src/dataplane/xdp/abi_codec.ts"), "utf8")),
    );
    writeFileSync(
      join(directory, "abi.gen.mjs"),
      javascript(generateAbi(HEADER, [object()])).replace("abi_codec.ts", "abi_codec.mjs"),
    );
    return (await import(join(directory, "abi.gen.mjs"))) as Fixture;
  }

  it("every compiler gives the same file", () => {
    const texts = CLANGS.map((clang) => generateAbi(HEADER, [object(HEADER, PROGRAM, clang)]));
    expect(new Set(texts).size).toBe(1);
  });

  it("encodes each kind of field where and how the compiler has it, and decodes it again", async () => {
    const { Shape } = await load();
    const bytes = Shape.encode(SHAPE);
    const view = new DataView(bytes.buffer);
    expect(Shape.size).toBe(96);
    expect([
      view.getUint16(16, false),
      view.getUint16(18, true),
      view.getUint32(20, false),
    ]).toEqual([443, 5, 0x01020304]);
    expect([
      view.getInt32(32, true),
      view.getInt16(36, true),
      view.getInt8(38),
      bytes[39],
    ]).toEqual([-1, -2, -3, 0]);
    expect(view.getUint32(72, true)).toBe(4_000_000_000);
    expect(Shape.decode(bytes)).toEqual(SHAPE);
  });

  it("refuses every other size, and every value that its field cannot hold", async () => {
    const { Shape } = await load();
    expect(() => Shape.decode(new Uint8Array(95))).toThrow("struct shape has 96 bytes, not 95");
    expect(() => Shape.decode(new Uint8Array(97))).toThrow(RangeError);
    const wrong: [Partial<typeof SHAPE>, string][] = [
      [{ port: 65536 }, "shape.port is an integer from 0 to 65535"],
      [{ count: 1.5 }, "shape.count"],
      [{ seed: -1n }, "shape.seed"],
      [{ address: new Uint8Array(4) }, "shape.address has 16 bytes, not 4"],
      [{ weights: [1] }, "shape.weights has 3 elements, not 1"],
      [{ corners: [{ x: 0, y: 40000, z: 0, w: 0n }, SHAPE.corners[0]!] }, "point.y"],
    ];
    for (const [value, message] of wrong)
      expect(() => Shape.encode({ ...SHAPE, ...value })).toThrow(message);
  });

  it("names settings, leaves out anchors and constants, and keeps the other bytes of the section", async () => {
    const { PointsmanRodata } = await load();
    const initial = new Uint8Array(PointsmanRodata.size).fill(0xee);
    const bytes = PointsmanRodata.encode(initial, { flowMax: 77, featureIpv6: false });
    const changed = [...bytes].filter((byte) => byte !== 0xee).length;
    expect(changed).toBe(5);
    expect(initial.every((byte) => byte === 0xee)).toBe(true);
    expect(PointsmanRodata.decode(bytes)).toMatchObject({ flowMax: 77, featureIpv6: false });
    expect(Object.keys(PointsmanRodata.decode(bytes)).sort()).toEqual([
      "featureIpv6",
      "flowMax",
      "mac",
    ]);
    expect(() => PointsmanRodata.encode(new Uint8Array(3), {})).toThrow(".rodata of pointsman");
  });

  it("the fingerprint changes with any field, size, order, name or value of the types", () => {
    const before = fingerprint(HEADER);
    const changes: [string, string][] = [
      ["__u16 count;", "__be16 count;"],
      ["__u16 count;", "__u16 counted;"],
      ["BLUE = 7", "BLUE = 8"],
      ["__s32 x; __s16 y;", "__s16 y; __s16 x; __s16 z1;"],
      ["ONE = 1", "ONE = 1, TWO"],
      ["__u32 weights[3];", "__s32 weights[3];"],
    ];
    for (const [from, to] of changes) {
      expect(HEADER).toContain(from);
      expect(fingerprint(HEADER.replace(from, to)), `${from} to ${to}`).not.toBe(before);
    }
  });

  it("and with nothing else: code, order of declarations, comments, other types", () => {
    const before = fingerprint(HEADER);
    const enums = /enum colour .*\n/.exec(HEADER)?.[0] ?? "";
    const moved = HEADER.replace(enums, "").replace(
      "struct point",
      `/* moved */ struct stranger;\n${enums}struct point`,
    );
    expect(fingerprint(moved)).toBe(before);
    expect(
      fingerprint(
        HEADER,
        `${PROGRAM}\nstruct other { int y; } other; int more(void) { return other.y; }`,
      ),
    ).toBe(before);
  });

  it.each([
    ["a pointer", "__u64 seed;", "void *seed;", "shape.seed: a pointer"],
    ["a union", "__u64 seed;", "union { __u64 a; } seed;", "shape.seed: a union"],
    ["a bit-field", "__u64 seed;", "__u64 seed : 63;", "shape.seed: a bit-field"],
    ["a hole", "__u16 count;\n", "", "shape has a hole before service"],
    ["a hole at the end", "__be64 tag;", "__be64 tag; __u8 last;", "shape has a hole at its end"],
    [
      "a nameless struct",
      "__u64 seed;",
      "struct { __u64 a; } seed;",
      "shape.seed: a struct without a name",
    ],
    ["a large enum value", "BLUE = 7", "BLUE = 0x80000000", "colour.BLUE"],
  ])("%s is an error, not a silent skip", (_, from, to, message) => {
    const header = HEADER.replace(from, to);
    expect(() => generateAbi(header, [object(header)])).toThrow(RangeError);
    expect(() => generateAbi(header, [object(header)])).toThrow(message);
  });

  it("a type that no program refers to is an error that says how to keep it", () => {
    const program = PROGRAM.replace(/.*anchor_unused.*\n/, "");
    expect(() => generateAbi(HEADER, [object(HEADER, program)])).toThrow(
      "enum unused_by_structs, but no compiled program",
    );
  });

  it("objects built from different headers do not go together", () => {
    const later = {
      ...object(HEADER.replace("__u16 count", "__u16 counted")),
      name: "decap.bpf.o",
    };
    expect(() => generateAbi(HEADER, [object(), later])).toThrow(
      "shape differs between decap.bpf.o and pointsman.bpf.o",
    );
    expect(() => generateAbi(HEADER, [later])).toThrow("no pointsman.bpf.o");
  });

  it("a struct from elsewhere inside one of ours is an error", () => {
    const header = HEADER.replace("struct point {", "struct point {").replace(
      "struct shape {",
      "struct shape { struct stray stray;",
    );
    const stray = 'struct stray { unsigned long long a; };\n#include "abi.h"';
    const program = PROGRAM.replace('#include "abi.h"', stray);
    expect(() => generateAbi(header, [object(header, program)])).toThrow(
      "shape.stray: stray is not declared in bpf/abi.h",
    );
  });
});

describe("layout", () => {
  it("a circle of types is refused", () => {
    const circle: BtfType = { kind: "typedef", name: "t", type: 1 };
    const btf: Btf = { types: [{ kind: "void" }, circle] };
    expect(() => resolve(btf, 1)).toThrow("refers to itself");
    expect(() => fieldType(btf, 1, "x")).toThrow(RangeError);
  });
});

describe("abi.gen.ts, as committed", () => {
  it("names the types of bpf/abi.h", () => {
    const declared = declaredNames(abiHeaders(ROOT));
    expect(ABI_NAMES.structs).toEqual([...declared.structs].sort());
    expect(ABI_NAMES.enums).toEqual([...declared.enums].sort());
    expect(ABI_FINGERPRINT).not.toBe(0n);
  });

  it("numbers verdicts as the counter's index", () => {
    VERDICT_NAMES.forEach((name, index) => { expect(Verdict[name]).toBe(index); });
  });

  it("whatever a codec reads it writes again, byte for byte but for the padding", () => {
    const exported: readonly unknown[] = Object.values(generated);
    const codecs = exported.filter(isCodec);
    expect(codecs.length).toBe(ABI_NAMES.structs.length);
    const seeds = fc.record({
      codec: fc.constantFrom(...codecs),
      bytes: fc.uint8Array({ minLength: 4096, maxLength: 4096 }),
    });
    assertProperty(
      "abi-codec",
      fc.property(seeds, ({ codec, bytes }) => {
        const value = codec.decode(bytes.slice(0, codec.size));
        const written = codec.encode(value);
        expect(codec.decode(written)).toEqual(value);
        const differing = written.findIndex((byte, at) => byte !== bytes[at] && byte !== 0);
        expect(differing).toBe(-1);
      }),
    );
  });

  it("a service's port is in network order", () => {
    const bytes = generated.ServiceKey.encode({
      address: new Uint8Array(16),
      port: 443,
      protocol: 6,
    });
    expect([...bytes.subarray(16)]).toEqual([1, 187, 6, 0]);
  });
});
