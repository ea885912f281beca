// Backends with one target share its probes: what a target is, how many probes there are, and what becomes of a
// share when backends come and go. Time is fake but where there are sockets.

import { describe, expect, it, vi } from "vitest";
import { createChecker, type Checker, type HealthTransition } from "../../src/health/checker.ts";
import { createProbe } from "../../src/health/probe.ts";
import { isActive, probeKey, probeTargets, type ProbeTarget } from "../../src/health/target.ts";
import { parseAddress } from "../../src/model/address.ts";
import type { Plane } from "../../src/model/features.ts";
import type { ExecHealth, HttpHealth, PoolHealth, TcpHealth } from "../../src/model/health_check.ts";
import { createFakeEnv } from "../support/fake_env.ts";
import { env as realEnv, nowhere, raw, TIMING } from "../support/probe_world.ts";
import { config, service } from "../support/proxy_world.ts";

const TCP: TcpHealth = { ...TIMING, type: "tcp", intervalMs: 1000, timeoutMs: 400, rise: 2, fall: 3 };
const HTTP: HttpHealth = {
  ...TCP, type: "http", version: 1, method: "GET", path: "/", host: null, headers: [], statuses: [{ from: 200, to: 299 }],
  body: null, bodyMatches: null, json: [], drainHeader: null, tls: null,
};
const EXEC: ExecHealth = { ...TCP, type: "exec", command: "/bin/true", args: [], environment: [] };
const token = (path: string): Partial<HttpHealth> => ({ headers: [{ name: "Token", value: { from: "file", path } }] });

/** How many probes there are of one server in two pools, at these addresses and ports. */
function probesOf(
  one: PoolHealth, two: PoolHealth, place: { address?: string; port?: number; plane?: Plane } = {},
): number {
  const { address = "10.0.0.1", port = 80, plane = "xdp" } = place;
  const base = config(
    [service({ name: "a", port: 80, pool: "one", forwarding: "ipip" }), service({ name: "b", port: 443, pool: "two", forwarding: "ipip" })],
    { one: { a: { address: "10.0.0.1", port: 80 } }, two: { z: { address, port } } });
  const pools = base.pools.map((pool) => ({ ...pool, health: pool.name === "one" ? one : two }));
  return new Set(probeTargets({ ...base, pools }, plane).filter(isActive).map(probeKey)).size;
}

describe("two pools with one server", () => {
  it("share its probes where the health checks are the same", () => {
    expect(probesOf(TCP, { ...TCP })).toBe(1);
    expect(probesOf(HTTP, { ...HTTP, ...token("/a"), headers: [] })).toBe(1);
    expect(probesOf({ ...HTTP, ...token("/a") }, { ...HTTP, ...token("/a") })).toBe(1);
  });

  it.each<[string, number, PoolHealth, PoolHealth]>([
    ["what is made of verdicts", 1, TCP, { ...TCP, slowStartMs: 5, damping: { changesMax: 1, withinMs: 1, holdMs: 1 },
      feedback: { intervalMs: 1, floorPercent: 1, deadBandPercent: 1, movedPercentPerSecond: 1 } }],
    ["an agent", 1, TCP, { ...TCP, agent: { port: 1, send: null, intervalMs: 1, timeoutMs: 1, jitter: 0, source: null } }],
    ["a port that is named, and the same", 1, TCP, { ...TCP, port: 80 }],
    ["a source of the other family", 1, TCP, { ...TCP, source: parseAddress("2001:db8::9") }],
    ["a source", 2, TCP, { ...TCP, source: parseAddress("10.0.0.9") }],
    ["another port", 2, TCP, { ...TCP, port: 81 }],
    ["the kind", 2, TCP, { ...EXEC, type: "icmp" }],
    ["interval", 2, TCP, { ...TCP, intervalMs: 2000 }],
    ["fastInterval", 2, TCP, { ...TCP, fastIntervalMs: 500 }],
    ["downInterval", 2, TCP, { ...TCP, downIntervalMs: 5000 }],
    ["timeout", 2, TCP, { ...TCP, timeoutMs: 401 }],
    ["jitter", 2, TCP, { ...TCP, jitter: 0.1 }],
    ["rise", 2, TCP, { ...TCP, rise: 3 }],
    ["fall", 2, TCP, { ...TCP, fall: 2 }],
    ["a key of the kind", 2, HTTP, { ...HTTP, host: "example.org" }],
    ["the file of a secret", 2, { ...HTTP, ...token("/a") }, { ...HTTP, ...token("/b") }],
    ["commands, who hear whom they ask about", 2, EXEC, { ...EXEC }],
    ["ways through the plane, which are each backend's own", 2, { ...TCP, port: 80, via: "tunnel" }, { ...TCP, port: 80, via: "tunnel" }],
    ["the way", 2, TCP, { ...TCP, via: "tunnel" }],
  ])("of checks that differ in %s there are %i", (_what, probes, one, two) => {
    expect(probesOf(one, two)).toBe(probes);
  });

  it("are at one address and port, and go through nothing in the proxy plane", () => {
    expect(probesOf(TCP, TCP, { address: "10.0.0.2" })).toBe(2);
    expect(probesOf(TCP, TCP, { port: 81 })).toBe(2);
    expect(probesOf({ ...TCP, via: "tunnel" }, { ...TCP, via: "tunnel" }, { plane: "proxy" })).toBe(1);
  });
});

function target(name: string, health: PoolHealth = TCP, port = 80, host = "10.0.0.1"): ProbeTarget {
  const [pool = "", backend = ""] = name.split("/");
  return { name, pool, backend, address: parseAddress(host)!, port, health, through: [] };
}

/** One server under a fake clock, that many pools have. */
class Server {
  readonly env = createFakeEnv();
  readonly heard: HealthTransition[] = [];
  /** When probes started, since the beginning. */
  readonly times: number[] = [];
  aborted = 0;
  isUp = true;
  readonly checker: Checker;

  constructor(onTransition: (transition: HealthTransition) => void = () => undefined) {
    const beganMs = this.env.clock.monotonicMs();
    this.checker = createChecker({
      env: this.env, onTransition: (transition) => { this.heard.push(transition); onTransition(transition); },
      probe: (_target, signal) => new Promise((resolve) => {
        this.times.push(this.env.clock.monotonicMs() - beganMs);
        const [ok, durationMs] = [this.isUp, this.isUp ? 5 : 400];
        const cancel = this.env.clock.after(durationMs, () => {
          resolve({ ok, conclusive: true, reason: ok ? "connected" : "timeout", durationMs });
        });
        signal.addEventListener("abort", () => {
          this.aborted += 1;
          cancel();
          resolve({ ok: false, conclusive: false, reason: "cancelled", durationMs: 0 });
        });
      }),
    });
  }

  update(...names: readonly string[]): void { this.checker.update(names.map((name) => target(name))); }
  get told(): string[] { return this.heard.map(({ name, from, to }) => `${name} ${from} ${to}`); }
}

describe("a share", () => {
  const POOLS = Array.from({ length: 50 }, (_, at) => `p${at}/a`);

  it("is probed once an interval, however many pools have it, and each of them hears of it", async () => {
    const server = new Server();
    server.update(...POOLS);
    await server.env.advance(20_000);
    expect(server.times).toHaveLength(20);
    expect(server.told).toEqual(POOLS.map((name) => `${name} unknown up`));
    expect(POOLS.map((name) => server.checker.records(name).length)).toEqual(POOLS.map(() => 20));
    server.isUp = false;
    await server.env.advance(3400);
    expect(server.told.slice(50)).toEqual(POOLS.map((name) => `${name} up down`));
    expect(server.heard.at(-1)?.probes).toHaveLength(3);
    const { started, succeeded, failed } = server.checker.counts();
    expect([started, succeeded, failed]).toEqual([server.times.length, 20, 3]);
  });

  it("goes on at its pace whoever leaves, the first one too, in the middle of a probe", async () => {
    const server = new Server();
    server.isUp = false;
    server.update("one/a", "two/a", "three/a");
    while (server.times.length < 2) await server.env.advance(10);
    server.update("two/a", "three/a");
    await server.env.advance(2000);
    server.update("three/a");
    await server.env.advance(3000);
    expect(server.aborted).toBe(0);
    server.times.slice(1).forEach((time, at) => { expect(time - server.times[at]!).toBeCloseTo(1000, 6); });
    expect(server.told).toEqual(["two/a unknown down", "three/a unknown down"]);
    server.update();
    await server.env.advance(3000);
    expect(server.env.timers()).toBe(0);
  });

  it("lets who comes late begin with what is known, and tells it", async () => {
    const server = new Server();
    server.isUp = false;
    server.update("one/a");
    await server.env.advance(5000);
    const probes = server.times.length;
    server.update("one/a", "two/a");
    expect(server.checker.states().get("two/a")).toEqual(server.checker.states().get("one/a"));
    expect(server.checker.records("two/a")).toEqual(server.checker.records("one/a"));
    expect(server.heard.at(-1)).toMatchObject({ name: "two/a", from: "unknown", to: "down", reason: "timeout", probes: [] });
    expect(server.times).toHaveLength(probes);
    // Of the two successes that it takes, the third has heard one, and both count.
    server.isUp = true;
    await server.env.advance(1000);
    server.update("one/a", "two/a", "three/a");
    await server.env.advance(1000);
    expect(server.told.slice(-3)).toEqual(["one/a down up", "two/a down up", "three/a down up"]);
    // A pool that gets another name is asked nothing anew.
    server.update("four/a");
    expect(server.checker.states().get("four/a")).toMatchObject({ alive: true, known: true, reason: "connected" });
  });

  it("says nothing to who comes late before it knows, nor what it found by other rules", async () => {
    const server = new Server();
    server.update("one/a");
    server.update("one/a", "two/a");
    expect(server.checker.states().get("two/a")).toMatchObject({ known: false });
    await server.env.advance(1100);
    const strict: PoolHealth = { ...TCP, fall: 1 };
    server.checker.update([target("one/a", strict)]);
    server.checker.update([target("one/a", strict), target("two/a", strict)]);
    expect(server.checker.states().get("one/a")).toMatchObject({ known: true });
    expect(server.checker.states().get("two/a")).toMatchObject({ known: false });
  });

  it("keeps verdicts that differ until probes have settled them, at the pace of who is in doubt", async () => {
    const server = new Server();
    const lazy: PoolHealth = { ...TCP, downIntervalMs: 60_000 };
    server.isUp = false;
    server.checker.update([target("one/a", lazy), target("two/a", { type: "none" })]);
    await server.env.advance(10_000);
    expect(server.checker.states().get("one/a")?.alive).toBe(false);
    // Up by other rules, and then asked the same: it need not wait for the minute.
    server.isUp = true;
    server.checker.update([target("one/a", lazy), target("two/a", TCP)]);
    await server.env.advance(2000);
    expect(server.checker.states().get("two/a")).toMatchObject({ alive: true, known: true });
    const before = server.times.length;
    server.checker.update([target("one/a", lazy), target("two/a", lazy)]);
    await server.env.advance(1000);
    expect(server.times.length - before).toBeGreaterThanOrEqual(1);
    await server.env.advance(2000);
    expect(server.checker.states().get("one/a")).toMatchObject({ alive: true });
    expect(server.told).toEqual(["one/a unknown down", "two/a unknown up", "one/a down up"]);
  });

  it("is brought forward by a doubt about any of its backends, once a second", async () => {
    const server = new Server();
    server.update("one/a", "two/a");
    await server.env.advance(2500);
    const before = server.times.length;
    expect(server.checker.probeNow("two/a")).toBe(true);
    await server.env.advance(100);
    expect(server.checker.probeNow("one/a")).toBe(false);
    expect(server.times).toHaveLength(before + 1);
  });

  it("tells nobody whom somebody who heard first has taken away", async () => {
    const server: Server = new Server(() => { server.update("one/a"); });
    server.update("one/a", "two/a");
    await server.env.advance(1500);
    expect(server.told).toEqual(["one/a unknown up"]);
  });
});

it("pools of one TCP server make one connection for each probe", async () => {
  let connections = 0;
  const port = await raw((socket) => { connections += 1; socket.resume(); });
  const names = Array.from({ length: 20 }, (_, at) => `p${at}/a`);
  const checker = createChecker({ env: realEnv, probe: createProbe(realEnv, nowhere), onTransition: () => undefined });
  checker.update(names.map((name) => target(name, { ...TCP, intervalMs: 20, timeoutMs: 5000 }, port, "127.0.0.1")));
  await vi.waitFor(() => { expect(checker.records("p19/a").length).toBeGreaterThanOrEqual(5); }, { timeout: 20_000 });
  checker.stop();
  const { started, succeeded } = checker.counts();
  expect(names.map((name) => checker.records(name).length)).toEqual(names.map(() => succeeded));
  await vi.waitFor(() => { expect(connections).toBeGreaterThanOrEqual(succeeded); });
  expect(connections).toBeLessThanOrEqual(started);
  expect(started - succeeded).toBeLessThanOrEqual(1);
});
