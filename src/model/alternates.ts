// Who else may have a packet's flow, of a slot whose flows are with more than one backend: what a tunnel
// names for the second chance (docs/second-chance.md), and how many bytes that takes. Pure.
// bpf/alternates.h and name_alternates() in bpf/choice.h are its twins.

import type { ServiceConfig } from "./config.ts";
import type { State } from "./decide.ts";
import type { Destination, ForwardingTable } from "./table.ts";

/** Named by one packet: the slot's owner and its untracked owner. */
const NAMED_MAX = 2;
const GUE_FIELD_BYTES = 4;
const ADDRESS_BYTES = { 4: 4, 6: 16 } as const;

type Way = Pick<Destination, "forwarding" | "gue" | "address">;

/** How many alternates a packet to this destination has room for: a GRE key is as long as an IPv4 address. */
function roomFor({ forwarding, gue, address }: Way): number {
  if (forwarding === "gre") return address.family === 4 ? 1 : 0;
  return forwarding === "gue" && gue?.variant === 0 ? NAMED_MAX : 0;
}

/**
 * Those of `candidates`, ids in the order in which they are to be asked (0: nobody), whom a packet to `chosen` can name:
 * alive, another host, and reached by the same tunnel.
 */
export function nameable(
  table: ForwardingTable, state: Pick<State, "local">, chosen: Destination, candidates: readonly number[],
): readonly number[] {
  const others = [...new Set(candidates)].filter((id) => {
    const other = table.destinations.get(id);
    return other !== undefined && id !== chosen.id && other.alive && state.local?.(id) !== true && isSameWay(other, chosen);
  });
  return others.slice(0, roomFor(chosen));
}

function isSameWay(a: Way, b: Way): boolean {
  return a.forwarding === b.forwarding && a.address.family === b.address.family
    && a.gue?.port === b.gue?.port && a.gue?.variant === b.gue?.variant;
}

/**
 * The bytes that alternates may take, which are left free in every packet of the service: what its senders are told
 * to fit would else change with every slot. `family` is that of the backend's address.
 */
export function alternatesBytesMax(
  { forwarding, gue, secondChance }: Pick<ServiceConfig, "forwarding" | "gue" | "secondChance">, family: 4 | 6,
): number {
  if (!secondChance) return 0;
  if (forwarding === "gre") return family === 4 ? ADDRESS_BYTES[4] : 0;
  return forwarding === "gue" && gue.variant === 0 ? GUE_FIELD_BYTES + NAMED_MAX * ADDRESS_BYTES[family] : 0;
}
