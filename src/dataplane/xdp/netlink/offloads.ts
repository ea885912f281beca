// Which offloads of an interface are on, and the switch of one, by the ethtool family of generic netlink
// (Documentation/networking/ethtool-netlink.rst, "FEATURES_GET" and "FEATURES_SET"). Knows the kernel's names of them, which
// `ethtool -k` abbreviates; null where nobody can answer.

import type { Native } from "../native.ts";
import { askFamily } from "./generic.ts";
import { NetlinkError } from "./requests.ts";
import { attributeList, attributeText, concatenated, decodeAttributes, encodeAttribute, u32Bytes, type Attributes } from "./message.ts";

const ETHTOOL_MSG_FEATURES_GET = 11;
const ETHTOOL_MSG_FEATURES_SET = 12;
const FEATURES = { HEADER: 1, WANTED: 3, ACTIVE: 4 } as const;
const HEADER_DEV_INDEX = 1;
const BITSET_BITS = 3;
const BITSET_BITS_BIT = 1;
const BIT_NAME = 2;
const NESTED = 0x8000;

/** Names as in `netdev_features_strings`: "rx-gro", "tx-tcp-segmentation", … */
export type Offloads = ReadonlySet<string>;

export function activeOffloads(native: Native, ifindex: number): Offloads | null {
  const header = encodeAttribute(FEATURES.HEADER | NESTED, encodeAttribute(HEADER_DEV_INDEX, u32Bytes(ifindex)));
  const answer = askFamily(native, "ethtool", ETHTOOL_MSG_FEATURES_GET, concatenated(header));
  return answer === null ? null : decodeOffloads(answer);
}

/** Of veth, for all protocols. */
const CHECKSUMS = "tx-checksum-ip-generic";

/**
 * Has the kernel's stack complete the checksums of what it sends by a veth, instead of leaving that to
 * whoever comes next. Throws NetlinkError.
 */
export function turnChecksumsOff(native: Native, ifindex: number): void {
  // A bit that is listed without a value is off.
  const bit = encodeAttribute(BITSET_BITS_BIT | NESTED, encodeAttribute(BIT_NAME, Buffer.from(`${CHECKSUMS}\0`)));
  askFamily(native, "ethtool", ETHTOOL_MSG_FEATURES_SET, concatenated(
    encodeAttribute(FEATURES.HEADER | NESTED, encodeAttribute(HEADER_DEV_INDEX, u32Bytes(ifindex))),
    encodeAttribute(FEATURES.WANTED | NESTED, encodeAttribute(BITSET_BITS | NESTED, bit)),
  ));
  if (activeOffloads(native, ifindex)?.has(CHECKSUMS) !== false) {
    throw new NetlinkError(`turn ${CHECKSUMS} of interface ${ifindex} off`, 0);
  }
}

/** The list of bits that are on; a bitset in the compact form was not asked for. */
export function decodeOffloads(answer: Attributes): Offloads | null {
  const active = answer.get(FEATURES.ACTIVE);
  const bits = active === undefined ? undefined : decodeAttributes(active).get(BITSET_BITS);
  if (bits === undefined) return null;
  const named = attributeList(bits).flatMap(([type, bit]) =>
    type === BITSET_BITS_BIT ? [attributeText(decodeAttributes(bit), BIT_NAME)] : []);
  return new Set(named.filter((name) => name !== null));
}
