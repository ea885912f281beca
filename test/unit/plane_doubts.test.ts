// Passive health: what the supervisor does when the plane says that packets for a backend may not arrive. A doubt is
// a reason to look, for anybody can forge the errors that raise it.

import { describe, expect, it } from "vitest";
import type { ConfigSketch } from "../support/configs.ts";
import { messages, request, World } from "../support/world.ts";

const WEB: ConfigSketch = { probes: true, pools: { web: ["a", "b", "c"] }, services: [{ name: "web" }] };

describe("a doubt of the plane", () => {
  it("has the backend probed at once, which is told; its state is what the probe says", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    const probesOf = (): number => messages(world).filter((each) => each.includes("probed at once")).length;
    await world.env.advance(10_000);
    world.plane.doubt(["web/a", "web/nobody"], "its tunnel was answered: protocol unreachable");
    expect(messages(world)).toContain("is probed at once: its tunnel was answered: protocol unreachable");
    // However often it is doubted.
    world.plane.doubt(["web/a"], "its tunnel was answered: protocol unreachable");
    expect(probesOf()).toBe(1);
    await world.env.advance(10_000);
    expect(supervisor.status().backends.map(({ state }) => state)).toEqual(["active", "active", "active"]);
  });

  it("is heard from the plane that takes the seat", async () => {
    const world = new World();
    await world.start(WEB);
    await world.env.advance(10_000);
    const [before] = world.planes;
    await world.supervisor.apply(request({ ...WEB, mode: "proxy" }));
    expect(world.plane).not.toBe(before);
    world.plane.doubt(["web/a"], "its tunnel was answered: port unreachable");
    expect(messages(world)).toContain("is probed at once: its tunnel was answered: port unreachable");
  });
});
