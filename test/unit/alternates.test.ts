// Who else may have a flow: what a packet names for the second chance, and the bytes that are left free for it.

import { describe, expect, it } from "vitest";
import { parseAddress } from "../../src/model/address.ts";
import { alternatesBytesMax, nameable } from "../../src/model/alternates.ts";
import { compile } from "../../src/model/compile.ts";
import type { Tracking } from "../../src/model/config.ts";
import { decide, type Decision, type FlowEntry, type Packet } from "../../src/model/decide.ts";
import { EMPTY_LEDGER, type Destination, type ForwardingTable } from "../../src/model/table.ts";
import { tunnelOverhead } from "../../src/model/tunnel_overhead.ts";
import { configOf } from "../support/configs.ts";

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

describe("a flow that was another balancer's", () => {
  const WINDOW_MS = 1000;

  /** A balancer that makes changes, window after window, and has one flow. */
  class Balancer {
    #nowMs = 1;
    #table: ForwardingTable | null = null;
    flow: FlowEntry | null = null;
    readonly #tracking: Tracking;

    constructor(tracking: Tracking) { this.#tracking = tracking; }

    /** These backends are there from now on. */
    change(...names: readonly string[]): void {
      const { ledger, generation } = this.#table ?? { ledger: EMPTY_LEDGER, generation: 0 };
      const config = configOf({
        pools: { web: names }, services: [{
          name: "web", forwarding: "gue", secondChance: true, tracking: this.#tracking, changeWindowMs: WINDOW_MS, flowIdleMs: 900_000,
        }],
      });
      this.#table = compile({ config, hashSeed: 7n, overrides: [], health: new Map(), nowMs: 1 }, {
        ledger, generation, changes: { nowMs: this.#nowMs, shown: ledger, sweeps: new Map() },
      });
    }

    /** The window closes. */
    settle(...names: readonly string[]): void {
      this.#nowMs += WINDOW_MS;
      this.change(...names);
    }

    owner(sourcePort: number): number {
      return this.#send(sourcePort, true).destination!.id;
    }

    /** Whom a packet of the open connection reaches, in order; the flow is remembered as it says. */
    reaches(sourcePort: number): readonly number[] {
      const { destination, alternates = [], effects } = this.#send(sourcePort, false);
      for (const effect of effects) {
        if (effect.kind === "remember") this.flow = { ...effect, lastSeenNs: BigInt(this.#nowMs) * 1_000_000n };
      }
      return [destination!.id, ...alternates];
    }

    #send(sourcePort: number, syn: boolean): Decision {
      const packet: Packet = {
        kind: "flow", family: 4, source: parseAddress("198.51.100.7")!.bytes, destination: parseAddress("203.0.113.10")!.bytes,
        protocol: 6, sourcePort, destinationPort: 80, syn, ack: !syn, fin: false, rst: false, tellable: false, ttl: 64,
      };
      const nowNs = BigInt(this.#nowMs) * 1_000_000n;
      return decide(this.#table!, { flow: this.flow, nowNs, heartbeatNs: null, neighbour: () => true }, packet);
    }
  }

  it.each(["minimal", "full"] as const)("is found, whatever changes later, with tracking: %s", (tracking) => {
    const ports = Array.from({ length: 400 }, (_, at) => 1024 + at);
    let moved = 0;
    for (const port of ports) {
      const balancer = new Balancer(tracking);
      balancer.change("a", "b");
      const before = balancer.owner(port);
      balancer.change("a", "b", "c");
      // The other balancer saw it begin in the window.
      const home = balancer.owner(port);
      expect(balancer.reaches(port)).toContain(home);
      if (home === before) continue;
      moved += 1;
      expect(balancer.flow).toMatchObject({ destination: before, other: home });
      for (const names of [["a", "b", "c", "d"], ["a", "b", "c", "d", "e"], ["a", "b", "c"], ["a", "b", "c", "f"]]) {
        balancer.change(...names);
        expect(balancer.reaches(port)).toContain(home);
        balancer.settle(...names);
        expect(balancer.reaches(port)).toContain(home);
      }
    }
    expect(moved).toBeGreaterThan(50);
  });
});
