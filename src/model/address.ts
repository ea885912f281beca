// IP addresses as values: sixteen bytes in network order (IPv4 as ::ffff:a.b.c.d, RFC 4291 §2.5.5.2),
// the form that the flow hash, the BPF maps and comparisons use. Knows text only at its two doors,
// parseAddress and formatAddress.

import ipaddr from "ipaddr.js";

/**
 * An IPv4 or IPv6 address. `bytes` has length 16; `text` is canonical (dotted quad, or RFC 5952), so
 * two addresses are equal exactly when their texts are.
 */
export interface Address {
  readonly family: 4 | 6;
  readonly bytes: Uint8Array;
  readonly text: string;
}

/** Text to address, or null. Zones, short IPv4 forms (10.1) and octal are refused; a mapped IPv6 text becomes IPv4. */
export function parseAddress(text: string): Address | null {
  if (text.includes("%") || text.includes("/")) return null;
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) {
    return addressFromBytes(Uint8Array.from(ipaddr.IPv4.parse(text).toIPv4MappedAddress().toByteArray()));
  }
  if (!text.includes(":") || !ipaddr.IPv6.isValid(text)) return null;
  return addressFromBytes(Uint8Array.from(ipaddr.IPv6.parse(text).toByteArray()));
}

/** Sixteen bytes (copied) to an address; throws RangeError on another length. */
export function addressFromBytes(bytes: Uint8Array): Address {
  if (bytes.length !== 16) throw new RangeError(`an address has 16 bytes, not ${bytes.length}`);
  const copy = Uint8Array.from(bytes);
  const ip = new ipaddr.IPv6([...copy]);
  if (ip.isIPv4MappedAddress()) return { family: 4, bytes: copy, text: ip.toIPv4Address().toString() };
  return { family: 6, bytes: copy, text: ip.toRFC5952String() };
}

/** 127.0.0.0/8 and ::1: this host alone. */
export function isLoopback(address: Address): boolean {
  return address.text.startsWith("127.") || address.text === "::1";
}

/** fe80::/10 (RFC 4291, 2.5.6): no source for somebody who may be on another link. */
export function isLinkLocal({ family, bytes }: Address): boolean {
  return family === 6 && bytes[0] === 0xfe && (bytes[1]! & 0xc0) === 0x80;
}

/** Of two addresses in the form of packets and maps, or of as many first bytes of each. */
export function isSameAddress(a: Uint8Array, b: Uint8Array): boolean {
  return a.every((byte, at) => byte === b[at]);
}

/** `a.b.c.d:port` or `[v6]:port`, the form of default hash keys and of everything people read. */
export function formatEndpoint(address: Address, port: number): string {
  return address.family === 4 ? `${address.text}:${port}` : `[${address.text}]:${port}`;
}

/** The same for a backend whose port is that of the packet: `a.b.c.d:any`. */
export function formatDestination(address: Address, port: number | null): string {
  if (port !== null) return formatEndpoint(address, port);
  return address.family === 4 ? `${address.text}:any` : `[${address.text}]:any`;
}

/** `a.b.c.d:port` or `[v6]:port` to its parts, or null. Ports 0…65535. */
export function parseEndpoint(text: string): { address: Address; port: number } | null {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  if (match === null) return null;
  const address = parseAddress(match[1] ?? match[2] ?? "");
  const port = Number(match[3]);
  if (address === null || port > 65535) return null;
  if ((match[1] !== undefined) !== (address.family === 6)) return null;
  return { address, port };
}

/**
 * A network: every address that shares its first `length` bits. `length` counts in the address's own
 * family (0…32 or 0…128) and the bits beyond it are zero. `text` is canonical.
 */
export interface Prefix {
  readonly address: Address;
  readonly length: number;
  readonly text: string;
}

/**
 * `address/length` to a prefix, or null when the text is no prefix at all. Host bits are cleared:
 * compare `text` with what was written to find out whether there were any.
 */
export function parsePrefix(text: string): Prefix | null {
  const match = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text);
  if (match === null) return null;
  const address = parseAddress(match[1] ?? "");
  const length = Number(match[2]);
  if (address === null) return null;
  // A mapped text (::ffff:10.0.0.0/104) would count its bits in the wrong family.
  if (address.family === 4 && match[1]?.includes(":") === true) return null;
  if (length > (address.family === 4 ? 32 : 128)) return null;
  return prefixOf(address, length);
}

/** The network of so many bits that an address lies in. */
export function prefixOf(address: Address, length: number): Prefix {
  const bits = address.family === 4 ? 96 + length : length;
  const bytes = address.bytes.map((byte, index) => {
    const kept = Math.min(8, Math.max(0, bits - index * 8));
    return byte & ((0xff00 >> kept) & 0xff);
  });
  const network = addressFromBytes(bytes);
  return { address: network, length, text: `${network.text}/${length}` };
}
