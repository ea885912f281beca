// The supervisor and the databases of regions: missing, broken, replaced and gone, at the start and at a reload, and
// what of it is told. Planes are simulated and time is fake.

import { describe, expect, it } from "vitest";
import type { ForwardingTable } from "../../src/model/table.ts";
import { serviceFor } from "../../src/model/service_lookup.ts";
import { createFakeEnv } from "../support/fake_env.ts";
import { layServices } from "../../src/cli/nouns.ts";
import { GEO_METRICS } from "../../src/observe/geo_metrics.ts";
import { makeRegions } from "../../src/geo/load.ts";
import { readableRegions, readRegions } from "../../src/supervisor/geo_databases.ts";
import { address, configOf, type ConfigSketch, type GeoSketch } from "../support/configs.ts";
import { country, mmdb, type MmdbEntries } from "../support/mmdb.ts";
import { failureOf, request, World } from "../support/world.ts";

const PATH = "/var/lib/GeoIP/country.mmdb";
const GEO: GeoSketch = { database: PATH, regions: [{ name: "eu", continents: ["EU"], pool: "web-eu" }] };
const PLACES: MmdbEntries = { "192.0.2.0/24": country("DE", "EU") };

function sketch(geo: GeoSketch = GEO): ConfigSketch {
  return { mode: "proxy", pools: { web: ["a"], "web-eu": [{ name: "b", address: "10.0.9.1" }] }, services: [{ name: "web", geo }] };
}

function put(world: World, entries: MmdbEntries, builtAtMs = Date.UTC(2026, 5, 1)): void {
  world.env.files.writeAtomic(PATH, mmdb(entries, { builtAtMs }), 0o644);
}

function started(entries: MmdbEntries = PLACES): World {
  const world = new World();
  put(world, entries);
  return world;
}

function regionOf(table: ForwardingTable | null, client: string): string {
  return serviceFor(table!, table!.services[0]!, address(client).bytes).name;
}

function told(world: World): string[] {
  return world.supervisor.events.since(0).filter(({ kind }) => kind === "config").map(({ subject, message }) => `${subject}: ${message}`);
}

describe("at the start", () => {
  it("the database is read, and status says what it is", async () => {
    const world = started();
    const supervisor = await world.start(sketch());
    expect([regionOf(supervisor.table(), "192.0.2.9"), regionOf(supervisor.table(), "198.51.100.9")]).toEqual(["web@eu", "web"]);
    const { services } = supervisor.status();
    expect(services.map(({ name, pool, region, listening }) => [name, pool, region, listening]))
      .toEqual([["web", "web", null, services[0]!.listening], ["web@eu", "web-eu", "eu", services[0]!.listening]]);
    expect(services[0]!.geo).toEqual({ database: PATH, databaseType: "Test-Country", builtAtMs: Date.UTC(2026, 5, 1), prefixes: 1, regions: ["eu"] });
    expect(services[1]!.geo).toBe(null);
    expect(layServices(services)).toMatch(/web .*regions by Test-Country of 2026-06-01 *\n/);
    const snapshot = { status: supervisor.status() } as Parameters<(typeof GEO_METRICS)[number]["samples"]>[0];
    expect(GEO_METRICS.map(({ samples }) => samples(snapshot)))
      .toEqual([[[{ service: "web" }, 1]], [[{ service: "web" }, Date.UTC(2026, 5, 1) / 1000]]]);
    expect(world.env.messages("info")).toContain("regions are those of Test-Country of 2026-06-01: 1 prefix");
  });

  it("one that is missing, broken or of something else is a problem of the config, and no plane is opened", async () => {
    for (const [bytes, reason] of [
      [null, "there is no such file"],
      [Buffer.from("<html>"), "it is no database in MaxMind's format, or was cut off"],
      [mmdb({ "192.0.2.0/24": { autonomous_system_number: 1 } }, { type: "ASN" }), "it is called ASN, and its records have no continents"],
    ] as const) {
      const world = new World();
      if (bytes !== null) world.env.files.writeAtomic(PATH, bytes, 0o644);
      const failure = await failureOf(world.start(sketch()));
      expect(failure.details).toEqual({ problems: [{
        severity: "error", file: "/etc/pointsman/pointsman.yaml", line: 1, column: 1, path: "services[0].geo.database",
        reason: `${PATH}: ${reason}`, hint: `put a database with countries in MaxMind's format at ${PATH}`,
      }] });
      expect(world.planes).toEqual([]);
    }
  });
});

describe("at a reload", () => {
  it("a database that was replaced is taken up, and told; the same one again is not even walked", async () => {
    const world = started();
    const supervisor = await world.start(sketch());
    const prefixes = supervisor.table()!.services[0]!.regions!.prefixes;
    expect(await supervisor.reload("ann")).toMatchObject({ changed: false, steps: 0 });
    expect(supervisor.table()!.services[0]!.regions!.prefixes).toBe(prefixes);
    put(world, { "198.51.100.0/24": country("FR", "EU") }, Date.UTC(2026, 6, 1));
    expect(regionOf(supervisor.table(), "192.0.2.9")).toBe("web@eu");
    expect(await supervisor.plan(request(sketch()))).toMatchObject({ changed: true, warnings: [] });
    expect(await supervisor.reload("ann")).toMatchObject({ changed: true, warnings: [] });
    expect([regionOf(supervisor.table(), "192.0.2.9"), regionOf(supervisor.table(), "198.51.100.9")]).toEqual(["web", "web@eu"]);
    expect(told(world)).toContain("web: regions are those of Test-Country of 2026-07-01: 1 prefix");
    expect(told(world).filter((text) => text.includes(" 1 prefix"))).toHaveLength(1);
  });

  it("one that is gone or broken leaves what was read before, with a warning and an event", async () => {
    const world = started();
    const supervisor = await world.start(sketch());
    for (const [spoil, reason] of [
      [() => { world.env.files.remove(PATH); }, "there is no such file"],
      [() => { world.env.files.writeAtomic(PATH, "half", 0o644); }, "it is no database in MaxMind's format, or was cut off"],
    ] as const) {
      spoil();
      const warning = `services[0].geo.database: ${PATH}: ${reason}; what was read of it before stays`;
      expect((await supervisor.reload("ann")).warnings).toEqual([warning]);
      expect(regionOf(supervisor.table(), "192.0.2.9")).toBe("web@eu");
      expect(told(world).at(-1)).toBe(`/etc/pointsman/pointsman.yaml: ${warning}`);
      expect(supervisor.status().ready).toBe(true);
    }
    const asked = told(world).length;
    expect((await supervisor.plan(request(sketch()))).warnings).toHaveLength(1);
    expect(told(world)).toHaveLength(asked);
    put(world, PLACES);
    expect((await supervisor.reload("ann")).warnings).toEqual([]);
  });

  it("with other regions, or at another path, there is nothing to stay: the config is refused", async () => {
    const world = started();
    const supervisor = await world.start(sketch());
    world.env.files.remove(PATH);
    for (const geo of [{ ...GEO, regions: [{ name: "eu", countries: ["DE"], pool: "web-eu" }] }, { ...GEO, database: "/elsewhere.mmdb" }]) {
      world.write(sketch(geo));
      expect((await failureOf(supervisor.reload("ann"))).code).toBe("CONFIG_INVALID");
      expect(regionOf(supervisor.table(), "192.0.2.9")).toBe("web@eu");
      expect(supervisor.status().config.problems).toMatchObject([{ path: "services[0].geo.database" }]);
    }
  });

  it("regions come and go, with their services", async () => {
    const world = started();
    const supervisor = await world.start(sketch());
    const wanted = sketch({ ...GEO, regions: [...GEO.regions, { name: "lab", networks: ["10.0.0.0/8"], pool: "web" }] });
    const plan = await supervisor.plan(request(wanted));
    expect(plan.services.map(({ service, change }) => `${service} ${change}`)).toEqual(["web changed", "web@eu unchanged", "web@lab added"]);
    await supervisor.apply(request(wanted));
    expect([regionOf(supervisor.table(), "10.1.1.1"), regionOf(supervisor.table(), "192.0.2.9")]).toEqual(["web@lab", "web@eu"]);
    await supervisor.apply(request({ ...wanted, services: [{ name: "web" }] }));
    expect(supervisor.status().services.map(({ name }) => name)).toEqual(["web"]);
    expect(await supervisor.rollback(null, "ann")).toMatchObject({ changed: true });
    expect(regionOf(supervisor.table(), "10.1.1.1")).toBe("web@lab");
  });
});

it("a database is read once for all services that name it, and each has its own regions", async () => {
  const env = createFakeEnv();
  const reads: string[] = [];
  const files = { ...env.files, read: (path: string) => {
    reads.push(path);
    return mmdb({ "192.0.2.0/24": country("DE", "EU"), "198.51.100.0/24": country("US", "NA") });
  } };
  const other: GeoSketch = { ...GEO, regions: [{ name: "us", countries: ["US"], pool: "web-eu" }] };
  const config = configOf({ ...sketch(), services: [{ name: "web", geo: GEO }, { name: "more", geo: other }, { name: "plain" }] });
  const { config: read, warnings } = await readRegions(config, "file", { files }, null);
  expect([reads, warnings]).toEqual([[PATH], []]);
  const of = (name: string): string[] => {
    const { prefixes } = read.services.find((each) => each.name === name)!.geo!;
    return [...prefixes!].map(({ bytes }) => prefixes!.prefixOf(bytes)!.text);
  };
  expect([of("web"), of("more")]).toEqual([["192.0.2.0/24"], ["198.51.100.0/24"]]);
});

it("without a database networks are enough, and offline a database that cannot be read is a reason to tell", async () => {
  const { files } = createFakeEnv();
  const config = configOf(sketch({ regions: [{ name: "lab", networks: ["10.0.0.0/8"], pool: "web-eu" }] }));
  const read = await readableRegions(config, { files });
  expect(read.reasons).toEqual([]);
  expect([...read.config.services[0]!.geo!.prefixes!]).toHaveLength(1);
  expect("columns" in makeRegions(null, [[]])).toBe(true);
  expect((await readableRegions(configOf(sketch()), { files })).reasons).toEqual([`${PATH}: there is no such file`]);
});
