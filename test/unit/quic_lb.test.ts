// Connection IDs by the example and the vectors of draft-ietf-quic-load-balancers-21 (5.4.2 and
// appendix B), over every legal pair of lengths, and what the draft does not allow.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encryptBlock, encryptionSchedule } from "../../src/model/aes128.ts";
import {
  cidBytes, configIdOf, decodeCid, encodeCid, encodedLength, quicLbConfig, quicLbFault,
} from "../../src/model/quic_lb.ts";
import type { QuicLbConfig, QuicLbParameters } from "../../src/model/quic_lb.ts";
import { assertProperty } from "../support/counts.ts";
import { EXAMPLE, QUIC_LB_KEY, QUIC_LB_VECTORS } from "../support/quic_lb_vectors.ts";

function bytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, "hex"));
}

function hex(data: Uint8Array): string {
  return Buffer.from(data).toString("hex");
}

function configOf(changes: Partial<QuicLbParameters>): QuicLbConfig {
  return quicLbConfig({
    id: 0, serverIdBytes: 3, nonceBytes: 4, lengthEncoded: true, key: null, ...changes,
  });
}

describe("the draft's vectors", () => {
  it.each(QUIC_LB_VECTORS)("$mode, server ID $serverId, nonce $nonce", (vector) => {
    const { serverId, nonce, cid, mode, configId, lengthEncoded } = vector;
    const config = configOf({
      id: configId, serverIdBytes: serverId.length / 2, nonceBytes: nonce.length / 2, lengthEncoded,
      key: mode === "plaintext" ? null : bytes(QUIC_LB_KEY),
    });
    expect(config.mode).toBe(mode);
    const spare = encodedLength(bytes(cid)[0]!);
    expect(hex(encodeCid(config, bytes(serverId), bytes(nonce), spare))).toBe(cid);
    const decoded = decodeCid(config, bytes(cid));
    expect([hex(decoded.serverId), hex(decoded.nonce)]).toEqual([serverId, nonce]);
  });

  it.each(QUIC_LB_VECTORS)("leaves the Buffer that holds $cid as it was", (vector) => {
    const { serverId, nonce, cid, mode, configId, lengthEncoded } = vector;
    const config = configOf({
      id: configId, serverIdBytes: serverId.length / 2, nonceBytes: nonce.length / 2, lengthEncoded,
      key: mode === "plaintext" ? null : bytes(QUIC_LB_KEY),
    });
    const buffer = Buffer.from(cid, "hex");
    expect(hex(decodeCid(config, buffer).serverId)).toBe(serverId);
    expect(buffer.toString("hex")).toBe(cid);
  });

  it("walks through the example of 5.4.2", () => {
    const schedule = encryptionSchedule(bytes(EXAMPLE.key));
    for (const [input, output] of EXAMPLE.passes) {
      expect(hex(encryptBlock(schedule, bytes(input)))).toBe(output);
    }
    const config = configOf({ key: bytes(EXAMPLE.key) });
    const cid = encodeCid(config, bytes(EXAMPLE.serverId), bytes(EXAMPLE.nonce), 0);
    expect(hex(cid)).toBe(EXAMPLE.cid);
    expect(hex(decodeCid(config, cid).serverId)).toBe(EXAMPLE.serverId);
  });
});

describe("every legal configuration", () => {
  const parameters = fc.record({
    id: fc.nat(6), serverIdBytes: fc.integer({ min: 1, max: 15 }), nonceBytes: fc.integer({ min: 4, max: 18 }),
    lengthEncoded: fc.boolean(),
    key: fc.option(fc.uint8Array({ minLength: 16, maxLength: 16 })),
  }).filter((each) => quicLbFault(each) === null);
  const sized = (length: number): fc.Arbitrary<Uint8Array> =>
    fc.uint8Array({ minLength: length, maxLength: length });

  it("decodes what it encoded, whatever follows", () => {
    const cases = parameters.chain((each) => fc.tuple(
      fc.constant(each), sized(each.serverIdBytes), sized(each.nonceBytes), fc.nat(255),
      fc.uint8Array({ maxLength: 6 }),
    ));
    assertProperty("quic-lb", fc.property(cases, ([each, serverId, nonce, spare, more]) => {
      const config = quicLbConfig(each);
      const cid = encodeCid(config, serverId, nonce, spare);
      expect(cid.length).toBe(cidBytes(config));
      expect(configIdOf(cid[0]!)).toBe(each.id);
      expect(encodedLength(cid[0]!)).toBe(each.lengthEncoded ? cid.length - 1 : spare & 31);
      const decoded = decodeCid(config, Uint8Array.of(...cid, ...more));
      expect(decoded).toEqual({ serverId, nonce });
    }));
  });

  it("is each pair of lengths: none is refused, and all come back", () => {
    let pairs = 0;
    for (let serverIdBytes = 1; serverIdBytes <= 15; serverIdBytes += 1) {
      for (let nonceBytes = 4; serverIdBytes + nonceBytes <= 19; nonceBytes += 1) {
        for (const key of [null, bytes(QUIC_LB_KEY)]) {
          const config = configOf({ serverIdBytes, nonceBytes, key });
          const serverId = Uint8Array.from({ length: serverIdBytes }, (_, at) => at + 1);
          const nonce = Uint8Array.from({ length: nonceBytes }, (_, at) => 0x80 + at);
          const cid = encodeCid(config, serverId, nonce, 0);
          expect(decodeCid(config, cid)).toEqual({ serverId, nonce });
          // A hidden ID shows neither part.
          if (key !== null) expect(hex(cid.subarray(1))).not.toContain(hex(serverId) + hex(nonce));
        }
        pairs += 1;
      }
    }
    expect(pairs).toBe(120);
  });
});

describe("what the draft does not allow", () => {
  it.each([
    [{ id: 7 }, "config IDs are 0 to 6"],
    [{ id: -1 }, "config IDs are 0 to 6"],
    [{ serverIdBytes: 0 }, "a server ID has 1 to 15 bytes"],
    [{ serverIdBytes: 16 }, "a server ID has 1 to 15 bytes"],
    [{ nonceBytes: 3 }, "a nonce has 4 to 18 bytes"],
    [{ nonceBytes: 4.5 }, "a nonce has 4 to 18 bytes"],
    [{ serverIdBytes: 15, nonceBytes: 5 }, "server ID and nonce have at most 19 bytes together"],
    [{ key: new Uint8Array(15) }, "a key has 16 bytes"],
  ])("%o: %s", (changes, fault) => {
    expect(() => configOf(changes)).toThrow(new RangeError(fault));
  });

  it("parts of another length", () => {
    const config = configOf({});
    expect(() => encodeCid(config, new Uint8Array(2), new Uint8Array(4), 0))
      .toThrow("the server ID has 3 bytes in this config, not 2");
    expect(() => encodeCid(config, new Uint8Array(3), new Uint8Array(5), 0))
      .toThrow("the nonce has 4 bytes in this config, not 5");
    expect(() => decodeCid(config, new Uint8Array(7)))
      .toThrow("a connection ID of this config has 8 bytes, not 7");
  });
});
