// What ICMP errors about tunnels left in the kernel: the ends of tunnels as a test fills them, and the notes as a test
// reads them. Deliberately without src/dataplane/xdp/tunnel_ends.ts, so that a mistake there cannot hide one in the
// program.

import { ServiceKey, TunnelEnd } from "../../src/dataplane/xdp/abi.gen.ts";
import type { BpfMap } from "../../src/dataplane/xdp/native.ts";
import type { Effect } from "../../src/model/decide.ts";
import type { ForwardingTable } from "../../src/model/table.ts";

const OUTER_PROTOCOLS: Readonly<Record<string, readonly number[]>> = { ipip: [4, 41], gre: [47], gue: [17] };

/** Keys of `tunnel_ends` and whose they are; the lowest id has those that several destinations share. */
export function tunnelEndEntries(
  { destinations }: ForwardingTable,
): { readonly key: Uint8Array; readonly value: Uint8Array }[] {
  const entries = new Map<string, { readonly key: Uint8Array; readonly value: Uint8Array }>();
  for (const { id, forwarding, address, gue } of destinations.values()) {
    for (const protocol of OUTER_PROTOCOLS[forwarding] ?? []) {
      const key = ServiceKey.encode({ address: address.bytes, port: gue?.port ?? 0, protocol });
      const text = Buffer.from(key).toString("hex");
      if (!entries.has(text)) entries.set(text, { key, value: unnoted(id) });
    }
  }
  return [...entries.values()];
}

function unnoted(destination: number): Uint8Array {
  return TunnelEnd.encode({ destination, mtu: 0, mtuNs: 0n, unreachable: 0, unreachableNs: 0n });
}

/** "5: mtu 1400" or "5: unreachable 3/1" for what was noted at the ends of destination 5; forgotten with the asking. */
export function takeNotes(map: BpfMap): string[] {
  const notes: string[] = [];
  for (let key = map.nextKey(null); key !== null; key = map.nextKey(key)) {
    const { destination, mtu, mtuNs, unreachable, unreachableNs } = TunnelEnd.decode(map.lookup(key)!);
    if (mtuNs !== 0n) notes.push(`${destination}: mtu ${mtu}`);
    if (unreachableNs !== 0n) notes.push(`${destination}: unreachable ${unreachable >> 8}/${unreachable & 255}`);
    if (mtuNs !== 0n || unreachableNs !== 0n) map.update(key, unnoted(destination), 0);
  }
  return notes;
}

/** The same of what a decision asks for. */
export function notesWanted(destination: number, effects: readonly Effect[]): string[] {
  return effects.flatMap((effect) => {
    switch (effect.kind) {
      case "note-mtu": return [`${destination}: mtu ${effect.mtu}`];
      case "note-unreachable": return [`${destination}: unreachable ${effect.type}/${effect.code}`];
      default: return [];
    }
  });
}
