// Who else may have a flow: what a packet names for the second chance, and the bytes that are left free for it.

import { describe, expect, it } from "vitest";
import { parseAddress } from "../../src/model/address.ts";
import { alternatesBytesMax, nameable } from "../../src/model/alternates.ts";
import type { Destination, ForwardingTable } from "../../src/model/table.ts";
import { tunnelOverhead } from "../../src/model/tunnel_overhead.ts";

const GUE = { port: 6080, variant: 0 } as const;

function destination(id: number, changes: Partial<Destination> = {}): Destination {
  const made = { id, address: parseAddress(`10.0.0.${id}`)!, forwarding: "gue", gue: GUE, alive: true, ...changes };
  return made as Destination;
}

function named(others: readonly Destination[], candidates: readonly number[], chosen = destination(1)): readonly number[] {
  const table = { destinations: new Map([chosen, ...others].map((each) => [each.id, each])) } as unknown as ForwardingTable;
  return nameable(table, { local: (id) => id === 9 }, chosen, candidates);
}

describe("the alternates of a packet", () => {
  const [two, three, four] = [destination(2), destination(3), destination(4)];

  it("are the others, in order and each once", () => {
    expect(named([two, three], [3, 2])).toEqual([3, 2]);
    expect(named([two, three], [1, 2])).toEqual([2]);
    expect(named([two], [2, 2])).toEqual([2]);
    expect(named([two], [0, 1])).toEqual([]);
    expect(named([two, three, four], [2, 3, 4])).toEqual([2, 3]);
  });

  it("are alive, other hosts, and reached by the same tunnel", () => {
    const wrong: readonly Partial<Destination>[] = [
      { alive: false }, { forwarding: "ipip", gue: null }, { forwarding: "gre", gue: null }, { gue: { port: 6081, variant: 0 } },
      { gue: { port: 6080, variant: 1 } }, { address: parseAddress("fd00::2")! },
    ];
    for (const changes of wrong) expect(named([destination(2, changes), three], [2, 3])).toEqual([3]);
    expect(named([destination(9), three], [9, 3])).toEqual([3]);
    expect(named([three], [8, 3])).toEqual([3]);
  });

  it("are one in a GRE key, and none where there is no room", () => {
    const by = (changes: Partial<Destination>): readonly number[] =>
      named([destination(2, changes), destination(3, changes)], [2, 3], destination(1, changes));
    const ipv6 = { address: parseAddress("fd00::1")! };
    expect(by({ forwarding: "gre", gue: null })).toEqual([2]);
    expect(by({ forwarding: "gre", gue: null, ...ipv6 })).toEqual([]);
    expect(by({ forwarding: "ipip", gue: null })).toEqual([]);
    expect(by({ forwarding: "gue", gue: { port: 6080, variant: 1 } })).toEqual([]);
    expect(by(ipv6)).toEqual([2, 3]);
  });
});

it("leaves as many bytes free as names may take, whoever is named", () => {
  const bytes = (forwarding: "gue" | "gre" | "ipip", family: 4 | 6, variant: 0 | 1 = 0): number =>
    alternatesBytesMax({ forwarding, gue: { port: 6080, variant }, secondChance: true }, family);
  expect([bytes("gue", 4), bytes("gue", 6), bytes("gue", 4, 1)]).toEqual([12, 36, 0]);
  expect([bytes("gre", 4), bytes("gre", 6), bytes("ipip", 4)]).toEqual([4, 0, 0]);
  expect(tunnelOverhead({ forwarding: "gue", gue: GUE, secondChance: true }, 6)).toBe(40 + 8 + 4 + 36);
  expect(tunnelOverhead({ forwarding: "gue", gue: GUE, secondChance: false }, 6)).toBe(40 + 8 + 4);
});
