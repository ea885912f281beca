// What the reader of HTTP/1.1 responses makes of single ones: framing, and bounds of what a server may say. Whole
// responses, right and bent, are compared with Node's client in test/property/http1_response.test.ts.

import { describe, expect, it } from "vitest";
import { Http1Fault, ResponseReader } from "../../src/health/probes/http1_response.ts";
import { valuesOf } from "../../src/health/probes/http_fields.ts";

interface Read {
  readonly statuses: number[];
  readonly values: (readonly string[])[];
  body: string;
  end: boolean | null;
  /** Of what was said, not taken. */
  left: number;
}

function read(said: string, isOfHead = false): Read {
  const found: Read = { statuses: [], values: [], body: "", end: null, left: 0 };
  const reader = new ResponseReader(isOfHead, ({ status, fields }) => {
    found.statuses.push(status);
    found.values.push(valuesOf(fields, "x-a"));
    return {
      hear: (bytes) => { found.body += Buffer.from(bytes).toString("latin1"); },
      end: (isWhole) => { found.end = isWhole; },
    };
  });
  let heard = Buffer.from(said, "latin1");
  for (let taken = -1; taken !== 0 && heard.length > 0; heard = heard.subarray(taken)) taken = reader.hear(heard);
  found.left = heard.length;
  return found;
}

const OK = "HTTP/1.1 200 OK\r\n";
const CHUNKED = `${OK}Transfer-Encoding: chunked\r\n\r\n`;

describe("a body", () => {
  it.each([
    ["", "abc", "abc", null], ["Content-Length: 3", "abcd", "abc", true], ["Content-Length: 4", "abc", "abc", null],
    ["Content-Length: 3\r\nContent-Length: 3", "abc", "abc", true], ["content-length:0", "", "", true],
    ["Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n", "abc", true],
    ["Transfer-Encoding: CHUNKED", "3;a=b\r\nabc\r\n00\r\nX: y\r\n\r\n", "abc", true],
    ["Transfer-Encoding: gzip, chunked", "3\r\nabc\r\n0\r\n\r\n", "abc", true],
    ["Transfer-Encoding: gzip\r\nTransfer-Encoding:chunked", "3\r\nabc\r\n", "abc", null],
    ["Transfer-Encoding: chunked, gzip", "3\r\nabc", "3\r\nabc", null], ["Transfer-Encoding: chunkedly", "3\r\nabc", "3\r\nabc", null],
  ])("%j, %j", (fields, said, body, end) => {
    expect(read(`${OK}${fields}${fields === "" ? "" : "\r\n"}\r\n${said}`)).toMatchObject({ statuses: [200], body, end });
  });

  it.each([[204, false], [304, false], [101, false], [200, true]])("is none with status %i, asked by HEAD: %j", (status, isOfHead) => {
    expect(read(`HTTP/1.1 ${status}\r\nContent-Length: 9\r\n\r\nabc`, isOfHead)).toMatchObject({ statuses: [status], body: "", end: true });
  });
});

it("fields are found by name in whatever letters, one value for each line; blank lines before the first do not count", () => {
  expect(read(`\r\n\n${OK}X-A: 1 \r\nX-B: 2\r\nx-a:\t3\r\n\r\n`)).toMatchObject({ statuses: [200], values: [["1", "3"]] });
});

describe("no response", () => {
  it.each([
    ["another protocol", "220 mail.example ESMTP\r\n", /^not an HTTP response: 220 mail\.example ESMTP$/],
    ["another version of it", "HTTP/2.0 200 OK\r\n\r\n", /: HTTP\/2\.0 200 OK$/],
    ["lines that end otherwise", "HTTP/1.1 200 OK\nServer: x\n\n", /: HTTP\/1\.1 200 OK$/],
    ["no status", "HTTP/1.1 OK\r\n\r\n", /: HTTP\/1\.1 OK$/], ["a status below all", "HTTP/1.1 099 OK\r\n\r\n", /: HTTP\/1\.1 099 OK$/],
    ["no name of a field", `${OK}: x\r\n\r\n`, /: no field: : x$/], ["a blank in it", `${OK}X A: x\r\n\r\n`, /: no field: X A: x$/],
    ["a folded field", `${OK}X-A: 1\r\n 2\r\n\r\n`, /: no field: 2$/],
    ["a control character in one", `${OK}X-A: \u00011\r\n\r\n`, /: no field: X-A: ·1$/],
    ["no length", `${OK}Content-Length: five\r\n\r\n`, /: no length of a body: five$/],
    ["two lengths", `${OK}Content-Length: 5\r\nContent-Length: 6\r\n\r\n`, /: no length of a body: 5, 6$/],
    ["a length and a coding", `${OK}Content-Length: 5\r\nTransfer-Encoding: x\r\n\r\n`, /: the body has both a length and a transfer coding$/],
    ["no size of a chunk", `${CHUNKED}x\r\n`, /: no size of a chunk: x$/],
    ["a size too large for any", `${CHUNKED}${"f".repeat(14)}\r\n`, /: no size of a chunk: f+$/],
    ["a chunk without an end", `${CHUNKED}3\r\nabcd\r\n`, /: a chunk is longer than its size: d$/],
    ["a trailer that is no field", `${CHUNKED}0\r\nx\r\n`, /: no field: x$/],
    ["a head without end", `${OK}${"X-A: 1\r\n".repeat(3000)}`, /: the head is longer than 16384 bytes$/],
    ["a line of it", `${OK}X-A: ${"1".repeat(20_000)}`, /: the head is longer than 16384 bytes$/],
    ["a size without end", `${CHUNKED}1;a=${"b".repeat(20_000)}`, /: a line among the chunks is longer than 16384 bytes$/],
    ["interim ones without end", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(17), /: more than 16 interim ones$/],
  ])("%s", (_name, said, reason) => {
    expect(() => read(said)).toThrow(Http1Fault);
    expect(() => read(said)).toThrow(reason);
  });

  it.each(["", "H", "HTTP/1.", "HTTP/1.1 200 OK\r\nX-A", "HTTP/1.1 103 Early Hints\r\n\r\n"])("yet: %j", (said) => {
    expect(read(said)).toMatchObject({ statuses: [] });
  });
});

it("16 interim responses and a head of 16 KiB are not too much", () => {
  const fill = `X-A: ${"1".repeat(16_384 - OK.length - "X-A: \r\n\r\n".length)}\r\n\r\n`;
  expect(read(`${"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(16)}${OK}${fill}`)).toMatchObject({ statuses: [200], left: 0 });
});
