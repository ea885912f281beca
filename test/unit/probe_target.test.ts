// What there is to probe, out of a config.

import { describe, expect, it } from "vitest";
import { probeTargets } from "../../src/health/target.ts";
import type { Config } from "../../src/model/config.ts";
import type { Plane } from "../../src/model/features.ts";
import { FEEDBACK_DEFAULTS } from "../../src/model/feedback.ts";
import type { PoolHealth } from "../../src/model/health_check.ts";
import { config, service } from "../support/proxy_world.ts";

const TCP: Extract<PoolHealth, { type: "tcp" }> = {
  type: "tcp", intervalMs: 1000, timeoutMs: 500, rise: 1, fall: 1, jitter: 0, port: null, via: "direct", source: null,
};

function withHealth(wanted: Config, health: PoolHealth, port: number | null = null): Config {
  return {
    ...wanted,
    pools: wanted.pools.map((pool) => ({
      ...pool, health, backends: pool.backends.map((backend) => ({ ...backend, port: port ?? backend.port })),
    })),
  };
}

const BACKENDS = { a: { address: "10.0.0.1", port: 8080 }, b: { address: "10.0.0.2", port: 8081 } };

function ports(wanted: Config): string[] {
  return probeTargets(wanted, "xdp").map(({ name, address, port }) => `${name} ${address.text} ${port}`);
}

describe("probeTargets", () => {
  it("one per backend of a pool, however many services use it", () => {
    const wanted = withHealth(config([service(), service({ name: "other", port: 81 })], { web: BACKENDS }), TCP);
    expect(ports(wanted)).toEqual(["web/a 10.0.0.1 8080", "web/b 10.0.0.2 8081"]);
  });

  it("the health check's port before the backend's, the backend's before the first service's", () => {
    const base = config([service({ name: "first", port: 443 }), service({ name: "second", port: 80 })], { web: BACKENDS });
    const open = { ...base, pools: base.pools.map((pool) =>
      ({ ...pool, backends: pool.backends.map((backend) => ({ ...backend, port: null })) })) };
    expect(ports(withHealth(open, TCP))).toEqual(["web/a 10.0.0.1 443", "web/b 10.0.0.2 443"]);
    expect(ports(withHealth(base, { ...TCP, port: 9000 }))).toEqual(["web/a 10.0.0.1 9000", "web/b 10.0.0.2 9000"]);
  });

  it("a pool that nobody uses is probed where a port is known, and left out where not", () => {
    const base = config([], { web: BACKENDS });
    expect(ports(withHealth(base, TCP))).toHaveLength(2);
    const open = { ...base, pools: base.pools.map((pool) =>
      ({ ...pool, backends: pool.backends.map((backend) => ({ ...backend, port: null })) })) };
    expect(ports(withHealth(open, TCP))).toEqual([]);
  });
});

describe("probeTargets of services that go by how long backends take", () => {
  const least = { algorithm: "least-response-time" } as const;
  const own = { intervalMs: 1000, floorPercent: 1, deadBandPercent: 1, movedPercentPerSecond: 1 };
  const rules = (plane: Plane, health: PoolHealth): unknown[] => {
    const wanted = config([service({ name: "a", port: 80, pool: "led", ...least }), service({ name: "b", port: 81, pool: "led" }),
      service({ name: "c", port: 82, pool: "free" })], { led: { a: BACKENDS.a }, free: { a: BACKENDS.a } });
    return probeTargets(withHealth(wanted, health), plane).map(({ name, health: found }) =>
      [name, found.type === "none" ? "none" : found.feedback]);
  };

  it("steers their pools in the XDP plane, as the pool says or by the defaults, and no other pool", () => {
    expect(rules("xdp", TCP)).toEqual([["led/a", FEEDBACK_DEFAULTS], ["free/a", undefined]]);
    expect(rules("xdp", { ...TCP, feedback: own })).toEqual([["led/a", own], ["free/a", own]]);
    expect(rules("xdp", { type: "none" })).toEqual([["led/a", "none"], ["free/a", "none"]]);
  });

  it("steers in the proxy plane, which measures answers, only whoever asks for it", () => {
    expect(rules("proxy", TCP)).toEqual([["led/a", undefined], ["free/a", undefined]]);
    expect(rules("proxy", { ...TCP, feedback: own })).toEqual([["led/a", own], ["free/a", own]]);
  });
});

describe("probeTargets through the plane", () => {
  const through = (wanted: Config, health: Partial<typeof TCP> = {}): string[] =>
    probeTargets(withHealth(wanted, { ...TCP, via: "tunnel", ...health }), "xdp")[0]!.through
      .map(({ service: name, backend, address, port }) => `${name} ${backend} ${address.text} ${port}`);
  const ipip = { forwarding: "ipip" } as const;

  it("every virtual address of the services once, at its first service's port", () => {
    const wanted = config([
      service({ name: "first", address: "203.0.113.1", port: 443, ...ipip }),
      service({ name: "second", address: "203.0.113.1", port: 80, ...ipip }),
      service({ name: "third", address: "2001:db8::1", port: 81, ...ipip }),
      service({ name: "other", address: "203.0.113.9", port: 82, pool: "elsewhere", ...ipip }),
    ], { web: BACKENDS, elsewhere: BACKENDS });
    expect(through(wanted)).toEqual(["first web/a 203.0.113.1 443", "third web/a 2001:db8::1 81"]);
    expect(through(wanted, { port: 9000 })).toEqual(["first web/a 203.0.113.1 9000", "third web/a 2001:db8::1 9000"]);
  });

  it("once for each way of forwarding, since one may work and the other not", () => {
    const gue = { port: 6080, variant: 0 } as const;
    const wanted = config([
      service({ name: "a", port: 80, ...ipip }), service({ name: "b", port: 81, forwarding: "gue", gue }),
      service({ name: "c", port: 82, forwarding: "gue", gue: { ...gue, variant: 1 } }),
      service({ name: "d", port: 83, forwarding: "gue", gue }),
    ], { web: BACKENDS });
    expect(through(wanted).map((each) => each[0])).toEqual(["a", "b", "c"]);
  });

  it("a TCP service's port before one of UDP, where nobody might listen for TCP", () => {
    const wanted = config([
      service({ name: "quic", port: 4433, protocol: "udp", ...ipip }), service({ name: "web", port: 443, ...ipip }),
    ], { web: BACKENDS });
    expect(through(wanted)).toHaveLength(1);
    expect(through(wanted)[0]).toMatch(/^web .* 443$/);
  });

  it("none where the plane has no such ways, the probe is direct, or there is no service", () => {
    const wanted = config([service({ name: "web", port: 80, ...ipip })], { web: BACKENDS });
    const tunnel = withHealth(wanted, { ...TCP, via: "tunnel" });
    for (const targets of [
      probeTargets(tunnel, "proxy"), probeTargets(withHealth(wanted, TCP), "xdp"),
      probeTargets(withHealth(config([], { web: BACKENDS }), { ...TCP, via: "tunnel" }), "xdp"),
    ]) {
      expect(targets.map((each) => each.through)).toEqual([[], []]);
    }
  });
});
