// xxHash64 of text, the hash that ring keys and identities go through. Wraps the WebAssembly
// library so that the rest of the model sees a plain function; knows nothing of rings or backends.

import xxhash from "xxhash-wasm";

// Initialised once by top-level await: importing this module is enough, and every call is
// synchronous.
const library = await xxhash();

/** xxHash64 of the UTF-8 bytes of `text`: an unsigned 64-bit integer. */
export function xxh64(text: string, seed: bigint | number): bigint {
  return library.h64(text, BigInt(seed));
}

/** xxHash64 of bytes as they are. */
export function xxh64Bytes(bytes: Uint8Array, seed: bigint | number): bigint {
  return library.h64Raw(bytes, BigInt(seed));
}
