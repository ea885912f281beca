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
  decodeAlias, decodeRule, encodeAlias, encodeDefaultRoute, encodeLinkRemoval, encodeLinkUp, encodeMarkedRouteRequest,
  encodeRule, encodeVethPair, RTM_RULE, type DefaultRoute, type MarkRule, type VethPair,
} from "./policy_routing.ts";
import {
  decodeAddress, decodeLink, decodeNeighbour, decodeRoute, encodeAddress, encodeDumpRequest, encodeNeighbourUse,
  encodeRouteRequest, RTM,
  type InterfaceAddress, type Link, type Neighbour, type RouteAnswer,
} from "./rtnetlink.ts";

const NETLINK_ROUTE = 0;
/** A dump that is interrupted by changes is asked for again; then it is taken as it is. */
const DUMPS_MAX = 5;

export const ERRNO = { PERM: 1, NOENT: 2, EXIST: 17, NODEV: 19, ADDRNOTAVAIL: 99 } as const;

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
  /** The way of packets with this mark, or the errno with which the kernel refuses one. */
  markedRoute(address: Address, mark: number): RouteAnswer | number;
  addVethPair(pair: VethPair): void;
  setAlias(ifindex: number, alias: string): void;
  setUp(ifindex: number): void;
  /** Of the links that have one. */
  aliases(): { readonly name: string; readonly alias: string }[];
  /** False when it is not there. */
  removeLink(ifindex: number): boolean;
  /** Those that are for one mark. */
  rules(): MarkRule[];
  addRule(rule: MarkRule): void;
  /** False when it is not there. */
  removeRule(rule: MarkRule): boolean;
  /** False when the table has a default route already. */
  addDefaultRoute(route: DefaultRoute): boolean;
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
  const way = (payload: Uint8Array): RouteAnswer | number => {
    const { messages, errno } = ask(RTM.GETROUTE, FLAG_ACK, payload);
    const route = messages.map((each) => decodeRoute(each.payload)).find((answer) => answer !== null);
    return route ?? (errno === 0 ? ERRNO.NOENT : errno);
  };
  const create = FLAG_CREATE | FLAG_EXCLUSIVE;
  return {
    links: () => dump(RTM.GETLINK, decodeLink),
    addresses: () => dump(RTM.GETADDR, decodeAddress),
    neighbours: () => dump(RTM.GETNEIGH, decodeNeighbour),
    route: (address) => way(encodeRouteRequest(address)),
    markedRoute: (address, mark) => way(encodeMarkedRouteRequest(address, mark)),
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
    addVethPair: (pair) => { command(RTM.NEWLINK, create, encodeVethPair(pair), 0, `create ${pair.name}`); },
    setAlias: (ifindex, alias) => {
      command(RTM.SETLINK, 0, encodeAlias(ifindex, alias), 0, `name interface ${ifindex}`);
    },
    setUp: (ifindex) => { command(RTM.SETLINK, 0, encodeLinkUp(ifindex), 0, `set interface ${ifindex} up`); },
    aliases: () => dump(RTM.GETLINK, decodeAlias),
    removeLink: (ifindex) => command(
      RTM.DELLINK, 0, encodeLinkRemoval(ifindex), ERRNO.NODEV, `remove interface ${ifindex}`,
    ),
    rules: () => dump(RTM_RULE.GET, decodeRule),
    addRule: (rule) => {
      command(RTM_RULE.NEW, create, encodeRule(rule), 0, `add a rule for mark ${rule.mark}`);
    },
    removeRule: (rule) => command(
      RTM_RULE.DELETE, 0, encodeRule(rule), ERRNO.NOENT, `remove the rule for mark ${rule.mark}`,
    ),
    addDefaultRoute: (route) => command(
      RTM.NEWROUTE, create, encodeDefaultRoute(route), ERRNO.EXIST, `add a default route to table ${route.table}`,
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

