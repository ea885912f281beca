// Whether an object file fits this build: the fingerprint of its ABI, to hold against FINGERPRINTS.
// Knows the generated names; knows no map and no plane.

import { ABI_NAMES } from "./abi.gen.ts";
import { btfOfObject } from "./btf.ts";
import { abiOf, fingerprintOf, type Abi } from "./layout.ts";

/** The structs, enums and maps of a BPF object file; a RangeError when it cannot be read. */
export function abiOfObject(bytes: Uint8Array): Abi {
  return abiOf(btfOfObject(bytes), ABI_NAMES);
}

/**
 * The fingerprint of a BPF object file's structs, enums and maps; a RangeError when it cannot be read.
 */
export function fingerprintOfObject(bytes: Uint8Array): bigint {
  return fingerprintOf(abiOfObject(bytes));
}
