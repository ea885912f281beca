// Numbers of flows with what sort of numbers they are: by service, summed, and as people read them.

import { describe, expect, it } from "vitest";
import { flowsLegend, layFlows } from "../../src/cli/flows.ts";
import { compile } from "../../src/model/compile.ts";
import {
  amountOf, drainKindOf, flowKindOf, NO_FLOWS, sumOfAmounts, sumsByKind, UNKNOWN_AMOUNT, type FlowAmount,
} from "../../src/model/held_flows.ts";
import { EMPTY_LEDGER } from "../../src/model/table.ts";
import { configOf, type ServiceSketch } from "../support/configs.ts";

const EXACT: FlowAmount = { count: 12, kind: "exact" };
const TRACKED: FlowAmount = { count: 1500, kind: "tracked" };
const ESTIMATED: FlowAmount = { count: 2000, kind: "estimated" };

describe("a number of flows", () => {
  it("is of the sort that its service's way to remember allows, and of another in a drain with minimal", () => {
    const kinds = (sketch: Partial<ServiceSketch>): string[] => {
      const config = configOf({ pools: { web: ["a"] }, services: [{ name: "web", ...sketch }] });
      const { services } = compile({ config, hashSeed: 7n, overrides: [], health: new Map(), nowMs: 0 }, { ledger: EMPTY_LEDGER, generation: 0 });
      return [flowKindOf(services[0]!), drainKindOf(services[0]!)];
    };
    expect(kinds({ forwarding: "nat" })).toEqual(["exact", "exact"]);
    expect(kinds({ tracking: "full" })).toEqual(["tracked", "tracked"]);
    expect(kinds({ tracking: "minimal" })).toEqual(["estimated", "estimated"]);
    expect(kinds({ tracking: "none" })).toEqual(["estimated", "unknown"]);
  });

  it("that nobody knows is none, whatever was counted", () => {
    expect(amountOf({ count: 5, kind: "unknown", atMs: 1 })).toEqual(UNKNOWN_AMOUNT);
    expect(amountOf(undefined)).toEqual(UNKNOWN_AMOUNT);
    expect(amountOf({ count: 5, kind: "tracked", atMs: 1 })).toEqual({ count: 5, kind: "tracked" });
  });

  it("that is a sum is of the worst sort in it, and unknown as soon as one is", () => {
    expect(sumOfAmounts([])).toEqual(NO_FLOWS);
    expect(sumOfAmounts([EXACT, ESTIMATED, TRACKED])).toEqual({ count: 3512, kind: "estimated" });
    expect(sumOfAmounts([EXACT, UNKNOWN_AMOUNT, TRACKED])).toEqual(UNKNOWN_AMOUNT);
  });

  it("is summed for each sort by itself, the best first", () => {
    expect(sumsByKind([UNKNOWN_AMOUNT, TRACKED, EXACT, TRACKED])).toEqual([EXACT, { count: 3000, kind: "tracked" }, UNKNOWN_AMOUNT]);
    expect(sumsByKind([])).toEqual([]);
  });

  it("has a mark for people, and the marks that occur are explained", () => {
    expect([EXACT, TRACKED, ESTIMATED, UNKNOWN_AMOUNT].map(layFlows)).toEqual(["12", "1.50k*", "~2k", "?"]);
    expect(flowsLegend([EXACT, EXACT])).toBe("");
    expect(flowsLegend([EXACT, TRACKED])).toBe("flows: * seen within flowIdle (tracked)\n");
    expect(flowsLegend([UNKNOWN_AMOUNT, ESTIMATED])).toBe("flows: ~ about (estimated), ? nobody can tell (unknown)\n");
  });
});
