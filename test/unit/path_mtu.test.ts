// Path MTUs of tunnels: what is believed, for how long, and which errors about a tunnel raise a doubt. The clock is
// fake, and so are the notes of the packet program.

import { describe, expect, it } from "vitest";
import { diff } from "../../src/dataplane/xdp/diff.ts";
import { imageOf, UNRESOLVED, type Image, type NextHop, type Route } from "../../src/dataplane/xdp/image.ts";
import { emptyState, record, type KernelState } from "../../src/dataplane/xdp/kernel_state.ts";
import { pathMtusOf, tooNarrowForIpv6, unreachableText, withPathMtu } from "../../src/dataplane/xdp/path_mtu.ts";
import {
  decodeTunnelEnd, decodeTunnelReport, encodeTunnelEnd, encodeTunnelEndKey, tunnelEndsOf, type TunnelReport,
} from "../../src/dataplane/xdp/tunnel_ends.ts";
import { TunnelNews } from "../../src/dataplane/xdp/tunnel_news.ts";
import { TunnelEnd } from "../../src/dataplane/xdp/abi.gen.ts";
import { compile } from "../../src/model/compile.ts";
import { EMPTY_LEDGER, type ForwardingTable, type Ledger } from "../../src/model/table.ts";
import { address, configOf, type ConfigSketch } from "../support/configs.ts";
import { createFakeEnv, type FakeEnv } from "../support/fake_env.ts";

const AGE_MS = 600_000;
const MS = 1_000_000n;

function report(of: Partial<Omit<TunnelReport, "address">> & { readonly address?: string }): TunnelReport {
  return { mtu: 0, mtuNs: 0n, unreachableNs: 0n, type: 0, code: 0, ...of, address: address(of.address ?? "10.0.0.1") };
}

describe("path MTUs", () => {
  it("count until they are too old, the least of all tunnels to one address", () => {
    const told = [
      report({ mtu: 1400, mtuNs: 100n }), report({ mtu: 1380, mtuNs: 50n }), report({ address: "10.0.0.2", mtu: 1300, mtuNs: 10n }),
      report({ address: "10.0.0.3" }),
    ];
    expect(pathMtusOf(told, 100n, 1000n)).toEqual(new Map([
      ["10.0.0.1", { mtu: 1380, untilNs: 1050n }], ["10.0.0.2", { mtu: 1300, untilNs: 1010n }],
    ]));
    expect([...pathMtusOf(told, 1010n, 1000n).keys()]).toEqual(["10.0.0.1"]);
    expect(pathMtusOf(told, 1050n, 1000n).get("10.0.0.1")?.mtu).toBe(1400);
    expect(pathMtusOf(told, 1100n, 1000n).size).toBe(0);
  });

  it("narrow a way, and never widen it", () => {
    const hop: NextHop = { ...UNRESOLVED, resolved: true, mtu: 1500 };
    const route: Route = { nextHop: hop, tunnelSource: null };
    const mtuOf = (nextHop: NextHop, mtu: number): number => withPathMtu({ ...route, nextHop }, { mtu, untilNs: 1n }).nextHop.mtu;
    expect(mtuOf(hop, 1400)).toBe(1400);
    expect(mtuOf(hop, 9000)).toBe(1500);
    expect(mtuOf({ ...hop, mtu: 0 }, 1400)).toBe(1400);
    expect(mtuOf(UNRESOLVED, 1400)).toBe(0);
    expect(withPathMtu(route, undefined)).toBe(route);
  });
});

describe("what a path MTU leaves to IPv6", () => {
  it("is told when it is less than 1280, of tunnels alone and of IPv6 inside alone", () => {
    const told = (forwarding: "ipip" | "l2", vip: string, mtu: number): string[] => {
      const table = tableOf({ services: [{ name: "web", forwarding, address: vip }] });
      const [first] = [...table.destinations.values()];
      return tooNarrowForIpv6(table, new Map([[first!.address.text, { mtu, untilNs: 1n }]]));
    };
    expect(told("ipip", "2001:db8:1::1", 1299)).toEqual(["web to web/a: 1279 bytes"]);
    expect(told("ipip", "2001:db8:1::1", 1300)).toEqual([]);
    expect(told("ipip", "203.0.113.10", 1299)).toEqual([]);
    expect(told("l2", "2001:db8:1::1", 1279)).toEqual([]);
  });
});

/** A world whose notes a test writes. */
class Notes {
  readonly env: FakeEnv = createFakeEnv();
  errors = 0;
  reports: TunnelReport[] = [];
  readonly told: string[] = [];
  readonly doubts: string[] = [];
  readonly news = new TunnelNews({
    env: this.env, count: () => this.errors, reports: () => this.reports,
    onChange: () => { this.told.push([...this.news.mtus].map(([to, { mtu }]) => `${to} ${mtu}`).join()); },
    onUnreachable: (found) => { for (const each of found.values()) this.doubts.push(unreachableText(each)); },
  });

  now(): bigint {
    return this.env.clock.monotonicNs();
  }

  error(of: TunnelReport): void {
    this.errors += 1;
    this.reports = [...this.reports.filter(({ address: { text } }) => text !== of.address.text), of];
  }
}

describe("news of tunnels", () => {
  it("are found soon after an error, and end when they are too old", async () => {
    const notes = new Notes();
    notes.news.follow(AGE_MS);
    await notes.env.advance(1000);
    notes.error(report({ mtu: 1400, mtuNs: notes.now() }));
    await notes.env.advance(200);
    expect(notes.told).toEqual(["10.0.0.1 1400"]);
    await notes.env.advance(AGE_MS - 1000);
    expect(notes.told).toHaveLength(1);
    await notes.env.advance(1000);
    expect(notes.told).toEqual(["10.0.0.1 1400", ""]);
    expect(notes.env.messages("info")).toEqual([
      "a router told the path MTU of a tunnel", "a tunnel's path MTU has aged: larger packets are tried again",
    ]);
    notes.news.stop();
    expect(notes.env.timers()).toBe(0);
  });

  it("are there at once for who takes over, and not once they are switched off", () => {
    const notes = new Notes();
    notes.reports = [report({ mtu: 1400, mtuNs: notes.now() })];
    notes.news.follow(AGE_MS);
    expect(notes.news.mtus.get("10.0.0.1")?.mtu).toBe(1400);
    notes.news.follow(0);
    expect(notes.news.mtus.size).toBe(0);
    expect(notes.env.timers()).toBe(0);
  });

  it("tell each unreachable once, and none of before", async () => {
    const notes = new Notes();
    notes.error(report({ unreachableNs: notes.now(), type: 3, code: 2 }));
    notes.news.follow(AGE_MS);
    await notes.env.advance(1000);
    expect(notes.doubts).toEqual([]);
    notes.error(report({ unreachableNs: notes.now(), type: 3, code: 2 }));
    notes.error(report({ address: "2001:db8::1", unreachableNs: notes.now() - 10n * MS, type: 1, code: 4 }));
    await notes.env.advance(1000);
    expect(notes.doubts.sort()).toEqual([
      "its tunnel was answered: port unreachable: it unwraps no such tunnel",
      "its tunnel was answered: protocol unreachable: it unwraps no such tunnel",
    ]);
    notes.error(report({ unreachableNs: notes.now(), type: 11, code: 9 }));
    await notes.env.advance(1000);
    expect(notes.doubts[2]).toBe("its tunnel was answered: ICMP type 11 code 9");
    notes.news.stop();
  });

  it("go on after what cannot be read", async () => {
    const notes = new Notes();
    notes.news.follow(AGE_MS);
    Object.defineProperty(notes, "errors", { get: () => { throw new Error("closed"); }, configurable: true });
    await notes.env.advance(400);
    expect(notes.env.messages("warn")).toHaveLength(2);
    Object.defineProperty(notes, "errors", { value: 1 });
    notes.reports = [report({ mtu: 1400, mtuNs: notes.now() })];
    await notes.env.advance(400);
    expect(notes.told).toEqual(["10.0.0.1 1400"]);
    notes.news.stop();
  });
});

const CAPACITIES = { services: 8, destinations: 16, flows: 16, fragments: 16, policies: 8, groupEntries: 8,
  quicConfigs: 8, quicServers: 8, natFlows: 8, affinities: 8 };

function tableOf(sketch: Partial<ConfigSketch>, ledger: Ledger = EMPTY_LEDGER, pathMtuAgeMs = AGE_MS): ForwardingTable {
  const config = configOf({ pools: { web: ["a", "b"] }, services: [{ name: "web", forwarding: "ipip" }], ...sketch });
  const table = compile({ config, hashSeed: 7n, overrides: [], health: new Map(), nowMs: 0 }, { ledger, generation: 0 });
  return { ...table, pathMtuAgeMs };
}

function imageFrom(table: ForwardingTable): Image {
  return imageOf(table, { attached: [2], view: () => ({ nextHop: UNRESOLVED, tunnelSource: null }) });
}

describe("the ends of tunnels", () => {
  it("are one for each protocol that an outer header may name, and none where nothing is learned", () => {
    const ends = (table: ForwardingTable): string[] => [...imageFrom(table).tunnelEnds.keys()];
    const [a, b] = [...tableOf({}).destinations.values()].map(({ address: { text } }) => text);
    expect(ends(tableOf({}))).toEqual([`${a} protocol 4`, `${a} protocol 41`, `${b} protocol 4`, `${b} protocol 41`]);
    expect(ends(tableOf({ services: [{ name: "web", forwarding: "gre" }] }))).toEqual([`${a} protocol 47`, `${b} protocol 47`]);
    expect(ends(tableOf({ services: [{ name: "web", forwarding: "gue" }] })))
      .toEqual([`${a} protocol 17 port 6080`, `${b} protocol 17 port 6080`]);
    expect(ends(tableOf({ services: [{ name: "web", forwarding: "l2" }] }))).toEqual([]);
    expect(ends(tableOf({}, EMPTY_LEDGER, 0))).toEqual([]);
    expect(imageFrom(tableOf({})).features.has("featureTunnelErrors")).toBe(true);
    expect(imageFrom(tableOf({}, EMPTY_LEDGER, 0)).features.has("featureTunnelErrors")).toBe(false);
    expect(imageFrom(tableOf({ services: [{ name: "web", forwarding: "l2" }] })).features.has("featureTunnelErrors")).toBe(false);
  });

  it("are written after their destinations, go before them, and stay where nothing changes", () => {
    const state: KernelState = emptyState(CAPACITIES, new Set());
    const go = (table: ForwardingTable): string[] => {
      const steps = diff(state, imageFrom(table));
      for (const step of steps) record(state, step);
      return steps.map(({ kind }) => kind);
    };
    const first = tableOf({});
    const kinds = go(first);
    expect(kinds.indexOf("write-tunnel-end")).toBeGreaterThan(kinds.lastIndexOf("write-destination"));
    expect(kinds.filter((kind) => kind === "write-tunnel-end")).toHaveLength(4);
    expect(go(first)).toEqual([]);
    const second = tableOf({ pools: { web: ["a"] } }, first.ledger);
    const gone = go(second);
    expect(gone.filter((kind) => kind.endsWith("tunnel-end"))).toEqual(["remove-tunnel-end", "remove-tunnel-end"]);
    expect(gone.indexOf("remove-tunnel-end")).toBeLessThan(gone.indexOf("retire-destination"));
    expect([...state.tunnelEnds]).toEqual([...imageFrom(second).tunnelEnds]);
    go(tableOf({ pools: { web: ["a"] } }, second.ledger, 0));
    expect(state.tunnelEnds.size).toBe(0);
  });

  it("keep what errors said when another destination has them, and are read back", () => {
    const [end] = tunnelEndsOf(imageFrom(tableOf({})).destinations.values()).values();
    const key = encodeTunnelEndKey(end!);
    const value = encodeTunnelEnd(end!, null);
    expect(decodeTunnelEnd(key, value)).toEqual(end);
    expect(decodeTunnelReport(key, value)).toMatchObject({ mtu: 0, mtuNs: 0n, unreachableNs: 0n });
    const noted = TunnelEnd.encode({ ...TunnelEnd.decode(value), mtu: 1400, mtuNs: 5n, unreachable: 3 << 8 | 2, unreachableNs: 6n });
    const moved = encodeTunnelEnd({ ...end!, destination: 9 }, noted);
    expect(decodeTunnelEnd(key, moved).destination).toBe(9);
    expect(decodeTunnelReport(key, moved)).toMatchObject({ mtu: 1400, mtuNs: 5n, unreachableNs: 6n, type: 3, code: 2 });
  });
});
