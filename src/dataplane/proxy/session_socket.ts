// The socket of a UDP session: one that may be disconnected and connected again without losing its port, so
// that another process can have it. Knows the ways of Node and the kernel; nothing of sessions.

import type { RemoteInfo, Socket } from "node:dgram";
import type { Env } from "../../env.ts";
import type { Address } from "../../model/address.ts";
import { parseAddress } from "../../model/address.ts";

/** Whoever asks next may be given the port that was found free. */
const ATTEMPTS = 3;

/**
 * Bound, not connected yet. The kernel takes the port of a socket that is disconnected, unless it was asked for
 * by its number (SOCK_BINDPORT_LOCK in Linux): so another socket finds one that is free. Throws when this host
 * has no socket to give.
 */
export function createSessionSocket(net: Env["net"], family: 4 | 6): Socket {
  for (let attempt = 1; ; attempt += 1) {
    const scout = createBound(net, family, 0);
    const { port } = scout.address();
    scout.close();
    try {
      return createBound(net, family, port);
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
    }
  }
}

/** With numbers for addresses, Node binds before bind() returns. */
function createBound(net: Env["net"], family: 4 | 6, port: number): Socket {
  const socket = net.createDatagram({ type: family === 4 ? "udp4" : "udp6", lookup: addressLookup });
  try {
    socket.bind({ port, exclusive: true }); // throws its error, which nobody listens to
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

/** While the socket is not connected, anybody can send to it. */
export function isFrom({ address, port }: RemoteInfo, sender: Address, senderPort: number): boolean {
  if (port !== senderPort) return false;
  return address === sender.text || parseAddress(address.split("%")[0] ?? "")?.text === sender.text;
}

type LookupCallback = (error: null, address: string, family: number) => void;

/**
 * All addresses here are numbers. Node would ask its resolver about each, a turn of the event loop
 * later.
 */
export function addressLookup(host: string, ...rest: readonly unknown[]): void {
  const callback = rest.at(-1) as LookupCallback;
  callback(null, host, host.includes(":") ? 6 : 4);
}
