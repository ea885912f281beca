// Responses by HTTP/1.1, right and bent, in pieces of any size: the reader of health probes finds what Node's own
// client finds in the same bytes, and where one of the two sees none, or not the end of it, so does the other.

import { request, type IncomingMessage } from "node:http";
import { Duplex } from "node:stream";
import { expect, it } from "vitest";
import { ResponseReader } from "../../src/health/probes/http1_response.ts";
import { randomised } from "../support/counts.ts";
import { Draws } from "../support/random.ts";

/** "none": the connection ended before a response; "fault": these bytes are none. */
type Read = "none" | "fault" | { readonly status: number; readonly body: string; readonly end: "whole" | "cut" | "fault" };

const METHODS = ["GET", "HEAD"] as const;
type Method = typeof METHODS[number];

function readByOurs(pieces: readonly Buffer[], method: Method): Read {
  let found: { status: number; body: string; end: "whole" | "cut" | "fault" } | null = null;
  const reader = new ResponseReader(method === "HEAD", ({ status }) => {
    const read = { status, body: "", end: "fault" as "whole" | "cut" | "fault" };
    found = read;
    return {
      hear: (bytes) => { read.body += Buffer.from(bytes).toString("latin1"); },
      end: (isWhole) => { read.end = isWhole ? "whole" : "cut"; },
    };
  });
  let heard = Buffer.alloc(0);
  try {
    for (const piece of pieces) {
      heard = Buffer.concat([heard, piece]);
      for (let taken = -1; taken !== 0 && heard.length > 0; heard = heard.subarray(taken)) taken = reader.hear(heard);
    }
    reader.end();
  } catch {
    return found ?? "fault";
  }
  return found ?? "none";
}

function readByNode(pieces: readonly Buffer[], method: Method): Promise<Read> {
  return new Promise((resolve) => {
    const left = [...pieces];
    const stream = new Duplex({
      read() { this.push(left.shift() ?? null); },
      write(_chunk, _encoding, done) { done(); },
    });
    let found: { status: number; body: string; end: "whole" | "cut" | "fault" } | null = null;
    const asked = request({ createConnection: () => stream, method, path: "/", headers: { host: "a", connection: "close" } });
    const onResponse = (response: IncomingMessage): void => {
      const read = { status: response.statusCode ?? 0, body: "", end: "cut" as "whole" | "cut" | "fault" };
      found = read;
      response.on("data", (bytes: Buffer) => { read.body += bytes.toString("latin1"); });
      response.on("error", (error: NodeJS.ErrnoException) => { if (error.code !== "ECONNRESET") read.end = "fault"; });
      response.on("close", () => {
        if (response.complete) read.end = "whole";
        resolve(read);
      });
    };
    asked.on("response", onResponse);
    asked.on("upgrade", (response) => { resolve({ status: response.statusCode ?? 0, body: "", end: "whole" }); });
    asked.on("error", (error: NodeJS.ErrnoException) => {
      const isFault = error.code?.startsWith("HPE_") === true;
      if (found === null) resolve(isFault ? "fault" : "none");
      else if (isFault) { found.end = "fault"; resolve(found); }
    });
    asked.end();
  });
}

const FIELDS = ["Server: x", "X-Empty:", "Set-Cookie: a=b; c", "content-type:text/plain", "X-Tab:\ta\t b ", "Vary: *", "Date: Mon"];
const TEXTS = ["", "all is well", "a\r\n\r\nb", "HTTP/1.1 500 no\r\n\r\n"];

/** As a server may say it: with a length, in chunks, until the end, or with no body at all. */
function response(draws: Draws, hasExtensions: boolean): Buffer {
  const interim = draws.chance(0.15) ? "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" : "";
  const status = draws.pick([200, 200, 200, 204, 304, 404, 503, 999]);
  const text = draws.pick(TEXTS);
  const fields = Array.from({ length: draws.below(4) }, () => draws.pick(FIELDS));
  let body = text;
  switch (draws.below(4)) {
    case 0: fields.splice(draws.below(fields.length + 1), 0, `Content-Length: ${text.length}`); break;
    case 1:
      fields.push("Transfer-Encoding: chunked");
      body = chunked(draws, text, hasExtensions);
      break;
    case 2: fields.push("Connection: close"); break;
    default:
  }
  const line = `HTTP/1.${draws.below(2)} ${status}${draws.pick([" ", " OK", " Not so well"])}`;
  return Buffer.from(`${interim}${[line, ...fields].join("\r\n")}\r\n\r\n${body}`, "latin1");
}

function chunked(draws: Draws, text: string, hasExtensions: boolean): string {
  const chunks: string[] = [];
  for (let from = 0; from < text.length;) {
    const part = text.slice(from, from + draws.between(1, 8));
    chunks.push(`${part.length.toString(16)}${hasExtensions && draws.chance(0.3) ? draws.pick([";a=b", ";a"]) : ""}\r\n${part}\r\n`);
    from += part.length;
  }
  return `${chunks.join("")}0\r\n${draws.pick(["", "", "X-Sum: 1\r\n"])}\r\n`;
}

/** Not 0 and 1, which make interim responses of HTTP/1.0 or with a body, nor CR or HTAB: of those Node's parser has ideas of its own. */
const BENDS = "\n| |:|;|,|2|3|4|5|6|7|8|9|a|F|/|H|X|.|\0|\x7f|\xff".split("|");

/** What is no response, and what has no end, is neither for us nor for Node; which of the two words it uses is no matter. */
function judged(read: Read, bytes: Buffer): Read {
  // Node takes these for responses. They are none to a request of HTTP/1.1 (RFC 9112, 2.3; RFC 9110, 15).
  const isNone = typeof read === "string" || read.status < 100 || /(?:^|\r\n\r\n)HTTP\/2\.0 /.test(bytes.toString("latin1"));
  return isNone ? "none" : { ...read, end: read.end === "whole" ? "whole" : "cut" };
}

/** A byte changed, left out or put in, or the end cut off. */
function bent(draws: Draws, right: Buffer): Buffer {
  const at = draws.below(right.length);
  const other = Buffer.from(draws.pick(BENDS), "latin1");
  switch (draws.below(4)) {
    case 0: return right.subarray(0, at);
    case 1: return Buffer.concat([right.subarray(0, at), right.subarray(at + 1)]);
    case 2: return Buffer.concat([right.subarray(0, at), other, right.subarray(at)]);
    default: return Buffer.concat([right.subarray(0, at), other, right.subarray(at + 1)]);
  }
}

function pieces(draws: Draws, bytes: Buffer): Buffer[] {
  if (draws.chance(0.3)) return [bytes];
  const cut: Buffer[] = [];
  const most = draws.pick([1, 7, 40]);
  for (let from = 0; from < bytes.length;) {
    const to = from + draws.between(1, most);
    cut.push(bytes.subarray(from, to));
    from = to;
  }
  return cut;
}

it("a response is what Node's client takes it for", async () => {
  await randomised("http1", async ({ seed, count }) => {
    const draws = new Draws(seed);
    const met = { whole: 0, cut: 0, fault: 0, none: 0 };
    for (let round = 0; round < count; round += 1) {
      const isBent = draws.chance(0.5);
      const right = response(draws, !isBent);
      const bytes = isBent ? bent(draws, right) : right;
      const method = draws.pick(METHODS);
      const said = pieces(draws, bytes);
      const ours = readByOurs(said, method);
      met[typeof ours === "string" ? ours : ours.end] += 1;
      expect(judged(ours, bytes), `round ${round}, ${method}: ${JSON.stringify(bytes.toString("latin1"))}`)
        .toEqual(judged(await readByNode(said, method), bytes));
    }
    for (const [what, times] of Object.entries(met)) expect(times, what).toBeGreaterThan(0);
  });
}, 1_200_000);
