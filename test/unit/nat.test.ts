// Which source a translated flow gets, and when it is over: the rules that the XDP program has too.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isNatOver, NAT_PROBES, natSource, natTable } from "../../src/model/nat.ts";
import type { NatSeen, SourceWanted } from "../../src/model/nat.ts";
import { parseAddress } from "../../src/model/address.ts";
import type { Address } from "../../src/model/address.ts";
import { assertProperty } from "../support/counts.ts";
import { NAT } from "../support/configs.ts";

const address = (text: string): Address => parseAddress(text)!;
const OWN = address("198.18.0.1").bytes;
const WANTED: SourceWanted = { hash: 0, client: null, family: 4, ownAddress: OWN };

describe("the ports of a node", () => {
  it("are its part of the range, and nobody else's", () => {
    assertProperty("table", fc.property(
      fc.integer({ min: 1024, max: 60_000 }), fc.integer({ min: 256, max: 5000 }), fc.integer({ min: 1, max: 256 }),
      (from, size, nodes) => {
        const to = Math.min(65_535, from + size - 1);
        const parts = Array.from({ length: nodes }, (_, node) =>
          natTable({ ...NAT, ports: { from, to }, nodes, node }, 1).ports);
        for (const [node, { first, count }] of parts.entries()) {
          expect(count).toBe(Math.floor((to - from + 1) / nodes));
          expect(first).toBe(from + node * count);
          expect(first + count - 1).toBeLessThanOrEqual(to);
        }
      },
    ));
  });
});

describe("the source of a flow", () => {
  it("is within this node's ports and one of the addresses, at any hash and probe", () => {
    const sources = ["198.18.0.7", "198.18.0.8", "198.18.0.9", "2001:db8::7"].map(address);
    const table = natTable({ ...NAT, sources }, 1);
    assertProperty("table", fc.property(fc.nat(0xffff_ffff), fc.nat(NAT_PROBES - 1), (hash, probe) => {
      const found = natSource(table, { ...WANTED, hash }, probe)!;
      expect(sources.slice(0, 3).map(({ bytes }) => bytes)).toContainEqual(found.address);
      expect(found.port).toBeGreaterThanOrEqual(NAT.ports.from);
      expect(found.port).toBeLessThanOrEqual(NAT.ports.to);
    }));
    expect(natSource(table, { ...WANTED, family: 6 }, 0)?.address).toEqual(sources[3]?.bytes);
  });

  it("spreads over all addresses and ports, and 32 probes hit 32 of them", () => {
    const table = natTable({ ...NAT, sources: [address("198.18.0.7"), address("198.18.0.8")] }, 1);
    const met = Array.from({ length: NAT_PROBES }, (_, probe) => natSource(table, { ...WANTED, hash: 77 }, probe)!);
    expect(new Set(met.map(({ address: at, port }) => `${at.join()} ${port}`)).size).toBe(NAT_PROBES);
    const hashes = Array.from({ length: 10_000 }, (_, index) => Math.imul(index, 429_497) >>> 0);
    const half = hashes.filter((hash) => natSource(table, { ...WANTED, hash }, 0)?.address[15] === 7).length;
    expect(half).toBeGreaterThan(4900);
    expect(half).toBeLessThan(5100);
  });

  it("is the client's own in nat, then a port of ours under the client's address", () => {
    const table = natTable(NAT, 1);
    const client = { address: address("192.0.2.7").bytes, port: 99 };
    expect(natSource(table, { ...WANTED, client }, 0)).toEqual(client);
    const second = natSource(table, { ...WANTED, client }, 1)!;
    expect(second.address).toBe(client.address);
    expect(second.port).toBeGreaterThanOrEqual(NAT.ports.from);
  });

  it("is this host's own address where none is given, and none where that is not known", () => {
    expect(natSource(natTable(NAT, 1), WANTED, 0)?.address).toBe(OWN);
    expect(natSource(natTable(NAT, 1), { ...WANTED, ownAddress: null }, 0)).toBeNull();
  });
});

describe("a flow is over", () => {
  const seen = (lastSeenNs: bigint, changes: Partial<NatSeen> = {}): NatSeen =>
    ({ lastSeenNs, fin: false, rst: false, answered: false, ...changes });
  const SECOND = 1_000_000_000n;
  const [TCP, UDP] = [6, 17];
  const { timeouts } = NAT;

  it.each([
    ["before the backend answered", TCP, {}, {}, timeouts.synMs],
    ["after it answered a SYN, of which nobody knows who sent it", TCP, { answered: true }, {}, timeouts.synMs],
    ["after the client alone said more", TCP, {}, { answered: true }, timeouts.synMs],
    ["after it answered, and the client that", TCP, { answered: true }, { answered: true }, timeouts.establishedMs],
    ["after the backend's FIN", TCP, { answered: true, fin: true }, {}, timeouts.finMs],
    ["after the client's FIN", TCP, { answered: true }, { fin: true }, timeouts.finMs],
    ["after an RST, whatever FIN there was", TCP, { answered: true, fin: true }, { rst: true }, timeouts.rstMs],
    ["of UDP", UDP, { answered: true }, {}, timeouts.udpMs],
  ] as const)("%s", (_what, protocol, reply, forward, lifeMs) => {
    const life = BigInt(lifeMs) * 1_000_000n;
    const over = (nowNs: bigint): boolean =>
      isNatOver(seen(5n * SECOND, reply), seen(9n * SECOND, forward), protocol, timeouts, nowNs);
    // The later packet of either direction counts.
    expect(over(9n * SECOND + life)).toBe(false);
    expect(over(9n * SECOND + life + 1n)).toBe(true);
  });

  it("by what is there, when one direction is gone", () => {
    expect(isNatOver(seen(SECOND), null, TCP, timeouts, 31n * SECOND)).toBe(false);
    expect(isNatOver(seen(SECOND), null, TCP, timeouts, 31n * SECOND + 1n)).toBe(true);
    expect(isNatOver(seen(SECOND, { answered: true }), null, TCP, timeouts, 31n * SECOND + 1n)).toBe(false);
  });
});
