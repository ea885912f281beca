// One response by HTTP/1.1 (RFC 9112), as a machine of bytes: whatever a server says, it takes bounded memory and
// work, and ends as a response or as a Http1Fault. Knows the protocol; must never know a socket, nor what a
// response means. Node's own client would do, but for its request, its response and their streams, which cost a
// probe far more than this.

import type { BodyReader, HttpAnswer } from "./http_answer.ts";
import { valuesOf, type Field } from "./http_fields.ts";
import { told } from "./words.ts";

/** What was said is no response. */
export class Http1Fault extends Error {
  constructor(reason: string) {
    super(`not an HTTP response: ${reason}`);
  }
}

/** Of a head, and of a line among chunks. */
const HEAD_MAX_BYTES = 16 * 1024;
/** Responses before the one that counts. */
const INTERIM_MAX = 16;

const STATUS_LINE = /^HTTP\/1\.[01] ([1-9]\d\d)(?: .*)?$/;
const STATUS_LINE_START = "HTTP/1.";
/** A token, a colon, and a value without control characters (RFC 9110, 5.5 and 5.6.2); folded ones are none. */
const FIELD = /^([!#$%&'*+.^_`|~0-9a-zA-Z-]+):([\t\u0020-\u007e\u0080-\u00ff]*)$/;
/** With what extensions there may be, of which the first one's name begins here. */
const CHUNK_SIZE = /^([0-9a-fA-F]{1,13})(?:;[0-9a-zA-Z][\t\u0020-\u007e\u0080-\u00ff]*)?$/;

const CR = 0x0d;
const LF = 0x0a;

/** How the end of a body is known (RFC 9112, 6.3). */
type Framing = "chunked" | "until the end" | number;

type Step = "head" | "size" | "data" | "after data" | "trailers" | "until the end" | "over";

export class ResponseReader {
  readonly #onHead: (answer: HttpAnswer) => BodyReader;
  readonly #isOfHead: boolean;
  #step: Step = "head";
  #body: BodyReader | null = null;
  /** Of the body, or of its chunk. */
  #leftBytes = 0;
  #isChunked = false;
  #interim = 0;

  /** `onHead` is told the final status and fields, once; `isOfHead`: it was HEAD that was asked. */
  constructor(isOfHead: boolean, onHead: (answer: HttpAnswer) => BodyReader) {
    this.#isOfHead = isOfHead;
    this.#onHead = onHead;
  }

  /** Takes what it can of what has come and was not taken yet; returns how many bytes that were. Throws Http1Fault. */
  hear(heard: Buffer): number {
    switch (this.#step) {
      case "head": return this.#hearHead(heard);
      case "size": return this.#hearLine(heard, (line) => { this.#beginChunk(line); });
      case "after data": return this.#hearLine(heard, (line) => { this.#endChunk(line); });
      case "trailers": return this.#hearLine(heard, (line) => { this.#hearTrailer(line); });
      case "data": return this.#hearData(heard.subarray(0, this.#leftBytes));
      case "until the end": return this.#pass(heard);
      case "over": return heard.length; // nobody asked for more
    }
  }

  /** The server has nothing more to say. False: it has not even said what a response begins with. */
  end(): boolean {
    if (this.#step === "head") return false;
    if (this.#step !== "over") this.#end(this.#step === "until the end");
    return true;
  }

  #hearHead(heard: Buffer): number {
    const blanks = heard.findIndex((byte) => byte !== CR && byte !== LF);
    if (blanks !== 0) return blanks === -1 ? heard.length : blanks; // left over from nobody knows what
    const text = heard.toString("latin1", 0, HEAD_MAX_BYTES);
    const at = text.indexOf("\r\n\r\n");
    if (at === -1) {
      expectMore(text);
      return 0;
    }
    const length = at + 4;
    const [line = "", ...lines] = text.slice(0, at).split("\r\n");
    const status = Number(STATUS_LINE.exec(line)?.[1] ?? NaN);
    if (Number.isNaN(status)) throw new Http1Fault(told(line));
    const fields = lines.map(fieldIn);
    // 101 is final here: no request of ours asks for another protocol.
    if (status < 200 && status !== 101) {
      this.#interim += 1;
      if (this.#interim > INTERIM_MAX) throw new Http1Fault(`more than ${INTERIM_MAX} interim ones`);
      return length;
    }
    const framing = framingOf(status, fields);
    this.#body = this.#onHead({ status, fields });
    this.#beginBody(this.#isOfHead ? 0 : framing);
    return length;
  }

  #beginBody(framing: Framing): void {
    if (framing === 0) this.#end(true);
    else if (framing === "chunked") [this.#isChunked, this.#step] = [true, "size"];
    else if (framing === "until the end") this.#step = framing;
    else [this.#leftBytes, this.#step] = [framing, "data"];
  }

  #hearLine(heard: Buffer, onLine: (line: string) => void): number {
    const at = heard.indexOf("\r\n");
    if ((at === -1 ? heard.length : at) >= HEAD_MAX_BYTES) {
      throw new Http1Fault(`a line among the chunks is longer than ${HEAD_MAX_BYTES} bytes`);
    }
    if (at === -1) return 0;
    onLine(heard.toString("latin1", 0, at));
    return at + 2;
  }

  #hearTrailer(line: string): void {
    if (line === "") this.#end(true);
    else fieldIn(line);
  }

  #beginChunk(line: string): void {
    const size = CHUNK_SIZE.exec(line)?.[1];
    if (size === undefined) throw new Http1Fault(`no size of a chunk: ${told(line)}`);
    this.#leftBytes = parseInt(size, 16);
    this.#step = this.#leftBytes === 0 ? "trailers" : "data";
  }

  #endChunk(line: string): void {
    if (line !== "") throw new Http1Fault(`a chunk is longer than its size: ${told(line)}`);
    this.#step = "size";
  }

  #hearData(bytes: Buffer): number {
    this.#leftBytes -= bytes.length;
    this.#pass(bytes);
    if (this.#leftBytes === 0) {
      if (this.#isChunked) this.#step = "after data";
      else this.#end(true);
    }
    return bytes.length;
  }

  #pass(bytes: Buffer): number {
    this.#body?.hear(bytes);
    return bytes.length;
  }

  #end(isWhole: boolean): void {
    this.#step = "over";
    this.#body?.end(isWhole);
  }
}

/** Of the beginning of a head: says at once what no more bytes can mend. */
function expectMore(text: string): void {
  const isBegun = STATUS_LINE_START.startsWith(text.slice(0, STATUS_LINE_START.length));
  if (!isBegun || /[^\r]\n/.test(text)) throw new Http1Fault(told(text.split("\n")[0]!));
  if (text.length === HEAD_MAX_BYTES) throw new Http1Fault(`the head is longer than ${HEAD_MAX_BYTES} bytes`);
}

function fieldIn(line: string): Field {
  const [, name, value] = FIELD.exec(line) ?? [];
  if (name === undefined || value === undefined) throw new Http1Fault(`no field: ${told(line)}`);
  return [name.toLowerCase(), value.trim()];
}

function framingOf(status: number, fields: readonly Field[]): Framing {
  const lengths = valuesOf(fields, "content-length");
  const codings = valuesOf(fields, "transfer-encoding");
  if (lengths.length > 0 && codings.length > 0) throw new Http1Fault("the body has both a length and a transfer coding");
  const [length] = lengths;
  if (length !== undefined && (!/^\d{1,15}$/.test(length) || lengths.some((each) => each !== length))) {
    throw new Http1Fault(`no length of a body: ${told(lengths.join(", "))}`);
  }
  if (status < 200 || status === 204 || status === 304) return 0;
  if (length !== undefined) return Number(length);
  return /(?:^|,)[ \t]*chunked$/i.test(codings.join(", ")) ? "chunked" : "until the end";
}
