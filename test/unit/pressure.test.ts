// What full tables and limits refused: read from counts, by cause, with the setting that makes room.

import { describe, expect, it } from "vitest";
import type { Counters } from "../../src/dataplane/dataplane.ts";
import { crowdedAffinities, forgettingFlows, PRESSURE, pressureOf } from "../../src/observe/pressure.ts";

const NOTHING: Counters = {
  verdicts: {}, services: new Map(), backends: new Map(), flowTable: { count: 0, max: 64 },
  serviceFlows: new Map(), backendFlows: new Map(), drainFlows: new Map(),
};
const CALM = { idle: 0, flows: 0, lately: 0, refused: 0 };
const NAT = { count: 0, max: 8, ended: 0, outcomes: new Map(), unanswered: new Map(), answers: new Map() };

describe("pressure", () => {
  it("is told for what a plane knows, also where it never was", () => {
    expect(pressureOf(NOTHING)).toEqual([]);
    const causes = (counters: Counters): string[] => pressureOf(counters).map(({ cause }) => cause);
    const xdp = { ...NOTHING, tracking: new Map(), evictions: CALM, nat: NAT };
    const proxy = { ...NOTHING, incidents: new Map() };
    const clients = { count: 0, max: 8, services: new Map() };
    expect(causes({ ...NOTHING, affinities: clients })).toEqual([]);
    expect(causes({ ...NOTHING, affinities: { ...clients, evicted: 0 } })).toEqual(["affinity_evicted"]);
    expect(causes(xdp)).toEqual(["flow_evicted", "flow_refused", "nat_port", "nat_full"]);
    expect(causes(proxy)).toEqual(["connections_max", "sessions_max", "descriptors_max"]);
    expect(new Set(PRESSURE.map(({ cause }) => cause)).size).toBe(PRESSURE.length);
  });

  it("counts each cause by itself", () => {
    const counters: Counters = {
      ...NOTHING, nat: NAT, tracking: new Map([["unremembered", 1], ["kept", 50]]),
      evictions: { idle: 9, flows: 2, lately: 1, refused: 3 },
      verdicts: { DROP_NO_PORT: { packets: 4, bytes: 40 }, DROP_NAT_FULL: { packets: 5, bytes: 50 } },
      incidents: new Map([["connections_max", 7], ["sessions_max", 8], ["descriptors_max", 9], ["idle_timeout", 50]]),
      affinities: { count: 50, max: 50, services: new Map([["web", 50]]), evicted: 6 },
    };
    expect(pressureOf(counters).map(({ count }) => count)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it("warns when flows that count are being pushed out, and not while idle ones give way first", () => {
    const told = (evictions: NonNullable<Counters["evictions"]>): string | null => forgettingFlows({ ...NOTHING, evictions });
    expect(forgettingFlows(NOTHING)).toBeNull();
    expect(told({ ...CALM, flows: 5 })).toBeNull();
    expect(told({ ...CALM, flows: 5, lately: 2, idle: 1 })).toBeNull();
    expect(told({ ...CALM, flows: 5, lately: 2 })).toMatch(/full \(64\).* pushed out 2 .*raise limits\.flows/);
  });

  it("warns when nearly all room for clients is taken", () => {
    const told = (count: number | null): string | null => crowdedAffinities({ ...NOTHING, affinities: { count, max: 1000, services: new Map() } });
    expect([crowdedAffinities(NOTHING), told(null), told(0), told(799)]).toEqual([null, null, null, null]);
    expect(told(800)).toMatch(/^800 clients .* 1000 fit.*raise limits\.affinities$/);
  });
});
