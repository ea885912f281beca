// Header blocks by the examples of RFC 7541 (appendices B and C), of nghttp2's encoder with random fields, and of
// nobody's: whatever the bytes, there are fields or an HpackFault.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeFields, HpackDecoder, HpackFault } from "../../src/health/probes/hpack.ts";
import type { Field } from "../../src/health/probes/http_fields.ts";
import { decodeHuffman } from "../../src/health/probes/huffman.ts";
import { assertProperty } from "../support/counts.ts";

const LIMITS = { fields: 128, bytes: 65_536 };
const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(" ", ""), "hex");
const decode = (...blocks: readonly string[]): string[][] => {
  const decoder = new HpackDecoder(LIMITS);
  return blocks.map((block) => decoder.decode(bytes(block)).map(([name, value]) => `${name}: ${value}`));
};

describe("RFC 7541, appendix C", () => {
  it.each([
    ["C.2.1", "400a637573746f6d2d6b65790d637573746f6d2d686561646572", "custom-key: custom-header"],
    ["C.2.2", "040c2f73616d706c652f70617468", ":path: /sample/path"],
    ["C.2.3", "100870617373776f726406736563726574", "password: secret"],
    ["C.2.4", "82", ":method: GET"],
  ])("%s", (_name, block, field) => {
    expect(decode(block)).toEqual([[field]]);
  });

  const REQUEST = [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
  it.each([
    ["C.3", ["828684410f7777772e6578616d706c652e636f6d", "828684be58086e6f2d6361636865",
      "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565"]],
    ["C.4", ["828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf", "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"]],
  ])("%s: requests of one connection", (_name, blocks) => {
    expect(decode(...blocks)).toEqual([
      REQUEST, [...REQUEST, "cache-control: no-cache"],
      [":method: GET", ":scheme: https", ":path: /index.html", ":authority: www.example.com", "custom-key: custom-value"],
    ]);
  });

  const [FIRST, SECOND, THIRD] = ["Mon, 21 Oct 2013 20:13:21 GMT", "Mon, 21 Oct 2013 20:13:21 GMT", "Mon, 21 Oct 2013 20:13:22 GMT"];
  const response = (status: number, date: string): string[] =>
    [`:status: ${status}`, "cache-control: private", `date: ${date}`, "location: https://www.example.com"];
  // A table of 256 bytes, as the appendix has it: fields are evicted.
  it.each([
    ["C.5", ["3fe1014803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
      + "6e1768747470733a2f2f7777772e6578616d706c652e636f6d", "4803333037c1c0bf",
    "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f"
      + "5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31"]],
    ["C.6", ["3fe101488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
      "4883640effc1c0bf",
      "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1"
      + "ab270fb5291f9587316065c003ed4ee5b1063d5007"]],
  ])("%s: responses of one connection", (_name, blocks) => {
    const cookie = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    expect(decode(...blocks)).toEqual([
      response(302, FIRST), response(307, SECOND),
      [":status: 200", "cache-control: private", `date: ${THIRD}`, "location: https://www.example.com", "content-encoding: gzip",
        `set-cookie: ${cookie}`],
    ]);
  });

  // The prefix of five bits is a resize's here: a table of 10 bytes has no room for what one of 1,337 holds.
  it("C.1: numbers", () => {
    expect(() => decode("2a 4001610162 be")).toThrow("no header field has the index 62");
    expect(decode("3f9a0a 4001610162 be")).toEqual([["a: b", "a: b"]]);
    expect(() => decode(`3f9a0a 4001617f9a09${"62".repeat(1305)} be`)).toThrow("no header field has the index 62");
    expect(decode(`3f9a0a 4001617f9909${"62".repeat(1304)} be`)[0]).toHaveLength(2);
  });
});

describe("the Huffman code of appendix B", () => {
  /** Filled up with ones. */
  const coded = (words: readonly (readonly [code: number, bits: number])[]): Buffer => {
    const digits = words.map(([code, bits]) => code.toString(2).padStart(bits, "0")).join("");
    const octets = digits.padEnd(Math.ceil(digits.length / 8) * 8, "1").match(/.{8}/g) ?? [];
    return Buffer.from(octets.map((octet) => parseInt(octet, 2)));
  };

  // What no header that nghttp2 would send has; the others are asked of nghttp2 itself (http2_peers.test.ts).
  it.each([
    [0, 0x1ff8, 13], [1, 0x7fffd8, 23], [2, 0xfffffe2, 28], [3, 0xfffffe3, 28], [4, 0xfffffe4, 28], [5, 0xfffffe5, 28],
    [6, 0xfffffe6, 28], [7, 0xfffffe7, 28], [8, 0xfffffe8, 28], [9, 0xffffea, 24], [10, 0x3ffffffc, 30], [11, 0xfffffe9, 28],
    [12, 0xfffffea, 28], [13, 0x3ffffffd, 30], [14, 0xfffffeb, 28], [15, 0xfffffec, 28], [16, 0xfffffed, 28], [17, 0xfffffee, 28],
    [18, 0xfffffef, 28], [19, 0xffffff0, 28], [20, 0xffffff1, 28], [21, 0xffffff2, 28], [22, 0x3ffffffe, 30], [23, 0xffffff3, 28],
    [24, 0xffffff4, 28], [25, 0xffffff5, 28], [26, 0xffffff6, 28], [27, 0xffffff7, 28], [28, 0xffffff8, 28], [29, 0xffffff9, 28],
    [30, 0xffffffa, 28], [31, 0xffffffb, 28], [127, 0xffffffc, 28],
  ])("%i is %i in %i bits", (symbol, code, bits) => {
    expect(decodeHuffman(coded([[code, bits]]))).toEqual(Buffer.of(symbol));
    expect(decodeHuffman(coded([[0x3, 5], [code, bits], [0x3, 5]]))).toEqual(Buffer.of(97, symbol, 97));
  });

  it.each([
    ["the end of a string in it", coded([[0x3, 5], [0x3fffffff, 30]])], ["a byte of filling", bytes("1fff")], ["nothing but filling", bytes("ff")],
    ["zeros as filling", bytes("18")], ["four bytes of ones", bytes("ffffffff")],
  ])("has no text with %s", (_name, code) => {
    expect(decodeHuffman(code)).toBeNull();
  });

  it("has the empty text", () => {
    expect(decodeHuffman(Buffer.alloc(0))).toEqual(Buffer.alloc(0));
  });
});

describe("a block that is none", () => {
  it.each([
    ["80", "no header field has the index 0"], ["be", "no header field has the index 62"], ["ff80", "middle of a header field"],
    ["ffffffffffff0f", "a number has too many octets"], ["40", "middle of a header field"], ["400161", "middle of a header field"],
    ["40056162", "middle of a header field"], ["0085ffffffffff00", "not in the Huffman code"], ["8220", "behind the first field"],
    ["3fe21f", "a table of 4097 bytes"], ["7f00", "no header field has the index 63"],
  ])("%s: %s", (block, words) => {
    expect(() => decode(block)).toThrow(HpackFault);
    expect(() => decode(block)).toThrow(words);
  });

  it("has no more fields than are allowed, in number and in size", () => {
    expect(decode("82".repeat(128))[0]).toHaveLength(128);
    expect(() => decode("82".repeat(129))).toThrow("more than 128 header fields");
    // One field of 4,000 bytes in the table, and an octet for each time that it is meant.
    const large = `4001617fa11e${"62".repeat(4000)}`;
    expect(decode(large + "be".repeat(15))[0]).toHaveLength(16);
    expect(() => decode(large + "be".repeat(16))).toThrow("more than 65536 bytes of header fields");
  });

  it("leaves nothing in a table that was made small, and takes the largest again", () => {
    expect(decode("4001610162be", "20 3fe11f 4001630164 be")).toEqual([["a: b", "a: b"], ["c: d", "c: d"]]);
    expect(() => decode("4001610162", "20 3fe11f be")).toThrow("no header field has the index 62");
    // One that is larger than the table empties it.
    expect(() => decode(`4001610162 4001617fff1f${"62".repeat(4222)} be`)).toThrow("no header field has the index 62");
  });
});

const fields = fc.array(fc.tuple(fc.string({ maxLength: 300, unit: "binary-ascii" }), fc.string({ maxLength: 300, unit: "binary-ascii" })), { maxLength: 40 });

describe("random", () => {
  it("fields come back, whatever their length", () => {
    assertProperty("probes", fc.property(fields, (some) => {
      expect(new HpackDecoder(LIMITS).decode(encodeFields(some))).toEqual(some);
    }));
    const long: Field = ["x", "y".repeat(40_000)];
    expect(new HpackDecoder(LIMITS).decode(encodeFields([long]))).toEqual([long]);
  });

  it("bytes are fields or an HpackFault", () => {
    assertProperty("probes", fc.property(fc.array(fc.uint8Array({ maxLength: 400 }), { maxLength: 5 }), (blocks) => {
      const decoder = new HpackDecoder(LIMITS);
      for (const block of blocks) {
        try {
          expect(decoder.decode(Buffer.from(block)).length).toBeLessThanOrEqual(LIMITS.fields);
        } catch (error) {
          expect(error).toBeInstanceOf(HpackFault);
        }
      }
    }));
  });
});
