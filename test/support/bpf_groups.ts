// What the tries of wildcard services have to hold for a table, for tests that fill the maps
// themselves. Simple rather than short; shares nothing with src/dataplane/xdp/groups.ts, so that a
// mistake there cannot hide one in the program.

import { AddressPrefix, PortPrefix } from "../../src/dataplane/xdp/abi.gen.ts";
import { prefixOf } from "../../src/model/address.ts";
import type { Prefix } from "../../src/model/address.ts";
import type { Service } from "../../src/model/table.ts";

const PROTOCOLS = [["tcp", 6], ["udp", 17]] as const;

export interface TrieEntry {
  readonly map: "address_groups" | "group_services";
  readonly key: Uint8Array;
  readonly value: number;
}

/** Each prefix with wildcard services has a group, and each port of it its service. */
export function groupEntries(services: readonly Service[]): TrieEntry[] {
  const wildcards = services.filter(({ config: { network, ports, region } }) =>
    region === null && (bitsOf(network) < 128 || ports.from < ports.to));
  const networks = new Map(wildcards.map(({ config: { network } }) => [network.text, network]));
  return [...networks.values()].flatMap((network, group): TrieEntry[] => {
    const { bytes } = network.address;
    const around = wildcards.filter(({ config }) => bitsOf(config.network) <= bitsOf(network)
      && prefixOf(network.address, config.network.length).text === config.network.text);
    const ports = PROTOCOLS.flatMap(([name, protocol]) =>
      portBlocks(around.filter(({ config }) => config.protocol === name))
        .map(({ port, bits, index }): TrieEntry => ({
          map: "group_services", value: index,
          key: PortPrefix.encode({ prefixBits: 48 + bits, group, protocol, port }),
        })));
    const key = AddressPrefix.encode({ prefixBits: bitsOf(network), address: bytes });
    return [{ map: "address_groups", key, value: group }, ...ports];
  });
}

function bitsOf({ address, length }: Prefix): number {
  return address.family === 4 ? 96 + length : length;
}

/** Runs of ports with one owner, cut into aligned blocks: more than needed, and simple. */
function portBlocks(
  services: readonly Service[],
): { readonly port: number; readonly bits: number; readonly index: number }[] {
  const bounds = services.flatMap(({ config: { ports } }) => [ports.from, ports.to + 1]);
  const blocks = [];
  for (const from of new Set(bounds)) {
    const [owner] = services
      .filter(({ config: { ports } }) => ports.from <= from && from <= ports.to)
      .sort((a, b) => bitsOf(b.config.network) - bitsOf(a.config.network)
        || a.config.ports.to - a.config.ports.from - (b.config.ports.to - b.config.ports.from));
    if (owner === undefined) continue;
    const end = Math.min(...bounds.filter((bound) => bound > from));
    for (let port = from; port < end;) {
      let bits = 16;
      while (bits > 0 && port % (2 << (16 - bits)) === 0 && port + (2 << (16 - bits)) <= end) bits -= 1;
      blocks.push({ port, bits, index: owner.index });
      port += 1 << (16 - bits);
    }
  }
  return blocks;
}
