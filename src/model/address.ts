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

/** `a.b.c.d:port` or `[v6]:port`, the form of default hash keys and of everything people read. */
export function formatEndpoint(address: Address, port: number): string {
  return address.family === 4 ? `${address.text}:${port}` : `[${address.text}]:${port}`;
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
