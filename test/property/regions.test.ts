// The prefixes of regions against the library's own look-up: random databases, random networks over them, and for
// random addresses the same answer.

import { isIPv4 } from "node:net";
import fc from "fast-check";
import { Reader, type CountryResponse } from "maxmind";
import { describe, expect, it } from "vitest";
import { GeoDatabase } from "../../src/geo/database.ts";
import { regionColumns, type RegionRule } from "../../src/geo/prefixes.ts";
import { addressFromBytes, parsePrefix, prefixOf, type Prefix } from "../../src/model/address.ts";
import { NOWHERE, RegionPrefixes } from "../../src/model/regions.ts";
import { holdsAddress, mappedBits } from "../../src/model/service_address.ts";
import { address } from "../support/configs.ts";
import { assertProperty } from "../support/counts.ts";
import { country, mmdb, type MmdbEntries } from "../support/mmdb.ts";

const PLACES = [["DE", "EU"], ["FR", "EU"], ["US", "NA"], ["CA", "NA"], ["JP", "AS"]] as const;

/** Few distinct bits, so that prefixes nest and touch. */
const ipv4 = fc.tuple(fc.constantFrom(10, 11, 192), fc.constantFrom(0, 1, 128, 255), fc.nat(255), fc.nat(255))
  .map((parts) => address(parts.join(".")));
const ipv6 = fc.tuple(fc.constantFrom("2a00", "2a01", "fd00", "0", "2002", "2001", "ffff"), fc.constantFrom("0", "1", "8000", "ffff"), fc.nat(0xffff))
  .map(([first, second, last]) => address(`${first}:${second}::${last.toString(16)}`));
const host = fc.oneof(ipv4, ipv6);

const prefix = fc.tuple(host, fc.nat(32), fc.nat(128)).map(([at, short, long]) => prefixOf(at, at.family === 4 ? short : long));

const entries = fc.uniqueArray(fc.tuple(prefix, fc.constantFrom(...PLACES)), { maxLength: 20, selector: ([{ text }]) => text })
  .map((list): MmdbEntries => Object.fromEntries(list.map(([{ text }, place]) => [text, country(place[0], place[1])])));

const rules = fc.array(fc.record({
  countries: fc.subarray(PLACES.map(([iso]) => iso as string)), continents: fc.subarray(["EU", "NA", "AS"]),
  networks: fc.array(prefix.map(({ text }) => text), { maxLength: 2 }),
}), { minLength: 1, maxLength: 4 }).map(withoutRepeats);

/** check refuses a network in two regions. */
function withoutRepeats(list: readonly RegionRule[]): RegionRule[] {
  const seen = new Set<string>();
  return list.map((rule) => ({ ...rule, networks: rule.networks.filter((text) => !seen.has(text) && seen.add(text)) }));
}

const PASSED_OVER = ["2002::/16", "2001::/32"].map((text) => parsePrefix(text)!);
/** Where an IPv6 tree keeps IPv4. */
const IN_TREE = parsePrefix("::/96")!;

/** The same by the library, the first rule and the longest network. */
function expected(reader: Reader<CountryResponse>, list: readonly RegionRule[], bytes: Uint8Array): number {
  const networks = list.flatMap((rule, index) => rule.networks.map((text) => ({ network: parsePrefix(text)!, region: index + 1 })));
  const isIn = ({ address: { family } }: Prefix): boolean => family === addressFromBytes(bytes).family;
  const own = networks.filter(({ network }) => isIn(network) && holdsAddress(network, bytes))
    .sort((a, b) => mappedBits(b.network) - mappedBits(a.network))[0];
  if (own !== undefined) return own.region;
  if ([...PASSED_OVER, IN_TREE].some((each) => holdsAddress(each, bytes))) return NOWHERE;
  const record = reader.get(addressFromBytes(bytes).text);
  if (record === null) return NOWHERE;
  return 1 + list.findIndex(({ countries, continents }) =>
    countries.includes(record.country?.iso_code ?? "") || continents.includes(record.continent?.code ?? ""));
}

describe("prefixes of regions", () => {
  it("say of every address what the library and the networks say", () => {
    assertProperty("regions", fc.property(
      entries, rules, fc.constantFrom<24 | 28 | 32>(24, 28, 32), fc.boolean(), fc.array(host, { minLength: 1, maxLength: 40 }),
      (places, list, recordBits, aliases, hosts) => {
        const bytes = mmdb({ "192.0.2.0/31": country("DE", "EU"), ...places }, { recordBits, aliases });
        const reader = new Reader<CountryResponse>(bytes);
        const columns = regionColumns(new GeoDatabase(bytes), list);
        const prefixes = new RegionPrefixes("", null, columns);
        // Their own borders are where mistakes are.
        const borders = [...prefixes].flatMap(({ bytes: first, bits }) => bordersOf(first, bits));
        for (const each of [...hosts.map(({ bytes: own }) => own), ...borders]) {
          const region = prefixes.regionOf(each);
          expect(region, addressFromBytes(each).text).toBe(expected(reader, list, each));
          expect(prefixes.prefixOf(each) === null).toBe(region === NOWHERE);
        }
      },
    ));
  });

  it("are in order, overlap nowhere, and cannot be fewer", () => {
    assertProperty("regions", fc.property(entries, rules, (places, list) => {
      const bytes = mmdb({ "192.0.2.0/31": country("DE", "EU"), ...places });
      const all = [...new RegionPrefixes("", null, regionColumns(new GeoDatabase(bytes), list))];
      for (const [index, { bytes: first, bits, region }] of all.entries()) {
        const before = all[index - 1];
        if (before === undefined) continue;
        expect(Buffer.compare(Buffer.from(before.bytes), Buffer.from(first))).toBe(-1);
        expect(numberOf(before.bytes) + (1n << BigInt(128 - before.bits)) <= numberOf(first)).toBe(true);
        const parentOf = (each: Uint8Array): bigint => numberOf(each) >> BigInt(129 - bits);
        expect(before.bits === bits && before.region === region && parentOf(before.bytes) === parentOf(first)).toBe(false);
      }
    }));
  });
});

function numberOf(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).toString("hex")}`);
}

/** The first and last address, and those beside them. */
function bordersOf(first: Uint8Array, bits: number): Uint8Array[] {
  const from = numberOf(first);
  const to = from + (1n << BigInt(128 - bits));
  return [from - 1n, from, to - 1n, to].filter((each) => each >= 0n && each < 1n << 128n)
    .map((each) => Buffer.from(each.toString(16).padStart(32, "0"), "hex")).map((each) => Uint8Array.from(each));
}

it("the test's own reader takes what the test's own writer writes", () => {
  const reader = new Reader<CountryResponse>(mmdb({ "192.0.2.0/24": country("DE", "EU"), "2a00::/16": country("FR", "EU") }, { aliases: true }));
  expect(isIPv4("192.0.2.7") && reader.get("192.0.2.7")?.country?.iso_code).toBe("DE");
  expect(reader.get("2002:c000:0207::1")?.country?.iso_code).toBe("DE");
  expect(reader.get("2a00::1")?.country?.iso_code).toBe("FR");
  expect(reader.get("192.0.3.7")).toBe(null);
});
