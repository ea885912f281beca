// Makes both ends of a connection speak whose backend was taken out, so that the program can reset them: a reset needs
// the number that its receiver expects, and that is in the acknowledgements that the receiver sends. Knows segments and
// when to send which; whose connections they are is the sweep's business.
//
// An end that gets a segment at a number it does not expect, or a SYN, answers with an acknowledgement of where it is (RFC
// 9293, 3.10.7.4; RFC 5961, 4: "challenge ACK"), and changes nothing. Nothing of the segment has to be right but addresses and ports.

import type { Env } from "../../env.ts";
import type { FlowTuple } from "../../model/packet.ts";
import { isNativeError } from "./native_failure.ts";

/** In these walks, counted from the first in which its backend was taken out: what was lost, or not answered, is tried again. */
const WALKS: readonly number[] = [0, 2, 6];
/** So many go out in a millisecond, on average. */
const PACE_PER_MS = 50;

const TCP = 6;
const TCP_BYTES = 20;
const IPV4_BYTES = 20;
const IPV6_BYTES = 40;
const SYN = 0x02;
const ACK = 0x10;
const TTL = 64;
const WINDOW = 1024;
const DONT_FRAGMENT = 0x40;

export interface ChallengeParts {
  readonly env: Pick<Env, "log" | "random">;
  /** Answers how many of these packets left. */
  readonly send: (packets: Uint8Array) => number;
}

export class Challenges {
  readonly #parts: ChallengeParts;
  /** By "id/generation" of those that are taken out: the number of this walk. */
  #walks: ReadonlyMap<string, number> = new Map();
  #waiting: Uint8Array[] = [];
  #sent = 0;
  #mayNot = false;

  constructor(parts: ChallengeParts) {
    this.#parts = parts;
  }

  /** A walk over all connections begins; `over`: whose backends are taken out. */
  begin(over: ReadonlySet<string>): void {
    if (this.#sent > 0) this.#parts.env.log.info({ segments: this.#sent }, "asked silent ends of connections that are over where they are");
    this.#sent = 0;
    this.#walks = new Map([...over].map((place) => [place, (this.#walks.get(place) ?? -1) + 1]));
  }

  /** One end of a connection to such a backend: what it sends has this key. */
  found(place: string, key: () => FlowTuple, isBackend: boolean): void {
    const attempt = WALKS.indexOf(this.#walks.get(place) ?? -1);
    if (attempt < 0 || this.#mayNot) return;
    // Packet filters on the way: a backend's own lets a SYN in, and a client's rather what looks like an answer.
    this.#waiting.push(segmentTo(key(), (attempt % 2 === 0) === isBackend ? SYN : ACK, this.#parts.env.random));
  }

  /** Sends what was found. Answers with the milliseconds that have to pass before there may be more. */
  send(): number {
    const waiting = this.#waiting;
    if (waiting.length === 0) return 0;
    this.#waiting = [];
    try {
      this.#sent += this.#parts.send(Uint8Array.from(Buffer.concat(waiting)));
    } catch (error) {
      this.#mayNot = true;
      this.#parts.env.log.warn({ error: String(error), remedy: isPermission(error) ? "grant CAP_NET_RAW" : null },
        "ends of connections to a backend that was taken out cannot be asked to speak: silent ones hear of it when they next send");
    }
    return Math.ceil(waiting.length / PACE_PER_MS);
  }
}

function isPermission(error: unknown): boolean {
  return isNativeError(error) && error.code === "PERMISSION";
}

/** From whom it speaks to, in its own words the wrong way round. */
export function segmentTo(end: FlowTuple, flags: number, random: Env["random"]): Uint8Array {
  const isIpv4 = end.source.subarray(0, 12).every((byte, at) => byte === (at < 10 ? 0 : 0xff));
  const [from, to] = [end.destination, end.source].map((address) => isIpv4 ? address.subarray(12) : address) as [Uint8Array, Uint8Array];
  const header = isIpv4 ? IPV4_BYTES : IPV6_BYTES;
  const packet = new Uint8Array(header + TCP_BYTES);
  const view = new DataView(packet.buffer);
  if (isIpv4) {
    // The kernel fills in identification and checksum.
    packet[0] = 0x45;
    view.setUint16(2, packet.length);
    packet.set([DONT_FRAGMENT, 0, TTL, TCP], 6);
    packet.set(from, 12);
    packet.set(to, 16);
  } else {
    packet[0] = 0x60;
    view.setUint16(4, TCP_BYTES);
    packet.set([TCP, TTL], 6);
    packet.set(from, 8);
    packet.set(to, 24);
  }
  view.setUint16(header, end.destinationPort);
  view.setUint16(header + 2, end.sourcePort);
  view.setUint32(header + 4, Math.floor(random.next() * 2 ** 32));
  view.setUint32(header + 8, flags === ACK ? Math.floor(random.next() * 2 ** 32) : 0);
  view.setUint16(header + 12, TCP_BYTES / 4 << 12 | flags);
  view.setUint16(header + 14, WINDOW);
  view.setUint16(header + 16, checksum(from, to, packet.subarray(header)));
  return packet;
}

/** RFC 9293, 3.1: over the pseudo-header too. */
function checksum(from: Uint8Array, to: Uint8Array, segment: Uint8Array): number {
  let sum = TCP + segment.length;
  for (const part of [from, to, segment]) {
    for (let at = 0; at < part.length; at += 1) sum += part[at]! << (at % 2 === 0 ? 8 : 0);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
