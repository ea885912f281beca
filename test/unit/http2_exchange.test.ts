// One exchange by HTTP/2 with servers made of frames, as bytes: what they may do, in pieces of any size, and what they
// may not. No sockets.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeFields } from "../../src/health/probes/hpack.ts";
import type { Field } from "../../src/health/probes/http_fields.ts";
import { encodeRequest, Http2Exchange } from "../../src/health/probes/http2_exchange.ts";
import { encodeFrame, FLAG, Http2Fault, numbered, TYPE } from "../../src/health/probes/http2_frames.ts";
import { assertProperty } from "../support/counts.ts";

const { endStream, endHeaders, padded, ack } = FLAG;
const SETTINGS = encodeFrame(TYPE.settings, 0, 0);
const OK = Buffer.of(0x88); // ":status: 200" of the static table

const headers = (fields: readonly Field[] | Buffer, flags = 0): Buffer =>
  encodeFrame(TYPE.headers, flags | endHeaders, 1, Buffer.isBuffer(fields) ? fields : encodeFields(fields));
const data = (text: string | Buffer, flags = 0): Buffer => encodeFrame(TYPE.data, flags, 1, Buffer.from(text));
const status = (code: number): readonly Field[] => [[":status", String(code)]];

/** What is heard of a server that says this and hangs up, the body as one text; and what is said to it. */
function hear(pieces: readonly Uint8Array[], isHead = false): { heard: string; said: string } {
  const heard: string[] = [];
  let body = "";
  const said: Buffer[] = [];
  const machine = new Http2Exchange({
    response: (code, fields) => { heard.push(`${code}`, ...fields.slice(1).map(([name, value]) => `${name}=${value}`)); },
    data: (bytes) => { body += bytes.toString("latin1"); },
    end: (trailers) => { heard.push(`"${body}"`, ...trailers.map(([name, value]) => `${name}=${value}`), "end"); },
  }, isHead);
  try {
    for (const piece of pieces) {
      machine.hear(Buffer.from(piece));
      said.push(machine.takeUnsaid());
    }
    if (heard.at(-1) !== "end") {
      machine.hearEnd();
      heard.push("cut");
    }
  } catch (error) {
    if (!(error instanceof Http2Fault)) throw error;
    heard.push(error.message);
  }
  machine.leave();
  said.push(machine.takeUnsaid());
  return { heard: heard.join(" "), said: Buffer.concat(said).toString("hex") };
}

/** Without the words that breaches of the protocol begin with. */
const ended = (...frames: readonly Uint8Array[]): string => hear([Buffer.concat([SETTINGS, ...frames])]).heard.replace("broken HTTP/2: ", "");
const GOODBYE = "0000080700000000000000000000000000";
const CANCEL = "00000403000000000100000008";
const SETTINGS_ACK = "000000040100000000";

describe("what is asked", () => {
  it("is preface, settings, a window, headers and body, at once", () => {
    const asked = encodeRequest({ fields: [[":method", "POST"], ["a", "b"]], body: Buffer.from("body") }).toString("hex");
    expect(asked).toBe([
      Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").toString("hex"),
      "000012040000000000" + "000200000000" + "000400020000" + "000600010000",
      "000004080000000000" + "00010001",
      "000013010400000001" + "10073a6d6574686f6404504f5354" + "1001610162",
      "000004000100000001" + "626f6479",
    ].join(""));
  });

  it("goes on in further frames where headers are long", () => {
    const asked = encodeRequest({ fields: [["a", "b".repeat(40_000)]], body: null }).toString("hex");
    expect(asked.match(/00400001010000000110/g)).toHaveLength(1); // HEADERS with END_STREAM, and no END_HEADERS
    expect(asked.match(/004000090000000001/g)).toHaveLength(1);
    expect(asked.match(/001c47090400000001/g)).toHaveLength(1); // the last CONTINUATION
  });
});

describe("a response", () => {
  it.each([
    ["without a body", [headers(OK, endStream)], '200 "" end'],
    ["with one", [headers(OK), data("fine", endStream)], '200 "fine" end'],
    ["whose end is a frame of its own", [headers(OK), data("fi"), data("ne"), data("", endStream)], '200 "fine" end'],
    ["with fields", [headers([...status(503), ["x-drain", "1"], ["x-drain", "2"]], endStream)], '503 x-drain=1 x-drain=2 "" end'],
    ["with trailers", [headers(OK), data("fine"), headers([["grpc-status", "0"]], endStream)], '200 "fine" grpc-status=0 end'],
    ["after others", [headers(status(100)), headers([...status(103), ["link", "</a>"]]), headers(OK, endStream)], '200 "" end'],
    ["with padding", [encodeFrame(TYPE.headers, endHeaders | padded, 1, Buffer.from("0288aaaa", "hex")),
      data(Buffer.from("04616200000000", "hex"), endStream | padded)], '200 "ab" end'],
    ["of padding alone", [headers(OK), data(Buffer.from("020000", "hex"), padded), data(Buffer.of(0), padded | endStream)], '200 "" end'],
    ["with a priority", [encodeFrame(TYPE.headers, endHeaders | endStream | FLAG.priority, 1, Buffer.from("0000000000" + "88", "hex"))], '200 "" end'],
    ["whose table is used later", [headers(Buffer.from("88 4001610162".replace(" ", ""), "hex")), headers(Buffer.of(0xbe), endStream)], '200 a=b "" a=b end'],
    ["whose table has been made small", [headers(Buffer.from("2088", "hex"), endStream)], '200 "" end'],
    ["with the bit that is reserved", [encodeFrame(TYPE.headers, endHeaders, 2 ** 31 + 1, OK), data("fine", endStream)], '200 "fine" end'],
    ["among frames of no concern", [encodeFrame(TYPE.priority, 0, 3, Buffer.alloc(5)), encodeFrame(0x10, 0xff, 0, Buffer.alloc(30)),
      encodeFrame(TYPE.windowUpdate, 0, 0, numbered(100)), headers(OK), encodeFrame(0xaa, 0, 1, Buffer.alloc(3)),
      encodeFrame(TYPE.settings, ack, 0), encodeFrame(TYPE.goaway, 0, 0, numbered(2 ** 31 - 1, 0)), data("fine", endStream)], '200 "fine" end'],
    ["of 304 with a length", [headers([...status(304), ["content-length", "7"]], endStream)], '304 content-length=7 "" end'],
    ["with the right length", [headers([...status(200), ["content-length", "4"]]), data("fine", endStream)], '200 content-length=4 "fine" end'],
    ["and more after its end", [headers(OK, endStream), Buffer.from("whatever")], '200 "" end'],
  ])("%s", (_name, frames, heard) => {
    expect(ended(...frames)).toBe(heard);
  });

  it("that somebody has heard enough of says no more", () => {
    const heard: string[] = [];
    const machine: Http2Exchange = new Http2Exchange({
      response: () => { heard.push("response"); machine.leave(); }, data: () => { heard.push("data"); }, end: () => { heard.push("end"); },
    }, false);
    machine.hear(Buffer.concat([SETTINGS, headers(OK, endStream)]));
    machine.hear(Buffer.concat([data("x"), Buffer.from("no frame at all")]));
    expect(heard).toEqual(["response"]);
    expect(machine.takeUnsaid().toString("hex")).toBe(SETTINGS_ACK + CANCEL + GOODBYE);
    machine.leave();
    expect(machine.takeUnsaid()).toHaveLength(0);
  });

  it("of HEAD has a length and no body", () => {
    expect(hear([SETTINGS, headers([...status(200), ["content-length", "7"]], endStream)], true).heard).toBe('200 content-length=7 "" end');
  });

  it("may have its headers in many frames", () => {
    const block = encodeFields([...status(200), ["a", "b".repeat(20_000)]]);
    const pieces = Array.from({ length: 21 }, (_, at) => block.subarray(at * 1000, (at + 1) * 1000));
    const [first, ...others] = pieces.map((piece, at) => encodeFrame(TYPE.continuation, at === 20 ? endHeaders : 0, 1, piece));
    const frames = [encodeFrame(TYPE.headers, endStream, 1, first!.subarray(9)), ...others];
    expect(ended(...frames)).toBe(`200 a=${"b".repeat(20_000)} "" end`);
  });

  it("is answered with acknowledgements and a farewell", () => {
    const ping = encodeFrame(TYPE.ping, 0, 0, Buffer.from("12345678"));
    const pong = encodeFrame(TYPE.ping, ack, 0, Buffer.from("12345678"));
    const { said } = hear([Buffer.concat([SETTINGS, ping, pong, headers(OK), data("fine", endStream)])]);
    expect(said).toBe(`${SETTINGS_ACK}000008060100000000${Buffer.from("12345678").toString("hex")}${GOODBYE}`);
  });

  it("that was not waited for is cancelled, and one that never came too", () => {
    expect(hear([SETTINGS, headers(OK), data("fi")]).said).toBe(SETTINGS_ACK + CANCEL + GOODBYE);
    expect(hear([SETTINGS]).said).toBe(SETTINGS_ACK + CANCEL + GOODBYE);
    // A server that may speak anything gets no frames.
    expect(hear([]).said).toBe("");
    expect(hear([Buffer.from("HTTP/1.1 400 Bad Request\r\n")]).said).toBe("");
  });
});

describe("a server that may not do so", () => {
  const block = encodeFields(status(200));
  it.each([
    ["cut before", [], "cut"], ["cut after", [headers(OK), data("fi")], "200 cut"],
    ["cut in a frame", [headers(OK).subarray(0, 5)], "cut"],
    ["reset", [encodeFrame(TYPE.resetStream, 0, 1, numbered(7))], "the server reset the request with HTTP/2 error 7 (REFUSED_STREAM)"],
    ["reset later", [headers(OK), encodeFrame(TYPE.resetStream, 0, 1, numbered(99))], "200 the server reset the request with HTTP/2 error 99"],
    ["goaway", [encodeFrame(TYPE.goaway, 0, 0, numbered(0, 11))], "the server ended the session with HTTP/2 error 11 (ENHANCE_YOUR_CALM)"],
    ["goaway later", [headers(OK), encodeFrame(TYPE.goaway, 0, 0, numbered(1, 2))], "200 the server ended the session with HTTP/2 error 2 (INTERNAL_ERROR)"],
    ["goaway too early", [encodeFrame(TYPE.goaway, 0, 0, numbered(0, 0))], "the server ended the session without an answer"],
    ["goaway short", [encodeFrame(TYPE.goaway, 0, 0, numbered(0))], "a farewell of 4 bytes"],
    ["large frame", [encodeFrame(TYPE.data, 0, 1, Buffer.alloc(16_385))], "a frame of 16385 bytes, where 16384 are allowed"],
    ["data first", [data("x")], "a body without a response"],
    ["data of no stream", [headers(OK), encodeFrame(TYPE.data, 0, 0, Buffer.of(1))], "200 a frame of type 0 for stream 0, where there is none"],
    ["headers of another stream", [encodeFrame(TYPE.headers, endHeaders, 3, block)], "a frame of type 1 for stream 3, where there is none"],
    ["settings of a stream", [encodeFrame(TYPE.settings, 0, 1)], "a frame of type 4 for stream 1, where there is none"],
    ["settings in part", [encodeFrame(TYPE.settings, 0, 0, Buffer.alloc(5))], "settings of 5 bytes"],
    ["settings acknowledged by more", [encodeFrame(TYPE.settings, ack, 0, Buffer.alloc(6))], "settings of 6 bytes"],
    ["ping short", [encodeFrame(TYPE.ping, 0, 0, Buffer.alloc(7))], "a frame of type 6 with 7 bytes"],
    ["reset short", [encodeFrame(TYPE.resetStream, 0, 1, Buffer.alloc(3))], "a frame of type 3 with 3 bytes"],
    ["push", [encodeFrame(TYPE.pushPromise, endHeaders, 1, Buffer.concat([numbered(2), block]))], "the server pushes, which was not allowed"],
    ["interrupted headers", [encodeFrame(TYPE.headers, 0, 1, block), encodeFrame(TYPE.ping, 0, 0, Buffer.alloc(8))], "the server interrupts its header block"],
    ["continued nothing", [encodeFrame(TYPE.continuation, endHeaders, 1, block)], "the server goes on with a header block that is none"],
    ["padding", [headers(OK), data(Buffer.from("0300", "hex"), padded)], "200 a frame is padded to more than its length"],
    ["padding of nothing", [headers(OK), data("", padded)], "200 a frame is padded to more than its length"],
    ["no header block", [headers(Buffer.of(0xff))], "the headers cannot be read: it ends in the middle of a header field"],
    ["no status", [headers([["a", "b"]])], "the headers of the response have no status"],
    ["two", [headers([...status(200), ...status(200)])], "the headers of the response have no status"],
    ["a strange one", [headers([[":status", "2000"]])], "the headers of the response have no status"],
    ["another pseudo-header", [headers([...status(200), [":path", "/"]])], "the headers of the response have no status"],
    ["a late one", [headers([["a", "b"], ...status(200)])], "a header field named :status is not allowed there"],
    ["a large name", [headers([...status(200), ["A", "b"]])], "a header field named A is not allowed there"],
    ["no name", [headers([...status(200), ["", "b"]])], 'a header field named "" is not allowed there'],
    ["a value for terminals", [headers([...status(200), ["a", "\u001b[2J"]])], "the header field a has a value that is not allowed: ·[2J"],
    ["101", [headers(status(101))], "status 101 is no response"],
    ["an interim end", [headers(status(100), endStream)], "status 100 is no response"],
    ["many interim ones", Array.from({ length: 17 }, () => headers(status(100))), "more than 16 interim responses"],
    ["a second response", [headers(OK), headers(OK, endStream)], "200 a second response"],
    ["endless trailers", [headers(OK), headers([["a", "b"]])], "200 trailers that do not end the response"],
    ["a short body", [headers([...status(200), ["content-length", "5"]]), data("fine", endStream)],
      "200 content-length=5 the body has 4 bytes, its content-length says 5"],
  ])("%s", (_name, frames, words) => {
    expect(ended(...frames)).toBe(words);
  });

  it.each([
    ["HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n", "HTTP/1.1 400 Bad Request"], ["-ERR unknown command 'PRI'\r\n", "-ERR unknown command 'PRI'"],
    ["\u0015\u0003\u0001\u0000\u0002\u0002F", "15030100020246"],
    [encodeFrame(TYPE.ping, 0, 0, Buffer.alloc(8)).toString("latin1"), "0000080600000000000000000000000000"],
    [encodeFrame(TYPE.settings, ack, 0).toString("latin1"), "000000040100000000"], ["\u0000", "00"],
  ])("is none of HTTP/2: %j", (said, told) => {
    expect(hear([Buffer.from(said, "latin1")]).heard).toBe(`not an HTTP/2 server: it begins with ${told}`);
  });

  it("is told by the code of its fault, and told of by its breach", () => {
    expect(hear([SETTINGS, data("x")]).heard).toBe("broken HTTP/2: a body without a response");
    expect(hear([SETTINGS, data("x")]).said).toBe(`${SETTINGS_ACK}0000080700000000000000000000000001`);
    expect(hear([SETTINGS, headers(Buffer.of(0xff))]).said).toBe(`${SETTINGS_ACK}0000080700000000000000000000000009`);
  });
});

describe("a flood", () => {
  const flood = (first: readonly Buffer[], frame: Buffer): string => ended(...first, ...Array.from({ length: 40_000 }, () => frame));
  it.each([
    ["settings", [], SETTINGS], ["pings", [], encodeFrame(TYPE.ping, 0, 0, Buffer.alloc(8))],
    ["priorities", [], encodeFrame(TYPE.priority, 0, 1, Buffer.alloc(5))],
    ["windows", [], encodeFrame(TYPE.windowUpdate, 0, 0, numbered(1))], ["empty data", [headers(OK)], data("")],
    ["unknown frames", [], encodeFrame(0x55, 0, 0)],
    ["empty parts of headers", [encodeFrame(TYPE.headers, 0, 1)], encodeFrame(TYPE.continuation, 0, 1)],
  ])("of %s ends with a bound of bytes", (_name, first, frame) => {
    expect(flood(first, frame)).toMatch(/^(200 )?the server said more than 262144 bytes$/);
  });

  it("of pieces is heard to that bound, and answered with no more", () => {
    const ping = encodeFrame(TYPE.ping, 0, 0, Buffer.alloc(8));
    const { heard, said } = hear([SETTINGS, ...Array.from({ length: 40_000 }, () => ping)]);
    expect(heard).toBe("the server said more than 262144 bytes");
    expect(said.length / 2).toBeLessThanOrEqual(262_144 + GOODBYE.length);
  });

  it("of headers that never end has a bound of its own", () => {
    const parts = Array.from({ length: 10 }, () => encodeFrame(TYPE.continuation, 0, 1, Buffer.alloc(16_384)));
    expect(ended(encodeFrame(TYPE.headers, 0, 1), ...parts)).toBe("more than 65536 bytes of headers");
  });

  it("of a body is stopped at the window", () => {
    const parts = Array.from({ length: 9 }, () => data(Buffer.alloc(16_384)));
    expect(ended(headers(OK), ...parts)).toBe("200 the server sent more than 131072 bytes that were allowed");
    expect(ended(headers(OK), ...parts.slice(0, 7), data(Buffer.alloc(16_384), endStream))).toMatch(/ end$/);
  });
});

describe("pieces", () => {
  const whole = Buffer.concat([
    encodeFrame(TYPE.settings, 0, 0, Buffer.from("000300000064", "hex")), headers(status(103)),
    encodeFrame(TYPE.headers, padded, 1, Buffer.from("018800", "hex")), encodeFrame(TYPE.continuation, endHeaders, 1, encodeFields([["a", "b"]])),
    encodeFrame(TYPE.ping, 0, 0, Buffer.from("12345678")), data("fine"), headers([["c", "d"]], endStream),
  ]);

  it("of any two sizes say the same, and so do bytes", () => {
    const expected = hear([whole]);
    expect(expected.heard).toBe('200 a=b "fine" c=d end');
    for (let at = 0; at <= whole.length; at += 1) expect(hear([whole.subarray(0, at), whole.subarray(at)])).toEqual(expected);
    expect(hear([...whole].map((byte) => Buffer.of(byte)))).toEqual(expected);
  });

  it("that are missing leave it cut, and wrong ones end as something", () => {
    for (let at = 0; at < whole.length; at += 1) {
      expect(hear([whole.subarray(0, at)]).heard).toMatch(at === 0 ? /^cut$/ : /cut$|^not an HTTP\/2 server: it begins with [0-9a-f]+$/);
      for (const wrong of [0x00, 0x7f, 0x80, 0xff, whole[at]! ^ 0x01, whole[at]! ^ 0x20]) {
        const changed = Buffer.from(whole);
        changed[at] = wrong;
        expect(hear([changed]).heard).not.toBe("");
      }
    }
  });

  /** Frames as a server in a bad mood makes them, and bytes that are none. */
  const said = fc.array(fc.oneof(
    { weight: 4, arbitrary: fc.tuple(fc.integer({ min: 0, max: 10 }), fc.nat(255), fc.constantFrom(0, 1, 1, 1, 2), fc.oneof(
      fc.uint8Array({ maxLength: 40 }), fc.constantFrom(new Uint8Array(OK), new Uint8Array(encodeFields(status(200))), new Uint8Array(8))))
      .map(([type, flags, stream, payload]) => encodeFrame(type, flags, stream, payload)) },
    { weight: 4, arbitrary: fc.constantFrom(headers(OK), headers(status(100)), data("x"), data("", endStream), headers([["a", "b"]], endStream)) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes)) },
  ), { maxLength: 12 }).map((parts) => Buffer.concat([SETTINGS, ...parts]));

  it("random ones end as a response, a cut or a fault, however they are cut up", () => {
    assertProperty("http2", fc.property(said, fc.array(fc.nat(200), { maxLength: 10 }), (bytes, sizes) => {
      const pieces: Buffer[] = [];
      let at = 0;
      for (const size of sizes) {
        pieces.push(bytes.subarray(at, at + size));
        at += size;
      }
      pieces.push(bytes.subarray(at));
      expect(hear(pieces)).toEqual(hear([bytes]));
    }));
  });

  it("of no protocol at all do as well", () => {
    assertProperty("http2", fc.property(fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 5 }), fc.boolean(), (pieces, greets) => {
      expect(hear([...(greets ? [SETTINGS] : []), ...pieces]).heard).not.toBe("");
    }));
  });
});
