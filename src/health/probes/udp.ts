// A probe that sends one datagram and waits for the answer that is expected. Must never know what either means.

import type { UdpHealth } from "../../model/health_check.ts";
import type { Attempt } from "./attempt.ts";
import { failure, success } from "./attempt.ts";
import { exchange } from "./datagram.ts";
import type { Aim, Doors } from "./socket.ts";
import { toldHex, told } from "./words.ts";

export function probeUdp(doors: Doors, aim: Aim<UdpHealth>, attempt: Attempt): void {
  const { send, expect } = aim.health;
  exchange(doors, aim, attempt, send.bytes, (datagram) => {
    const size = `${datagram.length} byte${datagram.length === 1 ? "" : "s"}`;
    if (expect === null || datagram.includes(Buffer.from(expect.bytes))) attempt.end(success(`answered by ${size}`));
    else attempt.end(failure(`the answer (${size}: ${expect.isHex ? toldHex(datagram) : told(datagram)}) lacks what is expected`));
  });
}
