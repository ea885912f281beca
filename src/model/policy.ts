// Which clients may use a service: its allow and deny prefixes. Pure; is_denied() in bpf/decide.h is
// its twin.

import type { Prefix } from "./address.ts";
import type { ServiceConfig } from "./config.ts";
import { holdsAddress, mappedBits } from "./service_address.ts";

/** The longest prefix that holds the client decides; one that is in both lists denies. */
export function isDenied(config: ServiceConfig, source: Uint8Array): boolean {
  const { allow, deny } = config.policy;
  if (allow.length === 0 && deny.length === 0) return false;
  const allowed = longestMatch(allow, source);
  const denied = longestMatch(deny, source);
  if (allowed < 0 && denied < 0) return allow.length > 0;
  return denied >= allowed;
}

/** Bits of the longest prefix that holds the address, counted in 128; -1: none does. */
function longestMatch(prefixes: readonly Prefix[], address: Uint8Array): number {
  let longest = -1;
  for (const network of prefixes) {
    const bits = mappedBits(network);
    if (bits > longest && holdsAddress(network, address)) longest = bits;
  }
  return longest;
}
