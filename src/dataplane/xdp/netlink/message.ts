// Netlink's envelope (RFC 3549; include/uapi/linux/netlink.h): messages in a datagram and attributes in
// a message, both ways. Pure. Knows lengths and alignment; knows no link, address or route. Numbers
// are in the host's order, which is little-endian on everything that runs this.

export const HEADER_BYTES = 16;
const ATTRIBUTE_HEADER_BYTES = 4;
/** Set on nested attributes and on those in network order; not part of the type. */
const ATTRIBUTE_FLAGS = 0xc000;

/** enum of nlmsghdr.nlmsg_type. */
export const MESSAGE_ERROR = 2;
export const MESSAGE_DONE = 3;
/** Bits of nlmsghdr.nlmsg_flags. */
export const FLAG_REQUEST = 0x1;
export const FLAG_ACK = 0x4;
/** What was dumped changed meanwhile. */
export const FLAG_DUMP_INTERRUPTED = 0x10;
export const FLAG_DUMP = 0x300;
export const FLAG_REPLACE = 0x100;
export const FLAG_EXCLUSIVE = 0x200;
export const FLAG_CREATE = 0x400;

export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly payload: Uint8Array;
}

/** By type; the last one wins where one comes twice. */
export type Attributes = ReadonlyMap<number, Uint8Array>;

function aligned(length: number): number {
  return (length + 3) & ~3;
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function encodeMessage({ type, flags, sequence, payload }: Message): Uint8Array {
  const bytes = new Uint8Array(aligned(HEADER_BYTES + payload.length));
  const view = viewOf(bytes);
  view.setUint32(0, HEADER_BYTES + payload.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags, true);
  view.setUint32(8, sequence, true);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

/** All messages of a datagram. A length that does not fit is a RangeError: the kernel sends none. */
export function decodeMessages(datagram: Uint8Array): Message[] {
  const messages: Message[] = [];
  const view = viewOf(datagram);
  for (let at = 0; at + HEADER_BYTES <= datagram.length;) {
    const length = view.getUint32(at, true);
    if (length < HEADER_BYTES || at + length > datagram.length) {
      throw new RangeError(`a netlink message of ${length} bytes in ${datagram.length - at}`);
    }
    messages.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      payload: datagram.subarray(at + HEADER_BYTES, at + length),
    });
    at += aligned(length);
  }
  return messages;
}

export function encodeAttribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(aligned(ATTRIBUTE_HEADER_BYTES + value.length));
  const view = viewOf(bytes);
  view.setUint16(0, ATTRIBUTE_HEADER_BYTES + value.length, true);
  view.setUint16(2, type, true);
  bytes.set(value, ATTRIBUTE_HEADER_BYTES);
  return bytes;
}

/** The attributes behind a message's fixed part, or inside a nested attribute. */
export function decodeAttributes(bytes: Uint8Array): Attributes {
  return new Map(attributeList(bytes));
}

/** The same in their order, where one type comes several times. */
export function attributeList(bytes: Uint8Array): [type: number, value: Uint8Array][] {
  const attributes: [number, Uint8Array][] = [];
  const view = viewOf(bytes);
  for (let at = 0; at + ATTRIBUTE_HEADER_BYTES <= bytes.length;) {
    const length = view.getUint16(at, true);
    if (length < ATTRIBUTE_HEADER_BYTES || at + length > bytes.length) {
      throw new RangeError(`a netlink attribute of ${length} bytes in ${bytes.length - at}`);
    }
    const type = view.getUint16(at + 2, true) & ~ATTRIBUTE_FLAGS;
    attributes.push([type, bytes.subarray(at + ATTRIBUTE_HEADER_BYTES, at + length)]);
    at += aligned(length);
  }
  return attributes;
}

export function concatenated(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

export function attributeU8(attributes: Attributes, type: number): number | null {
  const value = attributes.get(type);
  return value === undefined || value.length < 1 ? null : value[0]!;
}

export function attributeU32(attributes: Attributes, type: number): number | null {
  const value = attributes.get(type);
  return value === undefined || value.length < 4 ? null : viewOf(value).getUint32(0, true);
}

/** A C string, with or without its final zero. */
export function attributeText(attributes: Attributes, type: number): string | null {
  const value = attributes.get(type);
  if (value === undefined) return null;
  const end = value.indexOf(0);
  return Buffer.from(end === -1 ? value : value.subarray(0, end)).toString("utf8");
}

export function u32Bytes(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  viewOf(bytes).setUint32(0, value, true);
  return bytes;
}

/** 0 for an acknowledgement, else the errno; null when the message is neither. */
export function errorOf(message: Message): number | null {
  if (message.type !== MESSAGE_ERROR || message.payload.length < 4) return null;
  return 0 - viewOf(message.payload).getInt32(0, true);
}
