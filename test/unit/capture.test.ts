// The capture codec: what it writes it reads, both byte orders, pcapng, and every way a file can be cut.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { CapturedPacket } from "../../src/cli/capture.ts";
import { readCapture, writeCapture } from "../../src/cli/capture.ts";
import { isFailure } from "../../src/errors.ts";
import { parameters } from "../support/counts.ts";

const packet = fc
  .record({
    timeNs: fc.bigInt({ min: 0n, max: 4_000_000_000_000_000_000n }),
    bytes: fc.uint8Array({ maxLength: 200 }),
  })
  .map(({ timeNs, bytes }): CapturedPacket => ({ timeNs, bytes, length: bytes.length }));

/** A block of pcapng: type, body padded to four bytes, length before and after. */
function block(type: number, body: readonly number[], little: boolean): number[] {
  const padded = [...body, ...new Array<number>((4 - (body.length % 4)) % 4).fill(0)];
  const length = padded.length + 12;
  return [...u32(type, little), ...u32(length, little), ...padded, ...u32(length, little)];
}

function u32(value: number, little: boolean): number[] {
  const bytes = [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
  return little ? bytes.reverse() : bytes;
}

function pcapng(little: boolean, linkType: number): Uint8Array {
  const section = block(
    0x0a0d0d0a,
    [
      ...u32(0x1a2b3c4d, little),
      ...u32(little ? 1 : 0x10000, little),
      ...u32(0xffffffff, little),
      ...u32(0xffffffff, little),
    ],
    little,
  );
  const half = (value: number): number[] => (little ? [value & 255, value >> 8] : [value >> 8, value & 255]);
  // if_tsresol = 9: nanoseconds.
  const description = block(
    1,
    [...half(linkType), ...half(0), ...u32(65535, little), ...half(9), ...half(1), 9, 0, 0, 0, ...u32(0, little)],
    little,
  );
  const ticks = 1_700_000_000_123_456_789n;
  const enhanced = block(
    6,
    [
      ...u32(0, little),
      ...u32(Number(ticks >> 32n), little),
      ...u32(Number(ticks & 0xffffffffn), little),
      ...u32(5, little),
      ...u32(60, little),
      1,
      2,
      3,
      4,
      5,
    ],
    little,
  );
  const unknown = block(0x0bad, [1, 2, 3, 4], little);
  const simple = block(3, [...u32(3, little), 7, 8, 9], little);
  return Uint8Array.from([...section, ...description, ...unknown, ...enhanced, ...simple]);
}

describe("capture files", () => {
  it("come back as they were written", () => {
    fc.assert(
      fc.property(fc.array(packet, { maxLength: 20 }), (packets) => {
        expect(readCapture("x.pcap", writeCapture(packets))).toEqual(packets);
      }),
      parameters("pcap"),
    );
  });

  it("are read in the other byte order and with microseconds", () => {
    const written = writeCapture([{ timeNs: 5_000_000_000n, bytes: Uint8Array.of(1, 2, 3), length: 9 }]);
    const swapped = Uint8Array.from(written);
    const view = new DataView(swapped.buffer);
    const from = new DataView(written.buffer);
    view.setUint32(0, 0xa1b2c3d4, false);
    for (const at of [8, 12, 16, 20, 24, 32, 36]) view.setUint32(at, from.getUint32(at, true), false);
    view.setUint32(28, 7, false);
    expect(readCapture("x.pcap", swapped)).toEqual([
      { timeNs: 5_000_007_000n, bytes: Uint8Array.of(1, 2, 3), length: 9 },
    ]);
  });

  it.each([true, false])("are read as pcapng (little-endian: %s)", (little) => {
    const packets = readCapture("x.pcapng", pcapng(little, 1));
    expect(packets).toEqual([
      { timeNs: 1_700_000_000_123_456_789n, bytes: Uint8Array.of(1, 2, 3, 4, 5), length: 60 },
      { timeNs: 0n, bytes: Uint8Array.of(7, 8, 9), length: 3 },
    ]);
  });

  it("are refused when they are not Ethernet, cut, or something else", () => {
    const whole = writeCapture([{ timeNs: 0n, bytes: new Uint8Array(40), length: 40 }]);
    const notEthernet = Uint8Array.from(whole);
    notEthernet[20] = 113;
    const cases: [string, Uint8Array, RegExp][] = [
      ["empty", new Uint8Array(), /too short/],
      ["text", new TextEncoder().encode("version: 1\nservices"), /magic/],
      ["link type", notEthernet, /link type 113/],
      ["cut record", whole.subarray(0, whole.length - 1), /cut short/],
      ["cut header", whole.subarray(0, 30), /cut short/],
      ["pcapng link type", pcapng(true, 101), /link type 101/],
      ["cut pcapng", pcapng(true, 1).subarray(0, 70), /cannot be|cut short/],
    ];
    for (const [name, bytes, reason] of cases) {
      let thrown: unknown = null;
      try {
        readCapture(name, bytes);
      } catch (error) {
        thrown = error;
      }
      expect(isFailure(thrown, "CAPTURE_INVALID"), name).toBe(true);
      expect((thrown as Error).message).toMatch(reason);
    }
  });

  it("never do anything else with random bytes", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 300 }),
        fc.constantFrom(0xa1b2c3d4, 0xa1b23c4d, 0x0a0d0d0a),
        (bytes, magic) => {
          const file = Uint8Array.from([...u32(magic, false), ...bytes]);
          try {
            readCapture("random", file);
          } catch (error) {
            expect(isFailure(error, "CAPTURE_INVALID")).toBe(true);
          }
        },
      ),
      parameters("pcap"),
    );
  });
});
