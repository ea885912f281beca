// The steps of wildcard services: what an address meets while an exact service becomes a prefix and
// back, and what happens when there are no more indexes than services.

import { describe, expect, it } from "vitest";
import { diff } from "../../src/dataplane/xdp/diff.ts";
import { imageOf, UNRESOLVED, type Image } from "../../src/dataplane/xdp/image.ts";
import { emptyState, ledgerOf, record, type KernelState } from "../../src/dataplane/xdp/kernel_state.ts";
import { describeStep, type Step } from "../../src/dataplane/xdp/steps.ts";
import { compile } from "../../src/model/compile.ts";
import { EMPTY_LEDGER, type ForwardingTable, type Ledger } from "../../src/model/table.ts";
import { configOf, type ServiceSketch } from "../support/configs.ts";

const CAPACITIES = { services: 4, destinations: 8, flows: 16, fragments: 16, policies: 8, groupEntries: 8,
  quicConfigs: 8, quicServers: 8, natFlows: 8, affinities: 8 };

function tableOf(services: readonly ServiceSketch[], ledger: Ledger = EMPTY_LEDGER, limit = 4): ForwardingTable {
  const config = configOf({ pools: { web: ["a", "b"] }, services, limits: { services: limit } });
  return compile({ config, hashSeed: 7n, overrides: [], health: new Map(), nowMs: 0 }, { ledger, generation: 0 });
}

function imageFrom(table: ForwardingTable): Image {
  return imageOf(table, { attached: [2], view: () => ({ nextHop: UNRESOLVED, tunnelSource: null }) });
}

/** Takes all steps to the services, with the ledger of the kernel; returns those that packets can tell. */
function go(state: KernelState, services: readonly ServiceSketch[], limit = 4): string[] {
  const steps = diff(state, imageFrom(tableOf(services, ledgerOf(state), limit)));
  for (const step of steps) record(state, step);
  expect(diff(state, imageFrom(tableOf(services, ledgerOf(state), limit)))).toEqual([]);
  return steps.filter(({ kind }) => TELLING.has(kind)).map((step) => {
    const { action, object, detail } = describeStep(step);
    return action === "grace-period" ? action : `${action} ${object} ${detail}`.trim();
  });
}

const TELLING = new Set<Step["kind"]>([
  "add-service", "remove-service", "add-group-ports", "remove-group-ports", "set-address-group",
  "remove-address-group", "add-virtual-address", "remove-virtual-address", "grace-period",
]);

const EXACT: ServiceSketch = { name: "web", address: "203.0.113.10", port: 80 };
const PREFIX: ServiceSketch = { name: "web", address: "203.0.113.0/28", port: "80-81" };

describe("wildcard services", () => {
  it("are served before the exact one that they replace goes", () => {
    const state = emptyState(CAPACITIES, new Set());
    expect(go(state, [EXACT])).toEqual(["add-virtual-address 203.0.113.10", "add-service tcp 203.0.113.10:80 index 0"]);
    record(state, { kind: "grace-period" });
    expect(state.features.has("featureWildcard")).toBe(false);
    expect(go(state, [PREFIX])).toEqual([
      "add-service tcp 203.0.113.0/28:80-81 index 1",
      "add-group-ports group 0 tcp 80-81 to service 1", "set-address-group 203.0.113.0/28 group 0",
      "remove-service tcp 203.0.113.10:80 index 0", "remove-virtual-address 203.0.113.10",
      "grace-period", // for the destinations with port 80
    ]);
    expect(state.features.has("featureWildcard")).toBe(true);
  });

  it("go once no packet can have missed the exact one that replaces them", () => {
    const state = emptyState(CAPACITIES, new Set());
    go(state, [PREFIX]);
    record(state, { kind: "grace-period" });
    expect(go(state, [EXACT])).toEqual([
      "add-virtual-address 203.0.113.10", "add-service tcp 203.0.113.10:80 index 1", "grace-period",
      "remove-address-group 203.0.113.0/28", "grace-period", "remove-group-ports group 0 tcp 80-81 to service 0",
      "remove-service tcp 203.0.113.0/28:80-81 index 0", "grace-period",
    ]);
    expect([...state.groups.keys(), ...state.prefixes.keys()]).toEqual([]);
  });

  it("share a group where they offer the same, and get a new one where that changes", () => {
    const state = emptyState(CAPACITIES, new Set());
    const wide: ServiceSketch = { name: "wide", address: "203.0.113.0/24", port: "any" };
    const first = go(state, [wide, { name: "a", address: "203.0.113.1", port: "any", protocol: "udp" }]);
    expect(first.filter((text) => text.startsWith("set-address-group"))).toEqual([
      "set-address-group 203.0.113.1/32 group 0", "set-address-group 203.0.113.0/24 group 1",
    ]);
    const second = go(state, [wide]);
    expect(second).toEqual([
      "remove-address-group 203.0.113.1/32", "grace-period",
      "remove-group-ports group 0 tcp any to service 0", "remove-group-ports group 0 udp any to service 1",
      "remove-service udp 203.0.113.1:any index 1", "remove-virtual-address 203.0.113.1",
    ]);
  });

  it("yield their index before another service gets it, when there is no other", () => {
    const state = emptyState({ ...CAPACITIES, services: 1 }, new Set());
    const other: ServiceSketch = { name: "other", address: "198.51.100.1", port: "any" };
    go(state, [PREFIX], 1);
    record(state, { kind: "grace-period" });
    const steps = go(state, [other], 1);
    const at = (text: string): number => steps.findIndex((step) => step.startsWith(text));
    expect(at("remove-address-group 203.0.113.0/28")).toBe(0);
    expect(at("remove-service tcp 203.0.113.0/28")).toBeLessThan(at("add-service tcp 198.51.100.1:any index 0"));
    expect(at("add-service")).toBeLessThan(at("set-address-group 198.51.100.1/32"));
    // And an exact one after it: the address of the last one goes first, since there is room for one.
    const exact = go(state, [EXACT], 1);
    expect(exact.indexOf("remove-virtual-address 198.51.100.1"))
      .toBeLessThan(exact.indexOf("add-virtual-address 203.0.113.10"));
  });

  it("make room for their ports when a table needs it", () => {
    const state = emptyState(CAPACITIES, new Set());
    go(state, [{ name: "web", address: "203.0.113.0/24", port: "1-65534" }]);
    expect(state.capacities.groupEntries).toBe(32);
    // The new group stands beside the old one for a while.
    go(state, [{ name: "web", address: "203.0.113.0/24", port: "1-65533" }]);
    expect(state.capacities.groupEntries).toBe(64);
  });

  it("have destinations without a port, and ring keys of the address alone", () => {
    const table = tableOf([PREFIX, { ...EXACT, name: "exact" }]);
    const texts = [...table.destinations.values()].map(({ address, port }) => `${address.text} ${port}`);
    expect(texts).toEqual(["10.0.0.1 null", "10.0.0.2 null", "10.0.0.1 80", "10.0.0.2 80"]);
    expect(new Set([...table.destinations.values()].map(({ identity }) => identity)).size).toBe(4);
    const [wildcard, group] = [tableOf([PREFIX]), tableOf([{ ...EXACT, affinityGroup: "g", hash: "source-ip" }])];
    // The keys of an affinity group are addresses, too: same keys, same ring.
    expect(wildcard.services[0]?.ring.key).toBe(group.services[0]?.ring.key);
    expect(wildcard.services[0]?.ring.key).not.toBe(tableOf([EXACT]).services[0]?.ring.key);
  });
});
