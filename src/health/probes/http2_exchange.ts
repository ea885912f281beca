// One request and its response by HTTP/2 (RFC 9113), as a machine of bytes: a connection has one stream, the client's
// first. Whatever a server says, it takes bounded memory and work and ends as a response or as a Http2Fault. Knows the
// protocol; must never know a socket, nor what a response means.

import { encodeFields, HpackDecoder, HpackFault } from "./hpack.ts";
import {
  contentOf, describeError, encodeFrame, ERROR, FLAG, FrameReader, Http2Fault, numbered, PAYLOAD_MAX_BYTES, TYPE, type Frame,
} from "./http2_frames.ts";
import { valuesOf, type Field } from "./http_fields.ts";
import { told, toldHex } from "./words.ts";

export interface Http2Request {
  /** The names in small letters, those that begin with a colon first. */
  readonly fields: readonly Field[];
  /** Null: none. */
  readonly body: Buffer | null;
}

/** Who is told what has come; none of it twice but `data`. */
export interface Http2Hearer {
  /** The final status, and the fields that came with it. */
  readonly response: (status: number, fields: readonly Field[]) => void;
  readonly data: (bytes: Buffer) => void;
  /** Everything has come; with the trailers. */
  readonly end: (trailers: readonly Field[]) => void;
}

/** What a server may say in one exchange, frames and padding included: hence the work that it can make. */
const HEARD_MAX_BYTES = 256 * 1024;
/** What it may send of a body, padding included. More than any probe reads of one, so that none is ever widened. */
const WINDOW_BYTES = 128 * 1024;
const WINDOW_DEFAULT_BYTES = 65_535;
const HEADERS_MAX = { fields: 128, bytes: 64 * 1024 } as const;
/** Responses before the one that counts, of which each may be as large. */
const INTERIM_MAX = 16;

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
/** Settings by number (RFC 9113, 6.5.2): no pushes, the window of a stream, the size of a list of fields. */
const SETTINGS = [[0x2, 0], [0x4, WINDOW_BYTES], [0x6, HEADERS_MAX.bytes]] as const;
const STREAM = 1;

/** Frames that belong to our stream, and to the connection; the others may be of either. */
const OF_STREAM: ReadonlySet<number> = new Set([TYPE.data, TYPE.headers, TYPE.resetStream, TYPE.continuation]);
const OF_CONNECTION: ReadonlySet<number> = new Set([TYPE.settings, TYPE.ping, TYPE.goaway]);
const LENGTHS: Readonly<Record<number, number>> = {
  [TYPE.priority]: 5, [TYPE.resetStream]: 4, [TYPE.ping]: 8, [TYPE.windowUpdate]: 4,
};

/** All that a client says of its own accord. A body is far smaller than the window and the frame that any server has to allow. */
export function encodeRequest({ fields, body }: Http2Request): Buffer {
  const settings = Buffer.concat(SETTINGS.map(([number, value]) => Buffer.concat([Buffer.of(0, number), numbered(value)])));
  return Buffer.concat([
    PREFACE, encodeFrame(TYPE.settings, 0, 0, settings),
    encodeFrame(TYPE.windowUpdate, 0, 0, numbered(WINDOW_BYTES - WINDOW_DEFAULT_BYTES)),
    ...encodeHeaders(encodeFields(fields), body === null),
    ...(body === null ? [] : [encodeFrame(TYPE.data, FLAG.endStream, STREAM, body)]),
  ]);
}

function encodeHeaders(block: Buffer, isAll: boolean): readonly Buffer[] {
  const frames: Buffer[] = [];
  for (let from = 0; from === 0 || from < block.length; from += PAYLOAD_MAX_BYTES) {
    const to = from + PAYLOAD_MAX_BYTES;
    const flags = (to >= block.length ? FLAG.endHeaders : 0) | (from === 0 && isAll ? FLAG.endStream : 0);
    frames.push(encodeFrame(from === 0 ? TYPE.headers : TYPE.continuation, flags, STREAM, block.subarray(from, to)));
  }
  return frames;
}

export class Http2Exchange {
  readonly #hearer: Http2Hearer;
  /** Whether the response to the request has no body, whatever its fields say. */
  readonly #isHead: boolean;
  readonly #reader = new FrameReader();
  readonly #decoder = new HpackDecoder(HEADERS_MAX);
  #heardBytes = 0;
  #windowBytes = WINDOW_BYTES;
  /** Whether the first frame is one that a server of HTTP/2 begins with; and whether it has come. */
  #isHttp2 = false;
  #isGreeted = false;
  /** A header block of which more has to come at once. */
  #block: { readonly pieces: Buffer[]; bytes: number; readonly endsStream: boolean } | null = null;
  #interims = 0;
  #response: { readonly status: number; readonly fields: readonly Field[]; bodyBytes: number } | null = null;
  #isWhole = false;
  #isLeft = false;
  #faultCode: number = ERROR.none;
  #unsaid: Buffer[] = [];

  constructor(hearer: Http2Hearer, isHead: boolean) {
    this.#hearer = hearer;
    this.#isHead = isHead;
  }

  /** Takes what has come, in pieces of any size. Throws Http2Fault, after which only `leave` makes sense. */
  hear(piece: Buffer): void {
    try {
      this.#heardBytes += piece.length;
      if (this.#heardBytes > HEARD_MAX_BYTES) this.#fail(ERROR.enhanceYourCalm, `the server said more than ${HEARD_MAX_BYTES} bytes`);
      this.#reader.push(piece);
      this.#checkBeginning();
      while (!this.#isOver()) {
        const frame = this.#reader.next();
        if (frame === null) break;
        this.#take(frame);
      }
    } catch (error) {
      if (error instanceof Http2Fault) this.#faultCode = error.errorCode;
      throw error;
    }
  }

  /** What has to be said now, and is not twice. */
  takeUnsaid(): Buffer {
    const bytes = Buffer.concat(this.#unsaid);
    this.#unsaid = [];
    return bytes;
  }

  /** Nothing more comes. Throws Http2Fault where no HTTP/2 has come; else the response is cut. */
  hearEnd(): void {
    if (!this.#isGreeted && this.#reader.rest.length > 0) this.#failAsStranger();
  }

  /** Our last words, to a server that speaks HTTP/2; nothing is heard after them. */
  leave(): void {
    if (this.#isLeft) return;
    this.#isLeft = true;
    if (!this.#isGreeted) return;
    const isOpen = !this.#isWhole && this.#faultCode === ERROR.none;
    if (isOpen) this.#say(TYPE.resetStream, 0, STREAM, numbered(ERROR.cancel));
    this.#say(TYPE.goaway, 0, 0, numbered(0, this.#faultCode));
  }

  #isOver(): boolean {
    return this.#isWhole || this.#isLeft;
  }

  #say(type: number, flags: number, stream: number, payload: Uint8Array): void {
    this.#unsaid.push(encodeFrame(type, flags, stream, payload));
  }

  #fail(code: number, words: string): never {
    throw new Http2Fault(code, words);
  }

  #checkBeginning(): void {
    if (this.#isHttp2 || this.#reader.nextType === null) return;
    const [length, flags] = [this.#reader.rest.readUIntBE(0, 3), this.#reader.rest[4]!];
    this.#isHttp2 = this.#reader.nextType === TYPE.settings && length <= PAYLOAD_MAX_BYTES && (flags & FLAG.ack) === 0;
    if (!this.#isHttp2) this.#failAsStranger();
  }

  #failAsStranger(): never {
    const { rest } = this.#reader;
    const [line = ""] = rest.subarray(0, 1024).toString("latin1").split(/\r?\n/);
    const isText = /^[ -~]+$/.test(line);
    return this.#fail(ERROR.none, `not an HTTP/2 server: it begins with ${isText ? told(line) : toldHex(rest)}`);
  }

  #take(frame: Frame): void {
    const { type, stream, payload } = frame;
    if (this.#block !== null && type !== TYPE.continuation) this.#fail(ERROR.protocol, "the server interrupts its header block");
    const isMisplaced = OF_STREAM.has(type) ? stream !== STREAM : OF_CONNECTION.has(type) && stream !== 0;
    if (isMisplaced) this.#fail(ERROR.protocol, `a frame of type ${type} for stream ${stream}, where there is none`);
    if ((LENGTHS[type] ?? payload.length) !== payload.length) {
      this.#fail(ERROR.frameSize, `a frame of type ${type} with ${payload.length} bytes`);
    }
    switch (type) {
      case TYPE.data: return this.#takeData(frame);
      case TYPE.headers: return this.#takeBlock({ pieces: [], bytes: 0, endsStream: (frame.flags & FLAG.endStream) !== 0 }, frame);
      case TYPE.continuation:
        if (this.#block === null) this.#fail(ERROR.protocol, "the server goes on with a header block that is none");
        return this.#takeBlock(this.#block, frame);
      case TYPE.resetStream: return this.#fail(ERROR.none, `the server reset the request with ${describeError(payload.readUInt32BE(0))}`);
      case TYPE.settings: return this.#takeSettings(frame);
      case TYPE.pushPromise: return this.#fail(ERROR.protocol, "the server pushes, which was not allowed");
      case TYPE.ping:
        if ((frame.flags & FLAG.ack) === 0) this.#say(TYPE.ping, FLAG.ack, 0, payload);
        return;
      case TYPE.goaway: return this.#takeGoaway(payload);
    }
    // Priorities, windows of which we fill none, and types of later versions have no say in one exchange.
  }

  /** We need no room for what these could change: the request is on its way. */
  #takeSettings({ flags, payload }: Frame): void {
    const isAck = (flags & FLAG.ack) !== 0;
    if (isAck ? payload.length !== 0 : payload.length % 6 !== 0) this.#fail(ERROR.frameSize, `settings of ${payload.length} bytes`);
    this.#isGreeted = true;
    if (!isAck) this.#say(TYPE.settings, FLAG.ack, 0, Buffer.alloc(0));
  }

  /** Without an error it only asks for no more requests, unless ours has come too late. */
  #takeGoaway(payload: Buffer): void {
    if (payload.length < 8) this.#fail(ERROR.frameSize, `a farewell of ${payload.length} bytes`);
    const [lastStream, code] = [payload.readUInt32BE(0) % 2 ** 31, payload.readUInt32BE(4)];
    if (code !== ERROR.none) this.#fail(ERROR.none, `the server ended the session with ${describeError(code)}`);
    if (lastStream < STREAM) this.#fail(ERROR.none, "the server ended the session without an answer");
  }

  #takeBlock(block: { readonly pieces: Buffer[]; bytes: number; readonly endsStream: boolean }, frame: Frame): void {
    const piece = frame.type === TYPE.headers ? contentOf(frame) : frame.payload;
    block.pieces.push(piece);
    block.bytes += piece.length;
    if (block.bytes > HEADERS_MAX.bytes) this.#fail(ERROR.enhanceYourCalm, `more than ${HEADERS_MAX.bytes} bytes of headers`);
    const isEnd = (frame.flags & FLAG.endHeaders) !== 0;
    this.#block = isEnd ? null : block;
    if (isEnd) this.#takeFields(this.#decode(Buffer.concat(block.pieces)), block.endsStream);
  }

  #decode(block: Buffer): readonly Field[] {
    try {
      return this.#decoder.decode(block);
    } catch (error) {
      if (error instanceof HpackFault) this.#fail(ERROR.compression, `the headers cannot be read: ${error.message}`);
      throw error;
    }
  }

  #takeFields(fields: readonly Field[], endsStream: boolean): void {
    checkFields(fields);
    if (this.#response !== null) {
      if (fields.some(([name]) => name.startsWith(":"))) this.#fail(ERROR.protocol, "a second response");
      if (!endsStream) this.#fail(ERROR.protocol, "trailers that do not end the response");
      this.#finish(fields);
      return;
    }
    const status = statusIn(fields);
    if (status < 200) {
      this.#interims += 1;
      if (this.#interims > INTERIM_MAX) this.#fail(ERROR.enhanceYourCalm, `more than ${INTERIM_MAX} interim responses`);
      // 101 changes the protocol, which a stream of HTTP/2 cannot (RFC 9113, 8.6).
      if (endsStream || status === 101) this.#fail(ERROR.protocol, `status ${status} is no response`);
      return;
    }
    this.#response = { status, fields, bodyBytes: 0 };
    this.#hearer.response(status, fields);
    if (endsStream && !this.#isOver()) this.#finish([]);
  }

  #takeData(frame: Frame): void {
    if (this.#response === null) this.#fail(ERROR.protocol, "a body without a response");
    this.#windowBytes -= frame.payload.length;
    if (this.#windowBytes < 0) this.#fail(ERROR.flowControl, `the server sent more than ${WINDOW_BYTES} bytes that were allowed`);
    const content = contentOf(frame);
    this.#response.bodyBytes += content.length;
    if (content.length > 0) this.#hearer.data(content);
    if ((frame.flags & FLAG.endStream) !== 0 && !this.#isOver()) this.#finish([]);
  }

  #finish(trailers: readonly Field[]): void {
    const { status, fields, bodyBytes } = this.#response!;
    const promised = this.#isHead || status === 304 ? [] : valuesOf(fields, "content-length");
    const broken = promised.find((each) => Number(each) !== bodyBytes);
    if (broken !== undefined) this.#fail(ERROR.protocol, `the body has ${bodyBytes} bytes, its content-length says ${told(broken)}`);
    this.#isWhole = true;
    this.#hearer.end(trailers);
  }
}

/** RFC 9113, 8.2.1 and 8.3; characters that a terminal would obey are in no value. */
function checkFields(fields: readonly Field[]): void {
  let isBehind = false;
  for (const [name, value] of fields) {
    const isPseudo = name.startsWith(":");
    const isName = /^:?[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(name);
    if (!isName || (isPseudo && isBehind)) throw new Http2Fault(ERROR.protocol, `a header field named ${told(name)} is not allowed there`);
    if (/[^\t\u0020-\u007e\u0080-\u00ff]/.test(value)) {
      throw new Http2Fault(ERROR.protocol, `the header field ${told(name)} has a value that is not allowed: ${told(value)}`);
    }
    isBehind = !isPseudo;
  }
}

function statusIn(fields: readonly Field[]): number {
  const pseudo = fields.filter(([name]) => name.startsWith(":"));
  const [[name, status] = ["", ""]] = pseudo;
  if (pseudo.length !== 1 || name !== ":status" || !/^[1-9]\d\d$/.test(status)) {
    throw new Http2Fault(ERROR.protocol, "the headers of the response have no status");
  }
  return Number(status);
}
