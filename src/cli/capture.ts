// Capture files as values: reads pcap (libpcap's format, both byte orders, micro- and nanoseconds) and
// pcapng, writes pcap. Knows bytes only. Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.

import { Failure } from "../errors.ts";

const MAGIC_MICRO = 0xa1b2c3d4;
const MAGIC_NANO = 0xa1b23c4d;
const BLOCK_SECTION = 0x0a0d0d0a;
const BLOCK_INTERFACE = 1;
const BLOCK_SIMPLE_PACKET = 3;
const BLOCK_ENHANCED_PACKET = 6;
const BYTE_ORDER = 0x1a2b3c4d;
const OPTION_TIMESTAMP_RESOLUTION = 9;
/** LINKTYPE_ETHERNET. */
const ETHERNET = 1;
const FILE_HEADER = 24;
const RECORD_HEADER = 16;

export interface CapturedPacket {
  /** Nanoseconds since the epoch. */
  readonly timeNs: bigint;
  /** The captured bytes, Ethernet header first. */
  readonly bytes: Uint8Array;
  /** Length on the wire; larger than bytes.length when the capture cut the packet. */
  readonly length: number;
}

interface Reader {
  readonly path: string;
  readonly view: DataView;
  readonly bytes: Uint8Array;
}

function invalid(reader: Reader, offset: number, what: string): Failure<"CAPTURE_INVALID"> {
  return new Failure("CAPTURE_INVALID", { path: reader.path, offset }, `${reader.path}: ${what} at byte ${offset}`);
}

/** Reads a capture; throws CAPTURE_INVALID for another format, a link type that is not Ethernet, or a cut record. */
export function readCapture(path: string, bytes: Uint8Array): CapturedPacket[] {
  // Not a Buffer, whose slice() would share the file's memory.
  const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const reader = { path, bytes: plain, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
  if (bytes.length < 12) throw invalid(reader, 0, "this is neither pcap nor pcapng: too short");
  if (reader.view.getUint32(0) === BLOCK_SECTION) return readPcapng(reader);
  for (const little of [false, true]) {
    const magic = reader.view.getUint32(0, little);
    if (magic === MAGIC_MICRO) return readPcap(reader, little, 1000n);
    if (magic === MAGIC_NANO) return readPcap(reader, little, 1n);
  }
  throw invalid(reader, 0, "this is neither pcap nor pcapng: unknown magic number");
}

function readPcap(reader: Reader, little: boolean, unitNs: bigint): CapturedPacket[] {
  const { view, bytes } = reader;
  if (bytes.length < FILE_HEADER) throw invalid(reader, 0, "the file header is cut short");
  // The upper bits say whether frames end with a checksum; the lower 16 are the link type.
  const linkType = view.getUint32(20, little) & 0xffff;
  if (linkType !== ETHERNET) throw invalid(reader, 20, `link type ${linkType} is not Ethernet (1)`);
  const packets: CapturedPacket[] = [];
  for (let at = FILE_HEADER; at < bytes.length;) {
    if (at + RECORD_HEADER > bytes.length) throw invalid(reader, at, "a record header is cut short");
    const captured = view.getUint32(at + 8, little);
    if (at + RECORD_HEADER + captured > bytes.length)
      throw invalid(reader, at, `a record of ${captured} bytes is cut short`);
    const timeNs =
      BigInt(view.getUint32(at, little)) * 1_000_000_000n + BigInt(view.getUint32(at + 4, little)) * unitNs;
    packets.push({
      timeNs,
      bytes: bytes.slice(at + RECORD_HEADER, at + RECORD_HEADER + captured),
      length: view.getUint32(at + 12, little),
    });
    at += RECORD_HEADER + captured;
  }
  return packets;
}

interface NgInterface {
  readonly linkType: number;
  readonly snapLength: number;
  readonly ticksPerSecond: bigint;
}

function readPcapng(reader: Reader): CapturedPacket[] {
  const { view, bytes } = reader;
  const packets: CapturedPacket[] = [];
  let little = false;
  let interfaces: NgInterface[] = [];
  for (let at = 0; at < bytes.length;) {
    if (at + 12 > bytes.length) throw invalid(reader, at, "a block header is cut short");
    const isSection = view.getUint32(at) === BLOCK_SECTION;
    if (isSection) {
      little = view.getUint32(at + 8, true) === BYTE_ORDER;
      if (!little && view.getUint32(at + 8) !== BYTE_ORDER) throw invalid(reader, at + 8, "unknown byte order");
      interfaces = [];
    }
    const type = view.getUint32(at, little);
    const length = view.getUint32(at + 4, little);
    if (length < 12 || length % 4 !== 0 || at + length > bytes.length)
      throw invalid(reader, at + 4, `a block of ${length} bytes cannot be`);
    if (type === BLOCK_INTERFACE) interfaces.push(readInterface(reader, at, length, little));
    else if (type === BLOCK_ENHANCED_PACKET) packets.push(readEnhanced(reader, at, length, little, interfaces));
    else if (type === BLOCK_SIMPLE_PACKET) packets.push(readSimple(reader, at, length, little, interfaces));
    at += length;
  }
  return packets;
}

function readInterface(reader: Reader, at: number, length: number, little: boolean): NgInterface {
  const { view } = reader;
  if (length < 20) throw invalid(reader, at, "an interface block is cut short");
  let ticksPerSecond = 1_000_000n;
  for (let option = at + 16; option + 4 <= at + length - 4;) {
    const code = view.getUint16(option, little);
    const size = view.getUint16(option + 2, little);
    if (code === 0) break;
    if (option + 4 + size > at + length - 4) throw invalid(reader, option, "an option is cut short");
    if (code === OPTION_TIMESTAMP_RESOLUTION && size === 1) {
      const value = view.getUint8(option + 4);
      ticksPerSecond = value & 0x80 ? 2n ** BigInt(value & 0x7f) : 10n ** BigInt(value);
    }
    option += 4 + Math.ceil(size / 4) * 4;
  }
  return { linkType: view.getUint16(at + 8, little), snapLength: view.getUint32(at + 12, little), ticksPerSecond };
}

function ethernetInterface(reader: Reader, at: number, interfaces: readonly NgInterface[], index: number): NgInterface {
  const found = interfaces[index];
  if (found === undefined) throw invalid(reader, at, `interface ${index} was not described`);
  if (found.linkType !== ETHERNET) throw invalid(reader, at, `link type ${found.linkType} is not Ethernet (1)`);
  return found;
}

function readEnhanced(
  reader: Reader,
  at: number,
  length: number,
  little: boolean,
  interfaces: readonly NgInterface[],
): CapturedPacket {
  const { view, bytes } = reader;
  if (length < 32) throw invalid(reader, at, "a packet block is cut short");
  const { ticksPerSecond } = ethernetInterface(reader, at, interfaces, view.getUint32(at + 8, little));
  const ticks = (BigInt(view.getUint32(at + 12, little)) << 32n) | BigInt(view.getUint32(at + 16, little));
  const captured = view.getUint32(at + 20, little);
  if (32 + captured > length) throw invalid(reader, at, `a packet of ${captured} bytes is cut short`);
  return {
    timeNs: (ticks * 1_000_000_000n) / ticksPerSecond,
    bytes: bytes.slice(at + 28, at + 28 + captured),
    length: view.getUint32(at + 24, little),
  };
}

/** A simple packet block has no time, and its captured length is the snap length or what there is. */
function readSimple(
  reader: Reader,
  at: number,
  length: number,
  little: boolean,
  interfaces: readonly NgInterface[],
): CapturedPacket {
  const { view, bytes } = reader;
  if (length < 16) throw invalid(reader, at, "a packet block is cut short");
  const { snapLength } = ethernetInterface(reader, at, interfaces, 0);
  const original = view.getUint32(at + 8, little);
  const captured = Math.min(original, snapLength === 0 ? original : snapLength, length - 16);
  return { timeNs: 0n, bytes: bytes.slice(at + 12, at + 12 + captured), length: original };
}

/** A little-endian pcap with nanoseconds and Ethernet frames. */
export function writeCapture(packets: readonly CapturedPacket[]): Uint8Array {
  const total = packets.reduce((sum, packet) => sum + RECORD_HEADER + packet.bytes.length, FILE_HEADER);
  const out = new Uint8Array(total);
  const view = new DataView(out.buffer);
  view.setUint32(0, MAGIC_NANO, true);
  view.setUint16(4, 2, true);
  view.setUint16(6, 4, true);
  view.setUint32(16, 262_144, true);
  view.setUint32(20, ETHERNET, true);
  let at = FILE_HEADER;
  for (const { timeNs, bytes, length } of packets) {
    view.setUint32(at, Number(timeNs / 1_000_000_000n), true);
    view.setUint32(at + 4, Number(timeNs % 1_000_000_000n), true);
    view.setUint32(at + 8, bytes.length, true);
    view.setUint32(at + 12, length, true);
    out.set(bytes, at + RECORD_HEADER);
    at += RECORD_HEADER + bytes.length;
  }
  return out;
}
