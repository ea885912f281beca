// The Huffman code of HPACK (RFC 7541, 5.2 and appendix B), one way: from code to text. The code is canonical, so
// the lengths of its words are all there is to know of it. Knows bits; must never know what a text says.

/** Which symbols have words of so many bits: runs from one symbol to another; 256 ends no text of anybody's. */
const RUNS_BY_LENGTH: Readonly<Record<number, string>> = {
  5: "48-50 97 99 101 105 111 115-116",
  6: "32 37 45-47 51-57 61 65 95 98 100 102-104 108-110 112 114 117",
  7: "58 66-87 89 106-107 113 118-122",
  8: "38 42 44 59 88 90",
  10: "33-34 40-41 63",
  11: "39 43 124",
  12: "35 62",
  13: "0 36 64 91 93 126",
  14: "94 125",
  15: "60 96 123",
  19: "92 195 208",
  20: "128 130-131 162 184 194 224 226",
  21: "153 161 167 172 176-177 179 209 216-217 227 229-230",
  22: "129 132-134 136 146 154 156 160 163-164 169-170 173 178 181 185-187 189-190 196 198 228 232-233",
  23: "1 135 137-141 143 147 149-152 155 157-158 165-166 168 174-175 180 182-183 188 191 197 231 239",
  24: "9 142 144-145 148 159 171 206 215 225 236-237",
  25: "199 207 234-235",
  26: "192-193 200-202 205 210 213 218-219 238 240 242-243 255",
  27: "203-204 211-212 214 221-223 241 244-248 250-254",
  28: "2-8 11-12 14-21 23-31 127 220 249",
  30: "10 13 22 256",
};

const END_OF_STRING = 256;
const WORD_MAX_BITS = 30;
/** Of the shortest word: no text is longer than this makes it. */
const WORD_MIN_BITS = 5;

/** Words of one length are numbers that follow one another, in the order of their symbols. */
interface Words {
  readonly first: number;
  readonly symbols: readonly number[];
}

const WORDS = wordsByLength();

function wordsByLength(): readonly Words[] {
  const words: Words[] = [];
  let next = 0;
  for (let bits = 0; bits <= WORD_MAX_BITS; bits += 1) {
    const symbols = (RUNS_BY_LENGTH[bits] ?? "").split(" ").filter((run) => run !== "").flatMap(symbolsOf);
    words.push({ first: next, symbols });
    next = (next + symbols.length) * 2;
  }
  return words;
}

function symbolsOf(run: string): readonly number[] {
  const [from = 0, to = from] = run.split("-").map(Number);
  return Array.from({ length: to - from + 1 }, (_, at) => from + at);
}

/** Null: no text in this code, which its end has to be filled up for by less than a byte of ones. */
export function decodeHuffman(coded: Uint8Array): Buffer | null {
  const text = Buffer.alloc(Math.floor(coded.length * 8 / WORD_MIN_BITS));
  let length = 0;
  let [word, bits] = [0, 0];
  for (const byte of coded) {
    for (let shift = 7; shift >= 0; shift -= 1) {
      word = word * 2 + (byte >> shift & 1);
      bits += 1;
      const { first, symbols } = WORDS[bits]!;
      // No word is the start of another one, and among 30 bits there is an end of one.
      if (word < first || word >= first + symbols.length) continue;
      const symbol = symbols[word - first]!;
      if (symbol === END_OF_STRING) return null;
      text[length] = symbol;
      length += 1;
      [word, bits] = [0, 0];
    }
  }
  const isFilledUp = bits < 8 && word === 2 ** bits - 1;
  return isFilledUp ? text.subarray(0, length) : null;
}
