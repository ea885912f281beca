// Whether a frame is for this host at all, by its link-layer destination. Pure. bpf/link_address.h is
// its twin; which addresses an interface has is src/dataplane/xdp/interfaces.ts's business.

import { hexText } from "./hex.ts";

/**
 * `known`: in hexadecimal, the destinations that frames for this host have when they come by the
 * interface that this one came by; null: none is known, and every frame is for this host.
 */
export function isForThisHost(known: ReadonlySet<string> | null, frame: Uint8Array): boolean {
  return known === null || known.has(hexText(frame.subarray(0, 6)));
}
