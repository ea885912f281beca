// A service whose clients' region chooses the pool, through compile, decide, explain and the tables that planes
// are given: one more service for each region, with everything that a service has.

import { describe, expect, it } from "vitest";
import { makeRegions } from "../../src/geo/load.ts";
import { servable } from "../../src/dataplane/xdp/servable.ts";
import { compile, serviceKey } from "../../src/model/compile.ts";
import type { Config } from "../../src/model/config.ts";
import { decide, type Packet } from "../../src/model/decide.ts";
import { refusedByXdp } from "../../src/model/features.ts";
import { RegionPrefixes } from "../../src/model/regions.ts";
import { EMPTY_LEDGER, type BackendHealth, type ForwardingTable } from "../../src/model/table.ts";
import { movements } from "../../src/supervisor/movements.ts";
import { answerExplain, answerRing } from "../../src/supervisor/questions.ts";
import { configView } from "../../src/api/config_view.ts";
import { probeTargets } from "../../src/health/target.ts";
import { address, configOf, type ServiceSketch } from "../support/configs.ts";
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
  it("leaves a service with regions out, whole, and serves the others", () => {
    const { served, failed } = servable(tableOf(config()));
    expect([...failed]).toEqual(["web", "web@eu", "web@lab"].map((name) => [name, "only the proxy plane looks up where clients are"]));
    expect(served.services.map(({ name }) => name)).toEqual(["api"]);
    expect([...served.destinations.values()].map(({ name }) => name)).toEqual(["lab/e"]);
    expect(refusedByXdp(config())).toEqual([{ service: "web (geo)", why: "only the proxy plane looks up where clients are" }]);
  });
});
