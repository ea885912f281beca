// A service whose clients' region chooses the pool, through compile, decide, explain and the tables that planes
// are given: one more service for each region, with everything that a service has.

import { describe, expect, it } from "vitest";
import { makeRegions } from "../../src/geo/load.ts";
import { servable } from "../../src/dataplane/xdp/servable.ts";
import { compile } from "../../src/model/compile.ts";
import { serviceKey } from "../../src/model/service_address.ts";
import type { Config } from "../../src/model/config.ts";
import { decide, type Packet } from "../../src/model/decide.ts";
import { refusedByXdp } from "../../src/model/features.ts";
import { RegionPrefixes, withoutRegions } from "../../src/model/regions.ts";
import { EMPTY_LEDGER, type BackendHealth, type ForwardingTable } from "../../src/model/table.ts";
import { movements } from "../../src/supervisor/movements.ts";
import { answerExplain, answerRing } from "../../src/supervisor/questions.ts";
import { configView } from "../../src/api/config_view.ts";
import { probeTargets } from "../../src/health/target.ts";
import { explain } from "../../src/model/explain.ts";
import { address, configOf, locatedByNetworks, type ServiceSketch } from "../support/configs.ts";
import { country, mmdb } from "../support/mmdb.ts";

const DATABASE = mmdb({ "192.0.2.0/24": country("DE", "EU"), "198.51.100.0/24": country("US", "NA") });
const GEO = {
  database: "/geo.mmdb",
  regions: [{ name: "eu", countries: ["FR"], continents: ["EU"], pool: "web-eu" }, { name: "lab", networks: ["10.0.0.0/8"], pool: "lab" }],
};

function config(change: Partial<ServiceSketch> = {}, database: Uint8Array | null = DATABASE): Config {
  const plain = configOf({
    pools: { web: ["a", "b"], "web-eu": [{ name: "c", address: "10.0.9.1" }, { name: "d", address: "10.0.9.2" }], lab: [{ name: "e", address: "10.0.9.3" }] },
    services: [{ name: "web", geo: GEO, ...change }, { name: "api", pool: "lab" }],
  });
  return withPrefixes(plain, database);
}

function withPrefixes(plain: Config, database: Uint8Array | null): Config {
  return {
    ...plain,
    services: plain.services.map((service) => {
      if (service.geo === null || database === null) return service;
      const rules = service.geo.regions.map((each) => ({ ...each, networks: each.networks.map(({ text }) => text) }));
      const made = makeRegions(database, [rules]);
      if ("reason" in made) throw new Error(made.reason);
      return { ...service, geo: { ...service.geo, prefixes: new RegionPrefixes("k", made.source, made.columns[0]!) } };
    }),
  };
}

function tableOf(wanted: Config, before?: ForwardingTable, down: readonly string[] = []): ForwardingTable {
  const dead: BackendHealth = { alive: false, known: true, admission: 0, reason: "test", sinceMs: 0 };
  const health = new Map(down.map((name) => [name, dead]));
  return compile({ config: wanted, hashSeed: 1n, overrides: [], health, nowMs: 0 }, before ?? { ledger: EMPTY_LEDGER, generation: 0 });
}

function packet(source: string, change: Partial<Packet> = {}): Packet {
  return {
    kind: "flow", family: 4, source: address(source).bytes, destination: address("203.0.113.10").bytes, protocol: 6,
    sourcePort: 4000, destinationPort: 80, syn: true, ack: false, fin: false, rst: false, tellable: false, ttl: 64, ...change,
  };
}

const STATE = { flow: null, nowNs: 0n, heartbeatNs: null, neighbour: () => true };

function whose(table: ForwardingTable, source: string, change?: Partial<Packet>): string {
  const { service, destination, verdict } = decide(table, STATE, packet(source, change));
  return `${service?.name} ${destination?.pool ?? verdict}`;
}

describe("the table of a service with regions", () => {
  it("has a service for each region, with the region's pool and an index of its own that stays", () => {
    const table = tableOf(config());
    expect(table.services.map(({ name, index, config: { pool } }) => `${name} ${index} ${pool}`))
      .toEqual(["web 0 web", "web@eu 1 web-eu", "web@lab 2 lab", "api 3 lab"]);
    expect(table.services.map((service) => serviceKey(service.config)))
      .toEqual(["tcp 203.0.113.10:80", "tcp 203.0.113.10:80 @eu", "tcp 203.0.113.10:80 @lab", "tcp 203.0.113.10:81"]);
    const turned = tableOf(config({ geo: { ...GEO, regions: GEO.regions.toReversed() } }), table);
    expect(turned.services.map(({ name, index }) => `${name} ${index}`)).toEqual(["web 0", "web@lab 2", "web@eu 1", "api 3"]);
    expect(whose(turned, "192.0.2.1")).toBe("web@eu web-eu");
  });

  it("gives a service and a region of one pool one ring", () => {
    const table = tableOf(config({ pool: "web-eu" }));
    expect(table.services[0]!.ring).toBe(table.services[1]!.ring);
  });
});

describe("decide", () => {
  it("looks up where the client is, after the policy and for errors about its flows too", () => {
    const deny = { allow: [], deny: [{ address: address("192.0.2.128"), length: 25, text: "192.0.2.128/25" }] };
    const table = tableOf(config({ policy: deny }));
    expect(whose(table, "192.0.2.1")).toBe("web@eu web-eu");
    expect(whose(table, "192.0.2.200")).toBe("web DROP_DENIED");
    expect(whose(table, "198.51.100.1")).toBe("web web");
    expect(whose(table, "203.0.113.99")).toBe("web web");
    expect(whose(table, "10.1.2.3")).toBe("web@lab lab");
    expect(whose(table, "192.0.2.1", { kind: "icmp-error" })).toBe("web@eu web-eu");
    expect(whose(table, "192.0.2.1", { destinationPort: 81 })).toBe("api lab");
  });

  it("keeps a flow where it is when the database says otherwise, and places new ones by the new one", () => {
    const before = tableOf(config());
    const flow = packet("192.0.2.1", { syn: false, ack: true });
    const { destination } = decide(before, STATE, packet("192.0.2.1"));
    const after = tableOf(config({}, mmdb({ "192.0.2.0/24": country("US", "NA") })), before);
    const entry = { destination: destination!.id, generation: destination!.generation, lastSeenNs: 0n };
    expect(decide(after, { ...STATE, flow: entry }, flow)).toMatchObject({ destination: { name: destination!.name }, how: { by: "flow" } });
    expect(whose(after, "192.0.2.1")).toBe("web web");
  });

  it("drops what comes for a region nobody is up in: another region's backends are no answer to that", () => {
    const table = tableOf(config(), undefined, ["web-eu/c", "web-eu/d"]);
    expect(whose(table, "192.0.2.1")).toBe("web@eu DROP_NO_BACKEND");
    expect(table.warnings).toEqual(["service web@eu: no backend can take flows"]);
  });

  it("takes all clients for the service's own until somebody has read the database", () => {
    expect(whose(tableOf(config({}, null)), "192.0.2.1")).toBe("web web");
  });

  it("makes no difference between tables that have their regions in another order", () => {
    const [a, b] = [tableOf(config()), tableOf(config({ geo: { ...GEO, regions: GEO.regions.toReversed() } }))];
    for (const source of ["192.0.2.1", "10.0.0.1", "198.51.100.7"]) expect(whose(a, source)).toBe(whose(b, source));
  });
});

describe("what is told", () => {
  it("explains whose region a client is in, asked for the service or for a region of it", () => {
    const wanted = config();
    const table = tableOf(wanted);
    for (const service of ["web", "web@lab"]) {
      const answer = answerExplain(table, wanted, { service, client: "192.0.2.7:4000", to: null });
      expect(answer.service).toBe("web@eu");
      expect(answer.backend).toMatch(/^web-eu\/[cd]$/);
      expect(answer.steps[0]?.detail).toContain("web is tcp 203.0.113.10:80");
      expect(answer.steps).toContainEqual({
        step: "region", detail: "192.0.2.7 is in 192.0.2.0/24 of region eu: web@eu is for it, whose pool is web-eu",
      });
    }
    expect(answerExplain(table, wanted, { service: "web", client: "198.51.100.7:1", to: null }).steps).toContainEqual({
      step: "region", detail: "198.51.100.7 is in no region: web itself is for it, whose pool is web",
    });
    const unread = config({}, null);
    expect(answerExplain(tableOf(unread), unread, { service: "web", client: "192.0.2.7:1", to: null }).steps).toContainEqual({
      step: "region", detail: "nobody has read /geo.mmdb: all clients are taken for the service's own",
    });
  });

  it("reports the ring of a region as that of any service, and of the service alone its own", () => {
    const intent = { config: config(), hashSeed: 1n, overrides: [], health: new Map(), nowMs: 0 };
    const names = (service: string): string[] => answerRing(intent, { service, down: [], remove: [] }).backends.map(({ name }) => name).sort();
    expect([names("web"), names("web@eu"), names("web@lab")]).toEqual([["a", "b"], ["c", "d"], ["e"]]);
  });

  it("shows a change of the database alone as a change without a slot", () => {
    const before = tableOf(config());
    const wanted = config();
    const [web, ...others] = wanted.services;
    const nobody = new RegionPrefixes("other", null, { starts: new Uint32Array(0), bits: new Uint8Array(0), regions: new Uint8Array(0) });
    const moved = { ...wanted, services: [{ ...web!, geo: { ...web!.geo!, prefixes: nobody } }, ...others] };
    expect(movements(before, tableOf(moved, before), "proxy").map(({ service, change, slotsMoved }) => `${service} ${change} ${slotsMoved}`))
      .toEqual(["web changed 0", "web@eu unchanged 0", "web@lab unchanged 0", "api unchanged 0"]);
  });

  it("shows the config as the file has it, and no prefix of the database", () => {
    const view = configView(config()) as { services: { name: string; geo: unknown; region?: unknown }[] };
    expect(view.services.map(({ name }) => name)).toEqual(["web", "api"]);
    expect(view.services[0]).toMatchObject({ geo: { database: "/geo.mmdb", prefixes: "k" } });
    expect(view.services[0]).not.toHaveProperty("region");
  });

  it("has every region's pool probed, at the service's port", () => {
    const { health } = configOf({ pools: { web: ["a"] }, probes: true, services: [] }).pools[0]!;
    const probed = { ...config(), pools: config().pools.map((pool) => ({ ...pool, health })) };
    expect(probeTargets(probed, "proxy").map(({ name, port }) => `${name} ${port}`))
      .toEqual(["web/a 80", "web/b 80", "web-eu/c 80", "web-eu/d 80", "lab/e 80"]);
  });
});

describe("the XDP plane", () => {
  it("serves a service with regions, or none of it where one of its pools cannot be served", () => {
    expect(servable(tableOf(config())).failed.size).toBe(0);
    expect(refusedByXdp(config())).toEqual([]);
    const plain = configOf({
      pools: { web: ["a", "b"], "web-eu": [{ name: "c", address: "2001:db8::1" }], lab: [{ name: "e", address: "10.0.9.3" }] },
      services: [{ name: "web", geo: GEO, forwarding: "fullnat" }, { name: "api", pool: "lab" }],
    });
    const mixed = withPrefixes(plain, DATABASE);
    const { served, failed } = servable(tableOf(mixed));
    const why = "fullnat keeps the IP version in the XDP plane, and web-eu/c has the other one";
    expect([...failed]).toEqual(["web", "web@eu", "web@lab"].map((name) => [name, why]));
    expect(served.services.map(({ name }) => name)).toEqual(["api"]);
    expect(refusedByXdp(mixed).map(({ service }) => service)).toEqual(["web@eu (fullnat)"]);
  });
});

describe("a change of the regions", () => {
  const WINDOW_MS = 60_000;
  const MINIMAL: Partial<ServiceSketch> = { tracking: "minimal", changeWindowMs: WINDOW_MS };
  /** As supervisors make tables, one after the other. */
  function following(): (wanted: Config, nowMs: number) => ForwardingTable {
    let last: ForwardingTable | null = null;
    return (wanted, nowMs) => {
      const ledger = last?.ledger ?? EMPTY_LEDGER;
      const changes = { nowMs, shown: ledger, sweeps: new Map() };
      last = compile({ config: wanted, hashSeed: 1n, overrides: [], health: new Map(), nowMs: 0 }, { ledger, generation: last?.generation ?? 0, changes });
      return last;
    };
  }
  const located = (networks: Readonly<Record<string, readonly string[]>>, change: Partial<ServiceSketch> = MINIMAL): Config => {
    const regions = Object.entries(networks).map(([name, list]) => ({ name, pool: "web-eu", networks: list }));
    const wanted = config({ ...change, geo: { regions } });
    return { ...wanted, services: wanted.services.map((service) =>
      (service.geo === null ? service : { ...service, geo: locatedByNetworks({ regions }) })) };
  };
  const marks = ({ services }: ForwardingTable): number[] =>
    services.map(({ states }) => states.exceptional?.reduce((sum, mark) => sum + mark, 0) ?? 0);

  it("opens a window that knows where clients were at its start, until they are back or its time is over", () => {
    const make = following();
    const [first, second] = [located({ eu: ["10.0.0.0/8"], us: ["192.0.2.0/24"] }), located({ eu: ["10.1.0.0/16"], us: ["192.0.2.0/24"] })];
    expect(make(first, 1000).services[0]!.regions!.before).toBeNull();
    const moved = make(second, 2000);
    const { before } = moved.services[0]!.regions!;
    expect(before).toMatchObject({ services: [1, 2], deadlineMs: 2000 + WINDOW_MS });
    expect([before!.prefixes!.regionOf(address("10.2.0.1").bytes), moved.services[0]!.regions!.prefixes!.regionOf(address("10.2.0.1").bytes)]).toEqual([1, 0]);
    const size = moved.services[0]!.ring.size;
    expect(marks(moved)).toEqual([size, size, size, 0]);
    // A second change goes on from the first one's start; the third is the way back.
    const third = make(located({ eu: [], us: ["192.0.2.0/24"] }), 3000);
    expect(third.services[0]!.regions!.before).toMatchObject({ digest: before!.digest, deadlineMs: 3000 + WINDOW_MS });
    const back = make(first, 4000);
    expect(back.services[0]!.regions!.before).toBeNull();
    expect(marks(back)).toEqual([size, size, size, 0]);
    expect(back.services.slice(0, 3).map(({ states }) => states.sweepable)).toEqual([size, size, size]);
    expect(make(second, 5000).services[0]!.regions!.before).not.toBeNull();
    const over = make(second, 5000 + WINDOW_MS);
    expect([over.services[0]!.regions!.before, ...over.services.slice(0, 3).map(({ states }) => states.sweepable)]).toEqual([null, size, size, size]);
  });

  it("is told by explain, for the clients that it moves, as long as it counts", () => {
    const make = following();
    make(located({ eu: ["10.0.0.0/8"] }), 1000);
    const wanted = located({ eu: ["10.1.0.0/16"] });
    const table = make(wanted, 2000);
    const older = (client: string, nowMs: number): string | undefined => explain(
      table, wanted, table.services[0]!, { address: address(client), port: 4000 }, { address: address("203.0.113.10"), port: 80 },
      null, BigInt(nowMs) * 1_000_000n,
    ).steps.find(({ step }) => step === "older flows")?.detail;
    const settled = "the slot is settled with exceptions: some flows may be remembered elsewhere";
    expect(older("10.2.0.1", 3000)).toMatch(
      /^the client was web@eu's before the regions changed, which counts for 119 s at most: flows from before that nobody remembers are web-eu\/[cd]'s$/);
    expect([older("10.1.0.1", 3000), older("192.0.2.1", 3000), older("10.2.0.1", 123_000)]).toEqual([settled, settled, settled]);
  });

  it("knows a region that is gone as nobody's, and a service that had none as its own", () => {
    const make = following();
    const plain = config(MINIMAL, null);
    make({ ...plain, services: withoutRegions(plain.services).map((service) => ({ ...service, geo: null })) }, 1000);
    const begun = make(located({ eu: ["10.0.0.0/8"] }), 2000);
    expect(begun.services[0]!.regions!.before).toMatchObject({ digest: 0n, prefixes: null, services: [] });
    const other = make(located({ us: ["10.0.0.0/8"] }), 200_000);
    expect(other.services[0]!.regions!.before!.services).toEqual([null]);
  });

  it.each([["full"], ["none"]] as const)("opens none with tracking: %s, where no client has to be asked", (tracking) => {
    const make = following();
    make(located({ eu: ["10.0.0.0/8"] }, { tracking }), 1000);
    expect(make(located({ eu: [] }, { tracking }), 2000).services[0]!.regions!.before).toBeNull();
  });
});
