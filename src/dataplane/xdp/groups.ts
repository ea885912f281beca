// What the tries of wildcard services hold: for each prefix a group, and in each group the ports with
// their services. Groups are flat: a group also offers what shorter prefixes do, as far as it has no
// range for a port itself, so that one look-up in each trie suffices. Pure; knows no map.

import { prefixOf, type Prefix } from "../../model/address.ts";
import type { Protocol } from "../../model/config.ts";
import {
  compareSpecificity, formatPorts, holdsPort, type ServiceAddress,
} from "../../model/service_address.ts";

export interface Wildcard extends ServiceAddress {
  readonly protocol: Protocol;
  /** Of the service. */
  readonly index: number;
}

/** All ports that share the first `bits` bits of `port`, 0…16. */
export interface PortPrefix {
  readonly protocol: Protocol;
  readonly port: number;
  readonly bits: number;
}

export interface GroupEntry extends PortPrefix {
  readonly index: number;
}

export interface GroupImage {
  readonly network: Prefix;
  /** By portPrefixText(). */
  readonly entries: ReadonlyMap<string, GroupEntry>;
  /** Equal for groups that hold the same. */
  readonly key: string;
}

const PORT_BITS = 16;
const PROTOCOLS: readonly Protocol[] = ["tcp", "udp"];
/** Ports that nobody has. */
const NOBODY = -1;

/** "tcp 8000-8063". */
export function portPrefixText({ protocol, port, bits }: PortPrefix): string {
  return `${protocol} ${formatPorts({ from: port, to: port + (1 << (PORT_BITS - bits)) - 1 })}`;
}

export function groupKey(entries: ReadonlyMap<string, GroupEntry>): string {
  return [...entries].map(([text, { index }]) => `${text} → ${index}`).sort().join(", ");
}

/** The group of each prefix, by its text. */
export function groupsOf(wildcards: readonly Wildcard[]): ReadonlyMap<string, GroupImage> {
  const byNetwork = new Map<string, Wildcard[]>();
  for (const wildcard of wildcards) {
    const { text } = wildcard.network;
    byNetwork.set(text, [...byNetwork.get(text) ?? [], wildcard]);
  }
  const lengths = [...new Set(wildcards.map(({ network }) => network.length))];
  const groups = new Map<string, GroupImage>();
  for (const [text, [{ network }]] of byNetwork as Map<string, [Wildcard]>) {
    const offered = lengths.filter((length) => length <= network.length)
      .flatMap((length) => byNetwork.get(prefixOf(network.address, length).text) ?? [])
      .sort(compareSpecificity);
    const entries = new Map(PROTOCOLS
      .flatMap((protocol) => portPrefixes(protocol, offered.filter((one) => one.protocol === protocol)))
      .map((entry) => [portPrefixText(entry), entry]));
    groups.set(text, { network, entries, key: groupKey(entries) });
  }
  return groups;
}

/** A part of the port space whose size is a power of two, and whom its prefix may name. */
interface Block {
  readonly port: number;
  readonly bits: number;
  readonly names: ReadonlySet<number>;
  readonly halves: readonly [Block, Block] | null;
}

/** The fewest prefixes of ports that lead each port to the first service which holds it. */
function portPrefixes(protocol: Protocol, offered: readonly Wildcard[]): GroupEntry[] {
  if (offered.length === 0) return [];
  const starts = new Set(offered.flatMap(({ ports }) => [ports.from, ports.to + 1]));
  const bounds = [...starts].sort((a, b) => a - b);
  const ownerOf = (port: number): number =>
    offered.find(({ ports }) => holdsPort(ports, port))?.index ?? NOBODY;
  const entries: GroupEntry[] = [];
  name(blockOf(0, 0, bounds, ownerOf), NOBODY, ({ port, bits }, index) => {
    entries.push({ protocol, port, bits, index });
  });
  return entries;
}

/**
 * Draves, King, Venkatachary and Zill, "Constructing Optimal IP Routing Tables" (INFOCOM 1999): upwards,
 * each block learns whom it could name so that the fewest of its parts need names of their own. A
 * block with ports that nobody has can name nobody: there is no entry that says so.
 */
function blockOf(
  port: number, bits: number, bounds: readonly number[], ownerOf: (port: number) => number,
): Block {
  const size = 1 << (PORT_BITS - bits);
  const inside = bounds.filter((bound) => bound > port && bound < port + size);
  if (inside.length === 0) return { port, bits, names: new Set([ownerOf(port)]), halves: null };
  const low = blockOf(port, bits + 1, inside, ownerOf);
  const high = blockOf(port + size / 2, bits + 1, inside, ownerOf);
  return { port, bits, names: commonNames(low.names, high.names), halves: [low, high] };
}

function commonNames(a: ReadonlySet<number>, b: ReadonlySet<number>): ReadonlySet<number> {
  const shared = [...a].filter((index) => b.has(index));
  if (shared.length > 0) return new Set(shared);
  return a.has(NOBODY) || b.has(NOBODY) ? new Set([NOBODY]) : new Set([...a, ...b]);
}

/** Downwards: what a block names need not be said again by its parts. */
function name(block: Block, said: number, say: (block: Block, index: number) => void): void {
  const index = block.names.has(said) ? said : Math.min(...block.names);
  if (index !== said) say(block, index);
  for (const half of block.halves ?? []) name(half, index, say);
}
