// The checksum of a received ICMP message (RFC 792; RFC 4443, 2.3). Knows sums of 16-bit words and what they are over;
// knows no message's meaning. bpf/icmp_sum.h is its twin.

const ICMPV6 = 58;
/** IPv6 errors are no longer (RFC 4443, 2.4), nor are those of IPv4 in practice (RFC 1812, 4.3.2.3: 576 bytes). */
export const SUMMED_BYTES_MAX = 1280;

export interface IcmpMessage {
  readonly family: 4 | 6;
  /** Of the packet that it is in, IPv4 as IPv6 has it. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly bytes: Uint8Array;
}

/** False for messages that are longer than anybody sums up here. */
export function isIcmpSumRight({ family, source, destination, bytes }: IcmpMessage): boolean {
  if (bytes.length > SUMMED_BYTES_MAX) return false;
  let sum = wordSum(bytes);
  if (family === 6) sum += wordSum(source) + wordSum(destination) + bytes.length + ICMPV6;
  // All words, the checksum among them: a multiple of 2^16 - 1, and never nothing at all.
  return sum !== 0 && sum % 0xffff === 0;
}

function wordSum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 1) sum += bytes[at]! << (at % 2 === 0 ? 8 : 0);
  return sum;
}
