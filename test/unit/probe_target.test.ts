// What there is to probe, out of a config.

import { describe, expect, it } from "vitest";
import { probeTargets } from "../../src/health/target.ts";
import type { Config, Health } from "../../src/model/config.ts";
import { config, service } from "../support/proxy_world.ts";

const TCP: Health = { type: "tcp", intervalMs: 1000, timeoutMs: 500, rise: 1, fall: 1, jitter: 0, port: null };

function withHealth(wanted: Config, health: Health, port: number | null = null): Config {
  return {
    ...wanted,
    pools: wanted.pools.map((pool) => ({
      ...pool, health, backends: pool.backends.map((backend) => ({ ...backend, port: port ?? backend.port })),
    })),
  };
}

const BACKENDS = { a: { address: "10.0.0.1", port: 8080 }, b: { address: "10.0.0.2", port: 8081 } };

function ports(wanted: Config): string[] {
  return probeTargets(wanted).map(({ name, address, port }) => `${name} ${address.text} ${port}`);
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
