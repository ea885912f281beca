// least-response-time from the probes to the table: in the XDP plane the ring places flows and feedback steers it, in the
// proxy plane flows are picked and nothing steers. The plane is simulated; time is fake.

import { describe, expect, it } from "vitest";
import { FEEDBACK_DEFAULTS } from "../../src/model/feedback.ts";
import type { Service } from "../../src/model/table.ts";
import type { ConfigSketch } from "../support/configs.ts";
import { World } from "../support/world.ts";

const SKETCH: ConfigSketch = {
  pools: { web: ["a", "b", "c"] }, probes: true,
  services: [{ name: "led", port: 80, algorithm: "least-response-time" }, { name: "shares", port: 81 }],
};
/** Until a backend at its floor has all of its share, a half percent of the flows in a second. */
const LONG_MS = 120_000;

function serviceOf(world: World, at = 0): Service {
  return world.supervisor.table()!.services[at]!;
}

/** Of a backend at the service's port. */
function idOf(world: World, name: string, at = 0): number {
  const { destinations } = world.supervisor.table()!;
  return serviceOf(world, at).destinations.find((id) => destinations.get(id)?.name === name)!;
}

function slotsOf(slots: Uint16Array, id: number): number[] {
  return [...slots.keys()].filter((slot) => slots[slot] === id);
}

/** Slots of others that are not whose they were configured to be. */
function strangersMoved(world: World, name: string, at: number): number[] {
  const { ring: { slots, configured } } = serviceOf(world, at);
  const id = idOf(world, name, at);
  return [...slots.keys()].filter((slot) => configured[slot] !== id && slots[slot] !== configured[slot]);
}

describe("in the XDP plane", () => {
  it("takes slots from the slow one alone, at most so many in a second, and gives them back when it is fast", async () => {
    const world = new World();
    await world.start(SKETCH);
    await world.pass(10_000);
    const { ring: { configured, size } } = serviceOf(world);
    const slow = idOf(world, "web/b");
    expect(serviceOf(world).picking).toBeNull();
    expect(serviceOf(world).ring.slots).toEqual(configured);
    const own = slotsOf(configured, slow);
    let before = own.length;
    const follow = async (ms: number): Promise<number> => {
      for (let passed = 0; passed < ms; passed += 1000) {
        await world.pass(1000);
        for (const at of [0, 1]) expect(strangersMoved(world, "web/b", at)).toEqual([]);
        const now = slotsOf(serviceOf(world).ring.slots, slow).length;
        // A step is five seconds' worth, and slots are what chance makes of a share.
        expect(Math.abs(now - before)).toBeLessThanOrEqual(Math.ceil(size * 0.005 * 5) + 6);
        before = now;
      }
      return before;
    };
    world.slow.set("web/b", 300);
    const least = await follow(LONG_MS);
    // From its floor, a quarter, up to the dead band above it; of so few slots chance makes some more or less.
    expect(least / own.length).toBeGreaterThan(0.1);
    expect(least / own.length).toBeLessThan(0.5);
    expect(world.supervisor.status().backends.find(({ name }) => name === "web/b")?.reason).toMatch(/feedback: (2[5-9]|3[0-5])%, 300 ms/);
    world.slow.delete("web/b");
    await follow(LONG_MS);
    expect(serviceOf(world).ring.slots).toEqual(configured);
  });

  it("takes slots from whoever answers clients late, though its probes are answered as soon as the others'", async () => {
    const world = new World();
    await world.start(SKETCH);
    for (const name of ["web/a", "web/c"]) world.plane.handshakes.set(name, name === "web/c" ? 300 : 20);
    await world.pass(LONG_MS);
    expect(strangersMoved(world, "web/c", 0)).toEqual([]);
    const { slots, configured } = serviceOf(world).ring;
    const id = idOf(world, "web/c");
    expect(slotsOf(slots, id).length).toBeLessThan(slotsOf(configured, id).length / 2);
    expect(world.supervisor.status().backends.map(({ reason }) => reason)).toEqual(
      ["connected", "connected", expect.stringMatching(/301 ms, the pool 21 ms with clients' handshakes/) as string]);
  });

  it("explains it by the ring", async () => {
    const world = new World();
    await world.start(SKETCH);
    const { backend, configuredOwner, steps } = world.supervisor.explain({ client: "198.51.100.1:40000", service: "led" });
    expect(steps.find(({ step }) => step === "algorithm")?.detail)
      .toBe("least-response-time goes by the ring in this plane, and how long probes take steers its shares");
    expect([backend, backend === null]).toEqual([configuredOwner, false]);
  });

  it("stops when no service goes by it any more", async () => {
    const world = new World();
    await world.start(SKETCH);
    world.slow.set("web/b", 300);
    await world.pass(LONG_MS);
    expect(serviceOf(world).ring.slots).not.toEqual(serviceOf(world).ring.configured);
    world.write({ ...SKETCH, services: [{ name: "led", port: 80 }, { name: "shares", port: 81 }] });
    await world.supervisor.reload("test");
    await world.pass(1000);
    expect(serviceOf(world).ring.slots).toEqual(serviceOf(world).ring.configured);
  });
});

describe("in the proxy plane", () => {
  it("picks, and takes no slot from anybody", async () => {
    const world = new World();
    world.noXdp = "no addon";
    await world.start(SKETCH);
    world.slow.set("web/b", 300);
    await world.pass(LONG_MS);
    expect(serviceOf(world).picking?.by).toBe("least-response-time");
    expect(serviceOf(world).ring.slots).toEqual(serviceOf(world).ring.configured);
  });

  it("steers where that is asked for, and then by what clients wait for", async () => {
    const world = new World();
    world.noXdp = "no addon";
    await world.start({ ...SKETCH, feedback: FEEDBACK_DEFAULTS });
    world.slow.set("web/b", 300);
    for (const name of ["web/a", "web/b", "web/c"]) world.plane.answers.set(name, name === "web/c" ? 300 : 20);
    await world.pass(LONG_MS);
    expect(strangersMoved(world, "web/c", 1)).toEqual([]);
    expect(world.supervisor.status().backends.map(({ reason }) => reason))
      .toEqual(["connected", "connected", expect.stringMatching(/300 ms, the pool 20 ms by clients' flows/) as string]);
    const { slots, configured } = serviceOf(world, 1).ring;
    const id = idOf(world, "web/c", 1);
    expect(slotsOf(slots, id).length).toBeLessThan(slotsOf(configured, id).length / 2);
  });
});
