// Whether an object file fits this build: the fingerprint of its ABI, to hold against FINGERPRINTS.
// Knows the generated names; knows no map and no plane.

import { ABI_NAMES } from "./abi.gen.ts";
import { btfOfObject } from "./btf.ts";
import { abiOf, fingerprintOf } from "./layout.ts";

/**
 * The fingerprint of a BPF object file's structs and enums; a RangeError when it cannot be read.
 */
export function fingerprintOfObject(bytes: Uint8Array): bigint {
  return fingerprintOf(abiOf(btfOfObject(bytes), ABI_NAMES));
}
