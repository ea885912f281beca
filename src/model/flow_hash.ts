// The flow hash: HalfSipHash-1-3 over a packet's 5-tuple or its masked source, keyed with the
// 64-bit seed. Knows bytes and the order they go in, and nothing of packets, services or rings.
// bpf/flow_hash.h is its twin: same names, same results, held together by
// test/unit/flow_hash.test.ts.
//
// HalfSipHash is Aumasson's 32-bit SipHash (github.com/veorq/SipHash; SipHash itself: Aumasson and
// Bernstein, INDOCRYPT 2012). One compression and three finalisation rounds are what Linux uses for
// its hash tables (hsiphash on 32-bit machines, Documentation/security/siphash.rst).

const INITIAL_V2 = 0x6c796765;
const INITIAL_V3 = 0x74656462;

/** Bytes of an address. */
const ADDRESS_BYTES = 16;
/** Where IPv4 starts in a mapped address, in bits. */
const MAPPED_PREFIX_BITS = 96;

/** The state between words. One is enough: nothing here is asynchronous or calls out. */
const v = new Int32Array(4);
const V0 = 0, V1 = 1, V2 = 2, V3 = 3;

// Connections come one after another with the same seed, and splitting a BigInt costs more than the
// hash.
let splitSeed = 0n;
let seedLow = 0;
let seedHigh = 0;

function begin(seed: bigint): void {
  if (seed !== splitSeed) {
    if (seed < 0n || seed > 0xffff_ffff_ffff_ffffn) {
      throw new RangeError(`a seed has 64 bits, not ${seed}`);
    }
    splitSeed = seed;
    seedLow = Number(seed & 0xffffffffn) | 0;
    seedHigh = Number(seed >> 32n) | 0;
  }
  v[V0] = seedLow;
  v[V1] = seedHigh;
  v[V2] = seedLow ^ INITIAL_V2;
  v[V3] = seedHigh ^ INITIAL_V3;
}

function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}

function mixRounds(rounds: number): void {
  let v0 = v[V0]!;
  let v1 = v[V1]!;
  let v2 = v[V2]!;
  let v3 = v[V3]!;
  for (let round = 0; round < rounds; round++) {
    v0 = (v0 + v1) | 0;
    v1 = rotate(v1, 5) ^ v0;
    v0 = rotate(v0, 16);
    v2 = (v2 + v3) | 0;
    v3 = rotate(v3, 8) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = rotate(v3, 7) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = rotate(v1, 13) ^ v2;
    v2 = rotate(v2, 16);
  }
  v[V0] = v0;
  v[V1] = v1;
  v[V2] = v2;
  v[V3] = v3;
}

function absorb(word: number, rounds: number): void {
  v[V3]! ^= word;
  mixRounds(rounds);
  v[V0]! ^= word;
}

function finish(rounds: number): number {
  v[V2]! ^= 0xff;
  mixRounds(rounds);
  return (v[V1]! ^ v[V3]!) >>> 0;
}

/** Four bytes as a little-endian word; bytes past the end are 0. */
function wordAt(bytes: Uint8Array, at: number): number {
  const low = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
  return low | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24);
}

/**
 * HalfSipHash-c-d of any bytes with a 32-bit result. The key is the eight bytes of `seed`,
 * little-endian. Our hashes are c = 1, d = 3; the reference vectors are 2 and 4.
 */
export function halfSipHash(
  seed: bigint, bytes: Uint8Array, compressionRounds: number, finalisationRounds: number,
): number {
  begin(seed);
  const whole = bytes.length - (bytes.length % 4);
  for (let at = 0; at < whole; at += 4) absorb(wordAt(bytes, at), compressionRounds);
  absorb(wordAt(bytes, whole) | (bytes.length << 24), compressionRounds);
  return finish(finalisationRounds);
}

function absorbAddress(address: Uint8Array): void {
  if (address.length !== ADDRESS_BYTES) {
    throw new RangeError(`an address has 16 bytes, not ${address.length}`);
  }
  for (let at = 0; at < ADDRESS_BYTES; at += 4) absorb(wordAt(address, at), 1);
}

/**
 * A port as its two bytes lie in the packet: in a little-endian word the first byte is the lowest.
 */
function portBytes(port: number): number {
  if (!Number.isInteger(port) || port < 0 || port > 0xffff) {
    throw new RangeError(`a port has 16 bits, not ${port}`);
  }
  return (port >>> 8) | ((port & 0xff) << 8);
}

/**
 * HalfSipHash-1-3 of the 37 bytes source address (16, IPv4 mapped), destination address (16),
 * source port, destination port (network order), protocol. An unsigned 32-bit number.
 */
export function flowHash(
  seed: bigint, source: Uint8Array, sourcePort: number,
  destination: Uint8Array, destinationPort: number, protocol: number,
): number {
  const ports = portBytes(sourcePort) | (portBytes(destinationPort) << 16);
  begin(seed);
  absorbAddress(source);
  absorbAddress(destination);
  absorb(ports, 1);
  absorb((protocol & 0xff) | (37 << 24), 1);
  return finish(3);
}

/** Bits of the client address that count, per family: `sourcePrefix` of a service. */
export interface SourcePrefix {
  readonly ipv4: number;
  readonly ipv6: number;
}

/**
 * HalfSipHash-1-3 of the 16 bytes of the source address alone, all but the prefix set to 0. The
 * IPv4 prefix counts within the last 32 bits: the mapped prefix ::ffff:0:0/96 always stays.
 */
export function sourceHash(seed: bigint, source: Uint8Array, prefix: SourcePrefix): number {
  const masked = maskSource(source, prefix);
  begin(seed);
  absorbAddress(masked);
  absorb(ADDRESS_BYTES << 24, 1);
  return finish(3);
}

/** A client's address (16 bytes) with everything that does not count set to 0. */
export function maskSource(source: Uint8Array, prefix: SourcePrefix): Uint8Array {
  return maskAddress(source, isMapped(source) ? MAPPED_PREFIX_BITS + prefix.ipv4 : prefix.ipv6);
}

/** The address with everything behind the first `prefixBits` (0…128) set to 0. */
export function maskAddress(address: Uint8Array, prefixBits: number): Uint8Array {
  if (!Number.isInteger(prefixBits) || prefixBits < 0 || prefixBits > 128) {
    throw new RangeError(`a prefix has 0 to 128 bits, not ${prefixBits}`);
  }
  // Not slice(): a Buffer would give a view, and the caller lose its bytes.
  const masked = Uint8Array.from(address);
  const partial = prefixBits >> 3;
  masked.fill(0, prefixBits % 8 === 0 ? partial : partial + 1);
  if (prefixBits % 8 !== 0) masked[partial]! &= 0xff << (8 - (prefixBits % 8));
  return masked;
}

/** True for ::ffff:a.b.c.d. */
function isMapped(address: Uint8Array): boolean {
  for (let at = 0; at < 10; at++) if (address[at] !== 0) return false;
  return address[10] === 0xff && address[11] === 0xff;
}

/**
 * The ring slot of a hash: hash × size ÷ 2³², without division. Exact: the product is below 2⁵³.
 */
export function slotOf(hash: number, size: number): number {
  return Math.floor((hash * size) / 0x1_0000_0000);
}
