// What a service answers to: one address or a prefix of them, and one port, a range or any. Exact
// services name one of each; the others are wildcard services. Knows the texts of both, as configs
// and people write them; must never know a table.

import type { Address, Prefix } from "./address.ts";

/** Both ends belong to it. */
export interface PortRange {
  readonly from: number;
  readonly to: number;
}

export interface ServiceAddress {
  /** An address alone is all of its prefix. */
  readonly network: Prefix;
  readonly ports: PortRange;
}

/** What tells a service from any other. */
export interface KeyedService extends ServiceAddress {
  readonly protocol: "tcp" | "udp";
  readonly region: { readonly name: string } | null;
}

export const PORT_MAX = 65_535;
/** Port 0 too, which no socket has but a packet may. */
export const ANY_PORT: PortRange = { from: 0, to: PORT_MAX };
export const PROTOCOL_NUMBERS = { tcp: 6, udp: 17 } as const;

/** The length of a prefix as it counts in sixteen bytes, 0…128. */
export function mappedBits({ address, length }: Prefix): number {
  return address.family === 4 ? 96 + length : length;
}

/** The one address, or null for a prefix of several. */
export function singleAddress(network: Prefix): Address | null {
  return mappedBits(network) === 128 ? network.address : null;
}

/** The one port, or null for a range of several. */
export function singlePort(ports: PortRange): number | null {
  return ports.from === ports.to ? ports.from : null;
}

export function isExact({ network, ports }: ServiceAddress): boolean {
  return mappedBits(network) === 128 && ports.from === ports.to;
}

export function portCount(ports: PortRange): number {
  return ports.to - ports.from + 1;
}

/** Whether the prefix holds an address of sixteen bytes. */
export function holdsAddress(network: Prefix, address: Uint8Array): boolean {
  return sharedBits(network.address.bytes, address) >= mappedBits(network);
}

export function holdsPort(ports: PortRange, port: number): boolean {
  return ports.from <= port && port <= ports.to;
}

/** How many bits two addresses of sixteen bytes begin with alike. */
export function sharedBits(a: Uint8Array, b: Uint8Array): number {
  for (let at = 0; at < 16; at += 1) {
    const difference = (a[at] ?? 0) ^ (b[at] ?? 0);
    if (difference !== 0) return at * 8 + Math.clz32(difference) - 24;
  }
  return 128;
}

/**
 * Which of two services is asked first: that of the longer prefix, then that of the narrower range.
 * Negative: the first one.
 */
export function compareSpecificity(a: ServiceAddress, b: ServiceAddress): number {
  return mappedBits(b.network) - mappedBits(a.network) || portCount(a.ports) - portCount(b.ports);
}

/** "203.0.113.10" or "203.0.113.0/28". */
export function formatNetwork(network: Prefix): string {
  return singleAddress(network)?.text ?? network.text;
}

/** "443", "8000-8099" or "any". */
export function formatPorts({ from, to }: PortRange): string {
  if (from === to) return String(from);
  return from === ANY_PORT.from && to === ANY_PORT.to ? "any" : `${from}-${to}`;
}

/** "203.0.113.10:443", "203.0.113.0/28:8000-8099" or "[2001:db8:1::/64]:any". */
export function formatServiceAddress({ network, ports }: ServiceAddress): string {
  const text = formatNetwork(network);
  return `${network.address.family === 4 ? text : `[${text}]`}:${formatPorts(ports)}`;
}

/** A text of formatPorts(), or null: 1…65535 in canonical form, ranges of two ports at least. */
export function parsePorts(text: string): PortRange | null {
  if (text === "any") return ANY_PORT;
  const match = /^([1-9]\d{0,4})(?:-([1-9]\d{0,4}))?$/.exec(text);
  if (match === null) return null;
  const from = Number(match[1]);
  const to = Number(match[2] ?? match[1]);
  if (to > PORT_MAX || from > to || (from === to && match[2] !== undefined)) return null;
  return { from, to };
}

/** "tcp 203.0.113.10:443", what a service's index belongs to; of one region "tcp 203.0.113.10:443 @eu". */
export function serviceKey(service: KeyedService): string {
  return regionKey(service, service.region?.name ?? null);
}

/** The same of the service for the clients of this region; null: the service itself. */
export function regionKey(service: Omit<KeyedService, "region">, region: string | null): string {
  return `${service.protocol} ${formatServiceAddress(service)}${region === null ? "" : ` @${region}`}`;
}
