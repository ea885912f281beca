// Entries of another build's maps as this build reads them: fields by their names, counters by what they count; and what
// is refused, because it would mean something else here.

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { isMapOfMaps } from "../../src/dataplane/xdp/carry.ts";
import { conversionOf, numbersThatMoved, type Entry } from "../../src/dataplane/xdp/conversion.ts";
import { abiOfObject } from "../../src/dataplane/xdp/fingerprint.ts";
import { canonicalText, fingerprintOf, fingerprintOfText, type Abi } from "../../src/dataplane/xdp/layout.ts";
import { parseLayout } from "../../src/dataplane/xdp/layout_text.ts";
import type { MapName } from "../../src/dataplane/xdp/maps.ts";
import { compileBpf, describeCompiled, NO_CLANG } from "../support/clang.ts";
import { ROOT } from "../support/kernel.ts";

function abi(...lines: string[]): Abi {
  return parseLayout(lines.join("\n"));
}

const FLOWS = ["map flows 9", " key struct k", " value struct v"];

function converted(from: Abi, to: Abi, entry: Entry, name: MapName = "flows"): Entry | null {
  const conversion = conversionOf(name, from, to);
  if (conversion.kind === "same") return entry;
  if (conversion.kind !== "converted") throw new Error(`it is ${conversion.kind}`);
  return conversion.entry(entry);
}

const key = (...bytes: number[]): Uint8Array => Uint8Array.from(bytes);

describe("counters", () => {
  it.each(["verdict", "tracking_outcome", "nat_outcome", "quic_outcome", "flow_event", "remember_kind"])(
    "that enum %s numbers may become more", (name) => {
      const less = abi(`enum ${name} 4`, " A 0", " COUNT 1");
      const more = abi(`enum ${name} 4`, " NEW 0", " A 1", " COUNT 2");
      expect([numbersThatMoved(less, more), numbersThatMoved(more, less)]).toEqual([null, null]);
    });
});

describe("fields", () => {
  const old = abi(
    "struct inner 4", " b 0 be16", " a 2 u16", "struct k 4", " id 0 u32",
    "struct v 16", " gone 0 u32", " inner 4 struct inner", " mac 8 u8[4]", " small 12 u16", " pad 14 u8[2]", ...FLOWS,
  );
  const now = abi(
    "struct inner 8", " a 0 u32", " b 4 be16", " pad 6 u8[2]", "struct k 8", " port 0 be16", " pad 2 u8[2]", " id 4 u32",
    "struct v 28", " mac 0 u8[6]", " pad 6 u8[2]", " small 8 be32", " fresh 12 u64", " inner 20 struct inner", ...FLOWS,
  );

  it("are found by their names wherever they stand, in any width and byte order, and zero where they are new", () => {
    const value = key(9, 9, 9, 9, 0x12, 0x34, 0x78, 0x56, 1, 2, 3, 4, 0xcd, 0xab, 7, 7);
    expect(converted(old, now, { key: key(1, 2, 3, 4), value })).toEqual({
      key: key(0, 0, 0, 0, 1, 2, 3, 4),
      value: key(1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0xab, 0xcd, 0, 0, 0, 0, 0, 0, 0, 0, 0x78, 0x56, 0, 0, 0x12, 0x34, 0, 0),
    });
  });

  it("come back as they were, but for what has no place", () => {
    const there = converted(old, now, { key: key(1, 2, 3, 4), value: key(9, 9, 9, 9, 0x12, 0x34, 0x78, 0x56, 1, 2, 3, 4, 0xcd, 0xab, 0, 0) })!;
    expect(converted(now, old, there)!.value).toEqual(key(0, 0, 0, 0, 0x12, 0x34, 0x78, 0x56, 1, 2, 3, 4, 0xcd, 0xab, 0, 0));
  });

  it.each([
    ["a number", key(0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), /small is 65536, which does not fit u16/],
    ["bytes", key(0, 0, 0, 0, 0, 1, ...new Array<number>(22).fill(0)), /mac has more bytes/],
  ])("that hold more than there is room for do not fit: %s", (_, value, message) => {
    expect(() => converted(now, old, { key: key(0, 0, 0, 0, 1, 0, 0, 0), value })).toThrow(message);
  });

  it("of another kind cannot be converted", () => {
    const other = abi("struct k 4", " id 0 u32", "struct v 4", " mac 0 u32", ...FLOWS);
    expect(conversionOf("flows", old, other)).toEqual({ kind: "impossible", reason: "struct v.mac was u8[4] and is u32" });
  });

  it("that are the same are not looked at, whatever else differs", () => {
    const more = parseLayout(`${canonicalText(old)}struct other 1\n x 0 u8\n`);
    expect(conversionOf("flows", old, more)).toEqual({ kind: "same" });
  });

  it("of arrays go one by one, and those of a CPU stay its own", () => {
    const counts = (...fields: string[]): Abi => abi("struct c 12", ...fields, "map service_traffic 6", " key u32", " value struct c");
    const a = counts(" x 0 u16[2]", " y 4 u64");
    const b = abi("struct c 16", " y 0 u64", " x 8 u32[2]", "map service_traffic 6", " key u32", " value struct c");
    const cpu = (n: number): number[] => [n, 0, n + 1, 0, n + 2, 0, 0, 0, 0, 0, 0, 0, 0xee, 0xee, 0xee, 0xee];
    const wanted = (n: number): number[] => [n + 2, 0, 0, 0, 0, 0, 0, 0, n, 0, 0, 0, n + 1, 0, 0, 0];
    expect(converted(a, b, { key: key(1, 0, 0, 0), value: key(...cpu(1), ...cpu(5)) }, "service_traffic")!.value)
      .toEqual(key(...wanted(1), ...wanted(5)));
  });
});

describe("maps", () => {
  const keyed = (type: number, ...enums: string[]): Abi => abi(...enums, `map verdict_counts ${type}`, " key u32", " value u64");

  it("numbered by an enum keep what has the same name", () => {
    const from = keyed(6, "enum verdict 4", " A 0", " B 1", " C 2");
    const to = keyed(6, "enum verdict 4", " A 0", " N 1", " C 3");
    const at = (number: number): unknown =>
      converted(from, to, { key: key(number, 0, 0, 0), value: key(...new Array<number>(8).fill(7)) }, "verdict_counts")?.key;
    expect([0, 1, 2, 9].map(at)).toEqual([key(0, 0, 0, 0), undefined, key(3, 0, 0, 0), undefined]);
    expect(conversionOf("verdict_counts", from, keyed(6, "enum verdict 4", " A 0", " B 1", " C 2")).kind).toBe("same");
  });

  it("that were not there, or count in another way, say so", () => {
    expect(conversionOf("verdict_counts", abi(), keyed(6)).kind).toBe("absent");
    expect(conversionOf("verdict_counts", keyed(2), keyed(6)).kind).toBe("impossible");
    expect(conversionOf("verdict_counts", abi("map verdict_counts 6", " key u32"), keyed(6)).kind).toBe("impossible");
  });
});

describe("numbers that are kept in records", () => {
  const from = abi("enum forwarding 4", " L2 1", " NAT 2", "enum verdict 4", " A 0", "enum ring_class 4", " SMALL 0", " RING_CLASSES 1");
  it("may have more names, and fewer", () => {
    const more = abi("enum forwarding 4", " L2 1", " NAT 2", " NEW 3", "enum ring_class 4", " SMALL 0", " LARGE 1", " RING_CLASSES 2");
    expect([numbersThatMoved(from, more), numbersThatMoved(more, from), numbersThatMoved(from, from)]).toEqual([null, null, null]);
  });
  it("may not have changed, nor become another's; those of counters may", () => {
    expect(numbersThatMoved(from, abi("enum forwarding 4", " L2 1", " NAT 3"))).toBe("NAT is 2 there, and NAT is 3 here");
    expect(numbersThatMoved(from, abi("enum forwarding 4", " L2 1", " NEW 2"))).toBe("NAT is 2 there, and NEW is 2 here");
    expect(numbersThatMoved(from, abi("enum verdict 4", " B 0", " A 1"))).toBe(null);
  });
});

describe("the text of a layout", () => {
  it.each([
    "struct s", "enum e 4\n A", " a 0 u8", "struct s 1\n a 0 u7", "struct s 1\n a 0 struct t", "struct s 1\n a 0 u16", "union u 4",
    "map m", "map m x",
  ])("of another form is refused: %j", (text) => {
    expect(() => parseLayout(text)).toThrow(RangeError);
  });
});

describeCompiled("what this build is compiled to", NO_CLANG, () => {
  const program = readFileSync(`${ROOT}/bpf/pointsman.bpf.c`, "utf8").replaceAll("#include \"", `#include "${ROOT}/bpf/`);

  it("comes back from its text, and is its own predecessor", () => {
    const own = abiOfObject(compileBpf(program));
    const text = canonicalText(own);
    expect(parseLayout(text)).toEqual(own);
    expect(fingerprintOfText(text)).toBe(fingerprintOf(own));
    expect(numbersThatMoved(own, own)).toBe(null);
    for (const { name } of own.maps.filter((each) => !isMapOfMaps(each.name as MapName))) {
      const isScratch = ["nat_claims", "pick_scans", "untracked_flows"].includes(name);
      expect(conversionOf(name as MapName, own, own), name).toEqual({ kind: isScratch ? "scratch" : "same" });
    }
  });

  it("keeps the numbers of these enums in records, and of no others: one that is new has to be put somewhere", () => {
    const own = abiOfObject(compileBpf(program));
    const isKept = (name: string): boolean => own.enums.find((each) => each.name === name)!.values.some(({ name: text }) => {
      const enums = own.enums.map((each) => each.name !== name ? each
        : { ...each, values: each.values.map((one) => one.name === text ? { ...one, value: 4242 } : one) });
      return numbersThatMoved(own, { ...own, enums }) !== null;
    });
    expect(own.enums.map(({ name }) => name).filter(isKept)).toEqual([
      "destination_flags", "flow_other", "forwarding", "gue_variant", "hash_input", "nat_flags", "nat_sources_at", "next_hop_flags",
      "next_hop_vlan", "orphan_action", "pick", "policy_action", "quic_mode", "region", "ring_class", "service_flags", "slot_word", "tracking",
    ]);
  });

  it("another type of a map is another ABI", () => {
    const own = abiOfObject(compileBpf(program));
    const maps = own.maps.map((map) => map.name === "flows" ? { ...map, type: 1 } : map);
    expect(fingerprintOf({ ...own, maps })).not.toBe(fingerprintOf(own));
  });
});
