// Metrics and the endpoints that serve them: names follow Prometheus' rules, kernel counters are shown as
// they are, series of removed backends go, and readiness says why not.

import { afterEach, describe, expect, it } from "vitest";
import type { Status } from "../../src/api/schemas.ts";
import type { Counters } from "../../src/dataplane/dataplane.ts";
import { parseAddress } from "../../src/model/address.ts";
import { createRegistry, METRICS, metricsTable } from "../../src/observe/metrics.ts";
import type { ObserveServer } from "../../src/observe/server.ts";
import { startObserveServer } from "../../src/observe/server.ts";
import type { Supervisor } from "../../src/supervisor/contract.ts";

interface World {
  ready: boolean;
  backends: string[];
  packets: number;
  /** That are remembered; null: nobody has counted them; absent: nobody remembers any. */
  clients?: number | null;
}

/** A supervisor that answers what a scrape asks, from a few facts. */
function supervisorOf(world: World): Supervisor {
  const status = (): Status => ({
    instance: "test", version: "1.2.3", mode: "xdp", ready: world.ready, reasons: world.ready ? [] : ["apply failed: full"],
    plane: { mode: "xdp", reason: "XDP is attached", remedy: null, attempts: [] },
    config: { file: null, revision: 4, loadedAtMs: 2000, fileDiffers: true, problems: [] }, overrides: [],
    services: [{
      name: "web", backends: 2, backendsUp: 1, failedOpen: false, error: null, flows: { count: 12, kind: "tracked" },
      geo: { prefixes: 7, builtAtMs: 1_790_000_000_000 },
    }],
    pools: [{
      name: "pool", backends: 3, backendsUp: 2, sorry: false, quorum: { needed: 2, met: false },
      zone: { name: "east", weight: 200, weightUp: 100, spill: 0.25 },
      priorities: [{ priority: 0, backends: 2, backendsUp: 1, active: true }, { priority: 9, backends: 1, backendsUp: 1, active: false }],
    }],
    flows: [{ count: 12, kind: "tracked" }, { count: null, kind: "unknown" }],
    backends: world.backends.map((backend) => ({
      pool: "pool", backend, state: "active", alive: true, actor: null, admission: 32768, weight: 100, slots: 7,
      certificateEndsAtMs: backend === "a" ? 1_800_000_000_000 : null,
      flows: { count: backend === "a" ? 12 : null, kind: backend === "a" ? "tracked" : "unknown" },
      destinations: [{ pathMtu: null }, { pathMtu: backend === "a" ? 1400 : null }, { pathMtu: backend === "a" ? 1380 : null }],
    })),
  }) as unknown as Status;
  const counters = (): Counters => ({
    verdicts: { TX_FORWARDED: { packets: world.packets, bytes: 64 * world.packets } },
    services: new Map([["web", { packets: world.packets, bytes: 0, flows: 3 }]]),
    backends: new Map(world.backends.map((name) => [`pool/${name}`, { packets: world.packets, bytes: 0, flows: 0 }])),
    flowTable: { count: 5, max: 10 }, serviceFlows: new Map(), backendFlows: new Map(), drainFlows: new Map(),
    incidents: new Map([["idle_timeout", 2]]),
    ...(world.clients === undefined ? {} : {
      affinities: { count: world.clients, max: 64, services: new Map(world.clients === null ? [] : [["web", world.clients]]) },
    }),
  });
  const totals = (): ReturnType<Supervisor["totals"]> => ({
    compiles: 1, applies: 2, applyFailures: 0, applySeconds: 0.5, lastApplySeconds: 0.25, lastVerdictSeconds: null, ringRebuilds: 1, reloads: 1,
    reloadsRefused: 0, transitions: new Map([["pool/a", new Map([["down" as const, 3]])]]),
    flows: new Map([["pool/a", { ok: 8, failed: 5, ejections: 2, spared: 1 }]]), events: 9,
  });
  return { status, counters, totals } as unknown as Supervisor;
}

describe("the metrics", () => {
  it("are named as Prometheus asks, each with a help text", () => {
    for (const { name, type, help } of METRICS) {
      expect(name).toMatch(/^pointsman_[a-z_]+$/);
      expect(name.endsWith("_total"), name).toBe(type === "counter");
      expect(name).not.toMatch(/_(ms|milliseconds|kb|kilobytes|count)(_|$)/);
      expect(help, name).toMatch(/\.$/);
      expect(metricsTable()).toContain(`\`${name}\``);
    }
    expect(new Set(METRICS.map(({ name }) => name)).size).toBe(METRICS.length);
  });

  it("show kernel counters as they are at each scrape, and forget removed backends", async () => {
    const world = { ready: true, backends: ["a", "b"], packets: 2 ** 40 };
    const registry = createRegistry(supervisorOf(world));
    const first = await registry.metrics();
    expect(first).toContain(`pointsman_verdict_packets_total{verdict="TX_FORWARDED"} ${2 ** 40}`);
    expect(first).toContain('pointsman_backend_packets_total{pool="pool",backend="b"}');
    expect(first).toContain('pointsman_backend_admission_ratio{pool="pool",backend="a"} 0.5');
    expect(first).toContain('pointsman_health_transitions_total{pool="pool",backend="a",to="down"} 3');
    expect(first).toContain('pointsman_pool_backends_up{pool="pool"} 2');
    expect(first).toContain('pointsman_pool_spill_ratio{pool="pool"} 0.25');
    expect(first).toContain('pointsman_pool_quorum{pool="pool"} 0');
    expect(first).toContain('pointsman_pool_sorry{pool="pool"} 0');
    expect(first).toContain('pointsman_pool_priority_active{pool="pool",priority="9"} 0');
    expect(first).toContain('pointsman_incidents_total{incident="idle_timeout"} 2');
    expect(first).toContain('pointsman_backend_flows{pool="pool",backend="a",kind="tracked"} 12');
    expect(first).not.toContain('pointsman_backend_flows{pool="pool",backend="b"');
    expect(first).toContain('pointsman_service_flows{service="web",kind="tracked"} 12');
    expect(first).toContain('pointsman_flows{kind="tracked"} 12');
    expect(first).not.toContain('kind="unknown"');
    expect(first).toContain('pointsman_backend_path_mtu_bytes{pool="pool",backend="a"} 1380');
    expect(first).not.toContain('pointsman_backend_path_mtu_bytes{pool="pool",backend="b"}');
    expect(first).toContain('pointsman_backend_certificate_expiry_timestamp_seconds{pool="pool",backend="a"} 1800000000');
    expect(first).not.toContain('pointsman_backend_certificate_expiry_timestamp_seconds{pool="pool",backend="b"}');
    world.backends = ["a"];
    world.packets += 1;
    // Scrapes of one turn of the event loop share what they look at.
    await new Promise((resolve) => { setImmediate(resolve); });
    const second = await registry.metrics();
    expect(second).toContain(`pointsman_verdict_packets_total{verdict="TX_FORWARDED"} ${2 ** 40 + 1}`);
    expect(second).not.toContain('backend="b"');
  });

  it("say how many clients are remembered where any may be, and once they were counted", async () => {
    const world: World = { ready: true, backends: [], packets: 0 };
    const registry = createRegistry(supervisorOf(world));
    const lines = async (): Promise<string[]> => {
      await new Promise((resolve) => { setImmediate(resolve); });
      return (await registry.metrics()).split("\n").filter((line) => /^pointsman_.*affinities/.test(line));
    };
    expect(await lines()).toEqual([]);
    world.clients = null;
    expect(await lines()).toEqual(["pointsman_affinities_max 64"]);
    world.clients = 7;
    expect(await lines()).toEqual(["pointsman_affinities 7", "pointsman_affinities_max 64", 'pointsman_service_affinities{service="web"} 7']);
  });

  it("have samples with the labels that they declare", () => {
    const supervisor = supervisorOf({ ready: false, backends: ["a"], packets: 1, clients: 3 });
    const snapshot = { status: supervisor.status(), counters: supervisor.counters(), totals: supervisor.totals() };
    for (const { name, labels, samples } of METRICS) {
      for (const [given, value] of samples(snapshot)) {
        expect(Object.keys(given).sort(), name).toEqual([...labels].sort());
        expect(Number.isFinite(value), name).toBe(true);
      }
    }
  });
});

describe("the endpoints", () => {
  let server: ObserveServer | null = null;
  afterEach(async () => { await server?.close(); });
  const listen = { address: parseAddress("127.0.0.1")!, port: 0 };

  it("tell health, readiness with its reasons, and metrics", async () => {
    const world = { ready: false, backends: [], packets: 0 };
    server = await startObserveServer(supervisorOf(world), listen);
    const get = async (path: string): Promise<[number, string]> => {
      const answer = await fetch(`http://${server?.endpoint ?? ""}${path}`);
      return [answer.status, await answer.text()];
    };
    expect(await get("/healthz")).toEqual([200, "ok\n"]);
    expect(await get("/readyz")).toEqual([503, "apply failed: full\n"]);
    world.ready = true;
    expect(await get("/readyz")).toEqual([200, "ready\n"]);
    expect((await get("/metrics"))[1]).toMatch(/# TYPE pointsman_verdict_packets_total counter/);
    expect((await get("/other"))[0]).toBe(404);
  });

  it("say when their place is taken", async () => {
    server = await startObserveServer(supervisorOf({ ready: true, backends: [], packets: 0 }), listen);
    const port = Number(server.endpoint.split(":")[1]);
    await expect(startObserveServer(supervisorOf({ ready: true, backends: [], packets: 0 }), { ...listen, port }))
      .rejects.toMatchObject({ code: "PORT_IN_USE" });
  });
});
