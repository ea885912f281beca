// The steps for connection IDs, of which every prefix is safe: a server ID leads to its destination before
// a config can decode to it, and both are there before a version says that they count; they go in the
// opposite order. Pure. An element of `quic_configs` that went may be read for one grace period more, and
// its memory is the next one's: nothing is written in between.

import type { Image } from "./image.ts";
import { sameQuicConfig } from "./quic_maps.ts";
import type { Planner } from "./planner.ts";

/** What is new, or says something else than before. */
export function writeQuic(planner: Planner, want: Image): void {
  const { state, take, settle } = planner;
  for (const [text, server] of want.quicServers) {
    if (state.quicServers.get(text)?.destination === server.destination) continue;
    settleIndex(planner, server.index);
    take({ kind: "write-quic-server", server });
  }
  for (const [text, config] of want.quicConfigs) {
    const held = state.quicConfigs.get(text);
    if (held !== undefined && sameQuicConfig(held, config)) continue;
    settleIndex(planner, config.index);
    settle(state.quicMark);
    take({ kind: "write-quic-config", config });
  }
}

/** Packets of a service that had this index must not find what the next one has. */
function settleIndex({ state, settle }: Planner, index: number): void {
  const held = state.services.get(index);
  if (held?.key === null) settle(held.mark);
}

/** What no service wants, or what one index has. */
export function removeQuic({ state, take }: Planner, want: Image, index: number | null = null): void {
  const goes = (of: number, wanted: boolean): boolean => index === null ? !wanted : of === index;
  for (const [text, config] of [...state.quicConfigs]) {
    if (goes(config.index, want.quicConfigs.has(text))) take({ kind: "remove-quic-config", config });
  }
  for (const [text, server] of [...state.quicServers]) {
    if (goes(server.index, want.quicServers.has(text))) take({ kind: "remove-quic-server", server });
  }
}
