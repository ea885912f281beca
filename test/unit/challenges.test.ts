// Segments that make a silent end of a connection speak: what is in them, to whom they go, and how often.

import { describe, expect, it } from "vitest";
import { Challenges, segmentTo } from "../../src/dataplane/xdp/challenges.ts";
import { parseAddress } from "../../src/model/address.ts";
import { parsePacket, type FlowTuple, type ParsedPacket } from "../../src/model/packet.ts";
import { createFakeEnv, type FakeEnv } from "../support/fake_env.ts";

const SYN = 0x02;
const ACK = 0x10;

function bytesOf(text: string): Uint8Array {
  const { bytes, family } = parseAddress(text)!;
  return bytes.length === 16 ? bytes : Uint8Array.of(...Array<number>(10).fill(0), 0xff, 0xff, ...bytes.subarray(0, family === 4 ? 4 : 16));
}

/** What a client sends, or a backend. */
function key(source: string, destination: string, sourcePort = 40_000, destinationPort = 80): FlowTuple {
  return { source: bytesOf(source), sourcePort, destination: bytesOf(destination), destinationPort, protocol: 6 };
}

const CLIENT = key("198.51.100.7", "203.0.113.10");
const CLIENT6 = key("2001:db8::7", "2001:db8:1::10");

function parsed(packet: Uint8Array): ParsedPacket {
  const isIpv4 = packet[0]! >> 4 === 4;
  const frame = Uint8Array.of(...Array<number>(12).fill(2), ...(isIpv4 ? [8, 0] : [0x86, 0xdd]), ...packet);
  const found = parsePacket(frame);
  if (typeof found === "string") throw new Error(found);
  return found;
}

/** Over the pseudo-header: nothing but ones where it is right. */
function sumOf(packet: Uint8Array): number {
  const isIpv4 = packet[0]! >> 4 === 4;
  const [at, addresses] = isIpv4 ? [20, packet.subarray(12, 20)] : [40, packet.subarray(8, 40)];
  const tcp = packet.subarray(at);
  let sum = 6 + tcp.length;
  for (const part of [addresses, tcp]) {
    const view = new DataView(part.buffer, part.byteOffset, part.byteLength);
    for (let word = 0; word < part.length; word += 2) sum += view.getUint16(word);
  }
  return sum % 0xffff;
}

describe("a segment", () => {
  it.each([["IPv4", CLIENT, 40], ["IPv6", CLIENT6, 60]] as const)("goes to the end from where it speaks to, and sums up: %s", (_, end, length) => {
    const { random } = createFakeEnv();
    for (const flags of [SYN, ACK]) {
      const packet = segmentTo(end, flags, random);
      expect(packet.length).toBe(length);
      expect(parsed(packet)).toMatchObject({
        kind: "flow", protocol: 6, source: end.destination, sourcePort: end.destinationPort, destination: end.source,
        destinationPort: end.sourcePort, syn: flags === SYN, ack: flags === ACK, fin: false, rst: false, ttl: 64,
      });
      expect(sumOf(packet)).toBe(0);
      // Another number each time: one may happen to be one that is expected.
      expect(segmentTo(end, flags, random)).not.toEqual(packet);
    }
  });
});

describe("challenges", () => {
  interface Scene { readonly env: FakeEnv; readonly challenges: Challenges; readonly sent: Uint8Array[]; error: unknown }
  function scene(): Scene {
    const env = createFakeEnv();
    const sent: Uint8Array[] = [];
    const made: Scene = { env, sent, error: null, challenges: new Challenges({ env, send: (packets) => {
      if (made.error !== null) throw made.error as Error;
      sent.push(packets);
      return packets.length / 40;
    } }) };
    return made;
  }
  /** One walk that finds both ends of `connections`. */
  function walk({ challenges }: Scene, connections = 1, over: ReadonlySet<string> = new Set(["1/1"])): number {
    challenges.begin(over);
    for (let port = 1; port <= connections; port += 1) {
      challenges.found("1/1", () => key("198.51.100.7", "203.0.113.10", port), false);
      challenges.found("1/1", () => key("10.0.0.11", "10.0.0.1", 80, port), true);
    }
    return challenges.send();
  }
  const flagsOf = (packets: Uint8Array): number[] =>
    Array.from({ length: packets.length / 40 }, (_, at) => packets[at * 40 + 33]!);

  it("go out in three walks, of either sort to either end, and then no more", () => {
    const world = scene();
    for (let walks = 0; walks < 12; walks += 1) walk(world);
    expect(world.sent.map(flagsOf)).toEqual([[ACK, SYN], [SYN, ACK], [ACK, SYN]]);
    expect(world.env.messages("info")).toHaveLength(3);
    // Let back in and taken out again, it is another time.
    walk(world, 1, new Set());
    expect(world.sent).toHaveLength(3);
    walk(world);
    expect(world.sent).toHaveLength(4);
  });

  it("go to nobody whose backend was taken out after the walk began, or not at all", () => {
    const world = scene();
    world.challenges.begin(new Set(["2/1"]));
    world.challenges.found("1/1", () => CLIENT, false);
    expect([world.challenges.send(), world.sent]).toEqual([0, []]);
  });

  it("keep a pace", () => {
    expect(walk(scene(), 4096)).toBe(Math.ceil(8192 / 50));
  });

  it("that may not be sent are told once, with what is missing", () => {
    const world = scene();
    world.error = Object.assign(new Error("socket: not permitted"), { code: "PERMISSION", errno: 1, operation: "sendPackets", object: "", log: null });
    for (let walks = 0; walks < 12; walks += 1) walk(world);
    expect(world.env.messages("warn")).toEqual([expect.stringContaining("cannot be asked to speak")]);
    expect(world.env.logged.find(({ level }) => level === "warn")?.fields).toMatchObject({ remedy: "grant CAP_NET_RAW" });
  });
});
