// The name of a ring's content: equal for equal slots. Adoption compares it with what a map holds.

import { xxh64Bytes } from "./xxh64.ts";

/** "65537-0123456789abcdef": size and digest. */
export function contentKey(slots: Uint16Array): string {
  return `${slots.length}-${digest(slots)}`;
}

/** xxHash64, hexadecimal. */
export function digest(slots: Uint16Array): string {
  return xxh64Bytes(new Uint8Array(slots.buffer, slots.byteOffset, slots.byteLength), 0)
    .toString(16).padStart(16, "0");
}
