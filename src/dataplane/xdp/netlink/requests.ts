// Questions to the kernel's routing and what it answers, one at a time. rtnetlink works on a request
// while it is being sent, so the answer is there to be received when send() returns: nothing here waits.
// Knows one socket; subscriptions have another one, lest an event be taken for an answer.

import type { Address } from "../../../model/address.ts";
import type { Native, NetlinkSocket } from "../native.ts";
import {
  encodeMessage, decodeMessages, errorOf, FLAG_ACK, FLAG_CREATE, FLAG_DUMP, FLAG_DUMP_INTERRUPTED, FLAG_EXCLUSIVE,
  FLAG_REQUEST, MESSAGE_DONE, type Message,
} from "./message.ts";
import {
  decodeAddress, decodeLink, decodeNeighbour, decodeRoute, encodeAddress, encodeDumpRequest, encodeNeighbourUse,
  encodeRouteRequest, RTM,
  type InterfaceAddress, type Link, type Neighbour, type RouteAnswer,
} from "./rtnetlink.ts";

const NETLINK_ROUTE = 0;
/** A dump that is interrupted by changes is asked for again; then it is taken as it is. */
const DUMPS_MAX = 5;

export const ERRNO = { PERM: 1, NOENT: 2, EXIST: 17, ADDRNOTAVAIL: 99 } as const;

/** What the kernel refused. `errno` is positive. */
export class NetlinkError extends Error {
  readonly errno: number;
  constructor(request: string, errno: number) {
    super(`${request}: errno ${errno}`);
    this.name = "NetlinkError";
    this.errno = errno;
  }
}

export interface Requests {
  links(): Link[];
  addresses(): InterfaceAddress[];
  neighbours(): Neighbour[];
  /** The way to an address, or the errno with which the kernel refuses one. */
  route(address: Address): RouteAnswer | number;
  /** Has the kernel resolve a neighbour, or prove one that it has. */
  useNeighbour(ifindex: number, address: Address): void;
  /** False when it is there already. */
  addAddress(address: InterfaceAddress): boolean;
  /** False when it is not there. */
  removeAddress(address: InterfaceAddress): boolean;
  close(): void;
}

export function openRequests(native: Native): Requests {
  const socket = native.NetlinkSocket.open(NETLINK_ROUTE, 0);
  let sequence = 0;
  const ask = (type: number, flags: number, payload: Uint8Array): Answer => {
    sequence = (sequence % 0x7fff_ffff) + 1;
    socket.send(encodeMessage({ type, flags: FLAG_REQUEST | flags, sequence, payload }));
    return answerTo(socket, sequence);
  };
  const dump = <T>(type: number, decode: (payload: Uint8Array) => T | null): T[] => {
    for (let attempt = 1; ; attempt++) {
      const { messages, errno } = ask(type, FLAG_DUMP, encodeDumpRequest(type));
      if (errno !== 0) throw new NetlinkError(`dump of type ${type}`, errno);
      const interrupted = messages.some(({ flags }) => (flags & FLAG_DUMP_INTERRUPTED) !== 0);
      if (interrupted && attempt < DUMPS_MAX) continue;
      return messages.map(({ payload }) => decode(payload)).filter((value) => value !== null);
    }
  };
  /** False when the kernel says no with this errno; another one throws. */
  const command = (type: number, flags: number, payload: Uint8Array, no: number, what: string): boolean => {
    const { errno } = ask(type, FLAG_ACK | flags, payload);
    if (errno !== 0 && errno !== no) throw new NetlinkError(what, errno);
    return errno === 0;
  };
  return {
    links: () => dump(RTM.GETLINK, decodeLink),
    addresses: () => dump(RTM.GETADDR, decodeAddress),
    neighbours: () => dump(RTM.GETNEIGH, decodeNeighbour),
    route: (address) => {
      const { messages, errno } = ask(RTM.GETROUTE, FLAG_ACK, encodeRouteRequest(address));
      const route = messages.map(({ payload }) => decodeRoute(payload)).find((answer) => answer !== null);
      return route ?? (errno === 0 ? ERRNO.NOENT : errno);
    },
    useNeighbour: (ifindex, address) => {
      const payload = encodeNeighbourUse(ifindex, address);
      command(RTM.NEWNEIGH, FLAG_CREATE, payload, 0, `resolve ${address.text}`);
    },
    addAddress: (address) => command(
      RTM.NEWADDR, FLAG_CREATE | FLAG_EXCLUSIVE, encodeAddress(address), ERRNO.EXIST, `add ${address.address.text}`,
    ),
    removeAddress: (address) => command(
      RTM.DELADDR, 0, encodeAddress(address), ERRNO.ADDRNOTAVAIL, `remove ${address.address.text}`,
    ),
    close: () => { socket.close(); },
  };
}

interface Answer {
  readonly messages: readonly Message[];
  readonly errno: number;
}

/** Everything up to the acknowledgement, the error or the end of the dump. */
function answerTo(socket: NetlinkSocket, sequence: number): Answer {
  const messages: Message[] = [];
  for (;;) {
    const datagrams = socket.receive();
    if (datagrams.length === 0) throw new NetlinkError(`no answer to request ${sequence}`, 0);
    for (const message of datagrams.flatMap(decodeMessages)) {
      // What an earlier request left behind when it failed.
      if (message.sequence !== sequence) continue;
      const errno = errorOf(message);
      if (errno !== null) return { messages, errno };
      if (message.type === MESSAGE_DONE) return { messages, errno: 0 };
      messages.push(message);
    }
  }
}

