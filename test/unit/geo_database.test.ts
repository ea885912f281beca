// Databases in MaxMind's format: what is taken, what is refused and in which words, and where the country of a
// record comes from.

import { describe, expect, it } from "vitest";
import { makeRegions, makeRegionsAside, type RegionsMade } from "../../src/geo/load.ts";
import type { RegionRule } from "../../src/geo/prefixes.ts";
import { RegionPrefixes } from "../../src/model/regions.ts";
import { address } from "../support/configs.ts";
import { country, mmdb, type MmdbEntries } from "../support/mmdb.ts";

const EU: RegionRule = { countries: [], continents: ["EU"], networks: [] };
const DE: RegionRule = { countries: ["DE"], continents: [], networks: [] };

function prefixesOf(made: RegionsMade): RegionPrefixes {
  if ("reason" in made) throw new Error(made.reason);
  return new RegionPrefixes("key", made.source, made.columns[0]!);
}

function textsOf(bytes: Uint8Array | null, rules: readonly RegionRule[]): string[] {
  const prefixes = prefixesOf(makeRegions(bytes, [rules]));
  return [...prefixes].map(({ bytes: first, region }) => `${prefixes.prefixOf(first)?.text} ${region}`);
}

function reasonOf(bytes: Uint8Array, rules: readonly RegionRule[] = [EU]): string {
  const made = makeRegions(bytes, [rules]);
  return "reason" in made ? made.reason : "none";
}

const PLACES: MmdbEntries = {
  "192.0.2.0/25": country("DE", "EU"), "192.0.2.128/25": country("FR", "EU"), "198.51.100.0/24": country("US", "NA"),
  "2a00::/32": country("DE", "EU"), "2a00:0:8000::/33": country("US", "NA"),
};

describe("prefixes of regions", () => {
  it("are joined where neighbours are of one region, in trees of every record size and of IPv4 alone", () => {
    for (const recordBits of [24, 28, 32] as const) {
      expect(textsOf(mmdb(PLACES, { recordBits }), [EU])).toEqual(["192.0.2.0/24 1", "2a00::/33 1"]);
      expect(textsOf(mmdb(PLACES, { recordBits, aliases: true }), [DE, EU])).toEqual(["192.0.2.0/25 1", "192.0.2.128/25 2", "2a00::/33 1"]);
    }
    expect(textsOf(mmdb({ "192.0.2.0/24": country("DE", "EU") }, { ipVersion: 4 }), [EU])).toEqual(["192.0.2.0/24 1"]);
    const ipv4 = prefixesOf(makeRegions(mmdb({ "0.0.0.0/0": country("DE", "EU") }, { ipVersion: 4 }), [[EU]]));
    expect([ipv4.regionOf(address("255.255.255.255").bytes), ipv4.regionOf(address("2a00::1").bytes)]).toEqual([1, 0]);
  });

  it("know an IPv4 client however it is written, and leave 6to4 and Teredo to nobody", () => {
    const prefixes = prefixesOf(makeRegions(mmdb(PLACES, { aliases: true }), [[EU]]));
    for (const [text, region] of Object.entries({
      "192.0.2.1": 1, "::ffff:192.0.2.1": 1, "::c000:201": 0, "2002:c000:0201::1": 0, "2001:0:c000:201::1": 0, "2a00::1": 1, "198.51.100.1": 0,
    })) expect(prefixes.regionOf(address(text).bytes), text).toBe(region);
  });

  it("give networks the last word, the longer to longer ones, and keep IPv6's from IPv4", () => {
    const inside: RegionRule = { countries: [], continents: [], networks: ["10.0.0.0/8", "192.0.2.64/26", "::/0"] };
    const lab: RegionRule = { countries: [], continents: [], networks: ["10.1.0.0/16"] };
    const prefixes = prefixesOf(makeRegions(mmdb(PLACES), [[EU, inside, lab]]));
    for (const [text, region] of Object.entries({
      "10.0.0.1": 2, "10.1.0.1": 3, "10.2.0.1": 2, "192.0.2.63": 1, "192.0.2.64": 2, "192.0.2.128": 1, "11.0.0.1": 0,
      "2a00::1": 2, "fd00::1": 2, "2002::1": 2, "::1": 2,
    })) expect(prefixes.regionOf(address(text).bytes), text).toBe(region);
    expect(textsOf(null, [inside, lab]).filter((text) => text.includes("."))).toContain("10.1.0.0/16 2");
  });

  it("go by the country, then by where addresses are registered, and never by who is represented there", () => {
    const registered = { registered_country: { iso_code: "DE" } };
    expect(textsOf(mmdb({ "192.0.2.0/24": registered }), [DE])).toEqual(["192.0.2.0/24 1"]);
    expect(textsOf(mmdb({ "192.0.2.0/24": { ...country("US", "NA") as object, ...registered } }), [DE])).toEqual([]);
    expect(textsOf(mmdb({ "192.0.2.0/24": { ...country("US", "NA") as object, represented_country: { iso_code: "DE" } } }), [DE])).toEqual([]);
    expect(textsOf(mmdb({ "192.0.2.0/24": { country_code: "DE", continent_code: "EU" } }), [EU])).toEqual(["192.0.2.0/24 1"]);
    const odd = mmdb({ "192.0.2.0/24": { country: { iso_code: 49 } }, "198.51.100.0/24": country("DE", "EU") });
    expect(textsOf(odd, [DE])).toEqual(["198.51.100.0/24 1"]);
  });
});

describe("a database that cannot be used", () => {
  it("is refused in words", () => {
    const whole = mmdb(PLACES);
    const cut = "it is no database in MaxMind's format, or was cut off";
    expect(reasonOf(new Uint8Array(0))).toBe(cut);
    expect(reasonOf(Buffer.from("<html>404</html>"))).toBe(cut);
    expect(reasonOf(whole.subarray(0, whole.length - 200))).toBe(cut);
    expect(reasonOf(whole.subarray(40))).toBe("its search tree is not as long as its metadata say: it was cut off or mixed up");
    expect(reasonOf(mmdb(PLACES, { metadata: { binary_format_major_version: 3 } }))).toBe("its format has version 3, not 2");
    expect(reasonOf(mmdb(PLACES, { metadata: { ip_version: 5 } }))).toBe("its metadata make no sense");
    expect(reasonOf(mmdb(PLACES, { metadata: { record_size: 20 } }))).toBe(cut);
    expect(reasonOf(mmdb(PLACES, { metadata: { build_epoch: "never" } }))).toBe("its metadata make no sense");
  });

  it("holds something else than countries, or no continents", () => {
    const asn = mmdb({ "192.0.2.0/24": { autonomous_system_number: 64_496 } }, { type: "Test-ASN" });
    expect(reasonOf(asn)).toBe("it is called Test-ASN, and its records have no continents");
    expect(reasonOf(asn, [DE])).toBe("it is called Test-ASN, and its records have no countries");
    const flat = mmdb({ "192.0.2.0/24": { country_code: "DE" } });
    expect([reasonOf(flat, [DE]), reasonOf(flat)]).toEqual(["none", "it is called Test-Country, and its records have no continents"]);
  });

  it("leads round in circles, or to records that are none", () => {
    const circle = mmdb(PLACES);
    circle.fill(0, 0, 6); // both sides of the first node are the first node
    expect(reasonOf(circle)).toBe("its search tree leads round in circles");
    const far = mmdb({ "128.0.0.0/1": country("DE", "EU") }, { ipVersion: 4 });
    far.writeUIntBE(0xfffff0, 3, 3);
    expect(reasonOf(far)).toContain("its record for 128.0.0.0 cannot be read");
  });

  it("does not survive a change of any one of its bytes with an error of the program", () => {
    const whole = mmdb(PLACES);
    for (let at = 0; at < whole.length; at++) {
      for (const flip of [0xff, 0x01]) {
        const broken = Buffer.from(whole);
        broken[at]! ^= flip;
        expect(() => makeRegions(broken, [[EU]]), `byte ${at}`).not.toThrow();
      }
    }
  });
});

it("a large database is walked in a thread of its own, with the same outcome", async () => {
  const places = Object.fromEntries(Array.from({ length: 10_000 }, (_, at) => [`10.${at >> 8}.${at & 255}.0/24`, country(at % 3 === 0 ? "DE" : "US", "EU")]));
  const bytes = mmdb({ ...places }, { recordBits: 32 });
  expect(bytes.length).toBeGreaterThan(64 * 1024);
  const aside = await makeRegionsAside(bytes, [[DE], [EU]]);
  expect(aside).toEqual(makeRegions(bytes, [[DE], [EU]]));
  // Each third /24 for itself; and of all of them one prefix for each bit of 10,000.
  expect("columns" in aside && aside.columns.map(({ bits }) => bits.length)).toEqual([3334, 5]);
  expect(await makeRegionsAside(bytes.subarray(7), [[DE]])).toHaveProperty("reason");
});
