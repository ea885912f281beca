// Frames of HTTP/2 (RFC 9113, 4 and 6): bytes from frames and frames from bytes, however these come. Knows how a
// frame is made and how large it may be; must never know what follows from one.

export const TYPE = {
  data: 0, headers: 1, priority: 2, resetStream: 3, settings: 4, pushPromise: 5, ping: 6, goaway: 7, windowUpdate: 8, continuation: 9,
} as const;

export const FLAG = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

/** RFC 9113, 7. */
export const ERROR = {
  none: 0, protocol: 1, flowControl: 3, frameSize: 6, cancel: 8, compression: 9, enhanceYourCalm: 11,
} as const;

const ERROR_NAMES = [
  "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
  "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
] as const;

/** "HTTP/2 error 7 (REFUSED_STREAM)". */
export function describeError(code: number): string {
  const name = ERROR_NAMES[code];
  return `HTTP/2 error ${code}${name === undefined ? "" : ` (${name})`}`;
}

/** Codes of what breaks the protocol as such, which its message then says. */
const BREACHES: ReadonlySet<number> = new Set([ERROR.protocol, ERROR.flowControl, ERROR.frameSize]);

/** What a server may not do, by the code that it is told in GOAWAY; the message is for people. */
export class Http2Fault extends Error {
  readonly errorCode: number;

  constructor(errorCode: number, message: string) {
    super(BREACHES.has(errorCode) ? `broken HTTP/2: ${message}` : message);
    this.errorCode = errorCode;
  }
}

export interface Frame {
  readonly type: number;
  readonly flags: number;
  /** 0: of the connection. */
  readonly stream: number;
  readonly payload: Buffer;
}

const HEAD_BYTES = 9;
/** Of a payload, as long as nobody has allowed more. */
export const PAYLOAD_MAX_BYTES = 16_384;

export function encodeFrame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

export function numbered(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, at) => bytes.writeUInt32BE(value, at * 4));
  return bytes;
}

/** The content of a frame of DATA or HEADERS, without what its flags have put around it (RFC 9113, 6.1 and 6.2). */
export function contentOf({ type, flags, payload }: Frame): Buffer {
  const isPadded = (flags & FLAG.padded) !== 0;
  const hasPriority = type === TYPE.headers && (flags & FLAG.priority) !== 0;
  const from = (isPadded ? 1 : 0) + (hasPriority ? 5 : 0);
  const to = payload.length - (isPadded ? payload[0] ?? 0 : 0);
  if (from > to) throw new Http2Fault(ERROR.protocol, "a frame is padded to more than its length");
  return payload.subarray(from, to);
}

/** Makes frames of what comes; keeps less than one. */
export class FrameReader {
  #pieces: Buffer[] = [];
  #bytes = 0;
  /** Before so many have come there is nothing to join pieces for. */
  #needed = HEAD_BYTES;

  push(piece: Buffer): void {
    this.#pieces.push(piece);
    this.#bytes += piece.length;
  }

  /** What has come and is in no frame yet. */
  get rest(): Buffer {
    if (this.#pieces.length !== 1) this.#pieces = [Buffer.concat(this.#pieces)];
    return this.#pieces[0]!;
  }

  /** The type of the frame that comes next, or null: it is not known yet. */
  get nextType(): number | null {
    return this.#bytes < HEAD_BYTES ? null : this.rest[3]!;
  }

  /** Null: more has to come. Throws Http2Fault. */
  next(): Frame | null {
    if (this.#bytes < this.#needed) return null;
    const bytes = this.rest;
    const length = bytes.readUIntBE(0, 3);
    if (length > PAYLOAD_MAX_BYTES) {
      throw new Http2Fault(ERROR.frameSize, `a frame of ${length} bytes, where ${PAYLOAD_MAX_BYTES} are allowed`);
    }
    const end = HEAD_BYTES + length;
    this.#needed = end;
    if (bytes.length < end) return null;
    this.#needed = HEAD_BYTES;
    this.#pieces = [bytes.subarray(end)];
    this.#bytes -= end;
    const stream = bytes.readUInt32BE(5) % 2 ** 31; // a bit in front is reserved
    return { type: bytes[3]!, flags: bytes[4]!, stream, payload: bytes.subarray(HEAD_BYTES, end) };
  }
}
