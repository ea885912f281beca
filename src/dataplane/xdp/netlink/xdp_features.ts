// What XDP an interface's driver has, from the netdev family of generic netlink (Linux 6.3 and later;
// Documentation/netlink/specs/netdev.yaml). Knows that one question; null where nobody can answer it.

import type { Native, NetlinkSocket } from "../native.ts";
import {
  attributeU32, concatenated, decodeAttributes, decodeMessages, encodeAttribute, encodeMessage, errorOf,
  FLAG_ACK, FLAG_REQUEST, u32Bytes, viewOf,
} from "./message.ts";

const NETLINK_GENERIC = 16;
const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR = { FAMILY_ID: 1, FAMILY_NAME: 2 } as const;
const NETDEV_CMD_DEV_GET = 1;
const NETDEV_A_DEV = { IFINDEX: 1, XDP_FEATURES: 3 } as const;
const NETDEV_XDP_ACT_BASIC = 1;
const GENL_HEADER_BYTES = 4;

export interface XdpFeatures {
  /** The driver runs programs itself. */
  readonly native: boolean;
}

export function xdpFeatures(native: Native, ifindex: number): XdpFeatures | null {
  const socket = native.NetlinkSocket.open(NETLINK_GENERIC, 0);
  try {
    const family = ask(socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY,
      encodeAttribute(CTRL_ATTR.FAMILY_NAME, Buffer.from("netdev\0")))?.get(CTRL_ATTR.FAMILY_ID);
    if (family === undefined || family.length < 2) return null;
    const device = ask(socket, viewOf(family).getUint16(0, true), NETDEV_CMD_DEV_GET,
      encodeAttribute(NETDEV_A_DEV.IFINDEX, u32Bytes(ifindex)));
    const bits = device === null ? null : attributeU32(device, NETDEV_A_DEV.XDP_FEATURES);
    return bits === null ? null : { native: (bits & NETDEV_XDP_ACT_BASIC) !== 0 };
  } finally {
    socket.close();
  }
}

function ask(socket: NetlinkSocket, type: number, command: number, attribute: Uint8Array): ReturnType<typeof decodeAttributes> | null {
  const payload = concatenated(Uint8Array.of(command, 1, 0, 0), attribute);
  socket.send(encodeMessage({ type, flags: FLAG_REQUEST | FLAG_ACK, sequence: 1, payload }));
  const messages = socket.receive().flatMap(decodeMessages);
  const answer = messages.find((message) => errorOf(message) === null);
  return answer === undefined ? null : decodeAttributes(answer.payload.subarray(GENL_HEADER_BYTES));
}
