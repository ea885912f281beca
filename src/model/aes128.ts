// AES-128 on single blocks (FIPS 197): key expansion, encryption and decryption, with tables that
// are computed from the field's definition. Pure, and quick enough for a datagram at a time; knows
// blocks and keys, and no mode of operation. bpf/aes128.h is its twin and takes its schedules.

export const AES_KEY_BYTES = 16;
export const AES_BLOCK_BYTES = 16;
const ROUNDS = 10;
/** Round keys, four words each, one more than there are rounds. */
export const AES_SCHEDULE_WORDS = (ROUNDS + 1) * 4;

/**
 * Round keys in the order in which they are used. A word holds one column of the state, its first
 * row in the lowest byte.
 */
export type AesSchedule = Uint32Array;

/** Multiplication by x in the field (FIPS 197, 4.2.1). */
function doubled(byte: number): number {
  return ((byte << 1) ^ (byte & 0x80 ? 0x1b : 0)) & 0xff;
}

function product(a: number, b: number): number {
  let sum = 0;
  for (let factor = a, rest = b; rest !== 0; rest >>= 1, factor = doubled(factor)) {
    if ((rest & 1) !== 0) sum ^= factor;
  }
  return sum;
}

/** The inverse in the field, then an affine map (FIPS 197, 5.1.1). */
function substitute(byte: number): number {
  // a^254 is the inverse of a, and 0 stays 0.
  let inverse = 1;
  for (let power = 0; power < 254; power += 1) inverse = product(inverse, byte);
  let result = 0x63;
  for (let turn = 0; turn < 5; turn += 1) {
    result ^= ((inverse << turn) | (inverse >> (8 - turn))) & 0xff;
  }
  return result;
}

const S_BOX = Uint8Array.from({ length: 256 }, (_, byte) => substitute(byte));
const INVERSE_S_BOX = new Uint8Array(256);
S_BOX.forEach((substitute, byte) => { INVERSE_S_BOX[substitute] = byte; });

/** What a byte of the first row adds to its column: one factor for each row. */
function columnTable(box: Uint8Array, factors: readonly [number, number, number, number]): Uint32Array {
  return Uint32Array.from(box, (byte) => factors.reduce(
    (word, factor, row) => word | (product(byte, factor) << (row * 8)), 0,
  ));
}

const MIXED = columnTable(S_BOX, [2, 1, 1, 3]);
const INVERSE_MIXED = columnTable(INVERSE_S_BOX, [14, 9, 13, 11]);
/** InvMixColumns alone, for the schedule. */
const UNMIXED = columnTable(Uint8Array.from({ length: 256 }, (_, byte) => byte), [14, 9, 13, 11]);

function rotated(word: number, rows: number): number {
  return rows === 0 ? word : (word << (rows * 8)) | (word >>> (32 - rows * 8));
}

function byteOf(word: number, row: number): number {
  return (word >>> (row * 8)) & 0xff;
}

function fourBytes(word: number, box: Uint8Array): number {
  let result = 0;
  for (let row = 0; row < 4; row += 1) result |= box[byteOf(word, row)]! << (row * 8);
  return result;
}

/** The round keys for encryption (FIPS 197, 5.2). Throws RangeError for a key of another length. */
export function encryptionSchedule(key: Uint8Array): AesSchedule {
  if (key.length !== AES_KEY_BYTES) {
    throw new RangeError(`an AES-128 key has ${AES_KEY_BYTES} bytes, not ${key.length}`);
  }
  const words = new Uint32Array(AES_SCHEDULE_WORDS);
  words.set(wordsOf(key));
  let constant = 1;
  for (let at = 4; at < words.length; at += 1) {
    let word = words[at - 1]!;
    if (at % 4 === 0) {
      word = fourBytes(rotated(word, 3), S_BOX) ^ constant;
      constant = doubled(constant);
    }
    words[at] = words[at - 4]! ^ word;
  }
  return words;
}

/** The round keys of the equivalent inverse cipher (FIPS 197, 5.3.5). */
export function decryptionSchedule(key: Uint8Array): AesSchedule {
  const forward = encryptionSchedule(key);
  return forward.map((_, at) => {
    const round = ROUNDS - (at >> 2);
    const word = forward[round * 4 + (at & 3)]!;
    if (round === 0 || round === ROUNDS) return word;
    let mixed = 0;
    for (let row = 0; row < 4; row += 1) mixed ^= rotated(UNMIXED[byteOf(word, row)]!, row);
    return mixed;
  });
}

export function encryptBlock(schedule: AesSchedule, block: Uint8Array): Uint8Array {
  return transform(schedule, block, MIXED, S_BOX, 1);
}

/** Takes a schedule of decryptionSchedule(). */
export function decryptBlock(schedule: AesSchedule, block: Uint8Array): Uint8Array {
  return transform(schedule, block, INVERSE_MIXED, INVERSE_S_BOX, 3);
}

/** Rows shift to the left by their number: each comes from `step` columns further for each row. */
function transform(
  schedule: AesSchedule, block: Uint8Array, table: Uint32Array, box: Uint8Array, step: 1 | 3,
): Uint8Array {
  if (block.length !== AES_BLOCK_BYTES) {
    throw new RangeError(`an AES block has ${AES_BLOCK_BYTES} bytes, not ${block.length}`);
  }
  let state = wordsOf(block).map((word, column) => word ^ schedule[column]!);
  for (let round = 1; round < ROUNDS; round += 1) {
    const next = new Uint32Array(4);
    for (let column = 0; column < 4; column += 1) {
      let word = schedule[round * 4 + column]!;
      for (let row = 0; row < 4; row += 1) {
        word ^= rotated(table[byteOf(state[(column + row * step) & 3]!, row)]!, row);
      }
      next[column] = word;
    }
    state = next;
  }
  const result = new Uint8Array(AES_BLOCK_BYTES);
  for (let column = 0; column < 4; column += 1) {
    const key = schedule[ROUNDS * 4 + column]!;
    for (let row = 0; row < 4; row += 1) {
      const byte = box[byteOf(state[(column + row * step) & 3]!, row)]!;
      result[column * 4 + row] = byte ^ byteOf(key, row);
    }
  }
  return result;
}

function wordsOf(bytes: Uint8Array): Uint32Array {
  return Uint32Array.from({ length: bytes.length / 4 }, (_, at) =>
    bytes[at * 4]! | (bytes[at * 4 + 1]! << 8) | (bytes[at * 4 + 2]! << 16)
    | (bytes[at * 4 + 3]! << 24));
}
