// Most specific wins, three times over: serviceOf() against an oracle that tries every service, the
// groups of the kernel's tries against serviceOf(), and how few entries a group has.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { groupsOf } from "../../src/dataplane/xdp/groups.ts";
import type { GroupImage, Wildcard } from "../../src/dataplane/xdp/groups.ts";
import { parseAddress, prefixOf } from "../../src/model/address.ts";
import type { Address, Prefix } from "../../src/model/address.ts";
import {
  ANY_PORT, formatPorts, formatServiceAddress, isExact, parsePorts, portCount,
} from "../../src/model/service_address.ts";
import type { PortRange } from "../../src/model/service_address.ts";
import { isVirtualAddress, serviceOf } from "../../src/model/service_lookup.ts";
import { EMPTY_LEDGER } from "../../src/model/table.ts";
import type { ForwardingTable, Service } from "../../src/model/table.ts";
import { compile } from "../../src/model/compile.ts";
import { configOf } from "../support/configs.ts";
import { assertProperty } from "../support/counts.ts";
import { serviceAt } from "../support/service_at.ts";

const template = compile(
  {
    config: configOf({ pools: { web: ["a"] }, services: [{ name: "web" }] }), hashSeed: 1n,
    overrides: [], health: new Map(), nowMs: 0,
  },
  { ledger: EMPTY_LEDGER, generation: 0 },
);

function at(text: string): Address {
  const address = parseAddress(text);
  if (address === null) throw new Error(text);
  return address;
}

const addresses = fc.tuple(fc.constantFrom("203.0.113.", "2001:db8::"), fc.integer({ min: 1, max: 9 }))
  .map(([start, last]) => at(`${start}${last}`));
const networks = fc.tuple(addresses, fc.constantFrom(0, 0, 0, 1, 2, 3, 8, 12))
  .map(([address, hostBits]) => prefixOf(address, (address.family === 4 ? 32 : 128) - hostBits));

/** Few edges, so that ranges meet; crossing ones are sorted out below. */
const edges = fc.oneof(
  fc.constantFrom(1, 2, 79, 80, 81, 443, 8000, 8001, 32_767, 32_768, 65_534, 65_535),
  fc.integer({ min: 1, max: 65_535 }),
);
const ranges = fc.oneof(
  { weight: 1, arbitrary: fc.constant(ANY_PORT) },
  { weight: 2, arbitrary: edges.map((port) => ({ from: port, to: port })) },
  {
    weight: 5,
    arbitrary: fc.tuple(edges, edges).map(([a, b]) => ({ from: Math.min(a, b), to: Math.max(a, b) })),
  },
);

interface Place {
  readonly network: Prefix;
  readonly ports: PortRange;
  readonly protocol: "tcp" | "udp";
}

function cross(a: PortRange, b: PortRange): boolean {
  const apart = a.to < b.from || b.to < a.from;
  const within = (inner: PortRange, outer: PortRange): boolean =>
    outer.from <= inner.from && inner.to <= outer.to;
  return !apart && !within(a, b) && !within(b, a);
}

/** As `check` lets them pass: no two alike, and none that cross at one prefix. */
const places = fc.array(fc.record({
  network: networks, ports: ranges, protocol: fc.constantFrom("tcp", "udp"),
}), { maxLength: 12 }).map((drawn) => drawn.reduce<Place[]>((kept, place) => {
  const same = kept.filter(({ network, protocol }) =>
    network.text === place.network.text && protocol === place.protocol);
  const refused = same.some(({ ports }) => cross(ports, place.ports)
    || (ports.from === place.ports.from && ports.to === place.ports.to));
  return refused ? kept : [...kept, place];
}, []));

function tableOf(all: readonly Place[]): ForwardingTable {
  const [service] = template.services as [Service];
  const services = all.map((place, index): Service =>
    ({ ...service, index, name: `s${index}`, config: { ...service.config, ...place } }));
  return { ...template, services };
}

/** Bit by bit and port by port: shares nothing with what it judges. */
function oracle(all: readonly Place[], address: Address, port: number, protocol: "tcp" | "udp"): number {
  const bitsOf = (bytes: Uint8Array): string =>
    [...bytes].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  const lengthOf = ({ address: { family }, length }: Prefix): number => (family === 4 ? 96 : 0) + length;
  let best = -1;
  all.forEach((place, index) => {
    const length = lengthOf(place.network);
    const start = bitsOf(place.network.address.bytes).slice(0, length);
    if (place.protocol !== protocol || !bitsOf(address.bytes).startsWith(start)) return;
    if (port < place.ports.from || port > place.ports.to) return;
    const rival = all[best];
    const wins = rival === undefined || length > lengthOf(rival.network)
      || (length === lengthOf(rival.network) && place.ports.to - place.ports.from < rival.ports.to - rival.ports.from);
    if (wins) best = index;
  });
  return best;
}

/** The ports where something begins or ends, and their neighbours. */
function portsAround(all: readonly Place[]): number[] {
  const found = all.flatMap(({ ports }) =>
    [ports.from - 1, ports.from, Math.floor((ports.from + ports.to) / 2), ports.to, ports.to + 1]);
  return [...new Set([0, 65_535, ...found])].filter((port) => port >= 0 && port <= 65_535);
}

const asked = fc.array(addresses, { minLength: 1, maxLength: 4 });

describe("serviceOf()", () => {
  it("finds the longest prefix, and in it the narrowest range", () => {
    assertProperty("lookup", fc.property(places, asked, (all, clients) => {
      const table = tableOf(all);
      for (const address of clients) {
        const owners = new Set<number>();
        for (const port of portsAround(all)) {
          for (const protocol of ["tcp", "udp"] as const) {
            const found = serviceOf(table, address.bytes, port, protocol === "tcp" ? 6 : 17);
            const expected = oracle(all, address, port, protocol);
            expect(found?.index ?? -1, `${protocol} ${address.text} ${port}`).toBe(expected);
            owners.add(expected);
          }
        }
        if (owners.size > 1 || !owners.has(-1)) expect(isVirtualAddress(table, address.bytes)).toBe(true);
        expect(serviceOf(table, address.bytes, 80, 1)).toBeNull();
      }
    }));
  });
});

/** What the program does with both tries. */
function inTries(groups: ReadonlyMap<string, GroupImage>, address: Address, port: number, protocol: string): number {
  for (let length = address.family === 4 ? 32 : 128; length >= 0; length -= 1) {
    const group = groups.get(prefixOf(address, length).text);
    if (group === undefined) continue;
    const [entry] = [...group.entries.values()].filter((one) => one.protocol === protocol
      && one.port >> (16 - one.bits) === port >> (16 - one.bits)).sort((a, b) => b.bits - a.bits);
    return entry?.index ?? -1;
  }
  return -1;
}

describe("groupsOf()", () => {
  it("leads where serviceOf() does, for every service that is not exact", () => {
    assertProperty("lookup", fc.property(places, asked, (all, clients) => {
      const wildcards = all.flatMap((place, index): Wildcard[] => isExact(place) ? [] : [{ ...place, index }]);
      const groups = groupsOf(wildcards);
      const table = tableOf(all);
      for (const address of clients) {
        for (const port of portsAround(all)) {
          for (const protocol of ["tcp", "udp"] as const) {
            const found = serviceOf(table, address.bytes, port, protocol === "tcp" ? 6 : 17);
            if (found !== null && isExact(found.config)) continue;
            expect(inTries(groups, address, port, protocol)).toBe(found?.index ?? -1);
          }
        }
      }
    }));
  });

  const sizeOf = (...all: (readonly [string, string])[]): Record<string, number> => {
    const wildcards = all.map(([where, ports], index): Wildcard =>
      ({ ...serviceAt(where, ports), protocol: "tcp", index }));
    return Object.fromEntries([...groupsOf(wildcards)].map(([text, { entries }]) => [text, entries.size]));
  };

  it("needs few entries", () => {
    expect(sizeOf(["203.0.113.0/24", "any"])).toEqual({ "203.0.113.0/24": 1 });
    expect(sizeOf(["203.0.113.0/24", "8000-8063"])).toEqual({ "203.0.113.0/24": 1 });
    expect(sizeOf(["203.0.113.0/24", "any"], ["203.0.113.0/24", "8000-8099"])).toEqual({ "203.0.113.0/24": 4 });
    // Every port but one: the worst range, and the same as a hole in "any".
    expect(sizeOf(["203.0.113.0/24", "2-65535"])).toEqual({ "203.0.113.0/24": 15 });
    expect(sizeOf(["203.0.113.0/24", "1-65534"])).toEqual({ "203.0.113.0/24": 30 });
    expect(sizeOf(["203.0.113.0/24", "any"], ["203.0.113.0/24", "443"])).toEqual({ "203.0.113.0/24": 2 });
  });

  it("are equal for prefixes that offer the same, and flat", () => {
    const wildcards = [["203.0.113.0/24", "any"], ["203.0.113.0/28", "80-81"], ["203.0.113.16/28", "80-81"]]
      .map(([where, ports], at): Wildcard =>
        ({ ...serviceAt(where!, ports!), protocol: "udp", index: Math.min(at, 1) }));
    const groups = groupsOf(wildcards);
    expect(groups.get("203.0.113.0/28")?.key).toBe(groups.get("203.0.113.16/28")?.key);
    expect([...groups.get("203.0.113.0/28")!.entries.keys()].sort()).toEqual(["udp 80-81", "udp any"]);
  });
});

describe("ports", () => {
  it("come back from their texts", () => {
    assertProperty("lookup", fc.property(ranges, (ports) => {
      expect(parsePorts(formatPorts(ports))).toEqual(ports);
      expect(portCount(ports)).toBeGreaterThan(0);
    }));
  });

  it.each(["", "0", "65536", "80-", "-80", "80-80", "81-80", "080", "80-070", "1-65536", "Any", " 80", "80 - 90", "8e1"])(
    "%j is none", (text) => { expect(parsePorts(text)).toBeNull(); },
  );

  it.each([
    [serviceAt("203.0.113.10", 443), "203.0.113.10:443"],
    [serviceAt("203.0.113.10/32", 443), "203.0.113.10:443"],
    [serviceAt("203.0.113.0/28", "8000-8099"), "203.0.113.0/28:8000-8099"],
    [serviceAt("2001:db8:1::/64", "any"), "[2001:db8:1::/64]:any"],
    [serviceAt("2001:db8::10", "any"), "[2001:db8::10]:any"],
  ])("%# as people read it", (place, text) => {
    expect(formatServiceAddress(place)).toBe(text);
  });
});
