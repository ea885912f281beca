// The rtnetlink codec under garbage: whatever comes out of the socket, it answers or says RangeError, and
// never reads beyond its message.

import fc from "fast-check";
import { describe, it } from "vitest";
import { concatenated, decodeAttributes, decodeMessages, encodeAttribute, encodeMessage } from "../../src/dataplane/xdp/netlink/message.ts";
import { decodeAlias, decodeRule, encodeRule } from "../../src/dataplane/xdp/netlink/policy_routing.ts";
import { decodeEvent, decodeRoute } from "../../src/dataplane/xdp/netlink/rtnetlink.ts";
import { assertProperty } from "../support/counts.ts";
import * as captured from "../support/netlink_captures.ts";

const samples = Object.values(captured);

/** A message that the kernel sent, with a few bytes changed and perhaps cut. */
const bent = fc.tuple(
  fc.constantFrom(...samples), fc.array(fc.tuple(fc.nat(2000), fc.nat(255)), { maxLength: 6 }), fc.nat(2000),
).map(([sample, changes, cut]) => {
  const bytes = sample.slice();
  for (const [at, value] of changes) bytes[at % bytes.length] = value;
  return cut % 3 === 0 ? bytes.subarray(0, cut % bytes.length) : bytes;
});

function readAll(bytes: Uint8Array): void {
  try {
    for (const message of decodeMessages(bytes)) {
      decodeEvent(message);
      decodeRoute(message.payload);
      decodeRule(message.payload);
      decodeAlias(message.payload);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
}

describe("the rtnetlink codec", () => {
  it("answers or refuses, whatever the bytes", () => {
    assertProperty("netlink", fc.property(fc.oneof(bent, fc.uint8Array({ maxLength: 200 })), readAll));
  });

  it("reads the rules that it wrote", () => {
    const u32 = fc.nat(0xffff_ffff);
    const rules = fc.record({
      family: fc.constantFrom<4 | 6>(4, 6), priority: u32, mark: u32, table: u32, protocol: fc.nat(255),
    });
    assertProperty("netlink", fc.property(rules, (rule) => {
      if (JSON.stringify(decodeRule(encodeRule(rule))) !== JSON.stringify(rule)) throw new Error("another rule came back");
    }));
  });

  it("reads the messages and attributes that it wrote", () => {
    const message = fc.record({
      type: fc.nat(0xffff), flags: fc.nat(0xffff), sequence: fc.nat(), payload: fc.uint8Array({ maxLength: 50 }),
    });
    assertProperty("netlink", fc.property(fc.array(message, { maxLength: 4 }), (messages) => {
      const read = decodeMessages(concatenated(...messages.map(encodeMessage)));
      if (JSON.stringify(read) !== JSON.stringify(messages)) throw new Error("another message came back");
    }));
    const attribute = fc.tuple(fc.nat(0x3fff), fc.uint8Array({ maxLength: 20 }));
    assertProperty("netlink", fc.property(fc.array(attribute, { maxLength: 5 }), (attributes) => {
      const read = decodeAttributes(concatenated(...attributes.map(([type, value]) => encodeAttribute(type, value))));
      for (const [type, value] of new Map(attributes)) {
        if (Buffer.compare(read.get(type) ?? new Uint8Array(99), value) !== 0) throw new Error("another value came back");
      }
    }));
  });
});
