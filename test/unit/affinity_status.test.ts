// What status and its table tell of clients that are remembered, over a simulated plane.

import { describe, expect, it } from "vitest";
import { statusSchema, type Status } from "../../src/api/schemas.ts";
import { layServices, layStatus } from "../../src/cli/nouns.ts";
import type { ConfigSketch } from "../support/configs.ts";
import { World } from "../support/world.ts";

const TIMEOUT_MS = 60_000;
const sketch = (...timeouts: readonly (number | null)[]): ConfigSketch => ({
  pools: { web: ["a"] },
  services: timeouts.map((affinityTimeoutMs, at) => ({ name: `s${at}`, port: 80 + at, tracking: "full", affinityTimeoutMs })),
});

async function statusWith(config: ConfigSketch, remembered: ReadonlyMap<string, number> | null): Promise<Status> {
  const world = new World();
  const supervisor = await world.start(config);
  world.plane.remembered = remembered;
  return statusSchema.parse(supervisor.status());
}

describe("status", () => {
  it("says how many clients are remembered, of how many, and by which service", async () => {
    const status = await statusWith(sketch(TIMEOUT_MS, null, TIMEOUT_MS), new Map([["s0", 41]]));
    expect(status.affinities).toEqual({ count: 41, max: 1024 });
    expect(status.services.map(({ affinities }) => affinities)).toEqual([41, null, 0]);
    expect(status.warnings).toEqual([]);
    expect(layStatus(status, 0)).toMatch(/^clients +41 of 1\.02k remembered$/m);
    const [head, ...rows] = layServices(status.services).trim().split("\n").map((line) => line.split(/ {2,}/));
    const at = head!.indexOf("CLIENTS");
    expect(at).toBe(head!.indexOf("FLOWS") + 1);
    expect(rows.slice(0, 3).map((row) => row[at])).toEqual(["41", "-", "0"]);
  });

  it("says that nobody has counted them yet", async () => {
    const status = await statusWith(sketch(TIMEOUT_MS), null);
    expect(status.affinities).toEqual({ count: null, max: 1024 });
    expect(status.services[0]!.affinities).toBeNull();
    expect(layStatus(status, 0)).toMatch(/^clients +\? of 1\.02k remembered$/m);
  });

  it("says nothing of clients where none is remembered", async () => {
    const status = await statusWith(sketch(null), new Map([["s0", 41]]));
    expect([status.affinities, status.services[0]!.affinities]).toEqual([null, null]);
    expect(layStatus(status, 0).toLowerCase()).not.toContain("client");
  });

  it("warns when the room for them is nearly taken", async () => {
    const status = await statusWith(sketch(TIMEOUT_MS), new Map([["s0", 1000]]));
    expect(status.warnings).toEqual([expect.stringMatching(/^1000 clients .* raise limits\.affinities$/)]);
  });
});
