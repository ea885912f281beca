// The outer source of a tunnel: a prefix, of which a flow's hash picks the address, so that receivers
// spread one balancer's tunnels over their queues (RSS). Knows which bits the hash sets; knows no
// packet and no route. tunnel_host() in bpf/tunnel.h is its twin.

import { addressFromBytes, prefixOf } from "./address.ts";
import type { Address, Prefix } from "./address.ts";

/** A hash has no more bits than this. */
const HASH_BITS = 32;

/** The bits of an address that tell the hosts of a prefix apart. */
function hostBits({ address, length }: Prefix): number {
  return (address.family === 4 ? 32 : 128) - length;
}

/** One address and no other. */
export function fixedSource(address: Address): Prefix {
  return prefixOf(address, address.family === 4 ? 32 : 128);
}

/** The part of a prefix that flows use: a longer one where an IPv6 prefix has room for more. */
export function usedPrefix(prefix: Prefix): Prefix {
  const unused = Math.max(0, hostBits(prefix) - HASH_BITS);
  return prefixOf(prefix.address, prefix.length + unused);
}

/** The bits of the address's last word that the hash sets; 0: the source is always the same. */
export function hashMask(prefix: Prefix): number {
  const bits = Math.min(hostBits(prefix), HASH_BITS);
  return bits === 0 ? 0 : 0xffff_ffff >>> (HASH_BITS - bits);
}

/** The used prefix with this address and mask. */
export function prefixOfMask(address: Address, mask: number): Prefix {
  const bits = HASH_BITS - Math.clz32(mask);
  return prefixOf(address, (address.family === 4 ? 32 : 128) - bits);
}

/**
 * The outer source of a flow with this hash. Never the first address of the used prefix nor its
 * last: in IPv4 those are the network and its broadcast address (RFC 1122, 3.2.1.3), in IPv6 the
 * first is the routers' anycast address (RFC 4291, 2.6.1). Such hashes get the neighbour of it.
 */
export function tunnelSourceOf(prefix: Prefix, hash: number): Address {
  const mask = hashMask(prefix);
  if (mask === 0) return prefix.address;
  const wanted = (hash & mask) >>> 0;
  const host = wanted === 0 ? 1 : wanted === mask ? mask - 1 : wanted;
  const bytes = Uint8Array.from(prefix.address.bytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(12, view.getUint32(12) | host);
  return addressFromBytes(bytes);
}

/** As configs have it: a single address stands without its length. */
export function formatTunnelSource(prefix: Prefix): string {
  return hostBits(prefix) === 0 ? prefix.address.text : prefix.text;
}
