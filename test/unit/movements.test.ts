// What a plan says of slots and flows, by hand-made tables: what moves, and what of it breaks in each plane, with
// each way to remember flows and each way of forwarding.

import { describe, expect, it } from "vitest";
import type { Counters } from "../../src/dataplane/dataplane.ts";
import { compile } from "../../src/model/compile.ts";
import { NO_FLOWS, sumOfFlows, UNKNOWN_AMOUNT, type FlowKind, type HeldFlows } from "../../src/model/held_flows.ts";
import type { ForwardingTable, Intent } from "../../src/model/table.ts";
import { EMPTY_LEDGER } from "../../src/model/table.ts";
import { movedFlows, movements } from "../../src/supervisor/movements.ts";
import { configOf, type ServiceSketch } from "../support/configs.ts";

const SIZE = 251;

function tableOf(backends: readonly string[], service: Partial<ServiceSketch>, changes: Partial<Intent> = {}): ForwardingTable {
  const config = configOf({
    pools: { web: backends.map((name) => ({ name, address: `10.0.0.${name.charCodeAt(0)}` })) },
    services: [{ name: "web", ringSize: SIZE, ...service }],
  });
  return compile({ config, hashSeed: 7n, overrides: [], health: new Map(), nowMs: 0, ...changes }, { ledger: EMPTY_LEDGER, generation: 0 });
}

function slotsAt(table: ForwardingTable, name: string): number {
  const ids = [...table.destinations.values()].filter(({ backend }) => backend === name).map(({ id }) => id);
  return [...table.services[0]!.ring.slots].filter((id) => ids.includes(id)).length;
}

function counters(kind: FlowKind, counts: Readonly<Record<string, number>>): Counters {
  const backendFlows = new Map(Object.entries(counts).map(([name, count]) => [`web/${name}`, { count, kind, atMs: 0 }]));
  const count = Object.values(counts).reduce((sum, each) => sum + each, 0);
  return {
    verdicts: {}, services: new Map(), backends: new Map(), flowTable: { count: 0, max: 0 },
    serviceFlows: new Map([["web", { count, kind, atMs: 0 }]]), backendFlows, drainFlows: backendFlows,
    flowsAt: new Map([["web", backendFlows]]),
  };
}

const HELD = { a: 5, b: 7, c: 11 };

describe("movements", () => {
  it("of a backend that goes break its slots, and no others, where flows are remembered", () => {
    for (const tracking of ["full", "minimal"] as const) {
      const [before, after] = [tableOf(["a", "b", "c"], { tracking }), tableOf(["a", "b"], { tracking })];
      const [web] = movements(before, after, "xdp");
      expect(web!.slotsBroken).toBe(slotsAt(before, "c"));
      expect(web!.slotsMoved).toBeGreaterThanOrEqual(web!.slotsBroken);
      expect(web!.brokenShare).toBeCloseTo(web!.slotsBroken / SIZE);
    }
  });

  it("of a backend that comes break nothing where flows are remembered, and all that moves where none is", () => {
    const by = (tracking: "full" | "none"): object =>
      movements(tableOf(["a", "b"], { tracking }), tableOf(["a", "b", "c"], { tracking }), "xdp")[0]!;
    expect(by("full")).toMatchObject({ slotsBroken: 0 });
    const forgetful = movements(tableOf(["a", "b"], { tracking: "none" }), tableOf(["a", "b", "c"], { tracking: "none" }), "xdp")[0]!;
    expect(forgetful.slotsMoved).toBeGreaterThan(0);
    expect(forgetful.slotsBroken).toBe(forgetful.slotsMoved);
  });

  it("with another seed are what chance leaves, and break what nobody remembers", () => {
    const by = (tracking: "full" | "none"): { moved: number; broken: number } => {
      const [web] = movements(tableOf(["a", "b"], { tracking }), tableOf(["a", "b"], { tracking }, { hashSeed: 8n }), "xdp");
      return { moved: web!.slotsMoved, broken: web!.slotsBroken };
    };
    expect(by("full").broken).toBe(0);
    expect(Math.abs(by("full").moved - SIZE / 2)).toBeLessThan(1);
    expect(by("none").broken).toBe(by("none").moved);
  });

  it("to a tunnel from a link are none: the connection ends at the virtual address of the same host", () => {
    const by = (from: ServiceSketch["forwarding"], to: ServiceSketch["forwarding"]): number[] => {
      const side = (forwarding: ServiceSketch["forwarding"]): ForwardingTable =>
        tableOf(["a", "b"], { tracking: "full", ...(forwarding === undefined ? {} : { forwarding }) });
      const [web] = movements(side(from), side(to), "xdp");
      return [web!.slotsMoved, web!.slotsBroken];
    };
    expect(by("l2", "ipip")).toEqual([0, 0]);
    expect(by("l2", "nat")).toEqual([SIZE, SIZE]);
    expect(by("nat", "fullnat")).toEqual([SIZE, SIZE]);
  });

  it("of a service that goes break in the program, and end by themselves in the proxy", () => {
    const before = tableOf(["a"], { tracking: "full" });
    const after = tableOf(["a"], { tracking: "full", port: 81 });
    const removed = (mode: "xdp" | "proxy"): object => movements(before, after, mode).find(({ change }) => change === "removed")!;
    expect(removed("xdp")).toMatchObject({ slotsMoved: SIZE, slotsBroken: SIZE, brokenShare: 1 });
    expect(removed("proxy")).toMatchObject({ slotsMoved: SIZE, slotsBroken: 0 });
    expect(movements(null, after, "xdp")).toMatchObject([{ change: "added", slotsMoved: 0, slotsBroken: 0 }]);
  });
});

describe("movedFlows", () => {
  const moved = (kind: FlowKind, count: number | null, total: number | null): object =>
    ({ moved: { count, kind }, broken: { count, kind }, total: { count: total, kind } });
  const before = (tracking: "full" | "minimal" | "none"): ForwardingTable => tableOf(["a", "b", "c"], { tracking });
  const after = (tracking: "full" | "minimal" | "none"): ForwardingTable => tableOf(["a", "b"], { tracking });

  it("are those of the backends that go, with what sort of number that is", () => {
    expect(movedFlows(before("full"), after("full"), counters("tracked", HELD), "xdp"))
      .toEqual(moved("tracked", 11, 23));
    expect(movedFlows(before("minimal"), after("minimal"), counters("estimated", HELD), "xdp"))
      .toEqual(moved("estimated", 11, 23));
    expect(movedFlows(before("minimal"), after("minimal"), counters("unknown", HELD), "xdp"))
      .toEqual(moved("unknown", null, null));
    // Nothing goes: that none would move is certain, whatever is known of the others.
    expect(movedFlows(before("minimal"), before("minimal"), counters("unknown", HELD), "xdp"))
      .toEqual({ moved: NO_FLOWS, broken: NO_FLOWS, total: UNKNOWN_AMOUNT });
  });

  it("are as many as the slots that move have where nobody remembers, and unknown where nobody has looked", () => {
    const { brokenShare } = movements(before("none"), after("none"), "xdp")[0]!;
    expect(brokenShare).toBeGreaterThan(0.2);
    expect(movedFlows(before("none"), after("none"), counters("estimated", HELD), "xdp"))
      .toEqual(moved("estimated", Math.round(23 * brokenShare), 23));
    expect(movedFlows(before("none"), after("none"), counters("unknown", HELD), "xdp"))
      .toEqual(moved("unknown", null, null));
    expect(movedFlows(before("none"), before("none"), counters("unknown", HELD), "xdp"))
      .toEqual({ moved: NO_FLOWS, broken: NO_FLOWS, total: UNKNOWN_AMOUNT });
    expect(movedFlows(before("full"), after("full"), null, "xdp")).toEqual(moved("unknown", null, null));
  });

  describe("of several services of a pool", () => {
    /** One service remembers all flows, and one none. */
    function both(backends: readonly string[], names = ["full", "none"]): ForwardingTable {
      const services = ([["full", 80], ["none", 81]] as const).filter(([name]) => names.includes(name))
        .map(([tracking, port]): ServiceSketch => ({ name: tracking, pool: "web", ringSize: SIZE, tracking, port }));
      const config = configOf({ pools: { web: backends.map((name) => ({ name, address: `10.0.0.${name.charCodeAt(0)}` })) }, services });
      return compile({ config, hashSeed: 7n, overrides: [], health: new Map(), nowMs: 0 }, { ledger: EMPTY_LEDGER, generation: 0 });
    }
    const at = (counts: Readonly<Record<string, number>>, kind: FlowKind): ReadonlyMap<string, HeldFlows> => counters(kind, counts).backendFlows;
    const of = (kind: FlowKind, counts: readonly [full: Readonly<Record<string, number>>, none: Readonly<Record<string, number>>]): Counters => {
      const flowsAt = new Map([["full", at(counts[0], "tracked")], ["none", at(counts[1], kind)]]);
      const sum = (held: ReadonlyMap<string, HeldFlows>): HeldFlows => [...held.values()].reduce(sumOfFlows);
      const names = Object.keys(counts[0]).map((name) => `web/${name}`);
      return {
        ...counters(kind, {}), flowsAt, serviceFlows: new Map([...flowsAt].map(([name, held]) => [name, sum(held)])),
        backendFlows: new Map(names.map((name) => [name, sumOfFlows(flowsAt.get("full")!.get(name)!, flowsAt.get("none")!.get(name)!)])),
      };
    };
    const NONE = { a: 512, b: 640, c: 704 };

    it("counts no flow twice that stands in a slot that breaks, at a backend that goes", () => {
      const [from, to] = [both(["a", "b", "c"]), both(["a", "b"])];
      const { brokenShare } = movements(from, to, "xdp").find(({ service }) => service === "none")!;
      expect(movedFlows(from, to, of("estimated", [HELD, NONE]), "xdp"))
        .toEqual(moved("estimated", 11 + Math.round(1856 * brokenShare), 23 + 1856));
      // What is not known of the one is not known of the sum.
      expect(movedFlows(from, to, of("unknown", [HELD, NONE]), "xdp")).toEqual(moved("unknown", null, null));
      expect(movedFlows(from, from, of("estimated", [HELD, NONE]), "xdp").moved).toEqual(NO_FLOWS);
    });

    it("counts all flows of a service that goes, though its backends stay for the other one", () => {
      expect(movedFlows(both(["a", "b"]), both(["a", "b"], ["none"]), of("estimated", [{ a: 5, b: 7 }, { a: 64, b: 64 }]), "xdp"))
        .toEqual({ moved: { count: 12, kind: "tracked" }, broken: { count: 12, kind: "tracked" }, total: { count: 140, kind: "estimated" } });
    });
  });

  it("are a share of those that were remembered where nobody will be any more", () => {
    const [from, to] = [before("full"), after("none")];
    const { brokenShare } = movements(from, to, "xdp")[0]!;
    expect(movedFlows(from, to, counters("tracked", HELD), "xdp")).toEqual(moved("tracked", Math.round(23 * brokenShare), 23));
  });

  it("are none in the proxy, whose connections end where they began", () => {
    expect(movedFlows(before("full"), after("full"), counters("exact", HELD), "proxy"))
      .toEqual(moved("exact", 0, 23));
  });
});
