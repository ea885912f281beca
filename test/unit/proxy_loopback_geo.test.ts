// Regions through the proxy plane on real loopback sockets: clients of several addresses of 127.0.0.0/8, each
// with the pool of its region, over changes of the database, of backends and of regions.

import type { Socket } from "node:net";
import { beforeEach, describe, expect, it } from "vitest";
import { makeRegions } from "../../src/geo/load.ts";
import type { Config } from "../../src/model/config.ts";
import { RegionPrefixes } from "../../src/model/regions.ts";
import { geoOf, type GeoSketch } from "../support/configs.ts";
import { country, mmdb, type MmdbEntries } from "../support/mmdb.ts";
import type { ServiceChange } from "../support/proxy_world.ts";
import { config, ending, freePort, leaveNoSockets, line, ProxyWorld, service, type Place, udpPort } from "../support/proxy_world.ts";

let world: ProxyWorld;
leaveNoSockets(() => world.close());
beforeEach(() => { world = new ProxyWorld(); });

const poll = { timeout: 10_000, interval: 5 };
const PLACES: MmdbEntries = { "127.1.0.0/16": country("DE", "EU"), "127.2.0.0/16": country("US", "NA") };
const GEO: GeoSketch = {
  database: "/geo.mmdb",
  regions: [{ name: "eu", continents: ["EU"], pool: "web-eu" }, { name: "lab", networks: ["127.3.0.0/16"], pool: "lab" }],
};
const [GERMAN, AMERICAN, LAB, UNKNOWN] = ["127.1.0.1", "127.2.0.1", "127.3.0.1", "127.0.0.1"];

/** The service with what the database says of its regions. */
function located(places: MmdbEntries = PLACES, sketch: GeoSketch = GEO): Pick<ServiceChange, "geo"> {
  const geo = geoOf(sketch);
  const made = makeRegions(mmdb(places), [geo.regions.map((each) => ({ ...each, networks: each.networks.map(({ text }) => text) }))]);
  if ("reason" in made) throw new Error(made.reason);
  return { geo: { ...geo, prefixes: new RegionPrefixes(JSON.stringify([places, sketch]), made.source, made.columns[0]!) } };
}

type Pools = Readonly<Record<string, Readonly<Record<string, Place>>>>;

async function greeters(): Promise<Pools> {
  const [a, c, e] = await Promise.all(["a", "c", "e"].map((name) => world.greeter(name)));
  return { web: { a: a! }, "web-eu": { c: c! }, lab: { e: e! } };
}

async function serve(change: ServiceChange = {}, pools?: Pools): Promise<Config> {
  const wanted = config([service({ port: await freePort(), ...located(), ...change })], pools ?? await greeters());
  expect([...(await world.apply(wanted)).failed]).toEqual([]);
  return wanted;
}

/** The same, with other regions or another database. */
function relocated(wanted: Config, change: ServiceChange): Config {
  const [web] = wanted.services;
  const { network, ports } = web!;
  const again = config([service({ address: network.address.text, port: ports.from, ...change })], {});
  return { ...wanted, services: again.services };
}

interface Opened {
  readonly name: string;
  readonly socket: Socket;
}

async function connect({ services }: Config, localAddress: string): Promise<Opened> {
  const { network: { address }, ports } = services[0]!;
  const socket = world.client({ host: address.text, port: ports.from, localAddress });
  return { name: await line(socket), socket };
}

async function answered(wanted: Config, ...sources: readonly string[]): Promise<string> {
  const names = [];
  for (const source of sources) names.push((await connect(wanted, source)).name);
  return names.join("");
}

async function echo(socket: Socket): Promise<void> {
  const answer = line(socket);
  socket.write("again\n");
  expect(await answer).toBe("again");
}

describe("connections", () => {
  it("go to the pool of their client's region, and are counted as the region's", async () => {
    const wanted = await serve();
    expect(await answered(wanted, GERMAN, AMERICAN, LAB, UNKNOWN, GERMAN)).toBe("caeac");
    const { services, serviceFlows, flowTable } = world.plane.counters();
    expect([...services].map(([name, { flows }]) => `${name} ${flows}`).sort()).toEqual(["web 2", "web@eu 2", "web@lab 1"]);
    expect([...serviceFlows].map(([name, { count }]) => `${name} ${count}`).sort()).toEqual(["web 2", "web@eu 2", "web@lab 1"]);
    expect(flowTable.max).toBe(1000);
    expect([...world.plane.status().listening.keys()]).toEqual(["web"]);
  });

  it("stay where they are when the database, the regions or all of them change; new ones go by the new ones", async () => {
    const wanted = await serve();
    const [german, american, lab] = [await connect(wanted, GERMAN), await connect(wanted, AMERICAN), await connect(wanted, LAB)];
    expect(german.name + american.name + lab.name).toBe("cae");
    const swapped = relocated(wanted, located({ "127.1.0.0/16": country("US", "NA"), "127.2.0.0/16": country("DE", "EU") }));
    await world.apply(swapped);
    expect(await answered(swapped, GERMAN, AMERICAN, LAB)).toBe("ace");
    const fewer = relocated(wanted, located(PLACES, { ...GEO, regions: GEO.regions.slice(1) }));
    await world.apply(fewer);
    expect(await answered(fewer, GERMAN, LAB)).toBe("ae");
    const none = relocated(wanted, { geo: null });
    await world.apply(none);
    expect(await answered(none, GERMAN, LAB)).toBe("aa");
    for (const { socket } of [german, american, lab]) await echo(socket);
  });

  it("are reset in a region that nobody is up in, whoever is up elsewhere", async () => {
    const wanted = await serve();
    await world.down("web-eu/c");
    const { network: { address }, ports } = wanted.services[0]!;
    const { end } = await ending(world.client({ host: address.text, port: ports.from, localAddress: GERMAN }));
    expect(end).toBe("reset");
    expect(world.plane.counters().verdicts.DROP_NO_BACKEND?.packets).toBe(1);
    expect(await answered(wanted, AMERICAN)).toBe("a");
  });

  it("try other backends of their region, and of no other, when the first does not take them", async () => {
    const pools = await greeters();
    const dead: Place = { address: "127.0.0.1", port: await freePort() };
    const wanted = await serve({ proxy: { connectRetries: 2 } }, { ...pools, "web-eu": { ...pools["web-eu"], dead } });
    for (let count = 0; count < 12; count++) expect(await answered(wanted, GERMAN)).toBe("c");
    expect(world.plane.counters().incidents?.get("connect_failed")).toBeGreaterThan(0);
    const alone = { ...wanted, pools: wanted.pools.map((pool) => ({ ...pool, backends: pool.backends.filter(({ name }) => name !== "c") })) };
    await world.apply(alone);
    const { network: { address }, ports } = wanted.services[0]!;
    expect((await ending(world.client({ host: address.text, port: ports.from, localAddress: GERMAN }))).end).toBe("reset");
  });

  it("take turns in their region alone", async () => {
    const [a, b, c, d] = await Promise.all(["a", "b", "c", "d"].map((name) => world.greeter(name)));
    const wanted = await serve({ algorithm: "round-robin" }, { web: { a: a!, b: b! }, "web-eu": { c: c!, d: d! }, lab: { a: a! } });
    // A turn of one region between two of the other: taken together, each would meet one backend alone.
    const names: Record<string, string[]> = { [GERMAN]: [], [AMERICAN]: [] };
    for (let turn = 0; turn < 4; turn++) for (const source of [GERMAN, AMERICAN]) names[source]!.push(await answered(wanted, source));
    expect(Object.values(names).map((each) => each.sort().join(""))).toEqual(["ccdd", "aabb"]);
  });

  it("of all regions together have the service's limit", async () => {
    const wanted = await serve({ proxy: { connectionsMax: 2 } });
    const opened = [await connect(wanted, GERMAN), await connect(wanted, AMERICAN)];
    const { network: { address }, ports } = wanted.services[0]!;
    expect((await ending(world.client({ host: address.text, port: ports.from, localAddress: LAB }))).end).toBe("reset");
    opened[0]!.socket.destroy();
    await expect.poll(() => world.plane.counters().flowTable.count, poll).toBe(1);
    expect(await answered(wanted, LAB)).toBe("e");
  });
});

describe("what is told of a change", () => {
  it("names regions that come, change and go, and the service when its prefixes are others", async () => {
    const wanted = await serve();
    const stepsOf = (next: Config): string[] => world.plane.plan(world.tables.make(next))
      .map(({ action, object, detail }) => `${action} ${object}: ${detail}`);
    expect(stepsOf(wanted)).toEqual([]);
    expect(stepsOf(relocated(wanted, located({ "127.1.0.0/16": country("FR", "EU") })))).toEqual(["update service web: settings change"]);
    const regions = [{ name: "eu", continents: ["EU"], pool: "lab" }, { name: "us", countries: ["US"], pool: "web" }];
    const steps = stepsOf(relocated(wanted, located(PLACES, { ...GEO, regions })));
    expect(steps).toEqual([
      "update service web: settings change",
      expect.stringMatching(/^update service web@eu: ring .* backends change, settings change$/) as string,
      "add service web@us: pool web",
      "remove service web@lab: connections go on",
    ]);
  });
});

describe("sessions of UDP", () => {
  async function serveUdp(): Promise<Config> {
    const [a, c, e] = await Promise.all(["a", "c", "e"].map((name) => world.udpBackend(name)));
    return await serve({ protocol: "udp", port: await udpPort() }, { web: { a: a! }, "web-eu": { c: c! }, lab: { e: e! } });
  }

  it("go by region, stay when the database changes, and move when their backend is down", async () => {
    const wanted = await serveUdp();
    const { ports, network: { address } } = wanted.services[0]!;
    const clients = await Promise.all([GERMAN, LAB, UNKNOWN].map((source) => world.udpClient(source)));
    let asked = 0;
    const ask = async (): Promise<(string | undefined)[]> => {
      asked += 1;
      for (const { socket } of clients) socket.send("x", ports.from, address.text);
      await expect.poll(() => clients.every(({ heard }) => heard.length === asked), poll).toBe(true);
      return clients.map(({ heard }) => heard.at(-1));
    };
    expect(await ask()).toEqual(["c:x", "e:x", "a:x"]);
    const elsewhere = relocated(wanted, { protocol: "udp", ...located({ "127.0.0.0/16": country("DE", "EU") }) });
    await world.apply(elsewhere);
    expect(await ask()).toEqual(["c:x", "e:x", "a:x"]);
    expect(world.plane.counters().incidents?.get("session_moved") ?? 0).toBe(0);
    await world.down("web/a");
    const [, , unknown] = await ask();
    expect(unknown).toBe("c:x"); // decided anew, by the new database
    expect(world.plane.counters().incidents?.get("session_moved")).toBe(1);
    const names = [...world.plane.counters().serviceFlows].map(([name, { count }]) => `${name} ${count}`).sort();
    expect(names).toEqual(["web 0", "web@eu 2", "web@lab 1"]);
  });
});
