// Datagrams of a probe: one is sent, and what comes back from its address and port alone is heard. Knows
// sockets through Env; must never know what is asked.

import type { Socket } from "node:dgram";
import type { Attempt } from "./attempt.ts";
import { attempted, verdictOf } from "./attempt.ts";
import type { Aim, Doors } from "./socket.ts";
import { sourceOf } from "./socket.ts";

/** Sends when the socket is connected, by which refusals (ICMP) are heard too. */
export function exchange(
  doors: Doors, aim: Aim, attempt: Attempt, payload: Uint8Array, hear: (datagram: Buffer) => void,
): Socket {
  const { address, port } = aim;
  const socket = doors.net.createDatagram({ type: address.family === 4 ? "udp4" : "udp6" });
  let isOpen = true;
  attempt.release = () => {
    if (isOpen) socket.close();
    isOpen = false;
  };
  socket.on("error", (error) => { attempt.end(verdictOf(error)); });
  socket.on("message", (datagram) => { attempted(attempt, () => { hear(datagram); }); });
  const { localAddress } = sourceOf(aim);
  // Without a callback, what goes wrong is an error event, as everything else is.
  const connect = (): void => { socket.connect(port, address.text); };
  socket.once("connect", () => {
    attempt.stage = "waiting for the answer";
    socket.send(payload, (error) => { if (error !== null) attempt.end(verdictOf(error)); });
  });
  if (localAddress === undefined) connect();
  else socket.bind({ address: localAddress, port: 0 }, () => { if (isOpen) connect(); });
  return socket;
}
