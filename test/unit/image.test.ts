// The image of a table, the values in bytes and back, and the steps of single changes in words: what a
// reader of a plan sees.

import { describe, expect, it } from "vitest";
import { diff, diffRoutes, grown } from "../../src/dataplane/xdp/diff.ts";
import { imageOf, UNRESOLVED, type Image, type NextHop } from "../../src/dataplane/xdp/image.ts";
import { ringClassOf } from "../../src/dataplane/xdp/ring_class.ts";
import { copyState, emptyState, ledgerOf, record, type HeldVersion, type KernelState } from "../../src/dataplane/xdp/kernel_state.ts";
import {
  decodeAddressPrefix, decodeDestination, decodeGroupEntry, decodePolicy, decodeServiceKey, decodeVersion,
  decodeWildcardKey, encodeAddressPrefix, encodeDestination, encodePolicyKey, encodePortPrefix, encodeServiceKey,
  encodeU32, encodeVersion, encodeWildcardKey, policyNumber,
} from "../../src/dataplane/xdp/map_values.ts";
import { RING_CLASS_SLOTS } from "../../src/dataplane/xdp/ring_class.ts";
import { RingSlots } from "../../src/dataplane/xdp/abi.gen.ts";
import { describeStep, type Step, type StepKind } from "../../src/dataplane/xdp/steps.ts";
import { compile } from "../../src/model/compile.ts";
import { parsePrefix } from "../../src/model/address.ts";
import { fixedSource } from "../../src/model/tunnel_source.ts";
import { EMPTY_LEDGER, type BackendHealth, type ForwardingTable, type Ledger } from "../../src/model/table.ts";
import { address, configOf, type ConfigSketch } from "../support/configs.ts";
import { serviceAt } from "../support/service_at.ts";

const HOP: NextHop = {
  resolved: true, local: false, destinationMac: "02:00:00:00:00:0b", sourceMac: "02:00:00:00:00:01", ifindex: 2, mtu: 1500, vlan: 0,
};
const CAPACITIES = { services: 4, destinations: 8, flows: 16, fragments: 16, policies: 8, groupEntries: 8, quicConfigs: 8, quicServers: 8,
  natFlows: 8, affinities: 8 };

function tableOf(sketch: Partial<ConfigSketch> = {}, ledger: Ledger = EMPTY_LEDGER, down: readonly string[] = []): ForwardingTable {
  const config = configOf({ pools: { web: ["a", "b", "c"] }, services: [{ name: "web" }], ...sketch });
  const dead: BackendHealth = { alive: false, known: true, admission: 0, reason: "", sinceMs: 0 };
  const health = new Map(down.map((name) => [`web/${name}`, dead]));
  return compile({ config, hashSeed: 7n, overrides: [], health, nowMs: 0 }, { ledger, generation: 0 });
}

function imageFrom(table: ForwardingTable, hop: NextHop = HOP): Image {
  return imageOf(table, { attached: [2], view: () => ({ nextHop: hop, tunnelSource: null }) });
}

/** Takes all steps to an image; returns their kinds, each once in a row. */
function go(state: KernelState, want: Image): StepKind[] {
  const steps = diff(state, want);
  for (const step of steps) record(state, step);
  return steps.map(({ kind }) => kind).filter((kind, at, all) => kind !== all[at - 1]);
}

describe("an image", () => {
  it("has every service, destination, ring, virtual address and interface of its table", () => {
    const table = tableOf();
    const image = imageFrom(table, { ...HOP, ifindex: 9 });
    expect([...image.services.keys()]).toEqual([0]);
    expect([...image.destinations.keys()]).toEqual([1, 2, 3]);
    expect([...image.virtualAddresses.keys()]).toEqual(["203.0.113.10"]);
    expect([...image.rings.keys()]).toEqual([table.services[0]!.ring.key]);
    expect([...image.devices].sort()).toEqual([2, 9]);
    expect([...image.features].sort()).toEqual([
      "featureIcmpErrors", "featureL2", "featureTracking", "ringClassSmall",
    ]);
  });

  it("shares a ring between services of the same content", () => {
    const image = imageFrom(tableOf({ services: [{ name: "x", port: 80 }, { name: "y", port: 80, address: "203.0.113.11" }] }));
    expect(image.services.size).toBe(2);
    expect(image.rings.size).toBe(1);
  });

  it("says what a backend may do: admit, only keep, or neither", () => {
    const flags = (down: readonly string[]): unknown[] =>
      [...imageFrom(tableOf({}, EMPTY_LEDGER, down)).destinations.values()].map(({ live, admits }) => [live, admits]);
    expect(flags([])).toEqual([[true, true], [true, true], [true, true]]);
    expect(flags(["b"])).toEqual([[true, true], [false, false], [true, true]]);
  });

  it("gives a ring the smallest class that holds it, of the sizes in the ABI", () => {
    expect(ringClassOf(16_384)).toBe("small");
    expect(ringClassOf(16_385)).toBe("medium");
    expect(ringClassOf(65_537)).toBe("medium");
    expect(ringClassOf(2_097_143)).toBe("large");
    expect(() => ringClassOf(2_097_153)).toThrow(RangeError);
    expect(RING_CLASS_SLOTS).toEqual({
      small: RingSlots.RING_SMALL_SLOTS, medium: RingSlots.RING_MEDIUM_SLOTS, large: RingSlots.RING_LARGE_SLOTS,
    });
  });
});

describe("the steps of", () => {
  it("a first table: whole things first, the key last", () => {
    const state = emptyState(CAPACITIES, new Set());
    expect(go(state, imageFrom(tableOf()))).toEqual([
      "load-program", "set-icmp-interval", "set-orphan", "add-device", "zero-destination-traffic", "write-destination",
      "zero-destination-traffic", "write-destination", "zero-destination-traffic", "write-destination", "create-ring",
      "write-ring", "write-version", "activate-version", "add-virtual-address", "zero-service-traffic", "add-service",
    ]);
  });

  it("a failure: the ring, the version, the flip, and only then the flags; no wait when all is quiet", () => {
    const state = emptyState(CAPACITIES, new Set());
    const table = tableOf();
    go(state, imageFrom(table));
    record(state, { kind: "grace-period" });
    const down = imageFrom(tableOf({}, table.ledger, ["b"]));
    expect(go(state, down)).toEqual(["create-ring", "write-ring", "write-version", "activate-version", "set-destination-flags"]);
    // The old ring is still there and whole; the idle half is not quiet yet.
    expect(go(state, imageFrom(table))).toEqual([
      "set-destination-flags", "grace-period", "write-version", "activate-version",
    ]);
  });

  it("nothing, when there is nothing to do", () => {
    const state = emptyState(CAPACITIES, new Set());
    const image = imageFrom(tableOf());
    go(state, image);
    expect(diff(state, image)).toEqual([]);
  });

  it("a backend that goes from the config: retired after a grace period", () => {
    const state = emptyState(CAPACITIES, new Set());
    const table = tableOf();
    go(state, imageFrom(table));
    record(state, { kind: "grace-period" });
    const less = tableOf({ pools: { web: ["a", "b"] } }, table.ledger);
    expect(go(state, imageFrom(less)).slice(-2)).toEqual(["grace-period", "retire-destination"]);
    const { destinations } = ledgerOf(state);
    expect([...destinations.values()].filter(({ live }) => !live)).toEqual([{ id: 3, generation: 2, live: false }]);
  });

  it("a service that goes: its key first", () => {
    const state = emptyState(CAPACITIES, new Set());
    const table = tableOf({ services: [{ name: "x", port: 80 }, { name: "y", port: 81 }] });
    go(state, imageFrom(table));
    const steps = go(state, imageFrom(tableOf({ services: [{ name: "x", port: 80 }] }, table.ledger)));
    expect(steps[0]).toBe("remove-service");
    expect(ledgerOf(state).services).toEqual(new Map([["tcp 203.0.113.10:80", 0]]));
  });

  it("a neighbour alone: the idle half, then the flip; again only after a grace period", () => {
    const state = emptyState(CAPACITIES, new Set());
    go(state, imageFrom(tableOf()));
    const move = (hop: NextHop): StepKind[] => {
      const steps = diffRoutes(state, new Map([[1, { nextHop: hop, tunnelSource: null }]]), { attached: [2] });
      for (const step of steps) record(state, step);
      return steps.map(({ kind }) => kind);
    };
    expect(move({ ...HOP, ifindex: 5 })).toEqual(["add-device", "write-next-hop", "activate-next-hop"]);
    expect(move(UNRESOLVED)).toEqual(["grace-period", "write-next-hop", "activate-next-hop", "remove-device"]);
    expect(move(UNRESOLVED)).toEqual([]);
  });

  it("a table that needs more room: doubled until it fits", () => {
    const services = Array.from({ length: 9 }, (_, at) => ({ name: `s${at}`, port: 80 + at }));
    const image = imageFrom(tableOf({ services }));
    expect(grown(emptyState(CAPACITIES, new Set()), image)).toMatchObject({ services: 16, destinations: 32 });
    expect(grown(emptyState({ ...CAPACITIES, services: 9, destinations: 28 }, new Set()), image)).toMatchObject({ services: 9, destinations: 28 });
  });

  it("prefixes of a policy that all change: room for the old and the new ones together", () => {
    const withPolicy = (octet: number, count: number): Image => imageFrom(tableOf({ services: [{
      name: "web", policy: { allow: [], deny: Array.from({ length: count }, (_, at) =>
        parsePrefix(`10.${octet}.${at >> 8}.${at & 255}/32`)!) },
    }] }));
    const state = emptyState({ ...CAPACITIES, policies: 1024 }, new Set());
    go(state, withPolicy(1, 600));
    expect(grown(state, withPolicy(1, 600)).policies).toBe(1024);
    expect(grown(state, withPolicy(2, 400)).policies).toBe(1024);
    expect(grown(state, withPolicy(2, 500)).policies).toBe(2048);
    expect(grown(state, imageFrom(tableOf())).policies).toBe(1024);
  });

  it("each kind have words for people", () => {
    const state = emptyState(CAPACITIES, new Set());
    for (const step of diff(copyState(state), imageFrom(tableOf()))) {
      const { action, object } = describeStep(step);
      expect(action).toBe(step.kind);
      expect(object).not.toBe("");
    }
    const step: Step = { kind: "write-next-hop", id: 3, half: 1, nextHop: HOP };
    expect(describeStep(step)).toEqual({
      action: "write-next-hop", object: "destination 3", detail: "02:00:00:00:00:0b on interface 2",
    });
  });
});

describe("values", () => {
  it("come back from bytes as they went in", () => {
    const key = { ...serviceAt("203.0.113.10", 443), protocol: "udp", region: null } as const;
    expect(decodeServiceKey(encodeServiceKey(key))).toEqual(key);
    for (const [where, ports] of [["203.0.113.0/28", "8000-8099"], ["2001:db8::/64", "any"], ["203.0.113.1", "any"]]) {
      const wildcard = { ...serviceAt(where!, ports!), protocol: "tcp", region: null } as const;
      expect(decodeWildcardKey(encodeWildcardKey(wildcard))).toEqual(wildcard);
      expect(decodeAddressPrefix(encodeAddressPrefix(wildcard.network))).toEqual(wildcard.network);
    }
    const ports = { protocol: "udp", port: 8064, bits: 11, index: 9 } as const;
    expect(decodeGroupEntry(encodePortPrefix(7, ports), encodeU32(9))).toEqual({ group: 7, entry: ports });
    const version: HeldVersion = {
      scheme: {
        hashSeed: 0xfedcba9876543210n, ringClass: "medium", ringId: 7, ringSize: 65_537,
        hashInput: "source-ip", sourcePrefixIpv4: 24, sourcePrefixIpv6: 56,
      },
      predecessor: {
        hashSeed: 1n, ringClass: "small", ringId: 8, ringSize: 251, hashInput: "5-tuple",
        sourcePrefixIpv4: 32, sourcePrefixIpv6: 128,
      },
      isRehashed: true, changingUntilNs: 77_000_000_000n, rememberedSinceNs: 55_000_000_000n, flowIdleMs: 604_800_000,
      tracking: "full", denyByDefault: true, hasPolicy: true, hasQuicLb: true,
      hasNat: true, hasSecondChance: true, failedOpen: true, mssMax: 1400,
      affinity: { id: 0xfedcba9876543210n, timeoutMs: 600_000 },
      pick: { by: "bounded-load", turns: 5, weightTotal: 2 ** 31, loadFactorPercent: 125, flowsAt: 3 },
      regions: { asked: 0, table: 0, before: { table: null, untilNs: 99_000_000_000n } },
    };
    const regions = [null, { asked: 7, table: null, before: null }, { asked: 0, table: 5, before: { table: 4, untilNs: 1n } }];
    for (const each of regions) expect(decodeVersion(encodeVersion({ ...version, regions: each }))?.regions).toEqual(each);
    for (const tracking of ["full", "minimal", "none"] as const) {
      for (const predecessor of [version.predecessor, null]) {
        const each = { ...version, tracking, predecessor };
        expect(decodeVersion(encodeVersion(each))).toEqual(each);
      }
    }
    const destination = {
      identity: 42n, generation: 3, given: true, live: true, admits: false, resets: true, forwarding: "ipip", gue: null,
      address: address("fd00::1"), port: null, pickWeight: 65_535,
      tunnelSource: fixedSource(address("fd00::2")), nextHopActive: 1, nextHops: [UNRESOLVED, HOP],
    } as const;
    const gue = { ...destination, forwarding: "gue", gue: { port: 6081, variant: 1 } } as const;
    for (const each of [destination, gue, { ...gue, forwarding: "gre", gue: null } as const,
      { ...destination, forwarding: "nat", port: 8080 } as const]) {
      expect(decodeDestination(encodeDestination({ ...each, nextHops: [UNRESOLVED, HOP] }))).toEqual(each);
    }
    for (const action of ["allow", "deny"] as const) {
      const entry = { address: address("192.0.2.0"), bits: 120, action };
      expect(decodePolicy(encodePolicyKey(5, entry), encodeU32(policyNumber(action)))).toEqual({ index: 5, entry });
    }
  });

  it("that were never written are nothing", () => {
    expect(decodeVersion(new Uint8Array(128))).toBeNull();
    expect(decodeDestination(new Uint8Array(128))).toBeNull();
  });

  it("of a retired destination keep its identity and generation", () => {
    const bytes = encodeDestination({
      identity: 42n, generation: 3, given: false, live: false, admits: false, resets: false, forwarding: "l2", gue: null,
      address: address("10.0.0.1"), port: null, pickWeight: 0,
      tunnelSource: null, nextHopActive: 0, nextHops: [HOP, HOP],
    });
    expect(decodeDestination(bytes)).toMatchObject({ identity: 42n, generation: 3, given: false });
  });
});
