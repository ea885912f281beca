// Header blocks of HTTP/2 (HPACK, RFC 7541): ours are written without a table, those of a server read with one of
// the default size, since a server may use it before it has heard what we allow. Knows the coding and its bounds;
// must never know what a header means.

import type { Field } from "./http_fields.ts";
import { decodeHuffman } from "./huffman.ts";

/** The block cannot be read, nor any that comes after it. */
export class HpackFault extends Error {}

export interface HeaderLimits {
  readonly fields: number;
  /** With 32 for each field, as tables and SETTINGS_MAX_HEADER_LIST_SIZE count (RFC 9113, 6.5.2). */
  readonly bytes: number;
}

const TABLE_MAX_BYTES = 4096;
const FIELD_OVERHEAD_BYTES = 32;

/** RFC 7541, appendix A, from 1: "name" or "name=value". */
const STATIC_TABLE: readonly Field[] = [
  ":authority", ":method=GET", ":method=POST", ":path=/", ":path=/index.html", ":scheme=http", ":scheme=https", ":status=200",
  ":status=204", ":status=206", ":status=304", ":status=400", ":status=404", ":status=500", "accept-charset",
  "accept-encoding=gzip, deflate", "accept-language", "accept-ranges", "accept", "access-control-allow-origin", "age", "allow",
  "authorization", "cache-control", "content-disposition", "content-encoding", "content-language", "content-length",
  "content-location", "content-range", "content-type", "cookie", "date", "etag", "expect", "expires", "from", "host", "if-match",
  "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified", "link", "location", "max-forwards",
  "proxy-authenticate", "proxy-authorization", "range", "referer", "refresh", "retry-after", "server", "set-cookie",
  "strict-transport-security", "transfer-encoding", "user-agent", "vary", "via", "www-authenticate",
].map((text) => [text.split("=")[0]!, text.split("=")[1] ?? ""]);

/** First bits of what stands in a block (RFC 7541, 6). */
const INDEXED = 0x80;
const INDEXING = 0x40;
const RESIZE = 0x20;
const NEVER_INDEXED = 0x10;
const HUFFMAN = 0x80;

/**
 * As literals that nobody on the way may put in a table either: a value may be a secret, and one request gains
 * nothing by tables. Texts go as UTF-8.
 */
export function encodeFields(fields: readonly Field[]): Buffer {
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.of(NEVER_INDEXED), encodeText(name), encodeText(value)]));
}

function encodeText(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([encodeInteger(bytes.length, 7), bytes]);
}

/** RFC 7541, 5.1; the bits in front of the prefix are 0. */
function encodeInteger(value: number, prefixBits: number): Buffer {
  const full = 2 ** prefixBits - 1;
  if (value < full) return Buffer.of(value);
  const octets = [full];
  let rest = value - full;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) octets.push(rest % 0x80 + 0x80);
  return Buffer.from([...octets, rest]);
}

/** Of one connection: all its blocks have to pass here, in their order. */
export class HpackDecoder {
  readonly #limits: HeaderLimits;
  /** The newest first. */
  readonly #table: Field[] = [];
  #tableBytes = 0;
  #tableMaxBytes = TABLE_MAX_BYTES;

  constructor(limits: HeaderLimits) {
    this.#limits = limits;
  }

  /** Throws HpackFault. */
  decode(block: Buffer): readonly Field[] {
    const cursor = new Cursor(block);
    const fields: Field[] = [];
    let bytes = 0;
    while (!cursor.isAtEnd) {
      const kind = cursor.peek();
      if ((kind & (INDEXED | INDEXING | RESIZE)) === RESIZE) {
        if (fields.length > 0) throw new HpackFault("the table changes its size behind the first field");
        this.#resize(cursor.integer(5));
        continue;
      }
      const field = this.#field(cursor, kind);
      fields.push(field);
      bytes += sizeOf(field);
      if (fields.length > this.#limits.fields) throw new HpackFault(`more than ${this.#limits.fields} header fields`);
      if (bytes > this.#limits.bytes) throw new HpackFault(`more than ${this.#limits.bytes} bytes of header fields`);
    }
    return fields;
  }

  #field(cursor: Cursor, kind: number): Field {
    if ((kind & INDEXED) !== 0) return this.#entry(cursor.integer(7));
    const isKept = (kind & INDEXING) !== 0;
    const index = cursor.integer(isKept ? 6 : 4);
    const name = index === 0 ? cursor.text() : this.#entry(index)[0];
    const field: Field = [name, cursor.text()];
    if (isKept) this.#keep(field);
    return field;
  }

  #entry(index: number): Field {
    const found = index <= STATIC_TABLE.length ? STATIC_TABLE[index - 1] : this.#table[index - STATIC_TABLE.length - 1];
    if (found === undefined) throw new HpackFault(`no header field has the index ${index}`);
    return found;
  }

  /** One that is larger than the table empties it. */
  #keep(field: Field): void {
    this.#table.unshift(field);
    this.#tableBytes += sizeOf(field);
    this.#evict();
  }

  #resize(maxBytes: number): void {
    if (maxBytes > TABLE_MAX_BYTES) throw new HpackFault(`a table of ${maxBytes} bytes, where ${TABLE_MAX_BYTES} are allowed`);
    this.#tableMaxBytes = maxBytes;
    this.#evict();
  }

  #evict(): void {
    while (this.#tableBytes > this.#tableMaxBytes) this.#tableBytes -= sizeOf(this.#table.pop()!);
  }
}

function sizeOf([name, value]: Field): number {
  return name.length + value.length + FIELD_OVERHEAD_BYTES;
}

/** Where in a block we are. */
class Cursor {
  readonly #block: Buffer;
  #at = 0;

  constructor(block: Buffer) {
    this.#block = block;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#block.length;
  }

  peek(): number {
    const byte = this.#block[this.#at];
    if (byte === undefined) throw new HpackFault("it ends in the middle of a header field");
    return byte;
  }

  /** Four octets behind the prefix are more than any of ours needs. */
  integer(prefixBits: number): number {
    const full = 2 ** prefixBits - 1;
    let value = this.#next() & full;
    if (value < full) return value;
    for (let bits = 0; bits < 28; bits += 7) {
      const octet = this.#next();
      value += (octet & 0x7f) * 2 ** bits;
      if ((octet & 0x80) === 0) return value;
    }
    throw new HpackFault("a number has too many octets");
  }

  text(): string {
    const isCoded = (this.peek() & HUFFMAN) !== 0;
    const length = this.integer(7);
    if (length > this.#block.length - this.#at) throw new HpackFault("it ends in the middle of a header field");
    const bytes = this.#block.subarray(this.#at, this.#at + length);
    this.#at += length;
    const text = isCoded ? decodeHuffman(bytes) : bytes;
    if (text === null) throw new HpackFault("a text is not in the Huffman code");
    return text.toString("latin1");
  }

  #next(): number {
    const byte = this.peek();
    this.#at += 1;
    return byte;
  }
}
