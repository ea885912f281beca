// Clients' datagrams on the channel between two processes of an instance, where everything is text. Bounded:
// what the other one does not read in time is lost, as in a socket's buffer. Must never know a session.

import type { PassDatagram, PassedDatagram } from "../dataplane/dataplane.ts";
import type { Peer } from "../env.ts";
import type { DatagramMessage } from "./hand_over.ts";

/** On their way at any time. */
const UNDER_WAY_MAX_BYTES = 4 * 1024 * 1024;
/** What a message takes beside its bytes, about. */
const MESSAGE_BYTES = 256;

export function datagramsTo(peer: Pick<Peer, "send">): PassDatagram {
  let underWayBytes = 0;
  return ({ key, address, port, bytes }) => {
    const size = MESSAGE_BYTES + bytes.length;
    if (underWayBytes + size > UNDER_WAY_MAX_BYTES) return false;
    underWayBytes += size;
    const message: DatagramMessage = {
      type: "datagram", key, address, port, bytes: Buffer.from(bytes).toString("base64"),
    };
    const done = (): void => { underWayBytes -= size; };
    peer.send(message).then(done, done);
    return true;
  };
}

export function datagramIn({ key, address, port, bytes }: DatagramMessage): PassedDatagram {
  return { key, address, port, bytes: Buffer.from(bytes, "base64") };
}
