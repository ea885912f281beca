// Outer sources of tunnels: within the prefix, never one of its ends, the same for the same hash.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parsePrefix, prefixOf, type Prefix } from "../../src/model/address.ts";
import {
  fixedSource, formatTunnelSource, hashMask, prefixOfMask, tunnelSourceOf, usedPrefix,
} from "../../src/model/tunnel_source.ts";
import { decodeDestination, encodeDestination } from "../../src/dataplane/xdp/map_values.ts";
import { UNRESOLVED } from "../../src/dataplane/xdp/image.ts";
import { featuresOf } from "../../src/dataplane/xdp/program_features.ts";
import type { Forwarding } from "../../src/model/config.ts";
import { address } from "../support/configs.ts";
import { assertProperty } from "../support/counts.ts";

function prefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  if (parsed === null) throw new RangeError(`${text} is no prefix`);
  return parsed;
}

const PREFIXES = [
  "10.0.0.0/8", "10.9.0.0/24", "10.9.0.128/30", "2001:db8:9::/64", "2001:db8:9::/96",
  "2001:db8:9::ab00/120", "2001:db8::/32",
].map(prefix);

describe("the outer source of a flow", () => {
  it("has the low bits of the hash below the prefix", () => {
    const sourceOf = (text: string, hash: number): string => tunnelSourceOf(prefix(text), hash).text;
    expect(sourceOf("10.9.0.0/24", 0xdead_be2a)).toBe("10.9.0.42");
    expect(sourceOf("10.0.0.0/8", 0xdead_be2a)).toBe("10.173.190.42");
    expect(sourceOf("10.9.0.128/30", 6)).toBe("10.9.0.130");
    expect(sourceOf("2001:db8:9::/64", 0xdead_be2a)).toBe("2001:db8:9::dead:be2a");
    expect(sourceOf("2001:db8:9::ab00/120", 0xdead_be2a)).toBe("2001:db8:9::ab2a");
  });

  it("is the address itself where there is only one", () => {
    expect(tunnelSourceOf(fixedSource(address("192.0.2.1")), 0xffff_ffff).text).toBe("192.0.2.1");
    expect(tunnelSourceOf(prefix("2001:db8::1/128"), 0xffff_ffff).text).toBe("2001:db8::1");
  });

  it("is neither the first address of the prefix nor the last", () => {
    expect(tunnelSourceOf(prefix("10.9.0.0/24"), 0xffff_ff00).text).toBe("10.9.0.1");
    expect(tunnelSourceOf(prefix("10.9.0.0/24"), 0x0000_00ff).text).toBe("10.9.0.254");
    expect(tunnelSourceOf(prefix("2001:db8:9::/64"), 0).text).toBe("2001:db8:9::1");
    expect(tunnelSourceOf(prefix("2001:db8:9::/64"), 0xffff_ffff).text).toBe("2001:db8:9::ffff:fffe");
  });

  it("lies in the prefix for every hash, and takes all of it but the ends", () => {
    assertProperty("address", fc.property(fc.constantFrom(...PREFIXES), fc.nat(0xffff_ffff), (of, hash) => {
      const source = tunnelSourceOf(of, hash);
      expect(prefixOf(source, of.length).text).toBe(of.text);
      expect(source.text).not.toBe(of.address.text);
      expect(tunnelSourceOf(usedPrefix(of), hash)).toEqual(source);
    }));
    const all = new Set(Array.from({ length: 256 }, (_, hash) =>
      tunnelSourceOf(prefix("10.9.0.0/24"), hash).text));
    expect(all.size).toBe(254);
  });
});

describe("a tunnel source in the kernel", () => {
  it("has 32 bits at most that vary, and comes back as the prefix that is used", () => {
    for (const each of PREFIXES) {
      const used = usedPrefix(each);
      expect(prefixOfMask(each.address, hashMask(each))).toEqual(used);
      const value = {
        identity: 1n, generation: 1, given: true, live: true, admits: true, resets: false, forwarding: "ipip" as const, gue: null,
        address: each.address, port: null, pickWeight: 0, tunnelSource: used, nextHopActive: 0 as const,
        nextHops: [UNRESOLVED, UNRESOLVED] satisfies [unknown, unknown],
      };
      const bytes = encodeDestination({ ...value, nextHops: [UNRESOLVED, UNRESOLVED] });
      expect(decodeDestination(bytes)?.tunnelSource).toEqual(used);
    }
    expect(usedPrefix(prefix("2001:db8:9::/64")).text).toBe("2001:db8:9::/96");
    expect(hashMask(prefix("10.9.0.0/24"))).toBe(0xff);
    expect(hashMask(prefix("2001:db8:9::/64"))).toBe(0xffff_ffff);
    expect(hashMask(prefix("10.9.0.1/32"))).toBe(0);
  });

  it("costs nothing unless a tunnel's source varies", () => {
    const features = (forwarding: Forwarding, source: string | null): boolean => featuresOf({ keys: [],
      versions: [], forwardings: [forwarding], action: "keep", icmpIntervalNs: 0n, hasTunnelEnds: false,
      tunnelSources: [null, source === null ? null : prefix(source)],
    }).has("featureTunnelVariation");
    for (const tunnel of ["ipip", "gue", "gre"] as const) {
      expect(features(tunnel, "10.9.0.0/24")).toBe(true);
    }
    expect(features("ipip", "10.9.0.1/32")).toBe(false);
    expect(features("ipip", null)).toBe(false);
    expect(features("l2", "10.9.0.0/24")).toBe(false);
  });
});

it("is written as in configs: a single address without its length", () => {
  expect(formatTunnelSource(prefix("10.9.0.0/24"))).toBe("10.9.0.0/24");
  expect(formatTunnelSource(prefix("10.9.0.1/32"))).toBe("10.9.0.1");
  expect(formatTunnelSource(prefix("2001:db8::1/128"))).toBe("2001:db8::1");
});
