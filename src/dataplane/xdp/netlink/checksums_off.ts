// Has the kernel's stack complete the checksums of what it sends by an interface, instead of leaving that
// to a device: by the ethtool family of generic netlink (Documentation/networking/ethtool-netlink.rst,
// "FEATURES_SET"). Knows that one switch.

import type { Native, NetlinkSocket } from "../native.ts";
import {
  concatenated, decodeAttributes, decodeMessages, encodeAttribute, encodeMessage, errorOf, FLAG_ACK, FLAG_REQUEST,
  u32Bytes, viewOf, type Message,
} from "./message.ts";
import { NetlinkError } from "./requests.ts";

const NETLINK_GENERIC = 16;
const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR = { FAMILY_ID: 1, FAMILY_NAME: 2 } as const;
const GENL_HEADER_BYTES = 4;
const ETHTOOL_MSG_FEATURES_SET = 12;
const FEATURES = { HEADER: 1, WANTED: 3 } as const;
const HEADER_DEV_INDEX = 1;
const BITSET_BITS = 3;
const BITSET_BITS_BIT = 1;
const BIT_NAME = 2;
const NESTED = 0x8000;
/** Of veth, for all protocols (netdev_features_strings). */
const CHECKSUMS = "tx-checksum-ip-generic";

/** Throws NetlinkError. */
export function turnChecksumsOff(native: Native, ifindex: number): void {
  const socket = native.NetlinkSocket.open(NETLINK_GENERIC, 0);
  try {
    const named = encodeAttribute(CTRL_ATTR.FAMILY_NAME, Buffer.from("ethtool\0"));
    const answer = ask(socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, named).find((each) => errorOf(each) === null);
    const id = answer && decodeAttributes(answer.payload.subarray(GENL_HEADER_BYTES)).get(CTRL_ATTR.FAMILY_ID);
    if (id === undefined) throw new NetlinkError("find the family ethtool", 0);
    // A bit that is listed without a value is off.
    const bit = encodeAttribute(BITSET_BITS_BIT | NESTED, encodeAttribute(BIT_NAME, Buffer.from(`${CHECKSUMS}\0`)));
    ask(socket, viewOf(id).getUint16(0, true), ETHTOOL_MSG_FEATURES_SET, concatenated(
      encodeAttribute(FEATURES.HEADER | NESTED, encodeAttribute(HEADER_DEV_INDEX, u32Bytes(ifindex))),
      encodeAttribute(FEATURES.WANTED | NESTED, encodeAttribute(BITSET_BITS | NESTED, bit)),
    ));
  } finally {
    socket.close();
  }
}

function ask(socket: NetlinkSocket, type: number, command: number, attributes: Uint8Array): readonly Message[] {
  const payload = concatenated(Uint8Array.of(command, 1, 0, 0), attributes);
  socket.send(encodeMessage({ type, flags: FLAG_REQUEST | FLAG_ACK, sequence: 1, payload }));
  const messages = socket.receive().flatMap(decodeMessages);
  const refused = messages.map(errorOf).find((errno) => errno !== null && errno !== 0);
  if (refused !== undefined && refused !== null) throw new NetlinkError(`${CHECKSUMS} off`, refused);
  return messages;
}
