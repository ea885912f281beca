// The PROXY protocol's headers, versions 1 and 2 (The PROXY protocol, Willy Tarreau, revision
// 2020/03/05): how a proxy tells a backend who the client was. Pure; knows addresses and bytes.
//
// A datagram has no beginning of a connection to put a header at, so in UDP each datagram carries
// one, as dnsdist and PowerDNS expect it. Version 1 knows TCP only.

import type { Address } from "./address.ts";

export interface ProxiedEndpoints {
  readonly source: Address;
  readonly sourcePort: number;
  readonly destination: Address;
  readonly destinationPort: number;
}

const SIGNATURE = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");
const VERSION_2_PROXY = 0x21;
const FAMILY = { 4: 0x10, 6: 0x20 } as const;
const TRANSPORT = { tcp: 0x01, udp: 0x02 } as const;

/** The text header. Both addresses are of one family; if not, the client is given as UNKNOWN. */
export function proxyHeaderV1(endpoints: ProxiedEndpoints): Uint8Array {
  const { source, sourcePort, destination, destinationPort } = endpoints;
  if (source.family !== destination.family) return Buffer.from("PROXY UNKNOWN\r\n", "latin1");
  const addresses = `TCP${source.family} ${source.text} ${destination.text}`;
  return Buffer.from(`PROXY ${addresses} ${sourcePort} ${destinationPort}\r\n`, "latin1");
}

/**
 * The binary header. Of two families both addresses are written as IPv6, IPv4 as ::ffff:a.b.c.d.
 */
export function proxyHeaderV2(endpoints: ProxiedEndpoints, protocol: "tcp" | "udp"): Uint8Array {
  const { source, sourcePort, destination, destinationPort } = endpoints;
  const family = source.family === 4 && destination.family === 4 ? 4 : 6;
  const from = family === 4 ? 12 : 0; // IPv4 is the last four of the sixteen
  const addresses = [source.bytes.subarray(from), destination.bytes.subarray(from)];
  const header = Buffer.alloc(SIGNATURE.length + 4);
  header.set(SIGNATURE);
  header.writeUInt8(VERSION_2_PROXY, 12);
  header.writeUInt8(FAMILY[family] | TRANSPORT[protocol], 13);
  header.writeUInt16BE(2 * (16 - from) + 4, 14);
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(sourcePort, 0);
  ports.writeUInt16BE(destinationPort, 2);
  return Buffer.concat([header, ...addresses, ports]);
}
