// Connection IDs that say which server they belong to: draft-ietf-quic-load-balancers-21, sections
// 3 and 5. Encodes and decodes one ID under one configuration: in plaintext, by one pass of
// AES-128-ECB where server ID and nonce fill a block, by four passes else. Pure; knows no packet
// and no backend.

import type { AesSchedule } from "./aes128.ts";
import {
  AES_BLOCK_BYTES, AES_KEY_BYTES, decryptBlock, decryptionSchedule, encryptBlock,
  encryptionSchedule,
} from "./aes128.ts";

/** Three bits name the configuration; the last number is reserved for IDs that nobody can route. */
export const QUIC_CONFIG_IDS = 7;
export const QUIC_UNROUTABLE_CONFIG = 7;
export const QUIC_SERVER_ID_BYTES_MIN = 1;
export const QUIC_SERVER_ID_BYTES_MAX = 15;
export const QUIC_NONCE_BYTES_MIN = 4;
export const QUIC_NONCE_BYTES_MAX = 18;
/** Server ID and nonce together: QUIC's connection IDs have at most 20 bytes, and one is the first. */
export const QUIC_PLAINTEXT_BYTES_MAX = 19;

export interface QuicLbParameters {
  /** 0…6. */
  readonly id: number;
  readonly serverIdBytes: number;
  readonly nonceBytes: number;
  /** Servers say the ID's length in the low five bits of its first byte. */
  readonly lengthEncoded: boolean;
  /** Sixteen bytes, or null: nothing is hidden. */
  readonly key: Uint8Array | null;
}

export type QuicLbMode = "plaintext" | "single-pass" | "four-pass";

/** A configuration that is ready for use. */
export interface QuicLbConfig extends QuicLbParameters {
  readonly mode: QuicLbMode;
  readonly encryption: AesSchedule | null;
  /** Four passes undo themselves with encryption alone. */
  readonly decryption: AesSchedule | null;
}

/** What the draft does not allow, or null. */
export function quicLbFault(parameters: QuicLbParameters): string | null {
  const { id, serverIdBytes, nonceBytes, key } = parameters;
  if (!isWithin(id, 0, QUIC_CONFIG_IDS - 1)) return `config IDs are 0 to ${QUIC_CONFIG_IDS - 1}`;
  if (!isWithin(serverIdBytes, QUIC_SERVER_ID_BYTES_MIN, QUIC_SERVER_ID_BYTES_MAX)) {
    return `a server ID has ${QUIC_SERVER_ID_BYTES_MIN} to ${QUIC_SERVER_ID_BYTES_MAX} bytes`;
  }
  if (!isWithin(nonceBytes, QUIC_NONCE_BYTES_MIN, QUIC_NONCE_BYTES_MAX)) {
    return `a nonce has ${QUIC_NONCE_BYTES_MIN} to ${QUIC_NONCE_BYTES_MAX} bytes`;
  }
  if (serverIdBytes + nonceBytes > QUIC_PLAINTEXT_BYTES_MAX) {
    return `server ID and nonce have at most ${QUIC_PLAINTEXT_BYTES_MAX} bytes together`;
  }
  if (key !== null && key.length !== AES_KEY_BYTES) return `a key has ${AES_KEY_BYTES} bytes`;
  return null;
}

function isWithin(value: number, min: number, max: number): boolean {
  return Number.isInteger(value) && value >= min && value <= max;
}

/** Throws RangeError for parameters that the draft does not allow. */
export function quicLbConfig(parameters: QuicLbParameters): QuicLbConfig {
  const fault = quicLbFault(parameters);
  if (fault !== null) throw new RangeError(fault);
  const { key } = parameters;
  const mode = quicLbMode(parameters);
  return {
    ...parameters, mode,
    encryption: key === null ? null : encryptionSchedule(key),
    decryption: key === null || mode !== "single-pass" ? null : decryptionSchedule(key),
  };
}

export function quicLbMode(
  { key, serverIdBytes, nonceBytes }: Pick<QuicLbParameters, "serverIdBytes" | "nonceBytes"> & {
    readonly key: unknown;
  },
): QuicLbMode {
  if (key === null) return "plaintext";
  return serverIdBytes + nonceBytes === AES_BLOCK_BYTES ? "single-pass" : "four-pass";
}

/** Bytes of a connection ID, as far as this configuration says what they mean. */
export function cidBytes({ serverIdBytes, nonceBytes }: QuicLbParameters): number {
  return 1 + serverIdBytes + nonceBytes;
}

/** The configuration that an ID names in its first byte. */
export function configIdOf(firstByte: number): number {
  return firstByte >> 5;
}

/** The length of the rest, as the first byte says where servers encode it. */
export function encodedLength(firstByte: number): number {
  return firstByte & 0x1f;
}

/**
 * Mints an ID. `spare` gives the low five bits of the first byte where they do not say the length;
 * it has to be random, like the nonce. Throws RangeError for parts of the wrong length.
 */
export function encodeCid(
  config: QuicLbConfig, serverId: Uint8Array, nonce: Uint8Array, spare: number,
): Uint8Array {
  expectLength("the server ID", serverId, config.serverIdBytes);
  expectLength("the nonce", nonce, config.nonceBytes);
  const plain = Uint8Array.of(...serverId, ...nonce);
  const low = config.lengthEncoded ? plain.length : spare & 0x1f;
  return Uint8Array.of((config.id << 5) | low, ...encrypt(config, plain));
}

export interface DecodedCid {
  readonly serverId: Uint8Array;
  readonly nonce: Uint8Array;
}

/** Reads an ID that may be longer than it has to be. Throws RangeError for one that is shorter. */
export function decodeCid(config: QuicLbConfig, cid: Uint8Array): DecodedCid {
  const length = cidBytes(config);
  if (cid.length < length) {
    throw new RangeError(`a connection ID of this config has ${length} bytes, not ${cid.length}`);
  }
  // A copy: of a datagram that came in a Buffer, slices would be the datagram itself.
  const plain = decrypt(config, Uint8Array.from(cid.subarray(1, length)));
  return {
    serverId: plain.slice(0, config.serverIdBytes), nonce: plain.slice(config.serverIdBytes),
  };
}

function expectLength(what: string, bytes: Uint8Array, length: number): void {
  if (bytes.length !== length) {
    throw new RangeError(`${what} has ${length} bytes in this config, not ${bytes.length}`);
  }
}

function encrypt({ mode, encryption }: QuicLbConfig, plain: Uint8Array): Uint8Array {
  if (encryption === null) return plain;
  if (mode === "single-pass") return encryptBlock(encryption, plain);
  const halves = split(plain);
  for (const pass of [1, 2, 3, 4] as const) mix(encryption, halves, plain.length, pass);
  return join(halves, plain.length);
}

function decrypt({ mode, encryption, decryption }: QuicLbConfig, hidden: Uint8Array): Uint8Array {
  if (decryption !== null) return decryptBlock(decryption, hidden);
  if (encryption === null || mode === "plaintext") return hidden;
  const halves = split(hidden);
  for (const pass of [4, 3, 2, 1] as const) mix(encryption, halves, hidden.length, pass);
  return join(halves, hidden.length);
}

interface Halves {
  readonly left: Uint8Array;
  readonly right: Uint8Array;
}

/** Halves of whole bytes; of an odd number, each has four bits of the middle one (5.4.2). */
function split(bytes: Uint8Array): Halves {
  const half = Math.ceil(bytes.length / 2);
  const halves = { left: bytes.slice(0, half), right: bytes.slice(bytes.length - half) };
  clearShared(halves, bytes.length);
  return halves;
}

function join({ left, right }: Halves, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  bytes.set(left);
  right.forEach((byte, at) => { bytes[length - right.length + at]! |= byte; });
  return bytes;
}

/** One pass: each is its own inverse. Odd ones change the right half, even ones the left. */
function mix(schedule: AesSchedule, halves: Halves, length: number, pass: 1 | 2 | 3 | 4): void {
  const [from, to] = pass % 2 === 1 ? [halves.left, halves.right] : [halves.right, halves.left];
  const block = new Uint8Array(AES_BLOCK_BYTES);
  block.set(from);
  block[14] = length;
  block[15] = pass;
  const result = encryptBlock(schedule, block);
  to.forEach((_, at) => { to[at]! ^= result[at]!; });
  clearShared(halves, length);
}

/** The halves of the middle byte that are the other side's. */
function clearShared({ left, right }: Halves, length: number): void {
  if (length % 2 === 0) return;
  left[left.length - 1]! &= 0xf0;
  right[0]! &= 0x0f;
}
