// What packets counted of destinations' flows is put right by what a walk finds, while they go on counting.

import { describe, expect, it } from "vitest";
import { createLoadCheck, LoadMemory } from "../../src/dataplane/xdp/load_memory.ts";
import { flowPlaces } from "../../src/dataplane/xdp/flow_places.ts";
import type { BpfMap } from "../../src/dataplane/xdp/native.ts";
import { compile } from "../../src/model/compile.ts";
import { EMPTY_LEDGER, type ForwardingTable } from "../../src/model/table.ts";
import { configOf, type ServiceSketch } from "../support/configs.ts";

function tableOf(services: readonly Omit<ServiceSketch, "name">[]): ForwardingTable {
  const config = configOf({
    pools: { web: ["a", "b"], api: ["c"] },
    services: services.map((each, at) => ({ name: `s${at}`, port: 80, ringSize: 7, address: `203.0.113.${at + 1}`, ...each })),
  });
  return compile({ config, hashSeed: 1n, overrides: [], health: new Map(), nowMs: 1 }, { ledger: EMPTY_LEDGER, generation: 0 });
}

interface Arrays {
  readonly destinations: BigInt64Array;
  readonly services: BigInt64Array;
  readonly memory: LoadMemory;
}

function arrays(): Arrays {
  const [destinations, services] = [new BigInt64Array(8), new BigInt64Array(8)];
  const map = (words: BigInt64Array): BpfMap => ({ mmap: () => words.buffer } as unknown as BpfMap);
  return { destinations, services, memory: new LoadMemory({ destination_flows: map(destinations), service_flows: map(services) }) };
}

const LEAST = { tracking: "full", algorithm: "least-connections" } as const;

describe("loads", () => {
  it("become what the walk found, with what packets have counted since it began", () => {
    const table = tableOf([LEAST]);
    const { destinations, services, memory } = arrays();
    destinations.set([0n, 5n, -2n]);
    services[0] = 3n;
    const check = createLoadCheck({ loads: () => memory, table: () => table }, false);
    check.begin();
    destinations[1]! += 2n;
    services[0] += 2n;
    check.end(new Map([[1, 4]]));
    expect([...destinations.slice(0, 3)]).toEqual([0n, 6n, 0n]);
    expect(services[0]).toBe(5n);
    check.end(new Map([[1, 9]]));
    expect(destinations[1]).toBe(6n);
  });

  it.each([
    { before: 5n, now: 7n, found: 6, wanted: 7n }, { before: 5n, now: 7n, found: 7, wanted: 7n },
    { before: 7n, now: 5n, found: 5, wanted: 5n }, { before: 7n, now: 5n, found: 2, wanted: 2n },
    { before: 5n, now: 7n, found: 10, wanted: 10n }, { before: -3n, now: -3n, found: 0, wanted: 0n },
  ])("of which $found were found, between $before and $now, become $wanted", ({ before, now, found, wanted }) => {
    const table = tableOf([LEAST]);
    const { destinations, memory } = arrays();
    destinations[1] = before;
    const check = createLoadCheck({ loads: () => memory, table: () => table }, false);
    check.begin();
    destinations[1] = now;
    check.end(new Map([[1, found]]));
    expect(destinations[1]).toBe(wanted);
  });

  it("of translated flows are another walk's business", () => {
    const table = tableOf([LEAST, { algorithm: "least-connections", forwarding: "nat", pool: "api" }]);
    const { destinations, memory } = arrays();
    const [plain, translated] = [false, true].map((isTranslated) =>
      createLoadCheck({ loads: () => memory, table: () => table }, isTranslated));
    const natId = table.services[1]!.destinations[0]!;
    destinations.fill(7n, 1, 4);
    plain!.begin();
    plain!.end(new Map());
    expect(destinations[natId]).toBe(7n);
    expect([...destinations].filter((load) => load === 7n)).toHaveLength(1);
    translated!.begin();
    translated!.end(new Map([[natId, 1]]));
    expect(destinations[natId]).toBe(1n);
  });

  it("are left alone where nobody compares them, and where another table came meanwhile", () => {
    const { destinations, memory } = arrays();
    destinations[1] = 9n;
    let table = tableOf([{ tracking: "full", algorithm: "round-robin" }]);
    const check = createLoadCheck({ loads: () => memory, table: () => table }, false);
    expect(check.isWanted()).toBe(false);
    check.begin();
    check.end(new Map([[1, 1]]));
    table = tableOf([LEAST]);
    expect(check.isWanted()).toBe(true);
    check.begin();
    table = tableOf([LEAST]);
    check.end(new Map([[1, 1]]));
    expect(destinations[1]).toBe(9n);
  });

  it("are counted in one place by services with the same backends", () => {
    const { services } = tableOf([{ tracking: "full" }, LEAST, { ...LEAST, pool: "api" }, LEAST]);
    expect(services.map(flowPlaces(services))).toEqual([1, 1, 2, 1]);
    expect(tableOf([{}, {}]).services.map(flowPlaces(tableOf([{}, {}]).services))).toEqual([0, 0]);
  });
});
