// The PROXY protocol's headers byte by byte, against the examples and tables of its specification.

import { describe, expect, it } from "vitest";
import { proxyHeaderV1, proxyHeaderV2 } from "../../src/model/proxy_protocol.ts";
import { address } from "../support/proxy_world.ts";

const FOUR = {
  source: address("192.168.0.1"), sourcePort: 56324, destination: address("192.168.0.11"), destinationPort: 443,
};
const SIX = {
  source: address("2001:db8::1"), sourcePort: 1, destination: address("2001:db8::2"), destinationPort: 65535,
};
const SIGNATURE = "0d0a0d0a000d0a515549540a";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

describe("version 1", () => {
  it("is the line of the specification's example", () => {
    expect(text(proxyHeaderV1(FOUR))).toBe("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n");
    expect(text(proxyHeaderV1(SIX))).toBe("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n");
  });

  it("stays within the 107 bytes a receiver has to take", () => {
    const longest = address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe");
    const header = proxyHeaderV1({ source: longest, sourcePort: 65535, destination: longest, destinationPort: 65535 });
    expect(header.length).toBeLessThanOrEqual(107);
  });

  it("does not mix families", () => {
    expect(text(proxyHeaderV1({ ...FOUR, source: SIX.source }))).toBe("PROXY UNKNOWN\r\n");
  });
});

describe("version 2", () => {
  it("has the signature, PROXY, family and protocol, length, addresses, ports", () => {
    expect(hex(proxyHeaderV2(FOUR, "tcp"))).toBe(`${SIGNATURE}21` + "11" + "000c" + "c0a80001" + "c0a8000b" + "dc04" + "01bb");
    expect(hex(proxyHeaderV2(FOUR, "udp"))).toBe(`${SIGNATURE}21` + "12" + "000c" + "c0a80001" + "c0a8000b" + "dc04" + "01bb");
    const addresses = "20010db8000000000000000000000001" + "20010db8000000000000000000000002";
    expect(hex(proxyHeaderV2(SIX, "tcp"))).toBe(`${SIGNATURE}21` + "21" + "0024" + addresses + "0001" + "ffff");
    expect(hex(proxyHeaderV2(SIX, "udp"))).toBe(`${SIGNATURE}21` + "22" + "0024" + addresses + "0001" + "ffff");
  });

  it("writes mixed families as IPv6", () => {
    const header = proxyHeaderV2({ ...FOUR, destination: SIX.destination }, "tcp");
    expect(hex(header.subarray(13, 16))).toBe("210024");
    expect(hex(header.subarray(16, 32))).toBe("00000000000000000000ffffc0a80001");
  });
});
