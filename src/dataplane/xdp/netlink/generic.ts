// Questions to a family of generic netlink, which is found by its name. One socket for one question:
// nobody asks often. Knows the envelope; what the attributes mean is the asker's business.

import type { Native } from "../native.ts";
import {
  concatenated, decodeAttributes, decodeMessages, encodeAttribute, encodeMessage, errorOf, FLAG_ACK, FLAG_REQUEST, viewOf,
  type Attributes,
} from "./message.ts";

const NETLINK_GENERIC = 16;
const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR = { FAMILY_ID: 1, FAMILY_NAME: 2 } as const;
const GENL_HEADER_BYTES = 4;
const VERSION = 1;

/** The first answer's attributes; null where the kernel has no such family, or says no. */
export function askFamily(native: Native, family: string, command: number, attribute: Uint8Array): Attributes | null {
  const socket = native.NetlinkSocket.open(NETLINK_GENERIC, 0);
  const ask = (type: number, wanted: number, payload: Uint8Array): Attributes | null => {
    const whole = concatenated(Uint8Array.of(wanted, VERSION, 0, 0), payload);
    socket.send(encodeMessage({ type, flags: FLAG_REQUEST | FLAG_ACK, sequence: 1, payload: whole }));
    const answer = socket.receive().flatMap(decodeMessages).find((each) => errorOf(each) === null);
    return answer === undefined ? null : decodeAttributes(answer.payload.subarray(GENL_HEADER_BYTES));
  };
  try {
    const named = encodeAttribute(CTRL_ATTR.FAMILY_NAME, Buffer.from(`${family}\0`));
    const id = ask(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, named)?.get(CTRL_ATTR.FAMILY_ID);
    return id === undefined || id.length < 2 ? null : ask(viewOf(id).getUint16(0, true), command, attribute);
  } finally {
    socket.close();
  }
}
